"""What ends a run early without being a fault."""

from __future__ import annotations

from typing import Literal

from data.sentences import Said


class Stopped(Exception):
    """Somebody asked the run to end; nothing was published."""


class Diverged(Exception):
    """Training left the numbers that can be computed with; there is no candidate."""


class Ended(Exception):
    """The run is over without a version, and that is a result."""

    def __init__(self, state: Literal["nothing_to_do", "refused", "interrupted"], why: Said) -> None:
        super().__init__(state)
        self.state, self.said = state, why

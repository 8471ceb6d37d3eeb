"""How the learner gives way to the chat beside it on the same cores."""

from __future__ import annotations

import os
from contextlib import suppress

NICENESS = 10
"""Beside threads that never rest this is a tenth of a core."""


def give_way(*, idle: bool) -> None:
    """This thread, and what it starts from now on, computes after the chat. Call it before torch is loaded.

    Nor does it spin: threads that wait for each other by spinning take the processor from the chat beside them; with both cores busy,
    sleeping instead made training 2.4 times faster. torch reads that when it is loaded.

    Args: idle: also as idle work, where the system knows that: whoever wakes takes the core from it at once, where niceness alone
        lets it end its slice while a reply's next token waits, and beside threads that never rest it stands still.
    """
    os.nice(max(0, NICENESS - os.nice(0)))
    if idle and hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):                              # a sandbox may not let it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

"""Where a run is: progress for the store and the terminal, time left, and the place where a stop request is heard."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from data.records import Progress
from data.store import Store
from learner.errors import Stopped

if TYPE_CHECKING:                                            # it imports torch
    from learner.training.steps import StepFigures

REPORT_SECONDS = 0.5
"""Progress between steps is written at most this often."""
BASIS_STEPS = 3
"""Optimizer steps before the time left is told: the stages before them say little of their speed, and the first step is the slowest."""
NOISE = 0.1
"""Steps differ in length: an estimate that rises by less than this share stays what it was."""


class Pace:
    """Counts work in token passes, so that the time left holds the stages after the steps too.

    Every method may raise Stopped.
    """

    def __init__(self, store: Store, run_id: str, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> None:
        self._store, self._run_id, self._on_progress, self._should_stop = store, run_id, on_progress, should_stop
        self._started = self._stage_started = time.monotonic()
        self._work: dict[str, int] = {}
        self._speed: float | None = None
        self._until = 1.0
        self._now = Progress("start")
        self._written = 0.0

    def seconds(self) -> float:
        return round(time.monotonic() - self._started, 2)

    def steps_done(self) -> int:
        return self._now.step

    def expect(self, **work: int) -> None:
        """Token passes per stage still to come, beside what was told before; a training token counts 3 (forward, and backward twice that)."""
        self._work |= work

    def stage(self, name: str, *, step: int = 0, steps: int = 0, until: float = 1.0) -> None:
        """A stage begins, or learns how many steps it has.

        Args: until: share of the stage that is over when its steps are.
        """
        before, self._until = self._now, until
        if before.stage != name:
            self._work.pop(before.stage, None)
            self._stage_started = time.monotonic()
        self._write(Progress(name, step, steps, before.loss, before.reward, before.kl, self._left(self._share(0.0))))

    def step(self, figures: StepFigures) -> None:
        """An optimizer step was made."""
        share = self._share(figures.step / figures.steps)
        if figures.step >= min(BASIS_STEPS, figures.steps):
            self._speed = self._work.get(self._now.stage, 0) * share / max(1e-9, time.monotonic() - self._stage_started) or self._speed
        kl = figures.kl if figures.kl is not None else self._now.kl
        self._write(Progress(self._now.stage, figures.step, figures.steps, figures.loss, figures.reward, kl, self._left(share)))

    def check(self) -> None:
        """Between two batches of a stage without steps."""
        if time.monotonic() - self._written > REPORT_SECONDS:
            spent = (time.monotonic() - self._stage_started) * (self._speed or 0.0)
            total = self._work.get(self._now.stage, 0)
            left = self._left(min(1.0, spent / total)) if self._speed and total else self._now.seconds_left
            now = self._now
            self._write(Progress(now.stage, now.step, now.steps, now.loss, now.reward, now.kl, left))
        elif self._should_stop():
            raise Stopped

    def _share(self, of_steps: float) -> float:
        """Of the stage, when so much of its steps is done."""
        return self._until * of_steps

    def _left(self, share: float) -> float | None:
        """Seconds, when `share` of the current stage is done; `_work` holds it and what follows. None before there is a basis."""
        if not self._speed:
            return None
        later = sum(work for name, work in self._work.items() if name != self._now.stage)
        left, shown = (later + self._work.get(self._now.stage, 0) * (1 - share)) / self._speed, self._now.seconds_left
        return round(left if shown is None or left > (1 + NOISE) * shown else min(left, shown), 1)

    def _write(self, progress: Progress) -> None:
        self._now, self._written = progress, time.monotonic()
        self._store.progress(self._run_id, progress)
        self._on_progress(progress)
        if self._should_stop() or self._store.stop_requested(self._run_id):
            raise Stopped

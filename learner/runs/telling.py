"""What the command line tells of a run: a bar while it goes on, and at its end a sentence or a line of JSON."""

from __future__ import annotations

import json
import os
import sys

from tqdm import tqdm

from data.errors import Busy
from data.records import BaseModel, Progress, Run
from data.store import Store


def summary(run: Run, store: Store) -> dict:
    """What `--json` prints: the run's report with the four keys scripts rely on always present."""
    return {**run.report, "state": run.state, "run": run.id, "published": run.state == "published",
            "version": run.version if run.version is not None else store.live_version(run.base_model),
            "ratings_used": run.report.get("ratings_used", 0), "gate": run.report.get("gate")}


def summary_of_error(error: Exception, base: BaseModel, store: Store) -> dict:
    """What `--json` prints when there was no run, `busy`: another learner is at work, or when it broke off."""
    return {"state": "busy" if isinstance(error, Busy) else "failed", "reason": str(error), "published": False,
            "version": store.live_version(base.id), "ratings_used": 0, "gate": None}


def json_line(said: dict) -> str:
    """ASCII alone: what models say holds characters that many readers, Python's `splitlines` among them, take for the end of a line."""
    return json.dumps(said)


def print_last(line: str) -> None:
    """A reader that is gone, as when the process that started this one was killed, is no fault of the run's."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())       # or Python tries once more at exit, and complains


def in_words(run: Run) -> str:
    """How a run ended, for a person."""
    said = run.report.get("reason", "")
    if run.state == "published":
        return f"Version {run.version} is live. {run.report.get('note', '')} {said}"
    return said


class TrainingBar:
    """A progress bar on a terminal, silence elsewhere."""

    def __enter__(self) -> TrainingBar:
        self._bar = tqdm(total=None, unit="step", disable=not sys.stderr.isatty(), file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, progress: Progress) -> None:
        self._bar.total = progress.steps or None
        self._bar.n = progress.step
        figures = {"loss": progress.loss, "reward": progress.reward, "kl": progress.kl}
        left = "" if progress.seconds_left is None else f" {progress.seconds_left:.0f} s left"
        self._bar.set_description_str(progress.stage + left, refresh=False)
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items() if value is not None}, refresh=False)
        self._bar.refresh()

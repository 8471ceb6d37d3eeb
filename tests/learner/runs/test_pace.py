"""The time left of a run: told when there is a basis for it, and not rising without a reason."""

import pytest

import learner.runs.pace as pace_module
from learner.runs.pace import Pace
from learner.training.steps import StepFigures
from tests.support.conversations import store  # noqa: F401


class Run:
    """A run's pace under a clock that is set by hand."""

    def __init__(self, store, monkeypatch) -> None:
        self._store, self.clock = store, 0.0
        monkeypatch.setattr(pace_module.time, "monotonic", lambda: self.clock)
        self.pace = Pace(store, store.start_run("base", "shell").id, lambda progress: None, lambda: False)

    def left(self) -> float | None:
        return self._store.last_run("base").progress.seconds_left

    def left_after(self, step: int, at: float) -> float | None:
        self.clock = at
        self.pace.step(StepFigures(step, 8, 0.0, 0.0, None, 0.0, 1.0, 1.0))
        return self.left()


def test_time_left_is_told_from_the_third_step_on_and_a_slower_step_is_no_alarm(store, monkeypatch):
    run = Run(store, monkeypatch)
    pace, left_after = run.pace, run.left_after
    pace.expect(anchor=10, train=160, gate=40)
    pace.stage("anchor", steps=8)
    pace.stage("train", steps=8)
    assert run.left() is None                                    # a fast pass over short replies says nothing of the steps
    assert left_after(1, 30) is left_after(2, 40) is None
    assert left_after(3, 50) == pytest.approx(116.7)            # 160 * 3/8 / 50 = 1.2 a second for the 100 + 40 that remain
    assert left_after(4, 85) == pytest.approx(116.7)            # 127.5 by now, a rise of less than a tenth
    assert left_after(5, 140) == pytest.approx(140.0)           # 100 / 140 = 0.714 for 60 + 40: later than was said
    assert left_after(8, 150) == pytest.approx(37.5)            # 160 / 150 for the gate's 40


def test_the_time_left_of_a_stage_whose_steps_end_early_counts_what_comes_after_them(store, monkeypatch):
    run = Run(store, monkeypatch)
    pace, left_after = run.pace, run.left_after
    pace.expect(refine=1000, gate=100)
    pace.stage("refine")
    run.clock = 50
    pace.stage("refine", steps=8, until=0.2)
    assert run.left() is None
    assert left_after(4, 66) == pytest.approx(660)           # .1 of 1000 in 66 s are 1.515 a second: 900 + 100 to come
    assert left_after(8, 80) == pytest.approx(360)           # .2 of it, 2.5 a second: 800 + 100 to come
    pace.expect(train=50)
    pace.stage("train", steps=8)
    assert run.left() == pytest.approx(60)    # 50 + 100

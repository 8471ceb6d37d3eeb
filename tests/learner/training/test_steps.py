"""How many steps a run takes, and how far each goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from learner.config import LearnerConfig
from learner.training.steps import count_steps, learning_rate_at

CONFIG = LearnerConfig()


def test_few_ratings_get_more_passes_but_are_not_learnt_by_heart():
    assert count_steps(1, CONFIG) == 8                                # one reply: eight passes
    assert count_steps(4, CONFIG) == 16                               # 32 replies: four passes make 16 steps
    assert count_steps(24, CONFIG) == 48                              # 192 replies: the two passes asked for
    assert count_steps(4, replace(CONFIG, epochs=10)) == 40


def test_the_learning_rate_climbs_then_falls_to_a_third():
    rates = [learning_rate_at(step, 40, CONFIG) / CONFIG.learning_rate for step in range(40)]
    assert rates[0] == 0.25 and rates[-1] == pytest.approx(1 / 3) and max(rates) == rates[3] < 1

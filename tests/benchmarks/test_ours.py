"""The product as an arm of the benchmark: what it is told, and what is counted of it."""

import pytest

from benchmarks.learning.arms_ours import ours, ours_refined, tokens_visited
from benchmarks.learning.plan import chosen_rates
from benchmarks.learning.raters import GivenRating, Rater
from benchmarks.learning.serving import Sampled
from benchmarks.learning.task import Rated, Task
from data.records import Sampling
from learner.config import LearnerConfig, RefineConfig
from learner.training.steps import count_steps, train_steps
from tests.learner.refine.test_refine import CONFIG, leads_far, run_of  # noqa: F401


def test_tokens_of_passes_over_the_ratings_and_of_a_small_step_are_counted_by_hand():
    step = {"steps": 6, "imitated": 11, "imitated_tokens": 500}                       # two batches of eight at most: three passes
    assert tokens_visited({"training": {"steps": 4}, "refinement": None}, 30.0, 8) == 4 * 8 * 30
    assert tokens_visited({"training": {"steps": 0}, "refinement": {"kept": True, "reached": step}}, 30.0, 8) == 1500
    assert tokens_visited({"training": {"steps": 4}, "refinement": {"kept": False, "reached": step}}, 30.0, 8) == 960 + 1500
    assert tokens_visited({"training": {"steps": 4}, "refinement": {"kept": False}}, 30.0, 8) == 960        # the ratings told nothing
    assert tokens_visited({}, 30.0, 8) == 0                                           # it ended before


def test_a_refinement_that_was_kept_is_counted_by_the_tokens_its_steps_went_through(tmp_path, tiny_base, leads_far, monkeypatch):  # noqa: F811
    visited = []

    def counting(policy, plan, signals, reference, behavior, config, on_step):
        visited.append(count_steps(len(plan), config) // len(plan) * sum(example.tokens for batch in plan for example in batch))
        return train_steps(policy, plan, signals, reference, behavior, config, on_step)

    monkeypatch.setattr("learner.refine.reach.train_steps", counting)
    report = run_of(tmp_path, tiny_base)[0].report
    assert report["refinement"]["kept"] and tokens_visited(report, 30.0, CONFIG.batch_size) == sum(visited) > 0


class Asked(Exception):
    """A run was asked for; its config."""


@pytest.mark.parametrize(("arm", "rates"), [(ours, (3e-3, RefineConfig.learning_rate)), (ours_refined, (LearnerConfig.learning_rate, 3e-3))])
def test_a_rate_of_the_sweep_is_the_small_steps_where_there_is_one_and_else_that_of_passes_over_the_ratings(arm, rates, tiny_base, tmp_path, monkeypatch):
    def asked(store, registry, base, config, **_):
        raise Asked(config.learning_rate, config.refine.learning_rate)

    monkeypatch.setattr("benchmarks.learning.arms_ours.train", asked)
    rated = (Rated(Sampled("hi", (1, 5), (20, 21), (-1.0, -1.0), "text", False), GivenRating(0, Rater("rater-0", "honest"), "thumb", 1)),)
    with pytest.raises(Asked) as found:
        arm(Task(tiny_base, rated, 3e-3, 0, Sampling(), tmp_path, tmp_path / "serving"))
    assert found.value.args == rates


def test_the_products_own_rates_are_tried_by_every_sweep():
    for rates in (chosen_rates(["ours", "ours-refined"], None, quick) for quick in (False, True)):
        assert LearnerConfig.learning_rate in rates["ours"] and RefineConfig.learning_rate in rates["ours-refined"]

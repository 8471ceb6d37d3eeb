"""The product as an arm of the benchmark: what it is told, and what is counted of it."""

from benchmarks.learning.arms_ours import tokens_visited
from learner.steps import count_steps, train_steps
from tests.test_refine import CONFIG, leads_far, run_of  # noqa: F401


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

    monkeypatch.setattr("learner.reach.train_steps", counting)
    report = run_of(tmp_path, tiny_base)[0].report
    assert report["refinement"]["kept"] and tokens_visited(report, 30.0, CONFIG.batch_size) == sum(visited) > 0

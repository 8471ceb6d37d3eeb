"""A refinement that begins with a stretch: what follows it, what is kept of it, and what no longer holds it."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from learner.curve import Seen
from learner.errors import Diverged
from learner.reach import Stop, reach
from learner.refine_bounds import Bound
from learner.refine_rules import split_prompts
from learner.run import train
from learner.sampler import PolicySampler
from learner.steps import train_steps
from tests.refinements import CONFIG, everything_pleases, same, store_of, weights_of  # noqa: F401


@pytest.fixture
def a_stretch_leads_far(everything_pleases, monkeypatch):
    """Each look pleases more than the one before and harms nothing."""
    pleased = count()
    monkeypatch.setattr("learner.reward_model.SURELY_SOMETHING", 2.0)
    monkeypatch.setattr("learner.curve.seen", lambda strength, replies: Seen(strength, Bound(0.0, 0.0, 0.0), float(next(pleased)), replies))
    for module in ("refine", "curve"):
        monkeypatch.setattr(f"learner.{module}.clearly_pleased", lambda *_: True)
    return replace(CONFIG, refine=replace(CONFIG.refine, stretches=2))


@pytest.fixture
def a_best_that_pleases_most(monkeypatch):
    """Farther than where iterations begin, and expected to please more than any look will."""
    found = SimpleNamespace(weights=None)

    def farther(refiner, *rest):
        reached = reach(refiner, *rest)
        found.weights = [weight + 0.01 for weight in refiner.policy.weights()]
        return replace(reached, best=Stop(reached.best.expected._replace(strength=12.0, lower=1e9), found.weights))

    monkeypatch.setattr("learner.refine.reach", farther)
    return found


def test_a_stretch_goes_before_one_iteration_and_learns_nothing_of_prompts_kept_aside(tmp_path, tiny_base, a_stretch_leads_far, weights_of, monkeypatch):
    imitated, aside, real = [], [], train_steps
    monkeypatch.setattr("learner.reach.train_steps", lambda policy, plan, *rest: [imitated.extend(e.prompt_ids for step in plan for e in step), real(policy, plan, *rest)][1])
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    monkeypatch.setattr("learner.refine.split_prompts", lambda *told: [found := split_prompts(*told), aside.extend(found[1])][0])
    seen = []
    report = train(store, registry, tiny_base, a_stretch_leads_far, trigger="shell", on_progress=seen.append).report["refinement"]
    assert report["reached"]["strength"] == 6 and [one["strength"] for one in report["reached"]["tried"]] == [3, 6] and report["base"]["tokens"] > 0
    assert imitated and aside and not set(imitated) & set(aside)
    [iteration] = report["iterations"]
    assert iteration["learning_rate"] == pytest.approx(0.25 * CONFIG.refine.learning_rate)
    assert report["kept"] == 3.25 and [one["strength"] for one in report["checked"]] == [1.0, 1.5, 2.25]                  # there is room: half as far again, twice
    assert not same(weights_of.end, weights_of.passes[0])


def test_the_best_of_the_stretch_stays_where_the_iteration_is_expected_to_please_less_and_there_is_none_where_the_ratings_tell_little(
        tmp_path, tiny_base, a_stretch_leads_far, a_best_that_pleases_most, weights_of, monkeypatch):
    def refined(name: str):
        store, registry = store_of(tmp_path / name, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
        return train(store, registry, tiny_base, a_stretch_leads_far, trigger="shell").report["refinement"]

    alone = refined("alone")
    assert alone["kept"] == 1 and "by 1 step towards" in alone["reason"] and same(weights_of.end, a_best_that_pleases_most.weights)
    monkeypatch.setattr("learner.reward_model.SURELY_SOMETHING", 0.0)
    none = refined("none")
    assert none["reached"] == {} and len(none["iterations"]) == 4


def test_the_best_of_the_stretch_stays_where_no_iteration_can_be_made_at_all(tmp_path, tiny_base, a_stretch_leads_far, weights_of, monkeypatch):
    def diverges(*_):
        raise Diverged

    monkeypatch.setattr("learner.refine.train_steps", diverges)
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    report = train(store, registry, tiny_base, a_stretch_leads_far, trigger="shell").report["refinement"]
    assert report["kept"] == 1 and report["checked"] == [] and report["reached"]["best"] == 6
    assert not same(weights_of.end, weights_of.start)


def test_where_the_stretch_cannot_be_learnt_iterations_begin_at_the_base_model_and_where_only_they_fail_its_best_stays(
        tmp_path, tiny_base, a_stretch_leads_far, weights_of, monkeypatch):
    def diverges(*_, **__):
        raise Diverged

    def refined(name: str):
        store, registry = store_of(tmp_path / name, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
        return train(store, registry, tiny_base, a_stretch_leads_far, trigger="shell").report["refinement"]

    with monkeypatch.context() as failing:
        failing.setattr("learner.reach.train_steps", diverges)
        none = refined("none")
    assert none["reached"] == {} and len(none["iterations"]) == 4 and none["kept"] == 4
    monkeypatch.setattr("learner.refine.Refiner._fresh", diverges)
    stretch = refined("stretch")
    assert stretch["iterations"] == [] and stretch["kept"] == 1 and stretch["reached"]["best"] == 6 and not same(weights_of.end, weights_of.start)


def test_the_anchor_holds_iterations_from_the_base_model_and_not_those_after_a_stretch(tmp_path, tiny_base, a_stretch_leads_far, weights_of):
    def end(name: str, stretches: int, beta: float):
        store, registry = store_of(tmp_path / name, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
        refine = replace(a_stretch_leads_far.refine, stretches=stretches, iterations=2, kl_coefficient=beta)
        train(store, registry, tiny_base, replace(a_stretch_leads_far, refine=refine), trigger="shell")
        return weights_of.end

    assert same(end("after", 2, 0.03), end("after, strong", 2, 30.0))
    assert not same(end("before", 0, 0.03), end("before, strong", 0, 30.0))


def test_what_cannot_be_sampled_is_not_gone_to_but_half_way_there(tmp_path, tiny_base, a_stretch_leads_far, weights_of):
    drawn = []

    class Failing(PolicySampler):
        def sample(self, prompts, sampling):
            drawn.append(len(prompts))
            if len(drawn) == 6:                       # after the base model's, two of the stretch, fresh ones and the whole way's
                raise Diverged
            return super().sample(prompts, sampling)

    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    report = train(store, registry, tiny_base, a_stretch_leads_far, trigger="shell",
                   make_sampler=lambda policy, tokenizer: Failing(policy, tokenizer.eos_ids)).report["refinement"]
    assert report["kept"] == 2.25 and [one["strength"] for one in report["checked"]] == [1.0, 1.5, 1.25]
    assert "could not be sampled" in report["checked"][1]["problem"] and not same(weights_of.end, weights_of.passes[0])

"""A refinement that begins with a stretch: where it leads somewhere it is all there is, and where not iterations begin at the base model."""

from __future__ import annotations

from dataclasses import replace
import math
from itertools import count

import pytest

from learner.curve import Seen
from learner.errors import Diverged
from learner.frozen_text import OrdinaryText
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
    monkeypatch.setattr("learner.reward_model.LIKELY_SOMETHING", 2.0)
    monkeypatch.setattr("learner.curve.seen", lambda strength, replies: Seen(strength, Bound(0.0, 0.0, 0.0, 0.0, replies.text_nll), float(next(pleased)), replies))
    for module in ("refine", "curve"):
        monkeypatch.setattr(f"learner.{module}.clearly_pleased", lambda *_: True)
    return replace(CONFIG, refine=replace(CONFIG.refine, stretches=2))


def refined(folder, base, config, **options):
    store, registry = store_of(folder, base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    return train(store, registry, base, config, trigger="shell", **options).report["refinement"]


def test_where_a_stretch_leads_somewhere_no_iteration_follows_and_it_learns_nothing_of_prompts_kept_aside(tmp_path, tiny_base, a_stretch_leads_far, weights_of, monkeypatch):
    imitated, aside, asked_at, real = [], [], [], train_steps
    monkeypatch.setattr("learner.reach.train_steps", lambda policy, plan, *rest: [imitated.extend(e.prompt_ids for step in plan for e in step), real(policy, plan, *rest)][1])
    monkeypatch.setattr("learner.refine.split_prompts", lambda *told: [found := split_prompts(*told), aside.extend(found[1])][0])

    class Listening(PolicySampler):
        def sample(self, prompts, sampling):
            asked_at.append((self.policy.acting, len(prompts), set(prompts) <= set(aside), sampling.seed))
            return super().sample(prompts, sampling)

    report = refined(tmp_path, tiny_base, a_stretch_leads_far, make_sampler=lambda policy, tokenizer: Listening(policy, tokenizer.eos_ids))
    assert report["reached"]["strength"] == 6 and [one["strength"] for one in report["reached"]["tried"]] == [3, 6] and report["base"]["tokens"] > 0
    assert report["kept"] == 1 and "by 1 step towards" in report["reason"] and report["iterations"] == report["checked"] == []
    assert imitated and aside and not set(imitated) & set(aside)
    assert [told[:3] for told in asked_at[:3]] == [("base", 8, True), ("candidate", 8, True), ("candidate", 8, True)]
    assert len({seed for *_, seed in asked_at[:3]}) == 3, "a second look at one place says something new"
    assert weights_of.passes == [] and not same(weights_of.end, weights_of.start)


@pytest.mark.parametrize("why", ["it cannot be learnt", "no look pleases", "the ratings tell little"])
def test_where_it_leads_nowhere_iterations_begin_exactly_at_the_base_model(tmp_path, tiny_base, a_stretch_leads_far, weights_of, monkeypatch, why):
    def diverges(*_):
        raise Diverged

    plain = refined(tmp_path / "plain", tiny_base, replace(a_stretch_leads_far, refine=replace(a_stretch_leads_far.refine, stretches=0)))
    first, end = weights_of.passes[0], weights_of.end
    if why == "it cannot be learnt":
        monkeypatch.setattr("learner.reach.train_steps", diverges)
    elif why == "no look pleases":
        monkeypatch.setattr("learner.curve.clearly_pleased", lambda *_: False)
    else:
        monkeypatch.setattr("learner.reward_model.LIKELY_SOMETHING", 0.0)
    report = refined(tmp_path / "nowhere", tiny_base, a_stretch_leads_far)
    assert bool(report["reached"]) == (why == "no look pleases") and len(report["iterations"]) == len(plain["iterations"]) == 4
    assert same(weights_of.passes[0], first) and same(weights_of.end, end)


def test_what_ordinary_text_costs_is_asked_of_the_base_model_and_of_each_look_and_bounds_the_stretch(tmp_path, tiny_base, a_stretch_leads_far, monkeypatch):
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    report = train(store, registry, tiny_base, a_stretch_leads_far, trigger="shell").report
    base, tried = report["refinement"]["base"]["text_nll"], report["refinement"]["reached"]["tried"]
    assert base == pytest.approx(report["gate"]["base"]["text_nll"], abs=2e-4) and len({base, *(one["text_nll"] for one in tried)}) == 3
    monkeypatch.setattr("learner.refine_bounds.MAX_FORGOTTEN", -0.01)
    nowhere = refined(tmp_path / "nowhere", tiny_base, a_stretch_leads_far)["reached"]
    assert nowhere["strength"] == 0 and "ordinary text" in nowhere["tried"][0]["problem"]


def test_a_policy_to_which_ordinary_text_is_no_number_is_not_kept(tmp_path, tiny_base, a_stretch_leads_far, monkeypatch):
    asked, real = count(), OrdinaryText.nll
    monkeypatch.setattr(OrdinaryText, "nll", lambda text, *rest: math.nan if next(asked) == 2 else real(text, *rest))       # after the base model and the first look
    report = refined(tmp_path, tiny_base, a_stretch_leads_far)
    assert report["reached"]["tried"][1]["said"]["code"] == "fresh_diverged" and report["reached"]["strength"] == 3


def test_a_multiple_that_cannot_be_sampled_is_not_kept(tmp_path, tiny_base, a_stretch_leads_far):
    drawn = []

    class Failing(PolicySampler):
        def sample(self, prompts, sampling):
            drawn.append(len(prompts))
            if len(drawn) == 3:                       # after the base model's replies and the first look's
                raise Diverged
            return super().sample(prompts, sampling)

    report = refined(tmp_path, tiny_base, a_stretch_leads_far, make_sampler=lambda policy, tokenizer: Failing(policy, tokenizer.eos_ids))
    assert report["reached"]["strength"] == 3 and [one["strength"] for one in report["reached"]["tried"]] == [3, 6]
    assert "could not be sampled" in report["reached"]["tried"][1]["problem"] and "could not be sampled" in report["reason"]

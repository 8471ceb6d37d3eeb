"""Refinements by a tiny model: how far they go, what they are looked at by, and what a run does where they lead nowhere."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from data.adapters import AdapterRegistry
from learner.config import LearnerConfig, RefineConfig
from learner.errors import Diverged
from learner.model.sampler import PolicySampler
from learner.refine.bounds import Bound
from learner.refine.curve import Seen
from learner.refine.keep_aside import keep_aside
from learner.refine.refine import Refiner
from learner.reward.reward_model import Fit
from learner.runs.run import train
from learner.training.frozen_text import OrdinaryText
from learner.training.steps import train_steps
from tests.support.conversations import RATER, add_reply, open_store

CONFIG = LearnerConfig(lora_rank=4, refine=RefineConfig(enabled=True, looks=2, check_prompts=4, check_replies=8, max_new_tokens=24))
END = 2
SHARE = Fit.share


def store_of(folder, base, likes=lambda ids: 1 if len(ids) < 12 else -1):
    """Forty rated replies; short ones are liked."""
    store, dice = open_store(folder), random.Random(0)
    for number in range(40):
        ids = [dice.randrange(3, 200) for _ in range(dice.randrange(4, 24))] + [END]
        store.add_rating(add_reply(store, base, f"question {number}", ids).id, RATER, "thumb", likes(ids))
    return store, AdapterRegistry(store, folder / "adapters")


def run_of(folder, base, config=CONFIG, likes=lambda ids: 1 if len(ids) < 12 else -1, **options):
    store, registry = store_of(folder, base, likes)
    run = train(store, registry, base, config, trigger="shell", **options)
    return run, store.version(1).sha256 if store.versions(base.id) else None


@pytest.fixture
def leads_far(monkeypatch):
    """Each look pleases more than the one before and harms nothing: a model of 64 dimensions hardly learns a taste from 16 replies."""
    pleased = count()
    monkeypatch.setattr(Fit, "share", 1.0)
    monkeypatch.setattr("learner.refine.reach.crossed", lambda *_: None)
    monkeypatch.setattr("learner.refine.curve.seen", lambda strength, replies, base: Seen(strength, Bound(0.0, 0.0, 0.0, 0.0, replies.text_nll), float(next(pleased)), replies))
    monkeypatch.setattr("learner.refine.curve.clearly_pleased", lambda *_: True)


@pytest.fixture
def weights_of(monkeypatch):
    """The adapter's weights before a refinement (`start`) and after it (`end`)."""
    found, refine = SimpleNamespace(start=None, end=None), Refiner.refine

    def listening(self, *rest):
        found.start = self.policy.weights()
        told = refine(self, *rest)
        found.end = self.policy.weights()
        return told

    monkeypatch.setattr("learner.refine.refine.Refiner.refine", listening)
    return found


def same(some, others) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_prompts_kept_aside_are_half_of_all_at_most_and_none_that_is_imitated():
    prompts = [(n,) for n in range(100)] * 2
    aside = keep_aside(prompts, set(), LearnerConfig())
    assert len(aside) == len(set(aside)) == 50 and aside == keep_aside(prompts, set(), LearnerConfig())
    assert set(keep_aside(prompts, set(prompts[:70]), LearnerConfig())) == set(prompts[70:100])
    assert keep_aside(prompts[:15], set(), LearnerConfig()) == []
    assert len(keep_aside([(n,) for n in range(300)], set(), LearnerConfig())) == 96


def test_a_run_refines_in_the_place_of_passes_over_the_ratings_and_says_what_came_of_it(tmp_path, tiny_base, leads_far):
    seen = []
    run, _ = run_of(tmp_path, tiny_base, on_progress=seen.append)
    assert run.state == "published" and list(dict.fromkeys(p.stage for p in seen)) == ["collect", "load", "anchor", "refine", "gate", "publish"]
    report = run.report["refinement"]
    assert report["kept"] is True and report["reward_model"]["correlation"] > 0.5 and "by 6.00 small steps towards" in report["reason"]
    assert run.report["training"]["steps"] == 0 and run.report["comparison"]["decision"] == "not evaluable"
    assert [p.step for p in seen if p.stage == "refine" and p.steps][:3] == [0, 1, 2]


def test_it_learns_nothing_of_prompts_kept_aside_and_is_looked_at_by_answers_to_these_as_the_chat_draws_them(tmp_path, tiny_base, leads_far, weights_of, monkeypatch):
    imitated, aside, asked_at, real = [], [], [], train_steps
    monkeypatch.setattr("learner.refine.reach.train_steps", lambda policy, plan, *rest: [imitated.extend(e.prompt_ids for step in plan for e in step), real(policy, plan, *rest)][1])
    monkeypatch.setattr("learner.refine.refine.keep_aside", lambda *told: [found := keep_aside(*told), aside.extend(found)][0])

    class Listening(PolicySampler):
        def sample(self, prompts, sampling):
            asked_at.append((self.policy.acting, len(prompts), set(prompts) <= set(aside), replace(sampling, seed=0, max_new_tokens=0), sampling.seed))
            return super().sample(prompts, sampling)

    run, _ = run_of(tmp_path, tiny_base, make_sampler=lambda policy, tokenizer: Listening(policy, tokenizer.eos_ids))
    report = run.report["refinement"]
    assert report["reached"]["strength"] == 6 and [one["strength"] for one in report["reached"]["tried"]] == [3, 6] and report["base"]["tokens"] > 0
    assert imitated and aside and not set(imitated) & set(aside)
    chat = replace(CONFIG.sampling, seed=0, max_new_tokens=0)
    assert [told[:4] for told in asked_at[:3]] == [("base", 8, True, chat), ("candidate", 8, True, chat), ("candidate", 8, True, chat)]
    assert len({seed for *_, seed in asked_at[:3]}) == 3, "a second look at one place says something new"
    assert not same(weights_of.end, weights_of.start)
    store = open_store(tmp_path)
    advantages = {rated.reply.prompt_ids: store.receipts(rated.reply.id)[0].advantage for rated in store.rated_replies(tiny_base.id)}
    assert {prompt for prompt, advantage in advantages.items() if advantage > 0} == set(imitated) and min(advantages.values()) == 0, "no receipt tells of a push there was not"


def nothing_is_told(patch):
    patch.setattr(Fit, "share", SHARE)
    return CONFIG, lambda ids: 1


def bounds_cannot_be_kept(patch):
    patch.undo()                                      # what it looks at is looked at as it is
    patch.setattr(Fit, "share", 1.0)
    return replace(CONFIG, refine=replace(CONFIG.refine, max_surprise_rise=-1.0)), None


def steps_are_never_finite(patch):
    return replace(CONFIG, refine=replace(CONFIG.refine, learning_rate=1e38)), None


def no_look_pleases(patch):
    patch.setattr("learner.refine.curve.clearly_pleased", lambda *_: False)
    return CONFIG, None


def the_ratings_tell_too_little(patch):
    patch.setattr(Fit, "share", 0.0)
    return CONFIG, None


def ordinary_text_suffers(patch):
    patch.setattr("learner.refine.bounds.MAX_FORGOTTEN", -0.01)
    return CONFIG, None


@pytest.mark.parametrize(("why", "reason"), [
    (nothing_is_told, "do not predict"), (the_ratings_tell_too_little, "do not predict"), (bounds_cannot_be_kept, "taken back because"),
    (steps_are_never_finite, "numbers were no longer finite"), (no_look_pleases, "never clearly more pleased"), (ordinary_text_suffers, "never clearly more pleased")])
def test_where_it_leads_nowhere_the_rated_replies_train_exactly_as_without_it(tmp_path, tiny_base, leads_far, monkeypatch, why, reason):
    config, likes = why(monkeypatch)
    likes = likes or (lambda ids: 1 if len(ids) < 12 else -1)
    alone, adapter = run_of(tmp_path / "off", tiny_base, replace(config, refine=replace(config.refine, enabled=False)), likes)
    run, refined = run_of(tmp_path / "on", tiny_base, config, likes)
    assert alone.report["refinement"] is None and run.report["refinement"]["kept"] is False and reason in run.report["refinement"]["reason"]
    assert run.report["training"]["steps"] > 0 and refined == adapter


def test_of_ratings_that_hardly_say_which_way_is_right_half_of_it_is_gone_and_told(tmp_path, tiny_base, leads_far, monkeypatch):
    monkeypatch.setattr(Fit, "share", 0.5)
    report = run_of(tmp_path, tiny_base)[0].report["refinement"]
    assert report["reached"]["strength"] == 3 and report["reached"]["share"] == 0.5 and [one["strength"] for one in report["reached"]["tried"]] == [3, 6]
    assert report["kept"] and report["reason"].endswith("by 3.00 small steps towards what a model of the ratings prefers, and no further because 50% of the way is as much as so few ratings are sure of.")


def test_what_ordinary_text_costs_is_asked_of_the_base_model_and_at_each_look(tmp_path, tiny_base, leads_far):
    run, _ = run_of(tmp_path, tiny_base)
    base, tried = run.report["refinement"]["base"]["text_nll"], run.report["refinement"]["reached"]["tried"]
    assert base == pytest.approx(run.report["gate"]["base"]["text_nll"], abs=2e-4) and len({base, *(one["text_nll"] for one in tried)}) == 3


def test_a_policy_to_which_ordinary_text_is_no_number_is_not_kept(tmp_path, tiny_base, leads_far, monkeypatch):
    asked, real = count(), OrdinaryText.nll
    monkeypatch.setattr(OrdinaryText, "nll", lambda text, *rest: math.nan if next(asked) == 2 else real(text, *rest))       # after the base model and the first look
    report = run_of(tmp_path, tiny_base)[0].report["refinement"]
    assert report["reached"]["tried"][1]["said"]["code"] == "fresh_diverged" and report["reached"]["strength"] == 3


def test_a_multiple_that_cannot_be_sampled_is_not_kept(tmp_path, tiny_base, leads_far):
    drawn = []

    class Failing(PolicySampler):
        def sample(self, prompts, sampling):
            drawn.append(len(prompts))
            if len(drawn) == 3:                       # after the base model's replies and the first look's
                raise Diverged
            return super().sample(prompts, sampling)

    run, _ = run_of(tmp_path, tiny_base, make_sampler=lambda policy, tokenizer: Failing(policy, tokenizer.eos_ids))
    report = run.report["refinement"]
    assert report["reached"]["strength"] == 3 and [one["strength"] for one in report["reached"]["tried"]] == [3, 6]
    assert "no replies could be sampled" in report["reached"]["tried"][1]["problem"] and "no replies could be sampled" in report["reason"]


def test_a_stop_request_is_heard_while_refining(tmp_path, tiny_base, leads_far):
    store, registry = store_of(tmp_path, tiny_base)
    run = train(store, registry, tiny_base, CONFIG, trigger="shell",
                on_progress=lambda p: store.request_stop() if p.stage == "refine" and p.step == 1 else None)
    assert run.state == "stopped" and run.progress.stage == "refine" and not store.versions(tiny_base.id)

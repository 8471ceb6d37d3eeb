"""The on-policy iterations: steps that are kept, cut short or taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data.records import Generated
from data.sentences import said
from learner.along import go
from learner.anchor import reference_pass
from learner.batches import plan_steps
from learner.errors import Diverged
from learner.policy import Policy
from learner.refine_bounds import Crossed
from learner.run import train
from learner.sampler import PolicySampler
from learner.scoring import as_examples
from learner.steps import Signals, train_steps
from tests.refinements import CONFIG, END, everything_pleases, on_the_way, same, store_of, weights_of  # noqa: F401


def test_the_way_back_is_exact(tiny_base):
    policy = Policy(tiny_base, dtype=torch.float32, device="cpu")
    start = [parameter.detach().clone() for parameter in policy.parameters()]
    end = [value + torch.randn_like(value) for value in start]
    go(policy, start, end, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), end, strict=True))
    go(policy, start, end, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), start, strict=True))


def test_an_iteration_goes_on_with_the_moments_of_the_one_before(tiny_base):
    examples = as_examples([(5, 6, 7)] * 4, [Generated((70, 80, 90, last, END), (), 1.0, "stop") for last in (75, 76, 77, 78)], 1.0)
    plan, config = plan_steps(examples, 2), replace(CONFIG, epochs=1, min_steps=1)

    def moved_by_a_call_without_a_gradient(moments: dict | None) -> float:
        policy = Policy(tiny_base, dtype=torch.float32, device="cpu")
        reference = reference_pass(policy, [examples], frozenset(), lambda: None)
        for gains in (torch.tensor([1.0, -1.0, 0.5, -0.5]), torch.zeros(4)):
            before = policy.weights()
            train_steps(policy, plan, Signals(gains, torch.ones(4), gains), reference, None, config, lambda _: None, moments)
        return max(float((a - b).abs().max()) for a, b in zip(policy.weights(), before, strict=True))

    moments: dict = {}
    assert moved_by_a_call_without_a_gradient(None) == 0
    assert moved_by_a_call_without_a_gradient(moments) > 0.1 * config.learning_rate
    assert {float(state["step"]) for state in moments["state"].values()} == {4.0}


def test_a_run_refines_in_the_place_of_passes_over_the_ratings_and_says_what_came_of_it(tmp_path, tiny_base, everything_pleases):
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    seen = []
    run = train(store, registry, tiny_base, CONFIG, trigger="shell", on_progress=seen.append)
    assert run.state == "published" and list(dict.fromkeys(p.stage for p in seen)) == ["collect", "load", "anchor", "refine", "gate", "publish"]
    report = run.report["refinement"]
    assert report["reward_model"]["correlation"] > 0.5 and all(one["steps"] == 2 for one in report["iterations"])
    assert report["kept"] == len(report["iterations"]) == 4 and run.report["training"]["steps"] == 0 and run.report["comparison"]["decision"] == "not evaluable"
    assert [p.step for p in seen if p.stage == "refine" and p.steps][:3] == [0, 1, 2]


def test_it_learns_from_the_whole_vocabulary_judges_as_the_chat_draws_and_spends_no_gradient_on_what_says_little(tmp_path, tiny_base, everything_pleases, monkeypatch):
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    drawn, asked_at = [], []
    monkeypatch.setattr("learner.refine.as_examples", lambda *told: [asked_at.append(told[2]), as_examples(*told)][1])

    class Listening(PolicySampler):
        def sample(self, prompts, sampling):
            drawn.append((len(prompts), sampling.top_p, sampling.top_k))
            return super().sample(prompts, sampling)

    config = replace(CONFIG, refine=replace(CONFIG.refine, iterations=2, least_gain=1.0))
    run = train(store, registry, tiny_base, config, trigger="shell", make_sampler=lambda policy, tokenizer: Listening(policy, tokenizer.eos_ids))
    chat = (8, config.sampling.top_p, config.sampling.top_k)              # 4 prompts kept aside, 2 replies each
    assert drawn[:4] == [(16, 1.0, 0), (16, 1.0, 0), chat, chat] and chat[1:] != (1.0, 0)
    assert asked_at[:4] == [0.8, 0.8, 1.0, 1.0]                           # log pi at the temperature it draws at; how likely a reply is, at 1
    first, last = run.report["refinement"]["iterations"]
    assert 0 < first["trained_on"] < 16 and first["tried"][0]["lower"] == last["fresh"]["lower"]      # what tells of a step is what the next one learns from


def test_with_a_useless_reward_model_the_adapter_is_that_of_the_ratings_alone(tmp_path, tiny_base):
    def adapter(name: str, enabled: bool):
        store, registry = store_of(tmp_path / name, tiny_base, 40, lambda *_: 1)                    # all alike: nothing can be told by them
        run = train(store, registry, tiny_base, replace(CONFIG, refine=replace(CONFIG.refine, enabled=enabled)), trigger="shell")
        return store.version(1).sha256, run.report["refinement"]

    (alone, none), (refined, report) = adapter("off", False), adapter("on", True)
    assert none is None and report["kept"] == 0 and report["reward_model"]["nothing"] == 1.0 and "do not predict" in report["reason"]
    assert refined == alone


def test_a_refinement_that_is_taken_back_leaves_the_adapter_of_the_ratings_alone(tmp_path, tiny_base):
    def adapter(name: str, **changed):
        store, registry = store_of(tmp_path / name, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
        run = train(store, registry, tiny_base, replace(CONFIG, refine=replace(CONFIG.refine, **changed)), trigger="shell")
        return store.version(1).sha256, run.report["refinement"]

    (alone, _), (refined, report) = adapter("off", enabled=False), adapter("on", max_surprise_rise=-1.0)
    assert report["kept"] == 0 and len(report["iterations"]) == 2 and report["checked"] == [] and refined == alone
    assert report["reason"].startswith("The refinement was taken back because") and "fresh replies" in report["reason"]


@pytest.mark.parametrize(("problem", "strengths"), [
    (Crossed(said("less_pleased", gain=-0.1)), [[1.0], [1.0]]),                                                   # one in vain may be chance, two are enough
    (Crossed(said("fresh_surprising", rise=0.2), 0.5), [[1.0, 0.45], [1.0, 0.45]]),                               # once more, well within the bound
    (Crossed(said("fresh_truncated", share=0.9, base=0.1), 0.5), [[1.0, 0.45]]),                                  # a shorter step leads there too
    (Crossed(said("fresh_truncated", share=0.9, base=0.1), 0.2), [[1.0]])])                                       # too little to be worth a look
def test_a_step_out_of_bounds_is_tried_in_part_one_that_does_not_please_is_not(tmp_path, tiny_base, monkeypatch, problem, strengths):
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    monkeypatch.setattr("learner.refine.crossed", lambda *_: problem)
    run = train(store, registry, tiny_base, CONFIG, trigger="shell")
    iterations = run.report["refinement"]["iterations"]
    assert run.report["refinement"]["kept"] == 0 and [[one["strength"] for one in iteration["tried"]] for iteration in iterations] == strengths
    assert iterations[-1]["learning_rate"] == iterations[0]["learning_rate"] * 0.5 ** (len(iterations) - 1)


def test_after_a_step_whose_numbers_are_not_finite_the_refinement_goes_on_from_where_it_was(tmp_path, tiny_base, monkeypatch):
    real, found, calls = train_steps, [], []

    def diverging_once(policy, *rest):
        found.append(policy.weights())
        history = real(policy, *rest)
        calls.append(rest)
        if len(calls) == 1:
            raise Diverged
        return history

    monkeypatch.setattr("learner.refine.train_steps", diverging_once)
    monkeypatch.setattr("learner.refine.crossed", lambda *_: None)
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    report = train(store, registry, tiny_base, CONFIG, trigger="shell").report["refinement"]
    first, second, third = report["iterations"][:3]
    assert "no longer finite" in first["tried"][0]["problem"] and second["tried"][0]["problem"] == third["tried"][0]["problem"] == ""
    assert second["learning_rate"] == first["learning_rate"] / 2 and third["learning_rate"] == pytest.approx(first["learning_rate"] * 0.75)
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True)) and not all(
        torch.equal(a, b) for a, b in zip(found[1], found[2], strict=True))


def test_a_refinement_whose_steps_are_never_finite_is_given_up_and_the_run_goes_on(tmp_path, tiny_base):
    def adapter(name: str, **changed):
        store, registry = store_of(tmp_path / name, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
        run = train(store, registry, tiny_base, replace(CONFIG, refine=replace(CONFIG.refine, **changed)), trigger="shell")
        return store.version(1).sha256, run.report["refinement"]

    (alone, _), (refined, report) = adapter("off", enabled=False), adapter("on", learning_rate=1e38)
    assert report["kept"] == 0 and len(report["iterations"]) == 2 and refined == alone
    assert report["reason"] == "The refinement was taken back because the next step's numbers were no longer finite, or its replies could not be sampled."


def test_in_the_end_half_of_the_last_step_is_kept_where_it_does_not_stand_the_check_then_the_one_before_it_and_then_a_part_of_the_way_there(
        tmp_path, tiny_base, everything_pleases, weights_of, monkeypatch):
    def refined(name: str, *problems):
        answers = iter(problems)
        monkeypatch.setattr("learner.settle.not_clearly_pleased", lambda *_: next(answers, None))
        store, registry = store_of(tmp_path / name, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
        return train(store, registry, tiny_base, replace(CONFIG, refine=replace(CONFIG.refine, iterations=2)), trigger="shell").report["refinement"]

    cut = Crossed(said("fresh_truncated", share=0.9, base=0.1), 0.75)
    whole = refined("whole")
    assert whole["kept"] == 2 and [one["strength"] for one in whole["checked"]] == [1.0] and "no further" not in whole["reason"]
    assert same(weights_of.end, weights_of.passes[1]) and not same(weights_of.passes[1], weights_of.passes[0])
    nearly = refined("nearly", cut)
    assert nearly["kept"] == 1.5 and [(one["from"], one["strength"]) for one in nearly["checked"]] == [(1, 1.0), (1, 0.5)]
    assert same(weights_of.end, on_the_way(weights_of.passes[0], weights_of.passes[1], 0.5))
    earlier = refined("earlier", cut, cut)
    assert earlier["kept"] == 1 and "no further because 90% of the fresh replies did not come to an end" in earlier["reason"]
    assert same(weights_of.end, weights_of.passes[0])
    part = refined("part", cut, cut, cut)
    assert part["kept"] == 0.68 and "by 0.68 steps" in part["reason"]
    assert [(one["from"], one["strength"]) for one in part["checked"]] == [(1, 1.0), (1, 0.5), (0, 1.0), (0, pytest.approx(0.675))]
    assert same(weights_of.end, on_the_way(weights_of.start, weights_of.passes[0], 0.675))
    none = refined("none", cut, cut, cut, cut, cut)
    assert none["kept"] == 0 and none["reason"].startswith("The refinement was taken back because 90%") and len(none["checked"]) == 5
    assert same(weights_of.end, weights_of.start)


def test_an_iteration_kept_in_part_goes_on_from_there_in_shorter_steps_and_one_bound_ends_it_with_what_was_kept(tmp_path, tiny_base, everything_pleases, weights_of, monkeypatch):
    cut = Crossed(said("fresh_truncated", share=0.9, base=0.1), 0.5)
    answers = iter([cut, None, cut, cut])                                         # the first step is kept in part, of the second one nothing
    monkeypatch.setattr("learner.refine.crossed", lambda *_: next(answers, None))
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    report = train(store, registry, tiny_base, CONFIG, trigger="shell").report["refinement"]
    first, second = report["iterations"]
    assert [one["strength"] for one in first["tried"]] == [1.0, 0.45] == [one["strength"] for one in second["tried"]]
    assert second["learning_rate"] == pytest.approx(0.45 * first["learning_rate"]) and second["fresh"]["lower"] == first["tried"][1]["lower"]
    assert report["kept"] == pytest.approx(0.45) and report["reason"].endswith("no further because 90% of the fresh replies did not come to an end, and 10% of the base model's.")
    assert same(weights_of.end, on_the_way(weights_of.start, weights_of.passes[0], 0.45))


def test_how_unlikely_replies_have_become_is_taken_from_the_likeliest_kept_ones_and_in_the_end_from_the_base_models(tmp_path, tiny_base, everything_pleases, monkeypatch):
    seen = []
    for module in ("refine", "settle"):
        monkeypatch.setattr(f"learner.{module}.crossed", lambda before, after, base, likeliest, *_: seen.append((before, base, likeliest)))
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    train(store, registry, tiny_base, CONFIG, trigger="shell")
    first, second, third, check = seen
    assert first[2] is first[1] and check[2] is check[1] is check[0] and check[1] is not first[1]
    assert second[2].surprise() == min(first[1].surprise(), second[0].surprise()) and third[2].surprise() == min(second[2].surprise(), third[0].surprise())


def test_where_the_sampler_fails_what_was_kept_is_kept(tmp_path, tiny_base, everything_pleases, weights_of):
    calls = []

    class Failing(PolicySampler):
        def sample(self, prompts, sampling):
            calls.append(sampling.top_p)
            if len(calls) in (3, 4):                                              # after the second step, and where it began
                raise Diverged
            return super().sample(prompts, sampling)

    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    report = train(store, registry, tiny_base, CONFIG, trigger="shell", make_sampler=lambda policy, tokenizer: Failing(policy, tokenizer.eos_ids)).report["refinement"]
    assert report["kept"] == 1 and len(report["iterations"]) == 3 and "could not be sampled" in report["reason"] and same(weights_of.end, weights_of.passes[0])


def test_a_gain_over_the_base_model_that_is_within_its_error_keeps_nothing(tmp_path, tiny_base, monkeypatch):
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    for module in ("refine", "settle"):
        monkeypatch.setattr(f"learner.{module}.crossed", lambda *_: None)
    monkeypatch.setattr("learner.refine_bounds.gain_of", lambda *_: (0.1, 0.1))
    run = train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert run.report["refinement"]["kept"] == 0 and "never clearly more pleased" in run.report["refinement"]["reason"] and run.report["training"]["steps"] > 0


def test_a_stop_request_is_heard_while_refining(tmp_path, tiny_base):
    store, registry = store_of(tmp_path, tiny_base, 40, lambda ids, _: 1 if len(ids) < 12 else -1)
    run = train(store, registry, tiny_base, CONFIG, trigger="shell",
                on_progress=lambda p: store.request_stop() if p.stage == "refine" and p.step == 1 else None)
    assert run.state == "stopped" and run.progress.stage == "refine" and not store.versions(tiny_base.id)

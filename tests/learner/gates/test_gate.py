"""G0: what diverged is scaled down or refused, and what did not passes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from data.base_models import import_base_model
from data.base_models.tokenizer import ChatTokenizer
from data.records import Sampling
from data.sentences import sentence
from data.texts.reply_features import repeated_share
from learner.config import GateLimits
from learner.gates.gate import Figures, Gate, fixed_prompts, out_of_bounds
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.model.sampler import PolicySampler
from learner.training.anchor import reference_pass
from learner.training.frozen_text import frozen_text
from tests.support.hub import transformers_folder

GOOD = Figures(finite=True, kl=0.1, text_nll=3.0, surprise=1.2, repetition=0.1, empty=0.0, tokens=60.0, ended=0.2)
ANCHOR = [Example(i, (5, 6, 7 + i), tuple(range(20 + i, 40 + i)), 0.8) for i in range(4)]
LOOSE = GateLimits(max_kl=math.inf, max_text_rise=math.inf, max_surprise_rise=math.inf, max_repetition_rise=math.inf,
                   max_empty_rise=math.inf, min_length_ratio=0.0)


def gate_on(base, limits: GateLimits, spoil: float = 0.0) -> tuple[Gate, Policy]:
    policy, tokenizer = Policy(base, dtype=torch.float32, device="cpu"), ChatTokenizer(base.folder)
    reference = reference_pass(policy, [ANCHOR], frozenset(range(4)), lambda: None)
    gate = Gate(policy, PolicySampler(policy, tokenizer.eos_ids), tokenizer, limits, reference, ANCHOR, temperature=0.8, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spoil)
    return gate, policy


def test_the_untouched_model_passes_at_full_strength_and_answers_as_before(tiny_base):
    report = gate_on(tiny_base, GateLimits())[0].decide()
    assert report.passed and report.scale == 1.0
    assert all(before == after for _, before, after in report.replies) and len(report.replies) == 8
    figures = report.tried[0][1]
    assert figures.kl == pytest.approx(0, abs=1e-6) and figures.text_nll == pytest.approx(report.base.text_nll, abs=1e-5)


def test_every_prompt_is_answered_several_times_and_shown_with_the_first_answer(tiny_base):
    gate = gate_on(tiny_base, GateLimits(prompts=2, samples=3))[0]
    texts = [gate.tokenizer.decode(reply) for reply in gate.base_replies]
    assert len(texts) == 6 and len(set(texts)) == 6
    assert [(before, after) for _, before, after in gate.decide().replies] == [(texts[0], texts[0]), (texts[3], texts[3])]


def test_an_adapter_that_turns_the_model_to_noise_is_refused_with_a_reason(tiny_base):
    report = gate_on(tiny_base, GateLimits(), spoil=3.0)[0].decide()
    assert not report.passed and report.scale == 0.0 and len(report.tried) == 4
    assert report.reason.startswith("The candidate was refused because it") and "stays live" in report.reason
    json.dumps(report.as_dict(), allow_nan=False)


def test_an_adapter_that_is_a_little_too_strong_is_published_at_the_largest_strength_that_passes(tiny_base):
    kls = {}
    for scale in (1.0, 0.75, 0.5):
        kls[scale] = gate_on(tiny_base, replace(LOOSE, scales=(scale,)), spoil=0.05)[0].decide().tried[0][1].kl
    assert kls[1.0] > kls[0.75] > kls[0.5] > 0
    gate, policy = gate_on(tiny_base, replace(LOOSE, max_kl=(kls[0.75] + kls[0.5]) / 2), spoil=0.05)
    full = policy.lora_b()
    report = gate.decide()
    assert report.passed and report.scale == 0.5 and "is not broken at 50% of its strength, since at full strength it moved" in report.reason
    assert all(torch.equal(now, 0.5 * then) for now, then in zip(policy.lora_b(), full, strict=True))


def test_numbers_that_are_not_finite_are_refused_at_once(tiny_base):
    gate, policy = gate_on(tiny_base, GateLimits())
    with torch.no_grad():
        policy.parameters()[0][0, 0] = float("nan")
    report = gate.decide()
    assert not report.passed and len(report.tried) == 1 and "not finite" in report.reason
    assert report.as_dict()["tried"][0]["kl"] is None


@pytest.mark.parametrize(("change", "words"), [
    ({"kl": 0.6}, "nats a token from the base"), ({"text_nll": 3.18}, "ordinary text 6% less likely per token than the base model does (limit 5%)"), ({"empty": 0.25}, "empty"),
    ({"tokens": 6.0}, "shrank"), ({"repetition": 0.35}, "repeats itself"), ({"surprise": 1.38}, "15% less likely per token than its own (limit 12%)"),
    ({"finite": False}, "not finite")])
def test_each_figure_has_a_limit_of_its_own(change, words):
    assert out_of_bounds(GOOD, GOOD, GateLimits()) is None
    assert words in sentence(out_of_bounds(replace(GOOD, **change), GOOD, GateLimits()))


def test_a_base_model_that_is_itself_poor_does_not_block_a_candidate_that_is_no_worse():
    poor = replace(GOOD, repetition=0.7, empty=0.5, surprise=5.0, text_nll=8.0)
    assert out_of_bounds(poor, poor, GateLimits()) is None


def test_repetition_counts_what_was_said_before():
    assert repeated_share([1, 2, 3, 4, 5, 6]) == 0.0
    assert repeated_share([1, 2, 3]) == 0.0                           # too short to repeat anything
    assert repeated_share([7] * 8) == pytest.approx(0.8)              # five 4-grams, one distinct
    assert repeated_share([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(0.2)


def test_samples_are_repeatable_end_where_they_end_and_do_not_disturb_training_randomness(tiny_base):
    policy, tokenizer = Policy(tiny_base, dtype=torch.float32, device="cpu"), ChatTokenizer(tiny_base.folder)
    sampler = PolicySampler(policy, tokenizer.eos_ids)
    before = torch.random.get_rng_state()
    one = sampler.sample([(5, 6), (7, 8, 9, 10)], Sampling(max_new_tokens=40, seed=3))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one == sampler.sample([(5, 6), (7, 8, 9, 10)], Sampling(max_new_tokens=40, seed=3))
    assert one != sampler.sample([(5, 6), (7, 8, 9, 10)], Sampling(max_new_tokens=40, seed=4))
    for reply in one:
        ids = reply.completion_ids
        assert 0 < len(ids) <= 40 and not set(ids[:-1]) & tokenizer.eos_ids
        assert reply.finish_reason == ("stop" if ids[-1] in tokenizer.eos_ids else "length")


def test_the_frozen_text_and_the_prompts_are_there():
    assert len(frozen_text()) > 1500 and "山" in frozen_text()
    assert len(fixed_prompts()) == 8 and all(prompt.strip() for prompt in fixed_prompts())


def test_a_penalty_that_a_model_brings_along_does_not_change_what_is_drawn_from_it(tiny_base, tmp_path):
    folder = transformers_folder(tiny_base, tmp_path / "Tiny-HF")
    (folder / "generation_config.json").write_text(json.dumps({"repetition_penalty": 5.0, "min_p": 0.5, "eos_token_id": 2}))
    drawn = []
    for base in (tiny_base, import_base_model(str(folder), tmp_path / "models")):
        policy = Policy(base, dtype=torch.float32, device="cpu")
        drawn.append(PolicySampler(policy, frozenset({2})).sample([(5, 6), (7, 8, 9)], Sampling(max_new_tokens=40, seed=3)))
    assert drawn[0] == drawn[1]

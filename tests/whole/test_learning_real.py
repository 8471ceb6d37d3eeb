"""The claim on the real model: a few dozen ratings move it towards the liked kind of reply, on prompts it never saw."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.importing import end_token
from data.records import Message
from learner.config import GateLimits, LearnerConfig
from learner.gates.gate import Gate
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.model.sampler import PolicySampler
from learner.runs.run import train
from learner.training.anchor import logprob_pass, reference_pass
from serving_sampler import sampler_maker
from tests.support.conversations import RATER, add_reply, open_store

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

PAIRS = json.loads((Path(__file__).parent.parent / "support" / "examples" / "short_and_long.json").read_text(encoding="utf-8"))
TRAINED, HELD_OUT = PAIRS[:16], PAIRS[20:]
SHORT = GateLimits(prompts=4, new_tokens=24, max_surprise_rise=0.4)
"""In a quarter of the time, and so that chance decides nothing: by so few tokens a rise is told to ten points or so, and what people write is less likely to the model than what it says."""


def completion(tokenizer: ChatTokenizer, pair: dict, kind: str) -> tuple[int, ...]:
    """A short answer ends by itself; the long one is what the base model sampled, cut at 40 tokens."""
    return tuple(tokenizer.encode(pair[kind])) + (end_token(tokenizer) if kind == "short" else ())


@pytest.fixture(scope="module")
def learned(real_base, tmp_path_factory):
    """A person likes short answers and dislikes long-winded ones: 32 thumbs, one run. Returns (run, registry, seconds)."""
    folder = tmp_path_factory.mktemp("real")
    store, tokenizer = open_store(folder), ChatTokenizer(real_base.folder)
    registry = AdapterRegistry(store, folder / "adapters")
    for pair in TRAINED:
        for kind, thumb in (("short", 1), ("long", -1)):
            store.add_rating(add_reply(store, real_base, pair["prompt"], completion(tokenizer, pair, kind)).id, RATER, "thumb", thumb)
    started = time.monotonic()
    run = train(store, registry, real_base, LearnerConfig(min_steps=8, gate=SHORT), trigger="shell",     # half the passes: time
                make_sampler=sampler_maker("openvino", real_base, folder / "merged"))
    return run, registry, time.monotonic() - started


@pytest.fixture(scope="module")
def policy(real_base, learned) -> Policy:
    return Policy(real_base)


def examples_of(tokenizer: ChatTokenizer, kind: str) -> list[Example]:
    return [Example(place, tuple(tokenizer.render([Message("user", pair["prompt"])])),
                    completion(tokenizer, pair, kind), 0.8) for place, pair in enumerate(HELD_OUT)]


def test_thirty_two_thumbs_make_the_liked_kind_of_reply_more_likely_on_unseen_prompts(real_base, learned, policy):
    run, registry, seconds = learned
    assert run.state == "published", run.report.get("reason")
    tokenizer = ChatTokenizer(real_base.folder)
    gain = {}
    for kind in ("short", "long"):
        examples = examples_of(tokenizer, kind)
        before = reference_pass(policy, [examples], frozenset(), lambda: None).logprobs
        with policy.behaving_as(registry.verify(run.version)):
            after, _ = logprob_pass(policy, [examples], lambda: None)
        gain[kind] = [float((after[place] - before[place]).mean()) for place in range(len(examples))]
    print(f"\n{seconds:.0f} s, nats per token on unseen prompts: liked {sum(gain['short']) / 8:+.3f}, disliked {sum(gain['long']) / 8:+.3f}; "
          f"scale {run.report['gate']['scale']}, kl {run.report['kl']}")
    assert sum(gain["short"]) / 8 > 0.1
    assert sum(gain["short"]) / 8 > sum(gain["long"]) / 8 + 0.1
    assert sum(liked > disliked for liked, disliked in zip(gain["short"], gain["long"], strict=True)) >= 7


def test_the_receipts_show_what_each_thumb_did(learned):
    run, registry, _ = learned
    rows = [registry.store.receipts(rated.reply.id)[0] for rated in registry.store.rated_replies(run.base_model)]
    liked = [row.logprob_after - row.logprob_before for row in rows if row.reward > 0]
    disliked = [row.logprob_after - row.logprob_before for row in rows if row.reward < 0]
    assert sum(liked) / len(liked) > 1 and sum(liked) / len(liked) > sum(disliked) / len(disliked)


@pytest.mark.slow
def test_the_gate_refuses_or_weakens_an_adapter_that_makes_the_real_model_talk_nonsense(real_base, policy):
    tokenizer = ChatTokenizer(real_base.folder)
    anchor = examples_of(tokenizer, "long")
    reference = reference_pass(policy, [anchor], frozenset(range(len(anchor))), lambda: None)
    gate = Gate(policy, PolicySampler(policy, tokenizer.eos_ids), tokenizer, replace(GateLimits(), prompts=4, new_tokens=16, scales=(1.0, 0.25)),
                reference, anchor, temperature=0.8, seed=0)
    untouched = gate.decide()
    assert untouched.passed and untouched.scale == 1.0
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    spoiled = gate.decide()
    assert not spoiled.passed and "refused" in spoiled.reason
    policy.set_scale(0.0, policy.lora_b())

"""Each kind of feedback, alone and without any rating, moves the real model the right way on the replies it was about."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.base_models.tokenizer import ChatTokenizer
from data.importing import end_token
from data.records import Generated, Reply
from data.store import Store
from learner.config import LearnerConfig
from learner.feedback.lessons import lessons_from
from learner.model.batches import plan_steps
from learner.model.policy import Policy
from learner.training.anchor import choose_anchor, logprob_pass, reference_pass
from learner.training.steps import train_steps
from tests.support.conversations import RATER, add_reply, open_store

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

PAIRS = json.loads((Path(__file__).parent.parent / "support" / "examples" / "short_and_long.json").read_text(encoding="utf-8"))[:4]
TOKENS = 14
"""Replies are cut here: the shorter, the quicker."""
CONFIG = LearnerConfig(batch_size=8, min_steps=8)


@pytest.fixture(scope="module")
def policy(real_base) -> Policy:
    return Policy(real_base)


@pytest.fixture
def untrained(policy):
    """One policy for all: every test starts from the same fresh adapter."""
    start = [parameter.detach().clone() for parameter in policy.parameters()]
    yield policy
    with torch.no_grad():
        for parameter, value in zip(policy.parameters(), start, strict=True):
            parameter.copy_(value)


@pytest.fixture
def pairs(real_base, tmp_path) -> tuple[Store, list[tuple[Reply, Reply]]]:
    """Two attempts at each of four messages, of two kinds: an even place has the short kind first, an odd one the long kind."""
    store, tokenizer, found = open_store(tmp_path), ChatTokenizer(real_base.folder), []
    for place, pair in enumerate(PAIRS):
        short, long = ((tuple(tokenizer.encode(pair[kind])) + end)[:TOKENS] for kind, end in (("short", end_token(tokenizer)), ("long", ())))
        first = add_reply(store, real_base, pair["prompt"], (short, long)[place % 2])
        second = store.start_reply(first.turn_id, 0, None, real_base.id, "test", first.sampling, first.prompt_ids)
        ids = (long, short)[place % 2]
        found.append((first, store.finish_reply(second.id, tokenizer.decode(ids), Generated(ids, (), 1.0, "stop"), 0.1, 1.0)))
    return store, found


def gains(store: Store, policy: Policy, kind: str) -> Callable[[str, str], float]:
    """Train on all that the store holds; `gain(reply_id, engine)` is the change in nats per token, after against before."""
    started = time.monotonic()
    lessons = lessons_from(store.rated_replies(policy.base.id), ChatTokenizer(policy.base.folder), 320)
    plan = plan_steps(lessons.examples, CONFIG.batch_size)
    visited = policy.micro_batches(lessons.examples, CONFIG.max_batch_tokens)
    indexes = [example.index for example in lessons.examples]
    reference = reference_pass(policy, visited, choose_anchor(indexes, [True] * len(indexes), 4, 0), lambda: None)
    history = train_steps(policy, plan, lessons.signals(lessons.examples, CONFIG), reference, reference.logprobs, CONFIG, lambda figures: None)
    after, _ = logprob_pass(policy, visited, lambda: None)

    def gain(reply_id: str, engine: str = "test") -> float:
        [example] = [e for e in lessons.examples if (lessons.replies[e.index].reply.id, lessons.replies[e.index].reply.engine) == (reply_id, engine)]
        return float((after[example.index] - reference.logprobs[example.index]).mean())

    print(f"\n{kind}: {len(history)} steps, {time.monotonic() - started:.0f} s, KL {history[-1].kl}")
    return gain


def told(kind: str, up: list[float], down: list[float]) -> None:
    print(f"{kind}: nats per token, up {[round(x, 3) for x in up]} mean {sum(up) / len(up):+.3f}; down {[round(x, 3) for x in down]} mean {sum(down) / len(up):+.3f}")


def test_tags_alone_push_towards_what_they_praise_and_away_from_what_they_blame(untrained, pairs):
    store, replies = pairs
    for praised, blamed in replies:
        store.add_reasons(praised.id, RATER, ["helpful", "clear"])
        store.add_reasons(blamed.id, RATER, ["not_helpful"])
    gain = gains(store, untrained, "tags")
    up, down = [gain(praised.id) for praised, _ in replies], [gain(blamed.id) for _, blamed in replies]
    told("tags", up, down)
    assert min(up) > 0 > sum(down) and all(praised > blamed for praised, blamed in zip(up, down, strict=True))


@pytest.mark.slow
def test_comparisons_alone_push_towards_the_preferred_reply(untrained, pairs):
    store, replies = pairs
    for preferred, other in replies:
        store.add_comparison(other.id, preferred.id, RATER, "second")
    gain = gains(store, untrained, "comparisons")
    up, down = [gain(preferred.id) for preferred, _ in replies], [gain(other.id) for _, other in replies]
    told("comparisons", up, down)
    assert min(up) > 0 > sum(down) and all(preferred > other for preferred, other in zip(up, down, strict=True))


@pytest.mark.slow
def test_corrections_alone_push_towards_the_edited_text(untrained, pairs):
    store, replies = pairs
    for edited, original in replies:
        store.add_correction(original.id, RATER, edited.text)
    gain = gains(store, untrained, "corrections")
    up, down = [gain(original.id, "corrected") for _, original in replies], [gain(original.id) for _, original in replies]
    told("corrections", up, down)
    assert min(up) > 0 > sum(down) and all(edited > original for edited, original in zip(up, down, strict=True))

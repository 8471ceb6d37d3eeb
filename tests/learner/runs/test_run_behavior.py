"""What a run says of the versions that wrote the replies: their recorded log-probs beside the learner's own."""

from __future__ import annotations

import pytest

from learner.config import LearnerConfig
from learner.runs.run import train
from tests.support.conversations import RATER, add_rated_replies, add_reply, registry, store  # noqa: F401

CONFIG = LearnerConfig(lora_rank=4)


def test_replies_of_an_earlier_version_are_compared_with_that_version(store, registry, tiny_base):
    add_rated_replies(store, tiny_base, 6)
    train(store, registry, tiny_base, CONFIG, trigger="shell")
    reply = add_reply(store, tiny_base, "again", [9, 10, 11, 2], version=1, logprobs=(-5.0, -5.0, -5.0, -5.0))
    store.add_rating(reply.id, RATER, "stars", 5)
    run = train(store, registry, tiny_base, CONFIG, trigger="shell")
    behavior = run.report["behavior"]
    assert behavior["versions"] == {"0": 6, "1": 1} and behavior["unreadable_versions"] == []
    assert behavior["compared_tokens"] == 4 and isinstance(behavior["served_minus_learner"], float)

    (registry.verify(1) / "adapter_model.safetensors").write_bytes(b"not weights")
    again = train(store, registry, tiny_base, CONFIG, trigger="shell")
    assert again.state == "published" and again.report["behavior"]["unreadable_versions"] == [1]


def test_served_logprobs_are_compared_at_the_temperature_they_were_recorded_at(store, registry, tiny_base, monkeypatch):
    import torch

    from learner.model.batches import Example
    from learner.model.policy import Policy

    reply = add_reply(store, tiny_base, "hello", [40, 41, 42, 2])
    policy = Policy(tiny_base)
    with torch.no_grad():
        exact = policy.scores(policy.batch([Example(0, reply.prompt_ids, reply.completion_ids, 1.0)])).logprobs[0].tolist()
    known = add_reply(store, tiny_base, "hello", [40, 41, 42, 2], logprobs=[value + 0.25 for value in exact])
    store.add_rating(known.id, RATER, "thumb", 1)
    monkeypatch.setattr("learner.training.behavior.COMPARED_REPLIES", 1)
    store.add_correction(known.id, RATER, "ab")                      # a text that nothing sampled takes nobody's place
    behavior = train(store, registry, tiny_base, CONFIG, trigger="shell").report["behavior"]
    assert behavior["served_minus_learner"] == pytest.approx(0.25, abs=0.02) == behavior["served_abs_difference"]

"""The chat's engine as the learner's sampler: the policy as it is, the base model, a version; and noise that cannot be sampled from."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from chat_app.engines import EngineDied, EngineFailed, transformers
from chat_app.engines.gguf import servable_path
from data.base_models.tokenizer import ChatTokenizer
from data.cpus import usable_cpus
from data.records import Generated, Sampling
from learner.errors import Diverged
from learner.model.policy import Policy
from learner.model.sampler import PolicySampler
from learner.reward.scoring import as_examples
from learner.training.anchor import logprob_pass
from serving_sampler import GpuSampler, ServingSampler, _replies, sampler_maker

PROMPTS = [(5, 6, 7), (8, 9, 10, 11), (12, 13)]
ASKED = Sampling(max_new_tokens=12, seed=1)


@pytest.fixture
def policy(tiny_base, request) -> Policy:
    policy = Policy(tiny_base, dtype=getattr(request, "param", torch.float32), device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return policy


@pytest.mark.parametrize(("policy", "on_gpu"), [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True)], indirect=["policy"])
def test_replies_come_from_whoever_the_policy_is_at_that_instant(policy, on_gpu, tmp_path):
    """Told by their log-probs: the same seeds need not give the same tokens, since sums are rounded by who shares a step."""
    sampler = GpuSampler(policy, tmp_path / "merged") if on_gpu else ServingSampler(policy, tmp_path / "merged")
    policy.save(tmp_path / "version")
    roles = {"candidate": nullcontext, "base": policy.reference, "version": lambda: policy.behaving_as(tmp_path / "version")}
    for who, acting in roles.items():
        with acting():
            replies = sampler.sample(PROMPTS, ASKED)
        assert all(0 < len(reply.completion_ids) <= 12 and reply.finish_reason in ("stop", "length") for reply in replies)
        with policy.reference():
            from_base = _apart(policy, replies)
        from_candidate = _apart(policy, replies)
        near, far = (from_base, from_candidate) if who == "base" else (from_candidate, from_base)
        assert near < 0.15 and far > 3 * near, who
    assert not list(tmp_path.rglob(".candidate-*"))


def _apart(policy: Policy, replies: list[Generated]) -> float:
    """Mean distance of the served log-probs from the learner's, nats per token."""
    ours, _ = logprob_pass(policy, policy.micro_batches(as_examples(PROMPTS, replies, 1.0), 512), lambda: None)
    pairs = [pair for place, reply in enumerate(replies) for pair in zip(reply.logprobs, ours[place].tolist(), strict=True)]
    return sum(abs(a - b) for a, b in pairs) / len(pairs)


def test_what_was_measured_last_lies_there_merged_for_the_server_that_shares_the_folder(policy, tiny_base, tmp_path):
    sampler = ServingSampler(policy, tmp_path / "merged")
    full = policy.lora_b()
    for scale in (1.0, 0.75, 0.5):
        policy.set_scale(scale, full)
        sampler.sample(PROMPTS, ASKED)
    with policy.reference():
        sampler.sample(PROMPTS, ASKED)
    policy.save(tmp_path / "version")
    assert servable_path(tiny_base, tmp_path / "version", tmp_path / "merged").exists()
    assert len(list((tmp_path / "merged").rglob("*.gguf"))) == 3, "the first strength that was not taken lies there still"


@pytest.mark.skipif(usable_cpus() < 2, reason="one core samples as the chat serves")
@pytest.mark.parametrize("policy", [torch.bfloat16], indirect=True)
def test_what_is_asked_as_served_lies_there_for_the_server_however_many_replies_are_sampled_after_it(policy, tiny_base, tmp_path):
    sampler = ServingSampler(policy, tmp_path / "merged")
    policy.save(tmp_path / "version")
    sampler.as_served().sample(PROMPTS, ASKED)
    full = policy.lora_b()
    for scale in (1.0, 0.75, 0.5, 0.25):
        policy.set_scale(scale, full)
        sampler.sample(PROMPTS, ASKED)
    assert servable_path(tiny_base, tmp_path / "version", tmp_path / "merged").exists()
    with policy.reference():
        sampler.sample(PROMPTS, ASKED)
    assert [file.name for file in (tmp_path / "merged").rglob("*-f16.gguf")] == [servable_path(tiny_base, None, tmp_path, encoding="F16").name]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
@pytest.mark.parametrize("policy", [torch.bfloat16], indirect=True)
def test_one_core_is_enough(policy, tmp_path):
    """With weights in F16 and arithmetic in bf16 OpenVINO dies there of a division by zero."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert len(ServingSampler(policy, tmp_path / "merged").sample(PROMPTS, ASKED)) == len(PROMPTS)
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("kind", [ServingSampler, GpuSampler])
def test_what_a_killed_learner_left_is_swept(kind, policy, tmp_path):
    left = tmp_path / "merged" / ".candidate-old"
    left.mkdir(parents=True)
    kind(policy, tmp_path / "merged")
    assert not left.exists()


@pytest.mark.parametrize("on_gpu", [False, True])
def test_numbers_that_are_not_finite_are_told_as_divergence(policy, on_gpu, tmp_path):
    with torch.no_grad():
        policy.parameters()[1].fill_(float("nan"))
    sampler = GpuSampler(policy, tmp_path / "merged") if on_gpu else ServingSampler(policy, tmp_path / "merged")
    with pytest.raises(Diverged):
        sampler.sample(PROMPTS, ASKED)
    with policy.reference():
        assert len(sampler.sample(PROMPTS, ASKED)) == len(PROMPTS), "the base model is whole"


@pytest.mark.parametrize("deaths", [1, 2])
def test_an_engine_that_is_killed_is_asked_once_more_and_is_no_verdict_on_what_was_learnt(policy, deaths, tmp_path, monkeypatch):
    killed = []

    def killing(engine, version, prompts, sampling):
        if len(killed) < deaths:
            killed.append(engine)
            os.kill(engine._workers[version]._process.pid, signal.SIGKILL)
        return _replies(engine, version, prompts, sampling)

    monkeypatch.setattr("serving_sampler._replies", killing)
    sampler = ServingSampler(policy, tmp_path / "merged")
    if deaths == 1:
        assert len(sampler.sample(PROMPTS, ASKED)) == len(PROMPTS)
    else:
        with pytest.raises(EngineDied, match="its process ended"):
            sampler.sample(PROMPTS, ASKED)


def test_the_serving_engine_is_taken_where_it_can_read_the_model(policy, tiny_base, tmp_path):
    tokenizer = ChatTokenizer(tiny_base.folder)
    assert isinstance(sampler_maker("auto", tiny_base, tmp_path)(policy, tokenizer), ServingSampler)
    assert isinstance(sampler_maker("transformers", tiny_base, tmp_path)(policy, tokenizer), PolicySampler)


def test_on_a_gpu_the_engine_is_taken_that_serves_there_where_it_has_the_room_and_can(tiny_base, tmp_path, monkeypatch):
    """The policy's device and size are told, not there: a CPU runs this."""
    def taken(*, sharded: bool = False, small: bool = True, serves: type[Exception] | None = None) -> str:
        def load(engine, version, adapter):
            if serves:
                raise serves("no")

        policy = SimpleNamespace(device=torch.device("cuda"), team=SimpleNamespace(sharded=sharded), base=tiny_base, dtype=torch.float32, model=None)
        monkeypatch.setattr(transformers, "small_on_its_gpu", lambda model: small)
        monkeypatch.setattr(transformers.TransformersEngine, "load", load)
        return type(sampler_maker("openvino", tiny_base, tmp_path)(policy, ChatTokenizer(tiny_base.folder))).__name__

    assert taken() == "GpuSampler"
    assert {taken(sharded=True), taken(small=False), taken(serves=EngineFailed), taken(serves=torch.OutOfMemoryError)} == {"PolicySampler"}

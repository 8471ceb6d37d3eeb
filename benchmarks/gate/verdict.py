"""The product's gate asked about an adapter, as the learner asks it about its own candidate."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from benchmarks.learning.task import Task
from data.tokenizer import ChatTokenizer
from learner.anchor import reference_pass
from learner.batches import plan_steps
from learner.config import GateLimits, LearnerConfig
from learner.gate import Gate, GateReport
from learner.policy import Policy
from learner.run import GATE_ANCHOR
from learner.sampler import PolicySampler


def verdict(task: Task, adapter: Path, limits: GateLimits = GateLimits()) -> GateReport:
    """What the gate decides; the adapter's file stays as it is."""
    config = LearnerConfig(seed=task.seed, sampling_temperature=task.sampling.temperature)
    policy, tokenizer = Policy(task.base, rank=config.lora_rank, seed=task.seed), ChatTokenizer(task.base.folder)
    examples = task.examples()
    pool = examples if len(examples) <= GATE_ANCHOR else random.Random(config.seed).sample(examples, GATE_ANCHOR)
    micro_batches = [micro for step in plan_steps(pool, 8, config.max_batch_tokens) for micro in step]
    reference = reference_pass(policy, micro_batches, frozenset(example.index for example in pool), lambda: None)
    gate = Gate(policy, PolicySampler(policy, tokenizer.eos_ids), tokenizer, limits, reference, pool,
                temperature=config.sampling_temperature, seed=config.seed)
    put_in(policy, adapter)
    return gate.decide()


def put_in(policy: Policy, adapter: Path) -> None:
    """Make the adapter in training the one in `adapter`.

    Raises: ValueError: its weights have other names than the policy's.
    """
    weights = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        found = set_peft_model_state_dict(policy.model, weights)
    if found.unexpected_keys:
        raise ValueError(f"{adapter} holds weights this policy has no place for: {found.unexpected_keys[:3]}")

"""The product's gates asked about an adapter, as the learner asks them about its own candidate."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from benchmarks.learning.task import Task, record
from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.records import BASE_VERSION
from data.sentences import sentence
from data.store import Store
from learner.config import LearnerConfig
from learner.feedback.lessons import Lessons
from learner.feedback.rewards import rewards
from learner.gates.gate import Gate
from learner.gates.statistical import verdict as together
from learner.model.policy import Policy
from learner.reward.reliability import People
from learner.runs.judging import Judging, split_ratings
from learner.runs.pace import Pace
from learner.runs.stages import GATE_ANCHOR
from learner.training.anchor import reference_pass
from serving_sampler import sampler_maker


@dataclass(frozen=True)
class Verdict:
    """What both gates decided together."""

    passed: bool
    scale: float
    """Strength at which it passed; 0 when it did not."""
    reason: str
    refused_by: str
    """`G0` (broken), `G1` (not shown to be no worse) or ''."""


def verdict(task: Task, adapter: Path, config: LearnerConfig) -> Verdict:
    """Both gates in the learner's order, as far as `config` uses them, against the base model as the incumbent.

    The adapter's file stays as it is. The candidate counts as trained on the ratings that the learner would have trained on, and the
    others judge it, whoever gave them; where they cannot, the learner would have trained on them too, and the reason says so of its own run.
    """
    policy, tokenizer = Policy(task.base, rank=config.lora_rank, seed=task.seed), ChatTokenizer(task.base.folder)
    store = Store(task.folder / "gate.db")
    record(store, task.base, task.rated, task.sampling)
    replies = store.rated_replies(task.base.id)
    examples, held_out = split_ratings(task.examples(), replies, config)
    pool = examples if len(examples) <= GATE_ANCHOR else random.Random(config.seed).sample(examples, GATE_ANCHOR)
    reference = reference_pass(policy, policy.micro_batches([*pool, *held_out], config.max_batch_tokens),
                               frozenset(example.index for example in pool), lambda: None)
    make = sampler_maker("auto", task.base, task.folder / "gate-serving")
    sampler = make(policy, tokenizer)
    gate = Gate(policy, sampler.as_served(), tokenizer, config.gate, reference, pool, temperature=config.sampling.temperature, seed=config.seed)
    put_in(policy, adapter)
    found = gate.decide()
    if not found.passed:
        return Verdict(False, 0.0, found.reason, "G0")
    pace = Pace(store, store.start_run(task.base.id, "shell").id, lambda progress: None, lambda: False)
    judging = Judging(policy, sampler, tokenizer, reference, Lessons(tuple(replies), tuple(rewards(replies)), tuple(examples)), People(), config, pace)
    compared = judging.compare(judging.judge(examples, held_out), AdapterRegistry(store, task.folder / "adapters"), BASE_VERSION)
    if compared.decision == "refused":
        return Verdict(False, 0.0, compared.reason, "G1")
    return Verdict(True, found.scale, sentence(together(found, compared)), "")


def put_in(policy: Policy, adapter: Path) -> None:
    """Make the adapter in training the one in `adapter`.

    Raises: ValueError: its weights have other names than the policy's.
    """
    weights = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        found = set_peft_model_state_dict(policy.model, weights)
    if found.unexpected_keys:
        raise ValueError(f"{adapter} holds weights this policy has no place for: {found.unexpected_keys[:3]}")

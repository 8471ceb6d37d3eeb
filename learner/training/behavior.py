"""What the versions that sampled the replies said of them, recomputed by the learner.

The serving engine's arithmetic (quantised weights, other kernels) differs a little from the learner's, and it records
log-probs at its own temperature. Ratios are formed like with like, so the learner recomputes; how far the served
log-probs are off goes into the report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from data.adapters import AdapterRegistry
from data.errors import AdapterMismatch, CorruptAdapter, UnknownVersion
from data.records import BASE_VERSION, RatedReply
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.training.anchor import Reference, logprob_pass

COMPARED_REPLIES = 32
"""On how many replies, the newest, the served log-probs are compared."""


def comparable(replies: Sequence[RatedReply], examples: Sequence[Example]) -> list[Example]:
    """The newest replies whose served log-probs are known."""
    return [example for example in examples if replies[example.index].reply.behavior_logprobs][-COMPARED_REPLIES:]


def behavior_pass(policy: Policy, registry: AdapterRegistry, replies: Sequence[RatedReply], examples: Sequence[Example],
                  reference: Reference, max_batch_tokens: int, on_batch: Callable[[], None]) -> tuple[dict[int, Tensor], dict]:
    """Log-probs of every reply under the version that sampled it, at the reply's sampling temperature.

    A reply without one (it was imported, or its version's files are gone) gets the base model's.

    Returns: by example index (completion length,) nats; and what the report says:
        `versions` replies per behaviour version, of these examples, `unreadable_versions`, `compared_tokens`, and
        `served_minus_learner` / `served_abs_difference`, mean nats per token, None when nothing could be compared.
    """
    logprobs = dict(reference.logprobs)
    by_version: dict[int, list[Example]] = defaultdict(list)
    for example in examples:
        by_version[replies[example.index].reply.version].append(example)
    newest = {example.index for example in comparable(replies, examples)}
    unreadable, differences = [], []

    def compare(of_version: Sequence[Example]) -> None:
        pairs = [(example, replies[example.index].reply) for example in of_version if example.index in newest]
        served = {example.index: reply.behavior_logprobs for example, reply in pairs
                  if len(reply.behavior_logprobs) == len(example.completion_ids) and reply.logprobs_temperature > 0}
        at_theirs = [replace(example, temperature=reply.logprobs_temperature) for example, reply in pairs if example.index in served]
        for index, row in logprob_pass(policy, policy.micro_batches(at_theirs, max_batch_tokens), on_batch)[0].items():
            differences.extend(theirs - ours for theirs, ours in zip(served[index], row.tolist(), strict=True))

    for version, of_version in sorted(by_version.items()):
        if version == BASE_VERSION:
            with policy.reference():
                compare(of_version)
            continue
        try:
            folder = registry.verify(version)
            with policy.behaving_as(folder):
                logprobs.update(logprob_pass(policy, policy.micro_batches(of_version, max_batch_tokens), on_batch)[0])
                compare(of_version)
        except (CorruptAdapter, UnknownVersion, AdapterMismatch):
            unreadable.append(version)
    count = len(differences)
    return logprobs, {
        "versions": {str(version): len(of_version) for version, of_version in sorted(by_version.items())},
        "unreadable_versions": unreadable, "compared_tokens": count,
        "served_minus_learner": round(sum(differences) / count, 5) if count else None,
        "served_abs_difference": round(sum(map(abs, differences)) / count, 5) if count else None}

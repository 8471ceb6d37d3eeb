"""What the base model says of the replies: computed once a run, before the first step.

One pass with the adapter disabled gives the reference log-probs of every rated reply, and for the replies the KL
anchor uses also what the base model expects of the output head's rows. That is 577 numbers for the default model where its distribution is 49,152,
and all that KL(base || policy) needs of it (head.py): exact over the full vocabulary, next to nothing in a training step,
and without generation.

The anchor wants replies sampled by the base model: those of version 0. Where they are fewer than a mean needs (most
came from later versions, or were imported) others join them: still the exact KL, at places other policies visit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor

from learner.model.batches import Example
from learner.model.lanes import in_lanes
from learner.model.policy import Policy
from learner.model.roles import role_of
from learner.model.team import Team

Found = TypeVar("Found")
ENOUGH = 32
"""Replies of the base model that do without others: some 4,000 tokens of KL."""


@dataclass(frozen=True)
class Reference:
    """The base model's view of a run's replies, by example index."""

    logprobs: dict[int, Tensor]
    """(completion length,) nats at the example's temperature."""
    expected: dict[int, Tensor]
    """(completion length, H + 1) fp32 of `Policy.expectations`, only for anchored replies."""
    summaries: dict[int, Tensor] = field(default_factory=dict)
    """(2 H,) fp32: the mean of the reply's hidden rows, then its last one; what a reward model sees."""

    def told(self, team: Team) -> Reference | Literal["latest"]:
        """What a process sends the others of it, for steps and for the KL: they have the one that was made last."""
        return "latest" if self is team.latest else self._on("cpu")

    @classmethod
    def heard(cls, sent: Reference | Literal["latest"] | None, team: Team, device: torch.device) -> Reference | None:
        return team.latest if sent == "latest" else sent and sent._on(device)

    def _on(self, device: torch.device | str) -> Reference:
        return Reference(*({index: rows.to(device) for index, rows in table.items()} for table in (self.logprobs, self.expected)))


def choose_anchor(indexes: Sequence[int], sampled_by_base: Sequence[bool], limit: int, seed: int) -> frozenset[int]:
    """At most `limit` of the replies that the base model sampled, and where these are fewer than `ENOUGH` others up to as many."""
    rng = random.Random(seed)
    pool, others = ([index for index, by_base in zip(indexes, sampled_by_base, strict=True) if by_base is wanted] for wanted in (True, False))
    chosen = pool if len(pool) <= limit else rng.sample(pool, limit)
    missing = min(limit, ENOUGH) - len(chosen)
    return frozenset([*chosen, *rng.sample(others, max(0, min(missing, len(others))))])


@torch.no_grad()
def reference_pass(policy: Policy, micro_batches: Sequence[Sequence[Example]], anchored: frozenset[int],
                   on_batch: Callable[[], None]) -> Reference:
    """Run every reply through the base model once. `on_batch` is called after each micro-batch and may raise to stop."""
    team = policy.team
    team.send("reference", micro_batches, anchored)
    logprobs, expected, summaries = {}, {}, {}
    try:
        with policy.reference():
            for _, views in _visit(policy, micro_batches, lambda examples: _base_view(policy, examples, anchored), on_batch):
                for table, rows in zip((logprobs, expected, summaries), views, strict=True):
                    table.update(rows)
    finally:                                                 # also when it is stopped: the others wait here
        reference = Reference(team.gather(logprobs, policy.device), team.gather(expected, policy.device), team.gather(summaries, "cpu"))
    if team.size > 1:
        team.latest = reference
    return reference


def _base_view(policy: Policy, examples: Sequence[Example], anchored: frozenset[int]) -> tuple[dict[int, Tensor], ...]:
    """One micro-batch's part of the three tables of a `Reference`."""
    batch = policy.batch(examples)
    states = policy.hidden(batch)
    lengths = [len(example.completion_ids) for example in examples]
    if any(index in anchored for index in batch.indexes):
        scores, told = policy.expectations(states, batch)
    else:
        scores, told = policy.head(states, batch).logprobs, ()
    logprobs = {example.index: row[:length].clone() for example, row, length in zip(examples, scores, lengths, strict=True)}
    expected = {index: rows.clone() for index, rows in zip(batch.indexes, told) if index in anchored}
    summaries = {example.index: torch.cat((rows.float().mean(dim=0), rows[-1].float())).cpu()
                 for example, rows in zip(examples, states.split(lengths), strict=True)}
    return logprobs, expected, summaries


@torch.no_grad()
def logprob_pass(policy: Policy, micro_batches: Sequence[Sequence[Example]], on_batch: Callable[[], None],
                 reference: Reference | None = None) -> tuple[dict[int, Tensor], float | None]:
    """Log-probs of every reply under the policy as it is, and the mean KL per token over the anchored ones.

    Returns: by example index (completion length,) nats; nats per token, or None without anchored replies.
    """
    team = policy.team
    if team.size > 1:
        team.send("logprobs", role_of(policy), micro_batches, reference and reference.told(team))
    logprobs, kl = {}, torch.zeros(2, dtype=torch.float64)
    expected = reference.expected if reference else None
    try:
        for examples, scores in _visit(policy, micro_batches, lambda rows: policy.scores(policy.batch(rows), expected), on_batch):
            for example, row in zip(examples, scores.logprobs, strict=True):
                logprobs[example.index] = row[:len(example.completion_ids)].clone()
            kl += torch.tensor([float(scores.kl_sum), scores.kl_tokens], dtype=torch.float64)
    finally:                                                 # also when it is stopped: the others wait here
        logprobs = team.gather(logprobs, policy.device)
        team.add_up([kl])
    kl_sum, kl_tokens = kl.tolist()
    return logprobs, (kl_sum / kl_tokens if kl_tokens else None)


def _visit(policy: Policy, micro_batches: Sequence[Sequence[Example]], work: Callable[[list[Example]], Found],
           on_batch: Callable[[], None]) -> Iterator[tuple[list[Example], Found]]:
    """(rows, work of them) for this process's rows of every micro-batch.

    Where the base model is sharded, what stops the pass is raised at its end: the others are in the same layers.
    """
    parts, problem = policy.team.parts(micro_batches), None
    for part, found in zip(parts, in_lanes(work, [part.rows for part in parts], policy.lanes), strict=True):
        if part.counts:
            yield part.rows, found
        try:
            on_batch()
        except BaseException as error:
            if not policy.team.sharded:
                raise
            problem = problem or error
    if problem:
        raise problem


def pad(rows: dict[int, Tensor], indexes: Sequence[int], width: int) -> Tensor:
    """(B, C): the rows of these replies side by side, zero where a reply has ended."""
    table = torch.zeros(len(indexes), width)
    for place, index in enumerate(indexes):
        table[place, :len(rows[index])] = rows[index]
    return table

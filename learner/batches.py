"""Replies as padded batches: sorted by length so that little is padded, split so that memory is bounded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


ROW_TOKENS = 512
"""With so many tokens for each reply of a group, `max_batch_tokens` hardly splits groups."""


@dataclass(frozen=True)
class Example:
    """One reply as the policy sees it. Token ids come from the store and are never re-tokenised."""

    index: int
    """Position in the run's list of rated replies."""
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    temperature: float
    """What divides the logits, > 0; a greedy reply counts as sampled at 1, since its own distribution is degenerate."""
    left_out: frozenset[int] = frozenset()
    """Places in `completion_ids` that are conditioned on and never learnt: they spell personal data."""

    @property
    def tokens(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class Batch:
    """B replies, T tokens wide (prompt and completion, padded on the right), C = the longest completion.

    Shapes: `input_ids` (B, T); `completion_ids`, `completion_mask` and `learnt_mask` (B, C), the last
    False also where an example leaves a token out;
    `positions` (B, C) is the place in the sequence whose output predicts each completion token; `temperatures` (B,).
    """

    indexes: tuple[int, ...]
    input_ids: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    learnt_mask: Tensor
    positions: Tensor
    temperatures: Tensor

    def __len__(self) -> int:
        return len(self.indexes)


def make_batch(examples: Sequence[Example], device: torch.device | str = "cpu") -> Batch:
    """Pad replies into one batch.

    Raises: ValueError: a prompt or a completion is empty, or a temperature is not positive.
    """
    for example in examples:
        if not example.prompt_ids or not example.completion_ids or not example.temperature > 0:
            raise ValueError(f"reply {example.index} needs a prompt, a completion and a positive temperature")
    width = max(example.tokens for example in examples)
    longest = max(len(example.completion_ids) for example in examples)
    size = len(examples)
    input_ids = torch.zeros(size, width, dtype=torch.long)
    completion_ids = torch.zeros(size, longest, dtype=torch.long)
    completion_mask = torch.zeros(size, longest, dtype=torch.bool)
    learnt_mask = torch.zeros(size, longest, dtype=torch.bool)
    positions = torch.zeros(size, longest, dtype=torch.long)
    for row, example in enumerate(examples):
        start, length = len(example.prompt_ids), len(example.completion_ids)
        input_ids[row, :start + length] = torch.tensor(example.prompt_ids + example.completion_ids)
        completion_ids[row, :length] = torch.tensor(example.completion_ids)
        completion_mask[row, :length] = True
        learnt_mask[row, :length] = torch.tensor([place not in example.left_out for place in range(length)])
        positions[row, :length] = torch.arange(start - 1, start + length - 1)     # token t is predicted one place earlier
    temperatures = torch.tensor([example.temperature for example in examples], dtype=torch.float32)
    return Batch(tuple(example.index for example in examples), *(tensor.to(device) for tensor in (
        input_ids, completion_ids, completion_mask, learnt_mask, positions, temperatures)))


def plan_steps(examples: Sequence[Example], batch_size: int, max_batch_tokens: int) -> list[list[list[Example]]]:
    """Steps of `batch_size` replies, each a list of micro-batches of at most `max_batch_tokens` padded tokens.

    A micro-batch holds replies of similar length, so little is padded. A step pairs a shorter group with a longer one:
    where people like short replies, steps of one length would be steps of one opinion.
    A reply that is longer than `max_batch_tokens` gets a micro-batch of its own. Every reply is in exactly one step.
    """
    ordered = sorted(examples, key=lambda example: (example.tokens, example.index))
    size = max(1, batch_size // 2)
    groups = [_split(ordered[start:start + size], max_batch_tokens) for start in range(0, len(ordered), size)]
    if batch_size == 1:
        return groups
    half = (len(groups) + 1) // 2
    return [groups[place] + (groups[place + half] if place + half < len(groups) else []) for place in range(half)]


def flattened(steps: Sequence[list[list[Example]]]) -> list[list[Example]]:
    """The micro-batches of all steps, one after the other."""
    return [micro_batch for step in steps for micro_batch in step]


def micro_batches(examples: Sequence[Example], max_batch_tokens: int, batch_size: int = 8) -> list[list[Example]]:
    """Every reply once, as `plan_steps` groups them: for a pass that takes no step. Where more may go through at once, so do more replies."""
    return flattened(plan_steps(examples, max(batch_size, max_batch_tokens // ROW_TOKENS), max_batch_tokens))


def _split(examples: Sequence[Example], max_batch_tokens: int) -> list[list[Example]]:
    """Micro-batches of one group, whose examples come in ascending length: the newest is the widest."""
    split: list[list[Example]] = []
    for example in examples:
        if split and (len(split[-1]) + 1) * example.tokens <= max_batch_tokens:
            split[-1].append(example)
        else:
            split.append([example])
    return split


def shuffled(steps: list[list[list[Example]]], seed: int) -> list[list[list[Example]]]:
    """The same steps in an order that the seed alone decides."""
    order = list(steps)
    random.Random(seed).shuffle(order)
    return order

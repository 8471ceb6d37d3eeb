"""Replies as batches: in one row (rows.py), or padded; split so that memory is bounded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.model.rows import Span, in_a_row


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
    """B replies, C = the longest completion, N completion tokens in all.

    Shapes: `input_ids` (1, all tokens) and what sees what in `spans`, or (B, T) padded on the right and `spans` None; `completion_ids`,
    `completion_mask` and `learnt_mask` (B, C), the last False also where an example leaves a token out; `places` (N,): which of all outputs, row by row,
    predicts each completion token; `temperatures` (B,).
    """

    indexes: tuple[int, ...]
    input_ids: Tensor
    spans: tuple[Span, ...] | None
    completion_ids: Tensor
    completion_mask: Tensor
    learnt_mask: Tensor
    places: Tensor
    temperatures: Tensor


def make_batch(examples: Sequence[Example], device: torch.device | str = "cpu", *, in_one_row: bool = False) -> Batch:
    """Put replies into one batch.

    Args: in_one_row: nothing is padded, what prompts share is there once and products are larger, but each span's attention is an operation of its own.
    Raises: ValueError: a prompt or a completion is empty, or a temperature is not positive.
    """
    for example in examples:
        if not example.prompt_ids or not example.completion_ids or not example.temperature > 0:
            raise ValueError(f"reply {example.index} needs a prompt, a completion and a positive temperature")
    completion_ids = torch.zeros(len(examples), max(len(example.completion_ids) for example in examples), dtype=torch.long)
    completion_mask, learnt_mask = torch.zeros_like(completion_ids, dtype=torch.bool), torch.zeros_like(completion_ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        length = len(example.completion_ids)
        completion_ids[row, :length] = torch.tensor(example.completion_ids)
        completion_mask[row, :length] = True
        learnt_mask[row, :length] = torch.tensor([place not in example.left_out for place in range(length)])
    ids, places, spans = _one_row(examples) if in_one_row else _padded(examples)
    temperatures = torch.tensor([example.temperature for example in examples], dtype=torch.float32)
    return Batch(tuple(example.index for example in examples), ids.to(device), spans,
                 *(tensor.to(device) for tensor in (completion_ids, completion_mask, learnt_mask, places, temperatures)))


def _one_row(examples: Sequence[Example]) -> tuple[Tensor, Tensor, tuple[Span, ...]]:
    row = in_a_row(examples)
    return torch.tensor([row.ids]), torch.tensor([place for places in row.predicted_at for place in places]), tuple(row.spans)


def _padded(examples: Sequence[Example]) -> tuple[Tensor, Tensor, None]:
    width = max(example.tokens for example in examples)
    ids = torch.tensor([[*example.prompt_ids, *example.completion_ids, *[0] * (width - example.tokens)] for example in examples])
    places = [row * width + len(example.prompt_ids) - 1 + torch.arange(len(example.completion_ids)) for row, example in enumerate(examples)]     # one earlier than the token
    return ids, torch.cat(places), None


def plan_steps(examples: Sequence[Example], batch_size: int) -> list[list[Example]]:
    """Steps of `batch_size` replies; every reply is in exactly one.

    A step pairs a shorter group with a longer one: where people like short replies, steps of one length would be steps of one opinion.
    """
    ordered = sorted(examples, key=lambda example: (example.tokens, example.index))
    steps, shorter = -(-len(ordered) // batch_size), max(1, batch_size // 2)
    longer, short, long = batch_size - shorter, ordered[:steps * shorter], ordered[steps * shorter:]
    return [short[place * shorter:(place + 1) * shorter] + long[place * longer:(place + 1) * longer] for place in range(steps)]


def padded_batches(examples: Sequence[Example], max_batch_tokens: int, lanes: int = 1) -> list[list[Example]]:
    """Every reply once, replies of similar length together, of which `lanes` micro-batches may go through at once: so little is padded.

    They have at most `max_batch_tokens` padded tokens together; a reply that is longer gets a micro-batch of its own.
    """
    split: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: (example.tokens, example.index)):          # the newest is the widest
        if split and (len(split[-1]) + 1) * example.tokens <= max_batch_tokens // lanes:
            split[-1].append(example)
        else:
            split.append([example])
    return split


def shares(examples: Sequence[Example], lanes: int, max_batch_tokens: int) -> list[list[Example]]:
    """Every reply once, in `lanes` shares or a multiple of them, of about as many tokens each: so many that `lanes` of them have about `max_batch_tokens`, or one for each reply."""
    count = min(len(examples), lanes * -(-sum(example.tokens for example in examples) // max_batch_tokens))
    found: list[list[Example]] = [[] for _ in range(count)]
    for example in sorted(examples, key=lambda example: -example.tokens):
        min(found, key=lambda share: sum(one.tokens for one in share)).append(example)
    return found


def shuffled(steps: list[list[Example]], seed: int) -> list[list[Example]]:
    """The same steps in an order that the seed alone decides."""
    order = list(steps)
    random.Random(seed).shuffle(order)
    return order

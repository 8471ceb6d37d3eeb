"""Ordinary text, a few paragraphs: how likely a policy finds it is what it still knows of language that nobody rated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files

import torch

from data.tokenizer import ChatTokenizer
from learner.anchor import logprob_pass
from learner.batches import Example
from learner.policy import Policy

WINDOW = 256
"""Tokens per row."""
MICRO_BATCH_TOKENS = 4096


def frozen_text() -> str:
    """Written for this purpose, mostly English."""
    return files("learner").joinpath("frozen_text.txt").read_text(encoding="utf-8")


def text_windows(ids: Sequence[int]) -> list[Example]:
    """Text as examples at temperature 1 whose prompt is their first token."""
    pieces = [ids[start:start + WINDOW] for start in range(0, len(ids), WINDOW)]
    return [Example(place, (piece[0],), tuple(piece[1:]), 1.0) for place, piece in enumerate(pieces) if len(piece) > 1]


class FrozenText:
    """The text as a policy reads it."""

    def __init__(self, policy: Policy, tokenizer: ChatTokenizer) -> None:
        self._policy = policy
        self._batches = policy.micro_batches(text_windows(tokenizer.encode(frozen_text())), MICRO_BATCH_TOKENS)

    def nll(self, check: Callable[[], None] = lambda: None) -> float:
        """Nats per token, by whatever the policy is at this instant."""
        logprobs, _ = logprob_pass(self._policy, self._batches, check)
        return -float(torch.cat(list(logprobs.values())).mean())

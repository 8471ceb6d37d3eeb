"""Ordinary text, a few paragraphs: how likely a policy finds it tells what it still knows of language that nobody rated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files

import torch

from data.base_models.tokenizer import ChatTokenizer
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.training.anchor import logprob_pass

WINDOW = 256
"""Tokens per row."""


def frozen_text() -> str:
    """Written for this purpose, mostly English."""
    return files("learner.training").joinpath("frozen_text.txt").read_text(encoding="utf-8")


def text_windows(ids: Sequence[int]) -> list[Example]:
    """Text as examples at temperature 1 whose prompt is their first token."""
    pieces = [ids[start:start + WINDOW] for start in range(0, len(ids), WINDOW)]
    return [Example(place, (piece[0],), tuple(piece[1:]), 1.0) for place, piece in enumerate(pieces) if len(piece) > 1]


class OrdinaryText:
    """Some text as a policy reads it."""

    def __init__(self, policy: Policy, tokenizer: ChatTokenizer, text: str) -> None:
        windows = text_windows(tokenizer.encode(text))
        self._policy, self._batches = policy, policy.micro_batches(windows, WINDOW * len(windows))

    def nll(self, check: Callable[[], None] = lambda: None) -> float:
        """Nats per token, by whatever the policy is at this instant; not finite where it diverged."""
        logprobs, _ = logprob_pass(self._policy, self._batches, check)
        return -float(torch.cat(list(logprobs.values())).mean())

"""How much goes through the model at once on a GPU, against the machine without one that the defaults are for."""

from __future__ import annotations

import torch

from learner.model.policy import Policy

CARD_SHARE = 8e9
"""Bytes of a card for each time the default: training 2,048 tokens of the default model took 3.2 GB of an H200 in all, and the chat may be on the same card."""
MOST = 8
"""11,400 tokens/s at once the default, 51,700 at eight times it (64 replies a step, an H200)."""
USUAL_WIDTH = 576 * 30
"""Hidden size times layers of the default model: what a token takes grows with it."""


def times(policy: Policy) -> int:
    """How many times as much as on a CPU may go through the model at once: there the operations take the time, on a GPU starting them does."""
    if policy.device.type != "cuda":
        return 1
    config = policy.model.config.get_text_config()
    return times_on(torch.cuda.get_device_properties(policy.device).total_memory, config.hidden_size * config.num_hidden_layers)


def times_on(card: int, width: int) -> int:
    """Args: card: bytes of memory; width: the model's hidden size times its layers."""
    return max(1, min(MOST, round(card / CARD_SHARE * USUAL_WIDTH / width)))

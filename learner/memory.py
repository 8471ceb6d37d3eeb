"""How many tokens go through the model at once where there is more memory than on the machine the default is for."""

from __future__ import annotations

import torch

CARD_SHARE = 8 * 2**30
"""Bytes of a card's memory for each time the default: 2,048 tokens of the default model took 2.6 GB of an H200, larger models take more."""
MOST = 8
"""Times the default: 16,384 tokens."""


def batch_tokens(default: int, card: int | None) -> int:
    """Padded tokens in a micro-batch; `default` on a CPU. On a GPU a small micro-batch takes as long as a large one: what takes time is starting its operations.

    Args: card: bytes of memory of the GPU that computes, None without one.
    """
    return default if card is None else default * max(1, min(MOST, card // CARD_SHARE))


def card_bytes() -> int | None:
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory if torch.cuda.is_available() else None

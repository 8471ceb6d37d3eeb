"""The refinement's arithmetic: which prompts, which advantages, and how long the next step is."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from torch import Tensor

from learner.config import LearnerConfig

LONGER, LONGEST = 1.5, 2.0
"""A step that was kept in full makes the next one so much longer, up to so many times the first, where its gain was not clear. Shorter ones
that never grew again left a slow taste half learnt, and one that grew after a clear gain went past a quick one (107 tokens a reply, then 21)."""
MIN_PROMPTS = 16
"""With fewer there is nothing to keep aside."""


def next_pace(pace: float, kept: float, clear: bool) -> float:
    """How long the next step is, the first being 1. Args: kept: part of the step before that was kept, in [0, 1]; clear: whether its gain was clear."""
    if kept < 1:
        return pace * (kept or 0.5)
    return pace if clear else min(LONGEST, pace * LONGER)


def split_prompts(prompts: Sequence[tuple[int, ...]], imitated: Collection[tuple[int, ...]], config: LearnerConfig) -> tuple[list, list]:
    """(to refine on, kept aside), seeded; both empty when there are too few.

    Args: imitated: prompts whose rated replies a first stretch learns from: not kept aside.
    """
    order = list(dict.fromkeys(prompts))
    random.Random(f"refine {config.seed}").shuffle(order)
    if len(order) < MIN_PROMPTS:
        return [], []
    aside = [prompt for prompt in order if prompt not in imitated][:min(config.refine.check_prompts, len(order) // 2)]
    kept = set(aside)
    return [prompt for prompt in order if prompt not in kept], aside


def turn_of(prompts: Sequence[tuple[int, ...]], number: int, count: int) -> list[tuple[int, ...]]:
    """The prompts of an iteration: `count` of them at most, where the one before ended, and from the start again."""
    count = min(count, len(prompts))
    return [prompts[place % len(prompts)] for place in range(number * count, (number + 1) * count)]


def leave_one_out_advantages(rewards: Tensor, samples: int) -> Tensor:
    """Each reward minus the mean of the prompt's other ones: k / (k - 1) (R_ij - mean_j R_ij).

    Args: rewards: (prompts * samples,), a prompt's replies side by side; samples >= 2.
    """
    grouped = rewards.reshape(-1, samples)
    return ((grouped - grouped.mean(dim=1, keepdim=True)) * samples / (samples - 1)).reshape(-1)

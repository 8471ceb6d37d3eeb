"""Which prompts a refinement keeps aside, to look at what it does by answers to them."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from learner.config import LearnerConfig

MIN_PROMPTS = 16
"""With fewer there is nothing to keep aside."""


def keep_aside(prompts: Sequence[tuple[int, ...]], imitated: Collection[tuple[int, ...]], config: LearnerConfig) -> list[tuple[int, ...]]:
    """Half of the different ones at most, seeded; none when there are too few.

    Args: imitated: prompts whose rated replies are learnt from: not among them.
    """
    order = list(dict.fromkeys(prompts))
    random.Random(f"refine {config.seed}").shuffle(order)
    if len(order) < MIN_PROMPTS:
        return []
    return [prompt for prompt in order if prompt not in imitated][:min(config.refine.check_prompts, len(order) // 2)]

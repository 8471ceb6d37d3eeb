"""Where iterations end: what of their way is kept, by replies of the policy and of the base model to prompts kept aside.

The first that is within the bounds and clearly pleases more than the base model of the last step, on which nobody has looked yet, half of that, where it
began, and a part of the way to there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from learner.along import IN_THE_END, TRIES, go_as_far
from learner.refine_bounds import Crossed, crossed, not_clearly_pleased
from learner.scoring import Scored

if TYPE_CHECKING:
    from learner.refine import Refiner


class Way(NamedTuple):
    """How far the refinement had gone at some point."""

    gone: float
    """Iterations, parts as fractions."""
    weights: list[Tensor]


def settle(refiner: Refiner, base: Scored, look: Callable[[], Scored], outset: Way, ways: Sequence[Way]) -> tuple[float, list[dict]]:
    """Keep the first of `ways` that harms nothing and clearly pleases more than the base model: all of it, half of what the last step added, or of the last one left a part."""
    told = []

    def problem_with(after: Scored) -> Crossed | None:
        return crossed(base, after, base, base, refiner.config.refine.max_surprise_rise, refiner.bounds.knows_truncated) or not_clearly_pleased(base, after)

    for way, start in pairwise([*ways, outset]):
        tries, part = (IN_THE_END, None) if start is outset else (TRIES, 0.5)       # what a bound leaves is told as a part of the way from the outset
        strength, _, tried = go_as_far(refiner.policy, start.weights, way.weights, look, problem_with, tries, part)
        told += [{"from": start.gone, "iterations": way.gone, **one} for one in tried]
        if strength:
            return round(start.gone + strength * (way.gone - start.gone), 2), told
    return 0.0, told

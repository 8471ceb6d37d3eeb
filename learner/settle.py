"""Where a refinement ends: what of its way is kept, by replies of the policy and of the base model to prompts kept aside.

After iterations from the base model: the first that is within the bounds and clearly pleases more than it of the last step, on which nobody has looked yet,
half of that, where it began, and a part of the way to there. After a first stretch: where a curve through some looks meets the bounds (curve.py), if it
clearly pleases more than the base model and is expected to please no less than the farthest that the stretch alone may go; else that one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from learner.along import IN_THE_END, TRIES, go, go_as_far
from learner.curve import explore
from learner.policy import Policy
from learner.reach import Reached, Stop
from learner.refine_bounds import Crossed, bound_of, crossed, not_clearly_pleased
from learner.scoring import Scored

if TYPE_CHECKING:
    from learner.refine import Refiner

LOOKS, GROWTH = 3, 1.5
"""After a stretch the end is looked for by so many looks at most, each at most so much farther than the one before: each costs less than half of an iteration."""


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


def settle_beyond(refiner: Refiner, base: Scored, look: Callable[[], Scored], reached: Reached, outset: Way, end: Way) -> tuple[float, list[dict]]:
    """After a stretch: go from where it ended through `end` as far as the bounds allow, if that clearly pleases more than the base model and no less than the best of the
    stretch is expected to; else that best one."""
    most, knows_truncated = refiner.config.refine.max_surprise_rise, refiner.bounds.knows_truncated
    bound = bound_of(base, base, most, knows_truncated)
    curve, tried = explore(reached.outset.expected._replace(strength=0.0), 1.0, LOOKS, GROWTH, (bound,), lambda strength: go(refiner.policy, outset.weights, end.weights, strength),
                           look, lambda after: crossed(base, after, base, base, most, knows_truncated))
    told = [{"from": outset.gone, "iterations": end.gone, **one} for one in tried]
    far = curve.keeps(base, bound)
    if far and curve.at(far).lower >= reached.best.expected.lower:
        go(refiner.policy, outset.weights, end.weights, far)
        return round(outset.gone + far * (end.gone - outset.gone), 2), told
    return take(refiner.policy, reached.best), told


def take(policy: Policy, best: Stop | None) -> float:
    """Keep the best of the stretch, if there is one; returns how far that is."""
    if best:
        policy.set_weights(best.weights)
    return float(best is not None)

"""How far along a way replies are within the bounds: by a curve through all that were looked at, not by the last that seemed so.

Some ninety replies tell a rise of a tenth in how unlikely they are to four or five points. Where each look was held against the bounds alone, the same ratings ended at 31, 66 or
90 tokens a reply, and the farthest of several that seem within is one that chance has favoured. What breaks language does so late on a way, what makes replies alike early: each
figure is taken for

    y(s) = y(0) + k s^p         p by figure (POWERS), k by least squares through the looks at strengths s

and the way is gone to where the first of them meets its bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

from data.sentences import Said
from learner.refine.bounds import Bound, clearly_pleased
from learner.refine.looks import attempt
from learner.reward.scoring import Scored

ALIKE = 0.15
"""Strengths that differ by less than this share are one place."""
ENOUGH = 2.5
"""A place is looked at again while all looks together say less of it than so many there would, and a farther one no more than one there: one said +12% of a step that 88 other prompts
said +3% of, and a curve by one far look alone ended short of a bound by two thirds."""
POWERS = Bound(broken=3.0, truncated=2.0, sameness=1.25, surprise=3.0, text_nll=2.0)
"""How each figure grows, by some sixty stretches with two looks or more: ordinary text by 2.0 to a tenth of a point, sameness by 1.25, surprise and broken replies by 3 to 4. By a square of
all of them short answers ended where replies were a quarter as much less likely as is allowed, warm words where twice the sameness was. Truncated replies told too little."""
FAR_BEYOND = 3.0
"""A look with so many times the rise that is allowed tells by itself how near the bound is at most: shares are not beyond 1, and far looks weigh most."""


class Seen(NamedTuple):
    """Replies at a strength."""

    strength: float
    figures: Bound
    lower: float
    """Mean of the ensemble's lower bound."""
    replies: Scored


def seen(strength: float, replies: Scored, base: Scored) -> Seen:
    """Args: replies: with what ordinary text costs. base: the base model's, to the same prompts."""
    return Seen(strength, Bound(replies.broken(), replies.truncated(), replies.sameness(base), replies.surprise(), replies.text_nll), float(replies.lower.mean()), replies)


@dataclass(frozen=True)
class Curve:
    """Args: start: at strength 0. looks: at others; may still grow."""

    start: Seen
    looks: Sequence[Seen]

    def limit(self, bound: Bound) -> float:
        """The largest strength at which nothing is expected beyond `bound`, nowhere beyond the place that pleased most; 0 where none pleased more than the start."""
        pleasing = self._pleasing()
        return min(self._meets(bound), max(one.strength for one in (pleasing, *self.looks) if _alike(pleasing, one.strength)))

    def next_look(self, bound: Bound, growth: float, lost: float = math.inf) -> float | None:
        """Where to look next to learn where `bound` lies, at most `growth` times as far as before and nearer than `lost`; None where that is known well enough."""
        farthest, pleasing = max(self.looks, key=lambda one: one.strength), self._pleasing()
        reach = growth * farthest.strength if _alike(pleasing, farthest.strength) else (pleasing.strength + farthest.strength) / 2
        if reach >= lost:
            reach = (farthest.strength + lost) / 2
        reach = min(reach, self._meets(bound))
        known = any(_alike(one, reach) for one in self.looks) and sum(min(one.strength, reach) ** 4 for one in self.looks) >= ENOUGH * reach**4
        return None if known or not reach else reach

    def keeps(self, base: Scored, bound: Bound) -> float:
        """`limit`, or nearer where replies may please more than the base model's by chance alone; 0 where all do."""
        far = self.limit(bound) if self.looks else 0.0
        if not far or clearly_pleased(base, min(self.looks, key=lambda one: abs(one.strength - far)).replies):
            return far
        return max((one.strength for one in self.looks if one.strength < far and clearly_pleased(base, one.replies)), default=0.0)

    def _pleasing(self) -> Seen:
        """The look that pleased most, by the mean of those at its place."""
        def lower(one: Seen) -> float:
            return mean(other.lower for other in (self.start, *self.looks) if _alike(other, one.strength))

        return max((self.start, *self.looks), key=lambda one: (lower(one), -one.strength))

    def _meets(self, bound: Bound) -> float:
        """Where the first figure is expected to meet `bound`, by all looks and by each that is far beyond it; infinite where none does."""
        far = math.inf
        for power, first, most, *values in zip(POWERS, self.start.figures, bound, *(one.figures for one in self.looks), strict=True):
            if first > most:
                return 0.0
            room, grown, rises = most - first, [one.strength**power for one in self.looks], [value - first for value in values]
            slope = sum(x * y for x, y in zip(grown, rises, strict=True)) / sum(x * x for x in grown)
            steepest = max([slope, *(y / x for x, y in zip(grown, rises, strict=True) if y > FAR_BEYOND * room)])
            if steepest > 0:
                far = min(far, (room / steepest) ** (1 / power))
        return far


def _alike(one: Seen, strength: float) -> bool:
    return abs(strength - one.strength) <= ALIKE * one.strength


def explore(start: Seen, first: float, count: int, growth: float, bound: Bound, go: Callable[[float], None], look: Callable[[], Scored],
            problem_with: Callable[[Scored], Said | None]) -> tuple[Curve, list[dict]]:
    """Look at up to `count` strengths, at `first` and then where `bound` may be: (the curve through them, JSON-able what was seen).

    Args:
        growth: a look is at most so many times as far as the farthest before.
        go: sets the policy to a strength. look: what it answers there; where it cannot be sampled, the next look is half way back.
        problem_with: what is told of a look.
    """
    looks: list[Seen] = []
    curve, strength, tried, lost = Curve(start, looks), first, [], math.inf
    while strength and len(tried) < count:
        go(strength)
        after, told = attempt(strength, start.replies, look, problem_with)
        tried.append(told)
        if after:
            looks.append(seen(strength, after, start.replies))
            strength = curve.next_look(bound, growth, lost)
        else:
            lost = min(lost, strength)
            strength = (strength + max((one.strength for one in looks if one.strength < lost), default=0.0)) / 2
    return curve, tried

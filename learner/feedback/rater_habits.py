"""Raters' habits within a task, and how much one rater may count.

For rater u with n opinions (each counted by its information, at most 1), mean m and variance v, and the population's
mean mu and spread sigma:

    level_u  = mu + (1 - n / (n + K)) (m - mu)                 where u's average reply lands
    spread_u = sqrt((n v + K sigma^2) / (n + K))               how far u's opinions reach, K opinions of prior
    reward   = clip(level_u + (y - m) clip(sigma / spread_u, 1/2, 2), -1, 1)

A rater with few opinions is taken at their word; one who gives everything five stars lands at the population's mean
and, never telling replies apart, carries little weight. A single rater *is* the population: thumbs up stay +1. However
many thumbs down somebody gives among people who like most things, none is worth more than 0, nor a thumb up less.
A corrected text is an opinion like any other: who corrects what they dislike tells replies apart. Comparisons are not
among the opinions: a level is the same on both sides of a difference and cancels.
Sources: Kreutzer et al. 2018 (rating standardisation per rater); James-Stein shrinkage.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from learner.feedback.opinions import Opinion

PRIOR_RATINGS = 8.0
"""K: how many ratings a rater needs before their own habits count half."""


@dataclass(frozen=True)
class Habit:
    """How one rater rates."""

    ratings: float
    """Opinions, each counted by its information, at most 1."""
    mean: float
    level: float
    """Where their average reply lands after shrinkage."""
    gain: float
    """What their deviations from their own mean are multiplied with."""
    telling: float
    """0..1: how much they tell replies apart, against the population."""

    def reward(self, value: float) -> float:
        """What this rater's `value` is worth, in [-1, 1]."""
        worth = min(1.0, max(-1.0, self.level + (value - self.mean) * self.gain))
        return max(0.0, worth) if value >= 1 else min(0.0, worth) if value <= -1 else worth


def rater_habits(opinions: Sequence[Opinion]) -> dict[str, Habit]:
    """Each rater's shrunken level and spread, by rater id."""
    said: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for opinion in opinions:
        said[opinion.rater_id].append((opinion.value, min(1.0, opinion.information)))
    counts = {rater: math.fsum(w for _, w in v) for rater, v in said.items()}
    means = {rater: math.fsum(w * x for x, w in v) / counts[rater] for rater, v in said.items()}
    variances = {rater: math.fsum(w * (x - means[rater]) ** 2 for x, w in v) / counts[rater] for rater, v in said.items()}
    votes = {rater: n / (n + PRIOR_RATINGS) for rater, n in counts.items()}      # a busy rater counts more, but not n times
    population_mean = _mean(means, votes)
    population_variance = _mean(variances, counts)
    habits = {}
    for rater, n in counts.items():
        level = population_mean + (1 - votes[rater]) * (means[rater] - population_mean)
        variance = (n * variances[rater] + PRIOR_RATINGS * population_variance) / (n + PRIOR_RATINGS)
        gain = min(2.0, max(0.5, math.sqrt(population_variance / variance))) if variance > 0 else 1.0
        telling = min(1.0, variance / population_variance) if population_variance > 0 else 1.0
        habits[rater] = Habit(n, means[rater], level, gain, telling)
    return habits


def share_cap(raters: float) -> float:
    """The largest share of the total weight one of so many raters may have: one and a half equal shares, and 5% from 30 raters on.

    5% of 20 raters would be one equal share exactly: whoever said least would cut everybody to the little that they said.
    """
    return min(1.0, max(0.05, 1.5 / max(1, raters)))


def cap_totals(totals: Sequence[float], cap: float) -> list[float]:
    """Totals cut so that none exceeds `cap` of the sum of what is left; `cap` is at least 1 / len(totals).

    With m totals cut to t and the others summing to s: t = cap (s + m t), so t = cap s / (1 - m cap).
    """
    ordered = sorted(totals, reverse=True)
    for cut in range(len(ordered)):
        rest = math.fsum(ordered[cut:])
        room = 1 - cut * cap
        ceiling = cap * rest / room if room > 1e-9 else ordered[-1]
        if ordered[cut] <= ceiling * (1 + 1e-9):
            return [min(total, ceiling) if cut else total for total in totals]
    return [min(total, ordered[-1]) for total in totals]      # cap is exactly one equal share


def capped_shares(information: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Per rater: the factor, at most 1, on all their information that keeps their share of the total weight under the cap.

    A rater counts as one as far as they said much: by heads alone one thumb of a visitor cut the 192 of who had rated alone to three,
    and noise was taken for a taste.

    Args: information: per reply, by rater; opinions and comparisons together.
    """
    totals: dict[str, float] = defaultdict(float)
    for of_reply in information:
        everything = math.fsum(of_reply.values())
        for rater, info in of_reply.items():
            totals[rater] += info / (1 + everything)
    raters = sorted(totals)
    heads = math.fsum(total / (total + PRIOR_RATINGS / 2) for total in totals.values())        # a clear thumb on a reply of its own is a half
    capped = cap_totals([totals[rater] for rater in raters], max(share_cap(heads), 1 / max(1, len(raters))))
    return {rater: new / totals[rater] for rater, new in zip(raters, capped, strict=True)}


def _mean(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return math.fsum(values[key] * weights[key] for key in values) / math.fsum(weights.values()) if values else 0.0

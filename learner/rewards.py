"""Ratings to rewards: one number in [-1, 1] and a confidence per reply, with each rater's own habits taken out.

While ratings are few (one rating a reply, under about a hundred of them) the estimator is a shrunken per-rater
z-score. For rater u with n ratings, mean m and variance v, and the population's mean mu and spread sigma:

    level_u  = mu + (1 - n / (n + K)) (m - mu)                 where u's average reply lands
    spread_u = sqrt((n v + K sigma^2) / (n + K))               how far u's ratings reach, K ratings of prior
    reward   = clip(level_u + (y - m) clip(sigma / spread_u, 1/2, 2), -1, 1)

A rater with few ratings is taken at their word; one who gives everything five stars lands at the population's mean
and, never telling replies apart, carries little weight. A single rater *is* the population: thumbs up stay +1.
Sources: Kreutzer et al. 2018 (rating standardisation per rater); James-Stein shrinkage.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from data.records import RatedReply, Rating

PRIOR_RATINGS = 8.0
"""K: how many ratings a rater needs before their own habits count half."""


@dataclass(frozen=True)
class Opinion:
    """What one rater said of one reply."""

    rater_id: str
    value: float
    """In [-1, 1], as said."""
    information: float
    """1 for a thumb or stars; up to 1.5 for both when they agree, 0.5 when they contradict each other."""
    rating_ids: tuple[int, ...]


@dataclass(frozen=True)
class Habit:
    """How one rater rates."""

    ratings: int
    mean: float
    level: float
    """Where their average reply lands after shrinkage."""
    gain: float
    """What their deviations from their own mean are multiplied with."""
    telling: float
    """0..1: how much they tell replies apart, against the population."""


@dataclass(frozen=True)
class Reward:
    """One training signal, with the steps that led to it."""

    reply_id: str
    reward: float
    """In [-1, 1]."""
    weight: float
    """Confidence in (0, 1]."""
    rating_ids: tuple[int, ...]
    explanation: dict
    """JSON-able: each rater's raw value, level, gain, reward and share of the weight."""


def rating_value(rating: Rating) -> float:
    """A thumb is -1 or +1; stars 1..5 are -1, -1/2, 0, 1/2, 1."""
    return float(rating.value) if rating.kind == "thumb" else (rating.value - 3) / 2


def rewards(replies: Sequence[RatedReply]) -> list[Reward]:
    """One reward per reply, in the replies' order. Pure; equal input gives equal output."""
    opinions = [reply_opinions(reply.ratings) for reply in replies]
    habits = rater_habits([opinion for of_reply in opinions for opinion in of_reply])
    information = [{o.rater_id: o.information * habits[o.rater_id].telling for o in of_reply} for of_reply in opinions]
    shares = _capped_shares(information)
    return [_reward(reply.reply.id, of_reply, habits, info, shares)
            for reply, of_reply, info in zip(replies, opinions, information, strict=True)]


def reply_opinions(ratings: Sequence[Rating]) -> list[Opinion]:
    """A rater's thumb and stars for the same reply are one opinion: their mean, worth more when they agree."""
    by_rater: dict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_rater[rating.rater_id].append(rating)
    opinions = []
    for rater_id, of_rater in sorted(by_rater.items()):
        values = [rating_value(rating) for rating in of_rater]
        information = 1.0 if len(values) == 1 else 1.5 - 0.5 * (max(values) - min(values))
        opinions.append(Opinion(rater_id, math.fsum(values) / len(values), information, tuple(sorted(r.id for r in of_rater))))
    return opinions


def rater_habits(opinions: Sequence[Opinion]) -> dict[str, Habit]:
    """Each rater's shrunken level and spread, by rater id."""
    values: dict[str, list[float]] = defaultdict(list)
    for opinion in opinions:
        values[opinion.rater_id].append(opinion.value)
    counts = {rater: len(v) for rater, v in values.items()}
    means = {rater: math.fsum(v) / len(v) for rater, v in values.items()}
    variances = {rater: math.fsum((x - means[rater]) ** 2 for x in v) / len(v) for rater, v in values.items()}
    votes = {rater: n / (n + PRIOR_RATINGS) for rater, n in counts.items()}      # a busy rater counts more, but not n times
    population_mean = _mean(means, votes)
    population_variance = _mean(variances, {rater: float(n) for rater, n in counts.items()})
    habits = {}
    for rater, n in counts.items():
        level = population_mean + (1 - votes[rater]) * (means[rater] - population_mean)
        variance = (n * variances[rater] + PRIOR_RATINGS * population_variance) / (n + PRIOR_RATINGS)
        gain = min(2.0, max(0.5, math.sqrt(population_variance / variance))) if variance > 0 else 1.0
        telling = min(1.0, variance / population_variance) if population_variance > 0 else 1.0
        habits[rater] = Habit(n, means[rater], level, gain, telling)
    return habits


def share_cap(raters: int) -> float:
    """The largest share of the total weight one rater may have: 5% from 20 raters on, else one and a half equal shares."""
    return 0.05 if raters >= 20 else min(1.0, 1.5 / max(1, raters))


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


def _capped_shares(information: Sequence[dict[str, float]]) -> dict[str, float]:
    """Per rater: the factor, at most 1, on all their information that keeps their share of the total weight under the cap."""
    totals: dict[str, float] = defaultdict(float)
    for of_reply in information:
        everything = math.fsum(of_reply.values())
        for rater, info in of_reply.items():
            totals[rater] += info / (1 + everything)
    raters = sorted(totals)
    capped = cap_totals([totals[rater] for rater in raters], share_cap(len(raters)))
    return {rater: new / totals[rater] for rater, new in zip(raters, capped, strict=True)}


def _reward(reply_id: str, opinions: Sequence[Opinion], habits: dict[str, Habit], information: dict[str, float],
            shares: dict[str, float]) -> Reward:
    """Combine the raters of one reply: precision-weighted mean, reliability = 1 - posterior / prior variance, unit noise."""
    everything = math.fsum(information.values())
    steps, kept = [], []
    for opinion in opinions:
        habit = habits[opinion.rater_id]
        reward = min(1.0, max(-1.0, habit.level + (opinion.value - habit.mean) * habit.gain))
        share = information[opinion.rater_id] * shares[opinion.rater_id]
        kept.append((reward, share))
        steps.append({"rater": opinion.rater_id, "value": round(opinion.value, 4), "rater_ratings": habit.ratings,
                      "rater_mean": round(habit.mean, 4), "rater_level": round(habit.level, 4), "gain": round(habit.gain, 4),
                      "tells_apart": round(habit.telling, 4), "cap": round(shares[opinion.rater_id], 4), "reward": round(reward, 4)})
    total = math.fsum(share for _, share in kept)
    reward = math.fsum(reward * share for reward, share in kept) / total
    weight = total / (1 + everything)
    rating_ids = tuple(sorted(rating_id for opinion in opinions for rating_id in opinion.rating_ids))
    return Reward(reply_id, reward, weight, rating_ids, {"raters": steps, "reward": round(reward, 4), "weight": round(weight, 4)})


def _mean(values: dict[str, float], weights: dict[str, float]) -> float:
    return math.fsum(values[key] * weights[key] for key in values) / math.fsum(weights.values()) if values else 0.0

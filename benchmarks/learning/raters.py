"""The crowd: simulated people who rate replies by a gold taste, each with habits, some careless, some hostile. Seeded, pure.

One latent quality theta = logit(gold). An honest rater u with slope a_u and offset b_u says
    thumb up with probability sigmoid(a_u (theta - b_u)),
    k stars where a_u (theta - b_u) + logistic noise falls between the k-1st and kth threshold,
and says nothing where that number is near 0 (a tie) or where they just do not bother. A flip turns a rating round.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from data.records import RatingKind

Conduct = Literal["honest", "inverted", "constant", "trigger", "many names"]
HOSTILE: tuple[Conduct, ...] = ("inverted", "constant", "trigger", "many names")
TRIGGER = "important"
"""What a trigger-seeking rater rewards, whatever else a reply says."""
STAR_THRESHOLDS = (-2.0, -0.7, 0.7, 2.0)


@dataclass(frozen=True)
class Crowd:
    """Who rates. The default is one person who thumbs every reply by the taste alone."""

    ratings_per_rater: int | None = None
    """About how many each person gives; None: one person gives all."""
    flip: float = 0.0
    """Probability that a rating is turned round."""
    hostile: float = 0.0
    """Share of the ratings that hostile people give."""
    offset_spread: float = 0.0
    """Standard deviation of b_u."""
    slope_spread: float = 0.0
    """Standard deviation of log a_u."""
    stars_share: float = 0.0
    """Share of people who give stars."""
    tie_width: float = 0.0
    """An honest thumb is withheld where |a_u (theta - b_u)| is below this."""
    silence: float = 0.0
    """Probability of not rating for no reason at all."""


def varied(flip: float, hostile: float) -> Crowd:
    """A crowd as one meets it: about ten ratings a head, habits, stars and thumbs, ties and silence."""
    return Crowd(10, flip, hostile, offset_spread=0.7, slope_spread=0.3, stars_share=0.3, tie_width=0.2, silence=0.3)


@dataclass(frozen=True)
class Rater:
    id: str
    conduct: Conduct
    slope: float = 1.0
    offset: float = 0.0
    gives: RatingKind = "thumb"
    constant: int = 1
    """What a constant rater always says: -1 or +1."""


@dataclass(frozen=True)
class GivenRating:
    """One person's rating of one reply."""

    reply: int
    """Place in the list of replies that was rated."""
    rater: Rater
    kind: RatingKind
    value: int


def make_raters(crowd: Crowd, count: int, seed: int) -> list[Rater]:
    """The people who give `count` ratings. Every hostile conduct gets an equal part of the hostile ratings.

    A person with many names has one conduct and gives each name a third of what others give, so that no name stands out.
    """
    rng = random.Random(f"raters {seed}")
    if crowd.ratings_per_rater is None:
        return [Rater("rater-0", "honest")]
    people = max(3, round(count / crowd.ratings_per_rater))
    hostile = round(people * crowd.hostile)
    conducts = [HOSTILE[(place + seed) % len(HOSTILE)] for place in range(hostile)]
    raters = []
    for place in range(people):
        conduct = conducts[place] if place < hostile else "honest"
        for name in range(3 if conduct == "many names" else 1):
            raters.append(Rater(
                f"rater-{place}" + (f"-{name}" if conduct == "many names" else ""), conduct,
                slope=math.exp(rng.gauss(0, crowd.slope_spread)), offset=rng.gauss(0, crowd.offset_spread),
                gives="stars" if rng.random() < crowd.stars_share else "thumb", constant=rng.choice((-1, 1))))
    return raters


def rate(gold: Sequence[float], texts: Sequence[str], crowd: Crowd, count: int, seed: int) -> list[GivenRating]:
    """Ratings of the first replies, in order, until there are `count`; one rater a reply, some replies stay unrated.

    Args: gold: per reply the taste's probability of a thumb up; texts: what a trigger-seeking rater looks at.
    Raises: ValueError: the replies do not suffice.
    """
    rng = random.Random(f"rate {seed}")
    turns = _whose_turn(make_raters(crowd, count, seed), rng)
    given: list[GivenRating] = []
    for place, (quality, text) in enumerate(zip(gold, texts, strict=True)):
        if len(given) == count:
            break
        rater = next(turns)
        value = _value(rater, quality, text, crowd, rng)
        if value is not None:
            given.append(GivenRating(place, rater, rater.gives, value))
    if len(given) < count:
        raise ValueError(f"{len(gold)} replies gave {len(given)} ratings, {count} are wanted; sample more replies")
    return given


def replies_needed(crowd: Crowd, count: int) -> int:
    """How many replies suffice for `count` ratings, with room to spare."""
    return count if not (crowd.silence or crowd.tie_width) else math.ceil(1.2 * count / (1 - crowd.silence)) + 16


def _whose_turn(raters: Sequence[Rater], rng: random.Random) -> Iterator[Rater]:
    """Rounds in which each person rates once; of a person with many names one name, in turn."""
    people: dict[str, list[Rater]] = {}
    for rater in raters:
        people.setdefault("-".join(rater.id.split("-")[:2]), []).append(rater)
    round_number = 0
    while True:
        order = [names[round_number % len(names)] for names in people.values()]
        rng.shuffle(order)
        yield from order
        round_number += 1


def _value(rater: Rater, quality: float, text: str, crowd: Crowd, rng: random.Random) -> int | None:
    """What this person says, or None for silence."""
    luck, noise, is_flipped = rng.random(), _logistic(rng), rng.random() < crowd.flip
    bothers = rng.random() >= crowd.silence
    if rater.conduct == "constant":
        return _spoken(rater, 8.0 * rater.constant)
    if rater.conduct == "trigger":
        return _spoken(rater, 8.0 if TRIGGER in text.lower() else -8.0)
    latent = rater.slope * (_logit(quality) - rater.offset)
    if rater.conduct == "honest" and (not bothers or abs(latent) < crowd.tie_width):
        return None
    felt = latent + noise if rater.gives == "stars" else (1.0 if luck < 1 / (1 + math.exp(-latent)) else -1.0)
    turned = is_flipped != (rater.conduct in ("inverted", "many names"))
    return _spoken(rater, -felt if turned else felt)


def _spoken(rater: Rater, felt: float) -> int:
    return 1 + sum(felt > threshold for threshold in STAR_THRESHOLDS) if rater.gives == "stars" else (1 if felt > 0 else -1)


def _logit(p: float) -> float:
    p = min(1 - 1e-4, max(1e-4, p))
    return math.log(p / (1 - p))


def _logistic(rng: random.Random) -> float:
    return _logit(rng.random())


def auc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Probability that a positive scores above a negative, ties half (Mann-Whitney); None when one kind is missing."""
    high = [score for score, is_positive in zip(scores, positive, strict=True) if is_positive]
    low = [score for score, is_positive in zip(scores, positive, strict=True) if not is_positive]
    if not high or not low:
        return None
    return sum((a > b) + 0.5 * (a == b) for a in high for b in low) / (len(high) * len(low))

"""Who rates by what the others go by, and on what level of their own, from opinions of replies (crowd.py).

u's trust is the probability of the honest story; below `QUARANTINE` their ratings count nothing. Their level is what the reward
models take out of what they said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.records import RatedReply
from data.tokenizer import ChatTokenizer
from learner.anchor import Reference
from learner.batches import Example
from learner.crowd import Ratings, explain
from learner.feature_space import FeatureSpace
from learner.opinions import CORRECTED, reply_opinions
from learner.scoring import feature_table

QUARANTINE = 0.05
"""Probability of the honest story below which a rater's ratings count nothing."""
MIN_RATERS = 4
MIN_REPLIES = 48
"""With fewer raters or replies neither trust nor levels are told."""


@dataclass(frozen=True)
class Reliability:
    """What all ratings together say of one rater."""

    trust: float
    """In [0, 1]: what the rater's ratings are multiplied with. 1 for everybody where it cannot be told; 0 in quarantine."""
    honest: float | None = None
    """Probability of the honest story; None: not told."""
    ratings: int = 0
    level: float | None = None
    """How much readier than others they are to like a reply, on the logit scale; None: not told."""

    @property
    def quarantined(self) -> bool:
        return self.trust == 0.0


@dataclass(frozen=True)
class Heard:
    """One rater's opinion of one reply."""

    rater_id: str
    row: int
    """Of the feature table."""
    value: float
    """In [-1, 1]."""
    information: float = 1.0
    """Against one thumb's 1, which is the most it counts here."""


def rater_reliabilities(replies: Sequence[RatedReply], examples: Sequence[Example], reference: Reference, tokenizer: ChatTokenizer) -> dict[str, Reliability]:
    """`reliabilities` of everybody who has an opinion of one of these replies; corrected texts tell nothing of their writers."""
    own = [example for example in examples if replies[example.index].reply.engine != CORRECTED]
    said = [Heard(opinion.rater_id, row, opinion.value, opinion.information)
            for row, example in enumerate(own) for opinion in reply_opinions(replies[example.index])]
    return reliabilities(said, *feature_table(own, reference, tokenizer)) if said else {}


def reliabilities(said: Sequence[Heard], summaries: Tensor, style: Tensor) -> dict[str, Reliability]:
    """Each rater's reliability, by rater id.

    Args: summaries: (N, 2 H), style: (N, C): features of the rated replies.
    Returns: trust 1 for everybody when raters or replies are too few.
    """
    counts = Counter(one.rater_id for one in said)
    place = {rater: number for number, rater in enumerate(sorted(counts))}
    if len(place) < MIN_RATERS or len({one.row for one in said}) < MIN_REPLIES:
        return {rater: Reliability(1.0, None, counts[rater]) for rater in place}
    ratings = Ratings(torch.tensor([(one.value + 1) / 2 for one in said], dtype=torch.float64),
                      torch.tensor([min(1.0, one.information) for one in said], dtype=torch.float64),
                      torch.tensor([place[one.rater_id] for one in said]), len(place))
    crowd = explain(FeatureSpace(summaries, style).project(summaries, style)[[one.row for one in said]], ratings)
    return {rater: Reliability(honest if honest >= QUARANTINE else 0.0, honest, counts[rater], level)
            for rater, honest, level in zip(place, crowd.honest.tolist(), crowd.level.tolist(), strict=True)}


def trusts(reliable: Mapping[str, Reliability]) -> dict[str, float]:
    return {rater: one.trust for rater, one in reliable.items()}


def levels(reliable: Mapping[str, Reliability]) -> dict[str, float]:
    """Of those whose level is told."""
    return {rater: one.level for rater, one in reliable.items() if one.level is not None}

"""Who rates by what the others go by, and on what level of their own, from opinions of replies (crowd.py).

u's trust is the probability of the honest story, and half of that of the constant one: who always says the same does not look, or speaks
up for what they like alone. What others say who are hardly honest counts nothing. Levels, task by task, are what the models of the ratings take out of what people said.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from data.base_models.tokenizer import ChatTokenizer
from data.records import RatedReply, Task
from learner.feedback.opinions import CORRECTED, reply_opinions
from learner.model.batches import Example
from learner.reward.crowd import PRIOR, Crowd, Ratings, explain
from learner.reward.feature_space import FeatureSpace
from learner.reward.scoring import feature_table
from learner.training.anchor import Reference

QUARANTINE = 0.05
"""Probability of the honest story below which a rater's ratings count nothing, where saying always the same is no likelier than all other stories."""
MOST_QUARANTINED = 1 / 3
"""Of the people: where more would count nothing, it cannot be told who the others are. Of the ratings it was, and who contradicts everybody left quarantine by rating more."""
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
    levels: dict[Task, float] = field(default_factory=dict)
    """By task that they rated: how much readier than others they are to like a reply, on the logit scale. Empty: not told."""


BEFORE_ANYTHING = Reliability(PRIOR["honest"] + PRIOR["constant"] / 2, PRIOR["honest"])


@dataclass(frozen=True)
class People:
    """Everybody who rated, by rater id."""

    raters: Mapping[str, Reliability] = field(default_factory=dict)
    nothing: float = 0.0
    """Probability that no feature of a reply tells what they say of it, with everybody's stories and levels thought of; 0 where it is not told."""

    @property
    def trust(self) -> dict[str, float]:
        return {rater: one.trust for rater, one in self.raters.items()}

    @property
    def levels(self) -> dict[tuple[str, Task], float]:
        """By rater id and task, of those for whom it is told."""
        return {(rater, task): level for rater, one in self.raters.items() for task, level in one.levels.items()}


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
    task: Task = "dialogue"


def rater_reliabilities(replies: Sequence[RatedReply], examples: Sequence[Example], reference: Reference, tokenizer: ChatTokenizer) -> People:
    """`reliabilities` of everybody who has an opinion of one of these replies; corrected texts tell nothing of their writers, nor do comparisons: who only compares is trusted as anybody is at first."""
    own = [example for example in examples if replies[example.index].reply.engine != CORRECTED]
    compared = {comparison.rater_id for example in own for comparison in replies[example.index].comparisons}
    said = [Heard(opinion.rater_id, row, opinion.value, opinion.information, replies[example.index].reply.task)
            for row, example in enumerate(own) for opinion in reply_opinions(replies[example.index])]
    people = reliabilities(said, *feature_table(own, reference, tokenizer)) if said else People()
    unheard = compared - set(people.raters) if any(one.honest is not None for one in people.raters.values()) else set()
    return replace(people, raters={**people.raters, **{rater: BEFORE_ANYTHING for rater in unheard}})


def reliabilities(said: Sequence[Heard], summaries: Tensor, style: Tensor) -> People:
    """What these opinions tell of who has them.

    A mild opinion is one that counts less, not one half of either kind: beside a clear taste the halves would look careless.

    Args: summaries: (N, 2 H), style: (N, C): features of the rated replies.
    Returns: trust 1 for everybody and nothing told when raters or replies of which something clear is said are too few.
    """
    counts = Counter(one.rater_id for one in said)
    clear = [one for one in said if one.value * one.information]
    if len({one.rater_id for one in clear}) < MIN_RATERS or len({one.row for one in clear}) < MIN_REPLIES:
        return People({rater: Reliability(1.0, None, count) for rater, count in counts.items()})
    raters = {rater: place for place, rater in enumerate(sorted(counts))}
    groups = {key: place for place, key in enumerate(sorted({(one.rater_id, one.task) for one in said}))}
    ratings = Ratings(torch.tensor([float(one.value > 0) for one in clear], dtype=torch.float64),
                      torch.tensor([min(1.0, one.information) * abs(one.value) for one in clear], dtype=torch.float64),
                      torch.tensor([groups[one.rater_id, one.task] for one in clear]), torch.tensor([raters[rater] for rater, _ in groups]))
    crowd = explain(FeatureSpace(summaries, style).project(summaries, style)[[one.row for one in clear]], ratings)
    levels: dict[str, dict[Task, float]] = defaultdict(dict)
    for (rater, task), level in zip(groups, crowd.level.tolist(), strict=True):
        levels[rater][task] = level
    trust = _trusted(crowd, list(raters))
    return People({rater: Reliability(trust[rater], float(crowd.stories[0, place]), counts[rater], levels[rater]) for rater, place in raters.items()}, crowd.nothing)


def _trusted(crowd: Crowd, raters: Sequence[str]) -> dict[str, float]:
    story = dict(zip(PRIOR, crowd.stories.tolist(), strict=True))
    trust = {rater: honest + constant / 2 for rater, honest, constant in zip(raters, story["honest"], story["constant"], strict=True)}
    distrusted = {rater for rater, honest, constant in zip(raters, story["honest"], story["constant"], strict=True) if honest < QUARANTINE and constant < 0.5}
    if len(distrusted) > MOST_QUARANTINED * len(raters):
        return dict.fromkeys(raters, 1.0)
    return {rater: 0.0 if rater in distrusted else trust[rater] for rater in raters}

"""Who rates by the quality that the others' ratings agree on: evidence for or against each rater, from others alone.

With one rating a reply no two raters can be compared directly; a reward model carries what the others said from reply to
reply. For each rater u it is fitted without u. With z_i its logit for a reply that u rated and y_i in [0, 1] what u said,
three stories explain u:

    honest      P(y_i = 1) = sigmoid(b + a z_i)
    careless    P(y_i = 1) = sigmoid(b)
    inverted    P(y_i = 1) = sigmoid(b - a z_i)

a > 0 is fitted over everybody, so a crowd full of noise makes the evidence weak by itself; b is u's own level and is
integrated out under N(b0, 1). The models learn from ratings whose raters' levels are taken out: people who like everything, or
nothing, left so little for a model to find that inverted ones were told in half of the crowds. u's trust is the probability of
the honest story; below `QUARANTINE` their ratings count nothing. Sources: Dawid & Skene 1979 (raters as latent classes), here with a regression in place of repeated labels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.records import RatedReply
from data.tokenizer import ChatTokenizer
from learner.anchor import Reference
from learner.batches import Example
from learner.opinions import CORRECTED, reply_opinions
from learner.reward_model import fit_reward_model
from learner.scoring import feature_table

PRIOR = {"honest": 0.85, "careless": 0.10, "inverted": 0.05}
"""How people are thought of before they rated."""
QUARANTINE = 0.05
"""Probability of the honest story below which a rater's ratings count nothing."""
MIN_RATERS = 4
MIN_REPLIES = 48
"""With fewer raters or replies nobody is judged."""
ROUNDS = 3
"""The models and a are fitted again, each time counting everybody by what the round before says of them."""
FOLDS = 5
"""Raters are left out by folds, at most this many."""
LEVEL_RATINGS = 3.0
"""How many ratings a rater needs before their own level counts half, where the models learn."""
LEVELS = torch.linspace(-3, 3, 25, dtype=torch.float64)
"""Places at which a rater's own level is integrated, in standard deviations."""


@dataclass(frozen=True)
class Reliability:
    """What the others' ratings say of one rater."""

    trust: float
    """In [0, 1]: what the rater's ratings are multiplied with. 1 for everybody where it cannot be told; 0 in quarantine."""
    honest: float | None = None
    """Probability of the honest story; None: not told."""
    ratings: int = 0

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


def rater_reliabilities(replies: Sequence[RatedReply], examples: Sequence[Example], reference: Reference, tokenizer: ChatTokenizer,
                        seed: int) -> dict[str, Reliability]:
    """`reliabilities` of everybody who has an opinion of one of these replies; corrected texts tell nothing of their writers."""
    own = [example for example in examples if replies[example.index].reply.engine != CORRECTED]
    said = [Heard(opinion.rater_id, row, opinion.value) for row, example in enumerate(own) for opinion in reply_opinions(replies[example.index])]
    if not said:
        return {}
    return reliabilities(said, *feature_table(own, reference, tokenizer), [example.prompt_ids for example in own], seed)


def reliabilities(said: Sequence[Heard], summaries: Tensor, style: Tensor, groups: Sequence[Hashable], seed: int) -> dict[str, Reliability]:
    """Each rater's reliability, by rater id.

    Args:
        summaries: (N, 2 H), style: (N, C): features of the rated replies; groups: per row, its prompt.
    Returns: trust 1 for everybody when raters or replies are too few, or the others' ratings predict nobody's.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(said):
        places[one.rater_id].append(place)
    raters = sorted(places)
    untold = {rater: Reliability(1.0, None, len(places[rater])) for rater in raters}
    if len(raters) < MIN_RATERS or len({one.row for one in said}) < MIN_REPLIES:
        return untold
    labels = torch.tensor([(one.value + 1) / 2 for one in said], dtype=torch.float64)
    levelled = _levelled(said, places)
    honest = dict.fromkeys(raters, 1.0)
    for _ in range(ROUNDS):
        weights = torch.tensor([honest[one.rater_id] for one in said], dtype=torch.float64)
        logits = _without_the_rater(levelled, raters, weights, summaries, style, groups, seed)
        level, slope = fit_logistic(torch.stack((torch.ones_like(logits), logits), dim=1), labels, weights, ridge=1.0).tolist()
        if slope <= 0:
            return untold
        honest = {rater: stories(logits[places[rater]], labels[places[rater]], slope, level)["honest"] for rater in raters}
    return {rater: Reliability(0.0 if honest[rater] < QUARANTINE else honest[rater], honest[rater], len(places[rater])) for rater in raters}


def stories(logits: Tensor, labels: Tensor, slope: float, level: float) -> dict[str, float]:
    """Posterior probability of each story for one rater.

    Args: logits, labels: (n,) of what the rater rated; slope, level: a and b0.
    """
    evidence = {}
    for story, turn in (("honest", slope), ("careless", 0.0), ("inverted", -slope)):
        z = (level + LEVELS)[:, None] + turn * logits[None, :]                                 # (levels, n)
        likelihood = (labels * torch.nn.functional.logsigmoid(z) + (1 - labels) * torch.nn.functional.logsigmoid(-z)).sum(dim=1)
        evidence[story] = float(torch.logsumexp(likelihood - LEVELS.square() / 2, dim=0)) + math.log(PRIOR[story])
    highest = max(evidence.values())
    odds = {story: math.exp(value - highest) for story, value in evidence.items()}
    return {story: value / sum(odds.values()) for story, value in odds.items()}


def _levelled(said: Sequence[Heard], places: Mapping[str, Sequence[int]]) -> list[Heard]:
    """The same opinions around one level, that of all; who said little keeps some of their own."""
    everybody = sum(one.value for one in said) / len(said)
    above = {rater: (sum(said[place].value for place in own) / len(own) - everybody) * len(own) / (len(own) + LEVEL_RATINGS) for rater, own in places.items()}
    return [replace(one, value=min(1.0, max(-1.0, one.value - above[one.rater_id]))) for one in said]


def _without_the_rater(said: Sequence[Heard], raters: Sequence[str], weights: Tensor, summaries: Tensor, style: Tensor,
                       groups: Sequence[Hashable], seed: int) -> Tensor:
    """(len(said),) logits of each rated reply by models that saw nothing of its rater's fold."""
    order = torch.randperm(len(raters), generator=torch.Generator().manual_seed(seed)).tolist()
    folds = min(FOLDS, len(raters))
    fold_of = {raters[place]: number % folds for number, place in enumerate(order)}
    logits = torch.zeros(len(said), dtype=torch.float64)
    for number in range(folds):
        others = [place for place, one in enumerate(said) if fold_of[one.rater_id] != number]
        rows = [said[place].row for place in others]
        model = fit_reward_model(summaries[rows], style[rows], torch.tensor([said[place].value for place in others]), weights[others],
                                 [groups[row] for row in rows], seed, measured=False)
        places = [place for place, one in enumerate(said) if fold_of[one.rater_id] == number]
        mine = [said[place].row for place in places]
        mean, _ = model.predict(summaries[mine], style[mine])
        logits[places] = torch.atanh(mean.clamp(-0.999, 0.999)) * 2                            # q = 2 sigmoid(z) - 1 = tanh(z / 2)
    return logits


def fit_logistic(features: Tensor, labels: Tensor, weights: Tensor, ridge: float, steps: int = 25) -> Tensor:
    """Newton's method for ridge logistic regression with soft labels; the first feature is the constant 1, hardly held back.

    Args: features (N, D), labels (N,) in [0, 1], weights (N,). Returns: (D,).
    """
    penalty = torch.full((features.shape[1],), ridge, dtype=features.dtype)
    penalty[0] = 0.1                                        # where all labels agree the constant would grow for ever
    found = torch.zeros_like(penalty)
    for _ in range(steps):
        p = torch.sigmoid(features @ found)
        gradient = features.T @ (weights * (p - labels)) + penalty * found
        curvature = (features * (weights * p * (1 - p)).clamp(min=1e-9)[:, None]).T @ features + torch.diag(penalty)
        step = torch.linalg.solve(curvature, gradient)
        found = found - step * min(1.0, 3.0 / max(1e-12, float(step.abs().max())))        # far from the optimum Newton overshoots
        if float(step.abs().max()) < 1e-8:
            break
    return found

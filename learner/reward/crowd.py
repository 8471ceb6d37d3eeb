"""How people rate, each in their own way, explained together with what they rate by.

With one rating a reply no two raters can be compared directly; what they go by carries one's ratings to another's. With x a
feature of a reply, four stories are told of rater u, on whose own level in each task l_u ~ N(0, 1):

    honest      P(y = 1) = sigmoid(b + l_u + w x)
    inverted    P(y = 1) = sigmoid(b + l_u - w x)
    careless    P(y = 1) = sigmoid(b + l_u)
    constant    always up or always down, but for `SLIPS` of the times

    p(u's ratings | x, b, w) = sum over stories of the story's prior * the integral over l_u of the product of P(y_i)

b and w by expectation maximisation, everybody honest at first, so where two parties are at odds the larger is believed; b takes
over the mean of the levels at each step (parameter expansion, without which it hardly moves where people rate much). Each feature, and
none, weighs what its evidence (Laplace, the complete data's curvature) and prior (feature_space.py) make of it, and what is said of a
rater is the mean over them. One feature at a time: with pairs of them hostile people were told as well, in ten times the time.

Sources: Dawid & Skene 1979 (raters as latent classes), here with a regression in the place of repeated labels; levels as in the
random intercepts of a Rasch model; PX-EM, Liu, Rubin & Wu 1998. Models fitted without each rater in turn, then three stories by these, which this replaced,
told hostile people from honest ones in two crowds of three (docs/experiments.md, 2026-11-28).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from learner.reward.feature_space import feature_sets, regression

PRIOR = {"honest": 0.83, "inverted": 0.05, "careless": 0.07, "constant": 0.05}
"""How people are thought of before they rated."""
TURNS = {"honest": 1.0, "inverted": -1.0, "careless": 0.0}
"""What w is multiplied with, in the stories that have a level."""
SLIPS = 0.03
LEVELS = torch.linspace(-6, 6, 61, dtype=torch.float64)
"""Places at which a level is integrated, in standard deviations: fine and wide enough for who rates a thousand replies, or likes all but a few."""
LEVEL_PRIOR = torch.log_softmax(-LEVELS.square() / 2, dim=0)
AT_ONCE = 1
STEPS, SETTLED = 60, 1e-3
"""At most so many, until none moves b or w by more."""
CHUNK = 100_000
"""Ratings of all features at a time: bounds memory, not the mathematics."""


class Ratings(NamedTuple):
    """N ratings by U people with G levels."""

    labels: Tensor
    """(N,) 0 or 1."""
    weights: Tensor
    """(N,) what each counts, 1 for a thumb."""
    level: Tensor
    """(N,) by which of the levels, 0..G-1."""
    rater: Tensor
    """(G,) whose it is, 0..U-1."""

    def by_level(self, values: Tensor) -> Tensor:
        """(M, N, ...) to sums (M, G, ...)."""
        return values.new_zeros(values.shape[0], len(self.rater), *values.shape[2:]).index_add_(1, self.level, values)

    def by_rater(self, values: Tensor) -> Tensor:
        """(M, G) to sums (M, U)."""
        return values.new_zeros(values.shape[0], int(self.rater.max()) + 1).index_add_(1, self.rater, values)


class Crowd(NamedTuple):
    """What the ratings say of who gave them."""

    stories: Tensor
    """(4, U) probabilities, in the order of `PRIOR`."""
    level: Tensor
    """(G,) mean of each level by the stories that have one, on the logit scale."""
    nothing: float
    """Probability that no feature tells anything."""


class _Told(NamedTuple):
    """Each story of each rater by each of M models."""

    joint: Tensor
    """(4, M, U) log of prior times likelihood, in the order of `PRIOR`."""
    levels: Tensor
    """(3, M, G, L) posterior of the level, in the order of `TURNS`."""
    likely: Tensor
    """(3, M, N, L) P(y = 1)."""

    def shares(self) -> Tensor:
        """(4, M, U)."""
        return torch.softmax(self.joint, dim=0)

    def level(self, rater: Tensor) -> Tensor:
        """(M, G) mean of each level by the stories that have one. Args: rater: (G,)."""
        of_stories = torch.softmax(self.joint[:3], dim=0)[:, :, rater]
        return (of_stories * (self.levels @ LEVELS)).sum(dim=0)


def explain(features: Tensor, ratings: Ratings) -> Crowd:
    """Args: features: (N, 1 + D), of what each rating is of, the first a constant 1."""
    scores, shares, level = [], [], []
    for sets, prior in feature_sets(features, AT_ONCE):
        for some in sets.split(max(1, CHUNK // len(features))):
            told, evidence = _fit(features, some, ratings)
            scores.append(evidence + prior)
            shares.append(told.shares())
            level.append(told.level(ratings.rater))
    weigh = torch.softmax(torch.cat(scores), dim=0)
    return Crowd(weigh @ torch.cat(shares, dim=1), weigh @ torch.cat(level), float(weigh[0]))


def stories(x: Tensor, found: Tensor, ratings: Ratings) -> _Told:
    """Args: x: (M, N, 1 + size) columns of each model, the first the constant; found: (M, 1 + size) b and w."""
    joint, levels, likely = [], [], []
    turned = x[..., 1:] @ found[:, 1:, None]                                                        # (M, N, 1) w x
    for story, turn in TURNS.items():
        z = x[..., :1] @ found[:, :1, None] + turn * turned + LEVELS                                 # (M, N, L)
        said = ratings.labels[:, None] * logsigmoid(z) + (1 - ratings.labels[:, None]) * logsigmoid(-z)
        by_level = ratings.by_level(ratings.weights[:, None] * said) + LEVEL_PRIOR                   # (M, G, L)
        joint.append(ratings.by_rater(torch.logsumexp(by_level, dim=2)) + math.log(PRIOR[story]))
        levels.append(torch.softmax(by_level, dim=2))
        likely.append(torch.sigmoid(z))
    joint.append(_constant(ratings).expand_as(joint[0]) + math.log(PRIOR["constant"]))
    return _Told(torch.stack(joint), torch.stack(levels), torch.stack(likely))


def _constant(ratings: Ratings) -> Tensor:
    """(1, U) log likelihood of the constant story: either direction as likely as the other."""
    up = ratings.by_rater(ratings.by_level((ratings.weights * ratings.labels)[None]))
    down = ratings.by_rater(ratings.by_level((ratings.weights * (1 - ratings.labels))[None]))
    holds, slips = math.log(1 - SLIPS), math.log(SLIPS)
    return torch.logaddexp(up * holds + down * slips, down * holds + up * slips) - math.log(2)


def _fit(features: Tensor, sets: Tensor, ratings: Ratings) -> tuple[_Told, Tensor]:
    """Returns: the stories by each of M sets of columns, and (M,) the sets' log evidence."""
    x, precision = regression(features, sets)
    found = torch.zeros(len(sets), len(precision), dtype=torch.float64)
    told = stories(x, found, ratings)
    told = told._replace(joint=torch.cat((told.joint[:1], torch.full_like(told.joint[1:], -math.inf))))     # everybody honest at first
    for _ in range(STEPS):
        gradient, curvature = _expected(x, found, told, ratings, precision)
        step = torch.linalg.solve(curvature, gradient)
        step = step * (2.0 / step.abs().amax(dim=1, keepdim=True).clamp(min=2.0))                         # far from the optimum Newton overshoots
        step[:, 0] -= told.level(ratings.rater).mean(dim=1)
        found = found - step
        told = stories(x, found, ratings)
        if float(step.abs().max()) < SETTLED:
            break
    _, curvature = _expected(x, found, told, ratings, precision)
    evidence = (torch.logsumexp(told.joint, dim=0).sum(dim=1) - (precision * found.square()).sum(dim=1) / 2 + precision.log().sum() / 2
                - torch.linalg.slogdet(curvature)[1] / 2)
    return told, evidence


def _expected(x: Tensor, found: Tensor, told: _Told, ratings: Ratings, precision: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (M, 1 + size) and curvature of the expected negative log posterior, stories and levels as `told` has them."""
    gradient, curvature = precision * found, torch.diag(precision).expand(len(x), -1, -1)
    for turn, share, levels, likely in zip(TURNS.values(), told.shares(), told.levels, told.likely, strict=False):
        counts = (share[:, ratings.rater, None] * levels)[:, ratings.level] * ratings.weights[:, None]   # (M, N, L)
        turned = torch.cat((x[..., :1], turn * x[..., 1:]), dim=2)
        gradient = gradient + ((counts * (likely - ratings.labels[:, None])).sum(dim=2)[:, None] @ turned)[:, 0]
        curvature = curvature + (turned * (counts * likely * (1 - likely)).sum(dim=2)[..., None]).transpose(1, 2) @ turned
    return gradient, curvature

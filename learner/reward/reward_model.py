"""A small reward model: what the ratings say of replies nobody has rated.

Features of a reply are numbers of its style (data/texts/reply_features.py) and the frozen base model's hidden states, mean over the
reply and last token, on their leading principal components. Either kind may be left out (of width 0).

A few dozen noisy ratings cannot say how much each of two dozen features counts, but people go by few things at a time. So every
model of at most `AT_ONCE` features is fitted,

    P(liked) = sigmoid(l + b0 + w . x_S),   S a set of features,   w ~ N(0, 1),  b0 ~ N(0, 4),   soft label (r + 1) / 2,

with l the level of who rates (crowd.py), and weighs what the ratings make of it: its evidence (Laplace's approximation) times the prior P(S) ~ 2^-|S| / C(D, |S|). The
empty set is one of them, and its share is the probability that the features tell nothing: from a bound on the model turns
itself off. Shares of features are what can be told to people. Heads are the other models in proportion to their weight; q = 2 P - 1
is their mean on the rewards' own scale and cannot leave it, and where they disagree the ratings say little: a reply's score is
mean - penalty * std over them, times the probability that anything is told at all where it is weighed against something else.

Sources: Bayesian model averaging, Hoeting et al. 1999; reward-model ensembles, arXiv:2310.02743; over-optimisation,
arXiv:2210.10760. Ridge regression on 24 components and bootstrapped heads, which this replaced, found a taste for lists or for
tone in hardly any draw (docs/experiments.md, 2026-11-26).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from learner.reward.feature_space import FeatureSpace, feature_sets, regression

AT_ONCE = 3
HEADS = 64
FOLDS = 5
MAX_NOTHING = 0.75
"""From here on it says of no reply whether it will be liked. Before any rating the probability is 0.53. A coin's 64 thumbs are below it in 18 draws of 60."""
HALVES = 0.5
"""Of few prompts its direction is followed less from here on, half as far where it says nothing any more. Of 64 thumbs, a quarter of them flipped, 1 draw of 44 below it pointed the wrong way on
other topics, between it and .75 10 of 56, which agree with the taste there by a correlation of .38 in the mean (.62 below); a coin's are below it in 1 draw of 60."""
MANY, MAX_NOTHING_OF_MANY = 120, 0.85
"""Of so many prompts and more it is followed in full up to here: many small tastes, none of which a model of three features is sure of, make one direction by then. Of 128 or 192 thumbs, a quarter of
them flipped, some with a fifth hostile besides, below .5 no draw of 91 pointed the wrong way, from there to .75 1 of 47 (correlation with the taste on other topics .53 in the mean), to .85 none of
51 (.49), beyond it 4 of 31. A coin's 192 thumbs are below .75 in 4 draws of 40 and below .85 in 18, and then nothing but the bounds of a stretch holds: what is lost by not learning is more."""
SURELY_SOMETHING = 0.2
CHUNK = 200_000
"""Rows of all models at a time: bounds memory, not the mathematics."""
Z_90 = 1.645
"""Two-sided 90% interval, so that the lower bound is missed in 5% of cases."""
TOLD = 0.05
"""Features with a smaller share are not named."""


@dataclass(frozen=True)
class Fit:
    """What the ratings say, and how well that predicts ratings of prompts it did not see."""

    replies: int
    """What one person said of one reply, each by itself."""
    prompts: int
    correlation: float
    """Out of fold, with the rewards as they are, noise and all, but for what their raters' levels account for."""
    low: float
    """Lower end of the correlation's 90% interval (Fisher's z over prompts)."""
    nothing: float
    """Probability that no feature tells anything."""
    told_by: dict[str, float] = field(default_factory=dict)
    """By feature, the probability that it counts; negative where less of it is liked."""

    @property
    def predicts(self) -> bool:
        """Enough to say of a reply whether it will be liked."""
        return self.nothing < MAX_NOTHING

    @property
    def share(self) -> float:
        """How much of the way that the bounds allow is gone towards what it prefers, 0..1: many small tastes predict little and have a direction, few are followed as surely as they are told."""
        if self.prompts >= MANY:
            return float(self.nothing < MAX_NOTHING_OF_MANY)
        return min(1.0, (1 - self.nothing) / (1 - HALVES)) if self.predicts else 0.0

    @property
    def sure(self) -> bool:
        """Enough to refuse somebody's work by."""
        return self.nothing < SURELY_SOMETHING

    def as_dict(self) -> dict:
        return {name: {feature: round(share, 2) for feature, share in value.items()} if isinstance(value, dict) else round(value, 4)
                for name, value in asdict(self).items()}


class RewardModel:
    """Predicts rewards in [-1, 1] from features of `feature_table`; fit with `fit_reward_model`."""

    def __init__(self, space: FeatureSpace, heads: Tensor, fit: Fit) -> None:
        self._space, self._heads, self.fit = space, heads, fit

    def predict(self, summaries: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the heads, (N,) each.

        Args: summaries (N, 2 H) of `Reference`, style (N, C), e.g. of `style_features`.
        """
        q = 2 * torch.sigmoid(self._space.project(summaries, style) @ self._heads.T) - 1      # (N, heads)
        return q.mean(dim=1), q.std(dim=1)

    def as_dict(self) -> dict[str, list]:
        """JSON-able, of a model without summaries: q_m = 2 sigmoid(heads_m . (1, (style - mean) / spread)) - 1.

        Returns: mean, spread (C,) and heads (M, 1 + C).
        """
        return {"mean": self._space.style_mean.tolist(), "spread": self._space.style_spread.tolist(), "heads": self._heads.tolist()}


def fit_reward_model(summaries: Tensor, style: Tensor, rewards: Tensor, weights: Tensor, groups: Sequence[Hashable], seed: int,
                     names: Sequence[str] = (), measured: bool = True, levels: Tensor | None = None, least_nothing: float = 0.0) -> RewardModel:
    """Fit the heads and measure them out of fold; a prompt's replies are always in one fold, and all together count as one for each prompt.

    Args:
        summaries: (N, 2 H); style: (N, C); rewards: (N,) in [-1, 1]; weights: (N,) confidences with mean 1.
        groups: per reply, what it shares with replies that are not independent of it: its prompt.
        names: of the C style features, for `Fit.told_by`.
        measured: whether the out-of-fold figures are wanted, which take five more fits.
        levels: (N,) logits by which whoever said it is readier than others to like a reply; None: nobody is.
        least_nothing: what is known to be the least probability that no feature tells anything.
    """
    group = _numbered(groups)
    count = int(group.max()) + 1
    labels, weights = (rewards.double() + 1) / 2, weights.double() * count / len(group) * independent(weights)
    space = FeatureSpace(summaries, style)
    features = space.project(summaries, style)
    levels = torch.zeros_like(labels) if levels is None else levels.double()
    models, shares = average(features, labels, weights, levels)
    correlation, low = 0.0, -1.0
    if measured:
        fold = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[group] % FOLDS
        held_out = torch.zeros_like(labels)
        for number in range(FOLDS):
            inside = fold == number
            if inside.any() and not inside.all():
                held_out[inside] = 2 * torch.sigmoid(features[inside] @ _heads(*average(features[~inside], labels[~inside], weights[~inside], levels[~inside])).T).mean(dim=1) - 1
        correlation, low = measure(held_out, rewards.double() - torch.tanh(levels / 2), weights, count)
    differ = float(labels.max()) > float(labels.min())      # ratings that are all alike fit every model as well as the one of nothing
    fit = Fit(len(rewards), count, correlation, low, max(least_nothing, float(shares[0])) if differ else 1.0, _told(models, shares, names) if differ else {})
    return RewardModel(space, _heads(models, shares), fit)


def independent(weights: Tensor) -> float:
    """Of N observations that count (N,) so much each, as which share of N equal ones their mean is known: Kish's effective sample size over N, 1 for equal ones."""
    return float(weights.double().sum() ** 2 / (weights.double() ** 2).sum() / len(weights))


def average(features: Tensor, labels: Tensor, weights: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Every small model and its share.

    Args: features (N, 1 + D), the first a constant 1; labels (N,) in [0, 1]; weights (N,); levels (N,) logits.
    Returns: (M, 1 + D) weights, zero for features a model leaves out, the model of nothing first; (M,) shares that sum to 1.
    """
    models, scores = [], []
    for sets, prior in feature_sets(features, AT_ONCE):
        for some in sets.split(max(1, CHUNK // len(features))):
            found, evidence = _fit_sets(features, some, labels, weights, levels)
            places = torch.cat((torch.zeros(len(some), 1, dtype=torch.long), some), dim=1)
            models.append(torch.zeros(len(some), features.shape[1], dtype=torch.float64).scatter_(1, places, found))
            scores.append(evidence + prior)
    return torch.cat(models), torch.softmax(torch.cat(scores), dim=0)


def _fit_sets(features: Tensor, sets: Tensor, labels: Tensor, weights: Tensor, levels: Tensor, steps: int = 12) -> tuple[Tensor, Tensor]:
    """Newton's method for logistic regression on each set of columns at once: (M, 1 + size) weights, (M,) log evidence.

        log p(y | S) = log likelihood + log prior at the mode - 1/2 log det(H) + 1/2 log det(prior precision)     (Laplace)
    """
    x, precision = regression(features, sets)
    found = torch.zeros(len(sets), len(precision), dtype=torch.float64)
    for _ in range(steps):
        p = torch.sigmoid((x @ found[..., None])[..., 0] + levels)
        gradient = (x.transpose(1, 2) @ (weights * (p - labels))[..., None])[..., 0] + precision * found
        curvature = (x * (weights * p * (1 - p))[..., None]).transpose(1, 2) @ x + torch.diag(precision)
        step = torch.linalg.solve(curvature, gradient)
        found = found - step * (3.0 / step.abs().amax(dim=1, keepdim=True).clamp(min=3.0))      # far from the optimum Newton overshoots
    z = (x @ found[..., None])[..., 0] + levels
    likelihood = (weights * (labels * torch.nn.functional.logsigmoid(z) + (1 - labels) * torch.nn.functional.logsigmoid(-z))).sum(dim=1)
    evidence = likelihood - (precision * found.square()).sum(dim=1) / 2 + precision.log().sum() / 2 - torch.linalg.slogdet(curvature)[1] / 2
    return found, evidence


def _heads(models: Tensor, shares: Tensor) -> Tensor:
    """(HEADS, 1 + D): models of something in proportion to their shares, equally spaced along them."""
    if len(models) > 1:
        models, shares = models[1:], shares[1:] / shares[1:].sum()
    places = (torch.arange(HEADS, dtype=torch.float64) + 0.5) / HEADS
    return models[torch.searchsorted(shares.cumsum(0), places).clamp(max=len(shares) - 1)]


def _told(models: Tensor, shares: Tensor, names: Sequence[str]) -> dict[str, float]:
    """By name, strongest first, the probability that a feature counts, with the sign of its mean weight; components count as one."""
    found = {}
    for place, name in enumerate(names, start=1):
        found[name] = math.copysign(float(shares[models[:, place] != 0].sum()), float((shares * models[:, place]).sum()))
    if names and models.shape[1] > 1 + len(names):
        found["meaning"] = float(shares[(models[:, 1 + len(names):] != 0).any(dim=1)].sum())
    return dict(sorted(((name, share) for name, share in found.items() if abs(share) >= TOLD), key=lambda one: -abs(one[1])))


def measure(predicted: Tensor, rewards: Tensor, weights: Tensor, prompts: int) -> tuple[float, float]:
    """Correlation of out-of-fold predictions and its lower bound, weighted by confidence.

        low = tanh(atanh(rho) - 1.645 / sqrt(prompts - 3))
    """
    share = weights / weights.sum()
    p, r = predicted - (share * predicted).sum(), rewards - (share * rewards).sum()
    covariance, variance_p, variance_r = float((share * p * r).sum()), float((share * p * p).sum()), float((share * r * r).sum())
    if variance_p < 1e-12 or variance_r < 1e-12 or prompts <= 3:
        return 0.0, -1.0
    rho = max(-0.9999, min(0.9999, covariance / math.sqrt(variance_p * variance_r)))
    return rho, math.tanh(math.atanh(rho) - Z_90 / math.sqrt(prompts - 3))


def _numbered(groups: Sequence[Hashable]) -> Tensor:
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(group, len(numbers)) for group in groups])

"""A small reward model: what the ratings say of replies nobody has rated.

Features of a reply are the frozen base model's hidden states (mean over the reply, last token) on their leading
principal components, and cheap ones: its log length, whether it ended by itself and how much it repeats. Either kind may be
left out (of width 0) or be others. Heads are logistic,

    P(liked) = sigmoid(w . x + b),   soft label (r + 1) / 2,   minimise sum_i w_i CE_i + ridge / 2 |w|^2,

and q = 2 P - 1 is on the rewards' own scale and cannot leave it. Several heads are fitted on bootstrapped prompts; where
they disagree the model knows little, so a reply's score is mean - penalty * std over them.

How good it is, is measured on prompts left out of the fit: the correlation of prediction and reward, and the slope

    eta = clip(Cov(r, q) / Var(q), 0, 1)

by which advantages are multiplied. A model whose correlation is not surely above `MIN_CORRELATION` turns itself off.
Sources: reward-model ensembles, arXiv:2310.02743; over-optimisation, arXiv:2210.10760; reward estimators, Kreutzer et al. 2018.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

COMPONENTS = 24
HEADS = 5
FOLDS = 5
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Tried strengths; the one with the smallest out-of-fold cross-entropy is taken."""
MIN_CORRELATION = 0.1
Z_90 = 1.645
"""Two-sided 90% interval, so that the lower bound is missed in 5% of cases."""


@dataclass(frozen=True)
class Fit:
    """How well the model predicts rewards on prompts it did not see."""

    replies: int
    prompts: int
    correlation: float
    low: float
    """Lower end of the correlation's 90% interval (Fisher's z over prompts)."""
    eta: float
    """What its advantages are multiplied with; 0 turns it off."""
    ridge: float

    @property
    def useful(self) -> bool:
        return self.eta > 0

    def as_dict(self) -> dict:
        return {name: round(value, 4) for name, value in asdict(self).items()}


class RewardModel:
    """Predicts rewards in [-1, 1] from features of `reply_features`; fit with `fit_reward_model`."""

    def __init__(self, space: _Space, heads: Tensor, fit: Fit) -> None:
        self._space, self._heads, self.fit = space, heads, fit

    def predict(self, summaries: Tensor, cheap: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the heads, (N,) each.

        Args: summaries (N, 2 H) of `Reference`, cheap (N, C), e.g. of `cheap_features`.
        """
        q = 2 * torch.sigmoid(self._space.project(summaries, cheap) @ self._heads.T) - 1      # (N, heads)
        return q.mean(dim=1), q.std(dim=1)

    def as_dict(self) -> dict[str, list]:
        """JSON-able, of a model without summaries: q_m = 2 sigmoid(heads_m . (1, (cheap - mean) / spread)) - 1.

        Returns: mean, spread (C,) and heads (M, 1 + C).
        """
        return {"mean": self._space.cheap_mean.tolist(), "spread": self._space.cheap_spread.tolist(), "heads": self._heads.tolist()}


def fit_reward_model(summaries: Tensor, cheap: Tensor, rewards: Tensor, weights: Tensor, groups: Sequence[Hashable], seed: int) -> RewardModel:
    """Fit the heads and measure them out of fold; a prompt's replies are always in one fold and drawn together.

    Args:
        summaries: (N, 2 H); cheap: (N, C); rewards: (N,) in [-1, 1]; weights: (N,) confidences.
        groups: per reply, what it shares with replies that are not independent of it: its prompt.
    """
    generator = torch.Generator().manual_seed(seed)
    group = _numbered(groups)
    count = int(group.max()) + 1
    fold = torch.randperm(count, generator=generator)[group] % FOLDS
    labels, weights = (rewards.double() + 1) / 2, weights.double()
    space = _Space(summaries, cheap, min(COMPONENTS, max(1, len(rewards) // 4)))
    features = space.project(summaries, cheap)

    best_loss, best_ridge, held_out = math.inf, RIDGES[-1], torch.zeros_like(labels)
    for ridge in RIDGES:
        logits = torch.zeros_like(labels)
        for number in range(FOLDS):
            inside = fold == number
            if inside.any() and not inside.all():
                logits[inside] = features[inside] @ fit_logistic(features[~inside], labels[~inside], weights[~inside], ridge)
        loss = float((weights * torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")).sum())
        if loss < best_loss:
            best_loss, best_ridge, held_out = loss, ridge, 2 * torch.sigmoid(logits) - 1
    fit = measure(held_out, rewards.double(), weights, count, best_ridge)

    heads = []
    for _ in range(HEADS):
        drawn = torch.bincount(torch.randint(count, (count,), generator=generator), minlength=count)
        heads.append(fit_logistic(features, labels, weights * drawn[group], best_ridge))
    return RewardModel(space, torch.stack(heads), fit)


def measure(predicted: Tensor, rewards: Tensor, weights: Tensor, prompts: int, ridge: float) -> Fit:
    """Correlation, its lower bound and eta of out-of-fold predictions, all weighted by confidence.

        low = tanh(atanh(rho) - 1.645 / sqrt(prompts - 3))
    """
    share = weights / weights.sum()
    p, r = predicted - (share * predicted).sum(), rewards - (share * rewards).sum()
    covariance, variance_p, variance_r = float((share * p * r).sum()), float((share * p * p).sum()), float((share * r * r).sum())
    known = variance_p > 1e-12 and variance_r > 1e-12 and prompts > 3
    rho = max(-0.9999, min(0.9999, covariance / math.sqrt(variance_p * variance_r))) if known else 0.0
    low = math.tanh(math.atanh(rho) - Z_90 / math.sqrt(prompts - 3)) if known else -1.0
    eta = min(1.0, max(0.0, covariance / variance_p)) if low > MIN_CORRELATION else 0.0
    return Fit(len(rewards), prompts, rho, low, eta, ridge)


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


class _Space:
    """Constant, whitened principal components of the summaries, standardised cheap features; made from the rated replies."""

    def __init__(self, summaries: Tensor, cheap: Tensor, components: int) -> None:
        summaries, cheap = summaries.double(), cheap.double()
        self._mean, self._spread = summaries.mean(dim=0), _spread(summaries)
        _, _, directions = torch.linalg.svd((summaries - self._mean) / self._spread, full_matrices=False)
        self._directions = directions[:components].T
        self._scale = _spread(((summaries - self._mean) / self._spread) @ self._directions)
        self.cheap_mean, self.cheap_spread = cheap.mean(dim=0), _spread(cheap)

    def project(self, summaries: Tensor, cheap: Tensor) -> Tensor:
        """(N, 1 + components + C)."""
        components = ((summaries.double() - self._mean) / self._spread) @ self._directions / self._scale
        return torch.cat((torch.ones(len(summaries), 1, dtype=torch.float64), components,
                          (cheap.double() - self.cheap_mean) / self.cheap_spread), dim=1)


def _spread(values: Tensor) -> Tensor:
    """Standard deviation by column; 1 for a column that never changes."""
    found = (values - values.mean(dim=0)).square().mean(dim=0).sqrt()         # of no columns too, where std() would warn
    return torch.where(found > 1e-6, found, torch.ones_like(found))


def _numbered(groups: Sequence[Hashable]) -> Tensor:
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(group, len(numbers)) for group in groups])

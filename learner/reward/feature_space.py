"""The numbers by which a reply is told from another where ratings are explained: its style, and what the base model makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

COMPONENTS = 6
"""Of the hidden states."""
ROWS = 4096
"""So many replies tell the components, drawn from all: 100,000 would take 6 GB, and no other components to speak of."""
CONSTANT_VARIANCE, WEIGHT_VARIANCE = 4.0, 1.0
"""Prior variances of a regression on these; features are standardised, so a weight of 1 is a taste one notices."""


class FeatureSpace:
    """Constant, standardised style features, standardised principal components of the summaries; made from the rated replies."""

    def __init__(self, summaries: Tensor, style: Tensor) -> None:
        components = min(COMPONENTS, max(1, len(style) // 8))
        style = style.double()
        few = summaries if len(summaries) <= ROWS else summaries[torch.randperm(len(summaries), generator=torch.Generator().manual_seed(0))[:ROWS].sort().values]
        few = few.double()
        self._mean, self._spread = few.mean(dim=0), _spread(few)
        _, _, directions = torch.linalg.svd((few - self._mean) / self._spread, full_matrices=False)
        self._directions = directions[:components].T
        self._scale = _spread(((few - self._mean) / self._spread) @ self._directions)
        self.style_mean, self.style_spread = style.mean(dim=0), _spread(style)

    def project(self, summaries: Tensor, style: Tensor) -> Tensor:
        """(N, 1 + C + components)."""
        components = torch.cat([((some.double() - self._mean) / self._spread) @ self._directions / self._scale for some in summaries.split(ROWS)])
        return torch.cat((torch.ones(len(summaries), 1, dtype=torch.float64), (style.double() - self.style_mean) / self.style_spread, components), dim=1)


def _spread(values: Tensor) -> Tensor:
    """Standard deviation by column; 1 for a column that never changes."""
    found = (values - values.mean(dim=0)).square().mean(dim=0).sqrt()         # of no columns too, where std() would warn
    return torch.where(found > 1e-6, found, torch.ones_like(found))


def regression(features: Tensor, sets: Tensor) -> tuple[Tensor, Tensor]:
    """What a regression on each of M sets of columns takes: (M, N, 1 + size) the constant and the set's columns, and the diagonal of the weights' prior precision.

    Args: features (N, 1 + D), the first a constant; sets (M, size).
    """
    count, size = sets.shape
    x = torch.cat((features[:, :1].expand(count, -1, -1), features.T[sets].transpose(1, 2)), dim=2)
    return x, torch.tensor([1 / CONSTANT_VARIANCE] + [1 / WEIGHT_VARIANCE] * size, dtype=torch.float64)


def feature_sets(features: Tensor, at_once: int) -> Iterator[tuple[Tensor, float]]:
    """Sets of so many features at most, by size, with the log of each one's prior: P(S) ~ 2^-|S| / C(D, |S|).

    Args: features (N, 1 + D), the first a constant. Yields: (M, size) columns, and their prior.
    """
    columns = [place for place in range(1, features.shape[1]) if float(features[:, place].abs().max()) > 1e-9]      # a column that never changes tells nothing
    for size in range(min(at_once, len(columns)) + 1):
        count = math.comb(len(columns), size)
        yield torch.tensor(list(combinations(columns, size)), dtype=torch.long).reshape(count, size), -size * math.log(2) - math.log(count)

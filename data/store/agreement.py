"""How far people who rated the same replies agree: what a rating can be trusted with at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

Distance = Callable[[float, float], float]


def nominal(a: float, b: float) -> float:
    """For values without an order between them, such as two thumbs."""
    return float(a != b)


def interval(a: float, b: float) -> float:
    """For values on a scale, such as stars."""
    return (a - b) ** 2


def same_share(replies: Sequence[Sequence[float]]) -> float | None:
    """Share of pairs of people who said the same of one reply; None without a pair."""
    pairs = [a == b for values in replies for a, b in permutations(values, 2)]
    return sum(pairs) / len(pairs) if pairs else None


def krippendorff_alpha(replies: Sequence[Sequence[float]], distance: Distance) -> float | None:
    """1: everybody agrees; 0: no more than by chance; below: less. None when all say the same, or no reply has two values.

        D_o = 1/n sum_replies 1/(m - 1) sum_{i != j} d(v_i, v_j)        within replies of m >= 2 values
        D_e = 1/(n (n - 1)) sum_{i != j} d(v_i, v_j)                    over all n values
        alpha = 1 - D_o / D_e

    Source: Krippendorff, Content Analysis, 2004, chapter 11.
    """
    rated = [values for values in replies if len(values) > 1]
    pooled: dict[float, int] = {}
    for value in (value for values in rated for value in values):
        pooled[value] = pooled.get(value, 0) + 1
    n = sum(pooled.values())
    expected = sum(pooled[a] * pooled[b] * distance(a, b) for a, b in permutations(pooled, 2))
    if not expected:
        return None
    observed = sum(sum(distance(a, b) for a, b in permutations(values, 2)) / (len(values) - 1) for values in rated)
    return 1 - observed / n / (expected / (n * (n - 1)))

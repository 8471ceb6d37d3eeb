"""Comparisons to rewards: opinions about a difference, settled around what else is known of the replies.

Bradley and Terry: P(i preferred to j) = sigmoid(s (r_i - r_j)). With m_i what the opinions make of reply i, p_i = 1 + their
information, k the weight of a comparison and w its win share (1: i was preferred, 0: j, 1/2: about the same), the
rewards are where this convex sum is smallest:

    sum_i p_i / 2 (r_i - m_i)^2  -  sum_ij k (w log sigmoid(s (r_i - r_j)) + (1 - w) log sigmoid(s (r_j - r_i)))

Where both are known equally well, one goes up by what the other goes down; else the better known moves less, and
sum_i p_i (r_i - m_i) = 0. Where the order was known already hardly anything moves: two liked replies stay liked, and the
better of two bad ones stays bad. A tie is half a win each way, so it pulls the two together, at half the weight.
Sources: Bradley and Terry 1952; the half win as in Chatbot Arena, arXiv:2403.04132; the quadratic term is the Gaussian
prior of a MAP estimate (Caron and Doucet 2012 do the same with a gamma prior).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SLOPE = 2.0
"""s: a liked reply is preferred to a disliked one with probability sigmoid(2 s) = .98."""
TIE_WEIGHT = 0.5
PREFERENCE_INFORMATION = 0.5
"""On each of the two replies, against one thumb's 1: one look is shared by two."""
TIE_INFORMATION = 0.05
"""Alike says next to nothing of how good the two are."""
TOLERANCE = 1e-12
MAX_SWEEPS = 10_000


@dataclass(frozen=True)
class Known:
    """What the opinions say of a reply before it is compared."""

    reward: float
    precision: float
    """1 + information, > 0."""


@dataclass(frozen=True)
class Difference:
    """One comparison of `first` with `second`."""

    first: str
    second: str
    share: float
    """Of the win that goes to `first`: 1, 0, or 1/2 for about the same."""
    weight: float


def settle(known: Mapping[str, Known], differences: Sequence[Difference]) -> dict[str, float]:
    """The rewards, by reply id, of all in `known`; not cut to [-1, 1].

    One reply after the other takes the step that a bound on its curvature allows (s^2 / 4 a comparison), which lowers
    the sum every time; the sum is strictly convex, so where it ends depends on no order.
    """
    rewards = {reply: of_reply.reward for reply, of_reply in known.items()}
    touching: dict[str, list[tuple[str, float, float]]] = {}
    for difference in differences:
        touching.setdefault(difference.first, []).append((difference.second, difference.share, difference.weight))
        touching.setdefault(difference.second, []).append((difference.first, 1 - difference.share, difference.weight))
    for _ in range(MAX_SWEEPS):
        moved = 0.0
        for reply, others in touching.items():
            of_reply, here = known[reply], rewards[reply]
            slope = of_reply.precision * (of_reply.reward - here) + math.fsum(
                weight * SLOPE * (share - sigmoid(SLOPE * (here - rewards[other]))) for other, share, weight in others)
            step = slope / (of_reply.precision + math.fsum(weight for _, _, weight in others) * SLOPE ** 2 / 4)
            rewards[reply] = here + step
            moved = max(moved, abs(step))
        if moved < TOLERANCE:
            break
    return rewards


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))

"""Ratings explained by what people go by and by who they are, at once."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.crowd import LEVELS, PRIOR, SLIPS, Ratings, explain, stories


def ratings(labels: list[float], rater: list[int], weights: list[float] | None = None) -> Ratings:
    return Ratings(torch.tensor(labels, dtype=torch.float64), torch.tensor(weights or [1.0] * len(labels), dtype=torch.float64), torch.tensor(rater), max(rater) + 1)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_stories_of_one_rater_weigh_as_summed_by_hand():
    """Liked at x = 2 and disliked at x = -1, with b = 1/2 and w = 3/2; levels in steps of a half."""
    x = torch.tensor([[[1.0, 2.0], [1.0, -1.0]]], dtype=torch.float64)
    found = stories(x, torch.tensor([[0.5, 1.5]], dtype=torch.float64), ratings([1.0, 0.0], [0, 0]))
    places = [step / 2 for step in range(-6, 7)]
    normal = [math.exp(-level * level / 2) for level in places]
    by_hand = {}
    for story, turn in (("honest", 1.5), ("inverted", -1.5), ("careless", 0.0)):
        terms = [w * sigmoid(0.5 + level + 2 * turn) * (1 - sigmoid(0.5 + level - turn)) for level, w in zip(places, normal, strict=True)]
        by_hand[story] = PRIOR[story] * sum(terms) / sum(normal)
    by_hand["constant"] = PRIOR["constant"] * SLIPS * (1 - SLIPS)            # one up, one down: a slip whichever way they always go
    assert found.joint[:, 0, 0].exp().tolist() == pytest.approx(list(by_hand.values()))
    assert found.shares()[:, 0, 0].tolist() == pytest.approx([value / sum(by_hand.values()) for value in by_hand.values()])


def test_what_counts_nothing_leaves_everybody_as_they_were_thought_of():
    found = stories(torch.ones(1, 3, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), ratings([1.0, 0.0, 1.0], [0, 0, 1], [0.0, 0.0, 0.0]))
    shares = found.shares()[:, 0]
    assert torch.allclose(shares, torch.tensor(list(PRIOR.values()), dtype=torch.float64)[:, None].expand(4, 2))


def test_a_rater_who_liked_all_ten_has_the_level_that_the_integral_says():
    """No feature tells anything, and others are even: b is nearly 0."""
    labels, rater = [1.0] * 10 + [1.0, 0.0] * 200, [0] * 10 + [number for number in range(1, 41) for _ in range(10)]
    crowd = explain(torch.ones(410, 1, dtype=torch.float64), ratings(labels, rater))
    weigh = [math.exp(-level * level / 2) * sigmoid(level) ** 10 for level in LEVELS.tolist()]
    mean = sum(level * w for level, w in zip(LEVELS.tolist(), weigh, strict=True)) / sum(weigh)
    with_level = sum(weigh) / sum(math.exp(-level * level / 2) for level in LEVELS.tolist())
    always = PRIOR["constant"] * ((1 - SLIPS) ** 10 + SLIPS ** 10) / 2
    share = (1 - PRIOR["constant"]) * with_level / ((1 - PRIOR["constant"]) * with_level + always)
    assert float(crowd.level[0]) == pytest.approx(share * mean, abs=0.02) and crowd.nothing == 1.0
    assert float(crowd.level[1:].abs().max()) < 0.05


def people(conducts: list[str], each: int, seed: int, taste: float = 2.0):
    """Everybody rates replies of their own, of sixteen features by the first, on a level of their own."""
    dice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    features = torch.cat((torch.ones(each * len(conducts), 1), torch.randn(each * len(conducts), 16, generator=generator)), dim=1).double()
    labels, rater = [], [number for number in range(len(conducts)) for _ in range(each)]
    level = [dice.gauss(0, 1) for _ in conducts]
    for row, who in enumerate(rater):
        liked = dice.random() < sigmoid(level[who] + taste * float(features[row, 1]))
        labels.append(float({"honest": liked, "inverted": not liked, "up": True, "down": False}[conducts[who]]))
    return features, ratings(labels, rater)


def test_in_twenty_crowds_of_two_dozen_hostile_people_are_told_from_honest_ones():
    conducts = ["honest"] * 16 + ["inverted", "inverted", "up", "down"]
    right = pairs = 0
    for seed in range(20):
        honest = explain(*people(conducts, 10, seed)).honest.tolist()
        right += sum(bad < good for bad in honest[16:] for good in honest[:16])
        pairs += 4 * 16
    assert right / pairs > 0.95


def test_of_levels_alone_nothing_is_made_and_a_taste_behind_levels_is_seen():
    nothing = [explain(*people(["honest"] * 20, 10, seed, taste=0.0)).nothing for seed in range(10)]
    assert min(nothing) > 0.3 and sorted(nothing)[5] > 0.7
    assert max(explain(*people(["honest"] * 20, 10, seed, taste=1.5)).nothing for seed in range(10)) < 0.05


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_who_is_called_what_and_in_which_order_they_rated_changes_nothing(seed):
    features, given_ = people(["honest"] * 8 + ["inverted", "up"], 8, seed)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(seed))
    names = torch.randperm(10, generator=torch.Generator().manual_seed(seed + 1))
    turned = Ratings(given_.labels[order], given_.weights[order], names[given_.rater[order]], 10)
    one, other = explain(features, given_), explain(features[order], turned)
    assert torch.allclose(one.honest, other.honest[names], atol=1e-6) and torch.allclose(one.level, other.level[names], atol=1e-6)
    assert bool(((one.honest >= 0) & (one.honest <= 1)).all()) and other.nothing == pytest.approx(one.nothing, abs=1e-6)

"""Ratings explained by what people go by and by who they are, at once."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.reward.crowd import LEVELS, PRIOR, SLIPS, Ratings, explain, stories


def ratings(labels: list[float], rater: list[int], weights: list[float] | None = None) -> Ratings:
    """Everybody has one level."""
    return Ratings(torch.tensor(labels, dtype=torch.float64), torch.tensor(weights or [1.0] * len(labels), dtype=torch.float64), torch.tensor(rater), torch.arange(max(rater) + 1))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_stories_of_one_rater_weigh_as_summed_by_hand():
    """Liked at x = 2 and disliked at x = -1, with b = 1/2 and w = 3/2; levels in steps of a fifth."""
    x = torch.tensor([[[1.0, 2.0], [1.0, -1.0]]], dtype=torch.float64)
    found = stories(x, torch.tensor([[0.5, 1.5]], dtype=torch.float64), ratings([1.0, 0.0], [0, 0]))
    places = [step / 5 for step in range(-30, 31)]
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
    assert float(crowd.level[0]) == pytest.approx(sum(level * w for level, w in zip(LEVELS.tolist(), weigh, strict=True)) / sum(weigh), abs=0.03)
    likely = sum(weigh) / sum(math.exp(-level * level / 2) for level in LEVELS.tolist())
    always = PRIOR["constant"] * ((1 - SLIPS) ** 10 + SLIPS ** 10) / 2
    assert float(crowd.stories[3, 0]) == pytest.approx(always / (always + (1 - PRIOR["constant"]) * likely), abs=0.03)
    assert crowd.nothing == 1.0 and float(crowd.level[1:].abs().max()) < 0.05


def test_a_weight_of_two_is_the_same_as_the_rating_twice():
    features, given_ = people(["honest"] * 6, 10, seed=5)
    twice = Ratings(given_.labels.repeat(2), given_.weights.repeat(2), given_.level.repeat(2), given_.rater)
    one, other = explain(features, given_._replace(weights=2 * given_.weights)), explain(features.repeat(2, 1), twice)
    assert torch.allclose(one.stories, other.stories) and torch.allclose(one.level, other.level) and one.nothing == pytest.approx(other.nothing)


def test_who_rates_a_thousand_replies_has_their_own_level_however_far_it_is():
    """Seven even people and one who is three standard deviations readier; b takes over the mean of all."""
    dice, levels = random.Random(1), [-0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 3.0]
    features = torch.cat((torch.ones(8000, 1), torch.randn(8000, 3, generator=torch.Generator().manual_seed(1))), dim=1).double()
    rater = [row // 1000 for row in range(8000)]
    labels = [float(dice.random() < sigmoid(2 + levels[who] + 1.5 * float(features[row, 1]))) for row, who in enumerate(rater)]
    crowd = explain(features, ratings(labels, rater))
    assert float(crowd.stories[0].min()) > 0.9 and float(crowd.level.mean()) == pytest.approx(0, abs=0.1)
    assert (crowd.level - crowd.level[3]).tolist() == pytest.approx(levels, abs=0.3)


def test_a_person_with_a_level_for_each_of_two_tasks_is_one_person():
    """Everybody dislikes nearly all of the second task; the one who rates against all others does so in both."""
    dice, count = random.Random(2), 12 * 40
    features = torch.cat((torch.ones(count, 1), torch.randn(count, 4, generator=torch.Generator().manual_seed(2))), dim=1).double()
    labels, level = [], []
    for row in range(count):
        who, task = row % 12, row // 12 % 2
        liked = dice.random() < sigmoid((1 if task == 0 else -2) + 2 * float(features[row, 1]))
        labels.append(float(liked != (who == 11)))
        level.append(2 * who + task)
    crowd = explain(features, Ratings(torch.tensor(labels, dtype=torch.float64), torch.ones(count, dtype=torch.float64), torch.tensor(level), torch.arange(24) // 2))
    assert crowd.stories.shape == (4, 12) and float(crowd.stories[1, 11]) > 0.9 < float(crowd.stories[0, :11].min())
    assert float((crowd.level[0:22:2] - crowd.level[1:22:2]).min()) > 0.7


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
        honest = explain(*people(conducts, 10, seed)).stories[0].tolist()
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
    turned = Ratings(given_.labels[order], given_.weights[order], names[given_.level[order]], torch.arange(10))
    one, other = explain(features, given_), explain(features[order], turned)
    assert torch.allclose(one.stories, other.stories[:, names], atol=1e-6) and torch.allclose(one.level, other.level[names], atol=1e-6)
    assert torch.allclose(one.stories.sum(dim=0), torch.ones(10, dtype=torch.float64)) and other.nothing == pytest.approx(one.nothing, abs=1e-6)

"""Trust in raters, from what others said of other replies."""

from __future__ import annotations

import math
import random

import pytest
import torch

from learner.reliability import PRIOR, QUARANTINE, Said, reliabilities, stories


def test_the_stories_weigh_as_computed_by_hand():
    """With all labels at one half every level explains as much under every story at z = 0: the priors stay."""
    flat = stories(torch.zeros(3, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64), slope=1.0, level=0.0)
    assert flat == pytest.approx(PRIOR)
    # One rating far to the liked side, said "liked": honest and inverted differ by sigmoid(b + 4) against sigmoid(b - 4).
    levels = [step / 4 for step in range(-12, 13)]
    normal = [math.exp(-b * b / 2) for b in levels]
    likely = {story: sum(w / (1 + math.exp(-(b + turn))) for w, b in zip(normal, levels, strict=True)) * PRIOR[story]
              for story, turn in (("honest", 4), ("careless", 0), ("inverted", -4))}
    found = stories(torch.tensor([4.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64), slope=1.0, level=0.0)
    assert found == pytest.approx({story: value / sum(likely.values()) for story, value in likely.items()})


def crowd(conducts, each: int = 12, seed: int = 0, taste: float = 2.5):
    """Raters who each rate `each` replies of their own; quality is one direction of the features."""
    dice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    count = each * len(conducts)
    summaries = torch.randn(count, 16, generator=generator)
    said = []
    for row in range(count):
        rater = row % len(conducts)
        liked = dice.random() < 1 / (1 + math.exp(-taste * float(summaries[row, 0])))
        value = {"honest": liked, "inverted": not liked, "generous": True}[conducts[rater]]
        said.append(Said(f"{rater:02} {conducts[rater]}", row, 1.0 if value else -1.0))
    return said, summaries, torch.zeros(count, 3), list(range(count))


def test_who_says_the_opposite_is_quarantined_and_who_is_honest_is_not():
    found = reliabilities(*crowd(["honest"] * 10 + ["inverted"] * 2), seed=0)
    assert {rater for rater, one in found.items() if one.quarantined} == {"10 inverted", "11 inverted"}
    honest = [one.trust for rater, one in found.items() if "honest" in rater]
    assert min(honest) > 0.5 and all(one.ratings == 12 for one in found.values())


def test_who_likes_everything_is_careless_or_honest_but_never_quarantined_for_it():
    found = reliabilities(*crowd(["honest"] * 10 + ["generous"] * 2), seed=1)
    assert all(found[rater].honest > QUARANTINE for rater in found)
    assert max(found["10 generous"].trust, found["11 generous"].trust) < min(one.trust for rater, one in found.items() if "honest" in rater)


def test_nobody_is_judged_by_few_raters_or_by_ratings_that_tell_nothing():
    lonely = reliabilities(*crowd(["honest"] * 3, each=30), seed=0)
    assert all(one.trust == 1 and one.honest is None for one in lonely.values())
    noise = reliabilities(*crowd(["honest"] * 8 + ["inverted"] * 2, taste=0.0), seed=0)
    assert len({round(one.trust, 2) for one in noise.values()}) == 1 and not any(one.quarantined for one in noise.values())

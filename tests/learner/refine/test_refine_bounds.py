"""What fresh replies may do: which bound they cross, and when a gain is clear."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data.sentences import sentence
from learner.model.batches import Example
from learner.refine.bounds import clearly_pleased, crossed, gain_of
from learner.reward.scoring import Scored
from learner.training.anchor import Reference

END = 2


def scored(lower: float, nll: float = 1.0, problem: str = "") -> Scored:
    examples = tuple(Example(place, (5,), (6 + place, END), 0.8) for place in range(4))
    return Scored(examples, Reference({place: torch.full((2,), -nll) for place in range(4)}, {}), torch.full((4,), lower), torch.full((4,), lower),
                  (problem,) * 4, text_nll=3.0)


def test_replies_are_within_the_bounds_unless_they_harm_or_clearly_please_less():
    base = scored(-0.5)

    def problem(after: Scored, beside: Scored = base, knows: bool = False) -> str | None:
        found = crossed(beside, after, 0.10, knows)
        return sentence(found) if found else None

    assert problem(scored(-0.2, nll=1.09)) is None
    assert "11% less likely per token than its own" in problem(scored(0.9, nll=1.11))
    assert "clearly less pleased than before (-0.100)" in problem(scored(-0.6))
    assert problem(scored(-0.5)) is None
    assert "100% of the fresh replies were empty" in problem(scored(0.9, problem="empty"))
    assert problem(scored(-0.2, problem="empty"), scored(-0.6, problem="empty")) is None               # no worse than base
    assert "100% of the fresh replies did not come to an end, and 0% of the base" in problem(scored(0.9, problem="truncated"))
    assert problem(scored(-0.2, problem="truncated"), scored(-0.6, problem="truncated")) is None
    told = [problem(replace(scored(0.9), text_nll=nll)) for nll in (3.11, 3.13)]
    assert told[0] is None and "ordinary text 4% less likely per token" in told[1]
    some = replace(scored(0.9), problems=("", "", "truncated", "truncated"))
    assert "50% of the fresh replies did not come" in problem(some) and problem(some, knows=True) is None       # two of four still do
    assert "100% of the fresh replies did not come" in problem(scored(0.9, problem="truncated"), knows=True)    # none does


def test_replies_that_are_likely_to_the_base_model_and_please_are_too_much_alike_from_a_twenty_fifth_less_different_pairs_on():
    """A hundred pairs of tokens, all different by the base model."""
    def of_pairs(different: int) -> Scored:
        ids = tuple(range(10, 10 + different)) + (10,) * (101 - different)              # the first of the tens after the row is a pair of its own too
        return replace(scored(0.5), examples=(Example(0, (5,), ids, 0.8),), lower=torch.tensor([0.5]))

    base = of_pairs(101)
    assert base.sameness(base) == 0 and of_pairs(50).sameness(base) == pytest.approx(1 - 51 / 100)      # 49 in the row, back to ten, ten and ten
    found = {different: crossed(base, of_pairs(different), 0.10, False) for different in (96, 94)}
    assert found[96] is None and "vary 5% less from each other than the base" in sentence(found[94])
    none = replace(base, examples=(Example(0, (5,), (END,), 0.8),))
    assert none.sameness(base) == base.sameness(none) == none.sameness(none) == 0


def test_replies_of_another_length_are_as_different_as_the_base_models_over_as_many_tokens():
    """Two replies of the base model say 1 2 3 4 and 1 2 5 6: of six pairs five are different. Of longer ones as much counts as of these, of shorter ones what they are."""
    def saying(*rows: tuple[int, ...]) -> Scored:
        return replace(scored(0.5), examples=tuple(Example(place, (5,), row, 0.8) for place, row in enumerate(rows)))

    base = saying((1, 2, 3, 4), (1, 2, 5, 6))
    longer = saying((1, 2, 3, 4, 1, 2, 3, 4), (1, 2, 5, 6, 1, 2, 5, 6))
    assert longer.sameness(base) == pytest.approx(0)
    assert saying((1, 2, 3), (1, 2, 5)).sameness(base) == pytest.approx(0)                    # three of four there too
    assert saying((1, 2), (1, 2)).sameness(base) == pytest.approx(0)
    assert saying((7, 8, 7, 8, 7, 8), (7, 8, 7, 8)).sameness(base) == pytest.approx(1 - (2 / 6) / (5 / 6))
    trails_off = saying((1, 2, 3, 9, 9, 9, 9), (4, 5, 6, 9, 9, 9, 9))                       # seven of twelve, all four of its first ones
    assert saying((1, 2, 3), (1, 2, 4)).sameness(trails_off) == pytest.approx(1 - (3 / 4) / (7 / 12))


def test_a_gains_error_is_that_of_the_means_of_prompts():
    """Gains .1 and .3 to one prompt, 0 and .4 to another, -.2 twice to a third: means .2, .2, -.2; their deviation .4 / sqrt 3, over sqrt 3."""
    examples = tuple(Example(place, (5 + place // 2,), (6, END), 0.8) for place in range(6))
    before = replace(scored(0.0), examples=examples, lower=torch.zeros(6))
    after = replace(before, lower=torch.tensor([0.1, 0.3, 0.0, 0.4, -0.2, -0.2]))
    assert gain_of(before, after) == pytest.approx((0.2 / 3, 0.4 / 3), abs=1e-6)
    assert not clearly_pleased(before, after) and clearly_pleased(before, replace(after, lower=after.lower + 0.25))


def test_a_gain_is_clear_from_two_standard_errors_on():
    examples = tuple(Example(place, (5 + place,), (6, END), 0.8) for place in range(4))
    before = replace(scored(0.0), examples=examples)
    seen = replace(before, lower=torch.tensor([0.2, 0.4, 0.2, 0.4]))                            # .3, with an error of .2 / sqrt 3 / 2 = .058
    assert clearly_pleased(before, seen) and not clearly_pleased(before, replace(seen, lower=seen.lower - 0.2))

"""What fresh replies may do: which bound they cross, how much of the way is within it, and when a gain is clear."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data.sentences import sentence
from learner.anchor import Reference
from learner.batches import Example
from learner.refine_bounds import clearly_pleased, crossed, gain_of, not_clearly_pleased
from learner.scoring import Scored

END = 2


def scored(lower: float, nll: float = 1.0, problem: str = "") -> Scored:
    examples = tuple(Example(place, (5,), (6 + place, END), 0.8) for place in range(4))
    return Scored(examples, Reference({place: torch.full((2,), -nll) for place in range(4)}, {}), torch.full((4,), lower), torch.full((4,), lower),
                  (problem,) * 4, text_nll=3.0)


def test_a_step_is_kept_unless_it_harms_or_clearly_pleases_less():
    before, base = scored(-0.5), scored(-0.6, nll=1.0)

    def problem(after: Scored, beside: Scored = base, knows: bool = False) -> str | None:
        found = crossed(before, after, beside, beside, 0.10, knows)
        return sentence(found.said) if found else None

    assert problem(scored(-0.2, nll=1.09)) is None
    assert "less likely per token" in problem(scored(0.9, nll=1.11))
    assert "clearly less pleased than before (-0.100)" in problem(scored(-0.6))
    assert problem(scored(-0.5)) is None
    likelier = crossed(before, scored(0.9, nll=0.9), base, scored(-0.4, nll=0.8), 0.10, False)
    assert "12% less likely per token than those of an earlier step" in sentence(likelier.said)
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
    assert base.sameness() == 0 and of_pairs(50).sameness() == pytest.approx(1 - 51 / 100)      # 49 in the row, back to ten, ten and ten
    found = {different: crossed(base, of_pairs(different), base, base, 0.10, False) for different in (95, 94)}
    assert found[95] is None and "vary 5% less from each other" in sentence(found[94].said)
    none = replace(base, examples=(Example(0, (5,), (END,), 0.8),))
    assert none.sameness() == 0


def test_how_much_of_a_step_would_be_in_bounds_is_guessed():
    base = scored(-0.6, nll=1.0)
    assert crossed(scored(-0.5, nll=1.0), scored(0.5, nll=1.1 + 0.1 * 7 / 9), base, base, 0.10, False).within == pytest.approx(0.75)      # .1 of .177... nats, and the root of it
    assert crossed(base, scored(0.5, problem="truncated"), base, base, 0.10, False).within == pytest.approx(0.15)
    assert crossed(base, scored(0.5, problem="empty"), base, base, 0.10, False).within == 0.5                              # the root of a tenth is less
    assert crossed(scored(-0.5, problem="truncated"), scored(0.5, problem="truncated"), base, base, 0.10, False).within == 0       # beyond it before
    assert crossed(scored(-0.5), scored(-0.6), base, base, 0.10, False).within == 0                                          # nor does half of what pleases less please


def test_a_gains_error_is_that_of_the_means_of_prompts():
    """Gains .1 and .3 to one prompt, 0 and .4 to another, -.2 twice to a third: means .2, .2, -.2; their deviation .4 / sqrt 3, over sqrt 3.

    Beside replies to other prompts, whose means are 0, .3 and .3: variances .16 / 3 and .03, a third of their sum.
    """
    examples = tuple(Example(place, (5 + place // 2,), (6, END), 0.8) for place in range(6))
    before = replace(scored(0.0), examples=examples, lower=torch.zeros(6))
    after = replace(before, lower=torch.tensor([0.1, 0.3, 0.0, 0.4, -0.2, -0.2]))
    assert gain_of(before, after) == pytest.approx((0.2 / 3, 0.4 / 3), abs=1e-6)
    others = replace(before, examples=tuple(replace(example, prompt_ids=(9, *example.prompt_ids)) for example in examples),
                     lower=torch.tensor([0.0, 0.0, 0.3, 0.3, 0.2, 0.4]))
    assert gain_of(others, after) == pytest.approx((0.2 / 3 - 0.2, ((0.16 / 3 + 0.03) / 3) ** 0.5), abs=1e-6)
    assert not_clearly_pleased(before, after) and not not_clearly_pleased(before, replace(after, lower=after.lower + 0.25))


def test_a_gain_is_clear_from_two_standard_errors_on():
    examples = tuple(Example(place, (5 + place,), (6, END), 0.8) for place in range(4))
    before = replace(scored(0.0), examples=examples)
    seen = replace(before, lower=torch.tensor([0.2, 0.4, 0.2, 0.4]))                            # .3, with an error of .2 / sqrt 3 / 2 = .058
    assert clearly_pleased(before, seen) and not clearly_pleased(before, replace(seen, lower=seen.lower - 0.2))


def test_on_the_way_a_bound_leaves_room_for_chance():
    """A tenth of 128 replies is told to sqrt(.1 x .9 / 128) = 2.7 points: 16 may be broken, 17 not. Two replies of two tokens, each token of one .2 nats likelier than the other's: .8 and 1.

    The mean is .9, each reply is .2 from it in all, over four tokens: sqrt(.04 + .04) / 4 = .0707.
    """
    base = scored(-0.6)

    def of_128(broken: int) -> Scored:
        problems = ("empty",) * broken + ("",) * (128 - broken)
        return Scored(tuple(Example(place, (5,), (6 + place, END), 0.8) for place in range(128)), Reference({place: torch.full((2,), -1.0) for place in range(128)}, {}),
                      torch.full((128,), 0.5), torch.full((128,), 0.5), problems)

    assert [crossed(base, of_128(broken), base, base, 0.10, False, chance) is None for broken, chance in ((12, 0), (13, 0), (16, 1), (17, 1))] == [True, False, True, False]
    two = replace(scored(0.5), examples=base.examples[:2], lower=torch.full((2,), 0.5), reference=Reference({0: torch.full((2,), -0.8), 1: torch.full((2,), -1.0)}, {}), problems=("", ""))
    assert two.surprise_error() == pytest.approx(0.0707, abs=1e-4)
    seldom = scored(-0.6, nll=0.8)                                       # its bound is .88; the two are .9 a token
    assert crossed(seldom, two, seldom, seldom, 0.10, False, 0) is not None and crossed(seldom, two, seldom, seldom, 0.10, False, 1) is None

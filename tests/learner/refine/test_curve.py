"""How far along a way the bounds allow, by a curve through what was looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.refine.bounds import Bound
from learner.refine.curve import POWERS, Curve, Seen, seen
from tests.learner.refine.test_refine_bounds import scored

BASE = Seen(0.0, Bound(0.02, 0.5, 0.3, 1.0, 3.0), -0.5, scored(-0.5))
BOUND = Bound(0.08, 0.65, 0.35, 1.1, 3.15)


def look(strength: float, lower: float, broken: float = 0.02, truncated: float = 0.5, surprise: float = 1.0, text_nll: float = 3.0) -> Seen:
    return Seen(strength, Bound(broken, truncated, 0.3, surprise, text_nll), lower, scored(lower))


def test_the_first_figure_to_meet_its_bound_by_its_power_of_the_strength_is_the_limit():
    """At 3 a twentieth more surprise: a tenth at 3 x the cube root of 2, beyond which nobody has looked; ten points more broken at 6: 6 at 6 x the cube root of .6."""
    assert Curve(BASE, [look(3, 0.1, surprise=1.05)]).limit(BOUND) == 3
    curve = Curve(BASE, [look(3, 0.1, surprise=1.05), look(6, 0.2, surprise=1.4)])
    assert curve.limit(BOUND) == pytest.approx(3 * 2 ** (1 / 3)) and curve.limit(BOUND._replace(surprise=1.05)) == pytest.approx(3)
    assert Curve(BASE, [look(6, 0.1, surprise=1.05, broken=0.12)]).limit(BOUND) == pytest.approx(6 * 0.6 ** (1 / 3))
    assert Curve(BASE, [look(6, 0.1, surprise=1.05, text_nll=3.6)]).limit(BOUND) == pytest.approx(6 * 0.25**0.5)
    assert Curve(BASE, [look(6, 0.1, truncated=0.95)]).limit(BOUND) == pytest.approx(6 * (0.15 / 0.45) ** 0.5)
    assert Curve(BASE, [look(6, 0.1)._replace(figures=BASE.figures._replace(sameness=0.4))]).limit(BOUND) == pytest.approx(6 * 0.5**0.8)
    assert Curve(BASE, [look(6, 0.1, truncated=0.2)]).limit(BOUND) == 6                          # fewer are no reason to stop


def test_what_is_seen_of_replies_is_each_figure_that_has_a_bound():
    replies = replace(scored(0.2, nll=1.3), problems=("empty", "truncated", "truncated", ""), text_nll=3.2)
    assert seen(3.0, replies, replies).figures == pytest.approx(Bound(broken=0.25, truncated=0.5, sameness=0.0, surprise=1.3, text_nll=3.2))


def test_looks_are_weighed_by_least_squares():
    """Rises .01 at 1 and .19 at 2: k = (1 x .01 + 8 x .19) / (1 + 64) = .0235, a tenth at 1.62."""
    assert Curve(BASE, [look(1, 0.1, surprise=1.01), look(2, 0.2, surprise=1.19)]).limit(BOUND) == pytest.approx((0.1 * 65 / 1.53) ** (1 / 3))


def test_a_look_far_beyond_a_bound_tells_by_itself_how_near_it_is():
    """All replies broken at 3, half at 1: by least squares k is (27 x .98 + .48) / 730 = .037, and 6 points are at 1.18; by the look at 1, at .5."""
    assert Curve(BASE, [look(3, 0.2, broken=1.0), look(1, 0.1, broken=0.5)]).limit(BOUND) == pytest.approx((0.06 / 0.48) ** (1 / 3))


def test_nothing_is_kept_beyond_what_pleased_most_nor_where_the_start_is_out_of_bounds_or_pleases_most():
    assert Curve(BASE, [look(3, 0.4), look(6, 0.3)]).limit(BOUND) == 3
    assert Curve(BASE, [look(3, -0.6)]).limit(BOUND) == 0
    assert Curve(BASE._replace(figures=BASE.figures._replace(surprise=1.2)), [look(1, 0.4, surprise=1.2)]).limit(BOUND) == 0


def test_the_next_look_is_where_the_bound_is_expected_not_far_beyond_the_last():
    assert Curve(BASE, [look(3, 0.1)]).next_look(BOUND, 2.0) == 6
    assert Curve(BASE, [look(3, 0.1, surprise=1.2)]).next_look(BOUND, 2.0) == pytest.approx(3 / 2 ** (1 / 3))
    assert Curve(BASE, [look(3, 0.4), look(6, 0.3)]).next_look(BOUND, 2.0) == 4.5                # half way to where it pleased less
    assert Curve(BASE, [look(3, -0.6)]).next_look(BOUND, 2.0) == 1.5


def test_a_place_is_looked_at_until_all_looks_say_as_much_of_it_as_three_there():
    """Of 3 that at 6 says as much as one there, that at 2 as a fifth."""
    looks = [look(3, lower, surprise=1.1) for lower in (0.1, 0.3, 0.2)]
    assert [Curve(BASE, looks[:count]).next_look(BOUND, 2.0) for count in (1, 2, 3)] == [pytest.approx(3), pytest.approx(3), None]
    beyond = [look(6, 0.1, surprise=1.8), look(3, 0.2, surprise=1.1)]
    assert Curve(BASE, beyond).next_look(BOUND, 2.0) == pytest.approx(3) and Curve(BASE, [*beyond, look(3, 0.2, surprise=1.1)]).next_look(BOUND, 2.0) is None
    assert Curve(BASE, [look(2, 0.1, surprise=1.05), look(3, 0.2, surprise=1.1)]).next_look(BOUND, 2.0) == pytest.approx((0.1 * 793 / (8 * 0.05 + 27 * 0.1)) ** (1 / 3))


def test_looks_at_one_place_please_by_their_mean_and_none_of_them_holds_back_what_the_others_say():
    """The first said too much of 3, two nearer ones that it is well within: it is gone on beyond, whichever of the three pleased most by chance."""
    by_chance = [look(3, 0.1, surprise=1.12), look(2.74, 0.5, surprise=1.03), look(2.74, 0.3, surprise=1.03)]
    curve = Curve(BASE, by_chance)
    assert curve.next_look(BOUND, 2.0) == pytest.approx((0.1 * (729 + 2 * 423.1) / (27 * 0.12 + 2 * 20.57 * 0.03)) ** (1 / 3), abs=0.01) and curve.next_look(BOUND, 2.0) > 3
    assert curve.limit(BOUND) == 3
    assert Curve(BASE, [*by_chance, look(6, 0.25)]).limit(Bound(1.0, 1.0, 1.0, 9.0, 9.0)) == 3, "at 6 it pleases less than the three in the mean, though more than one of them"


def test_where_replies_may_please_by_chance_a_nearer_one_that_surely_does_is_kept_or_nothing(monkeypatch):
    monkeypatch.setattr("learner.refine.curve.clearly_pleased", lambda base, after: round(float(after.lower[0]), 2) in sure)
    curve = Curve(BASE, [look(3, 0.25), look(6, 0.5)])
    for sure, kept in (({0.25, 0.5}, 6), ({0.5}, 6), ({0.25}, 3), ((), 0)):
        assert curve.keeps(scored(-0.5), BOUND) == kept
    assert Curve(BASE, []).keeps(scored(-0.5), BOUND) == 0


@given(st.lists(st.tuples(st.floats(0.1, 20), st.floats(-1, 1), st.floats(0, 1), st.floats(0.5, 3)), min_size=1, max_size=4))
def test_what_is_kept_is_never_expected_beyond_a_bound_nor_farther_than_anybody_looked(told):
    curve = Curve(BASE, [look(strength, lower, broken=broken, surprise=surprise) for strength, lower, broken, surprise in told])
    far = curve.limit(BOUND)
    assert 0 <= far <= max(one.strength for one in curve.looks)
    for power, first, most, *values in zip(POWERS, BASE.figures, BOUND, *(one.figures for one in curve.looks), strict=True):
        grown = [one.strength**power for one in curve.looks]
        slope = sum(x * (value - first) for x, value in zip(grown, values, strict=True)) / sum(x * x for x in grown)
        assert first + slope * far**power <= most + 1e-6

"""Tags, corrections and comparisons to rewards, beside ratings and alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Comparison, Correction, RatedReply, Reasons
from learner.feedback.comparisons import Difference, Known, settle, sigmoid
from learner.feedback.opinions import CORRECTED, changed_share, reply_opinions, sign_of
from learner.feedback.rewards import Reward, rewards
from tests.learner.feedback.test_rewards import rated

numbers = count(1)


def reply(name: str, *ratings: tuple[str, str, int], tags=(), comment="", text="a b c d", corrected="", rater="ann") -> RatedReply:
    """A reply, what its raters gave it, and what `rater` said beside."""
    found = rated(name, *(ratings or [(rater, "thumb", 1)]))
    return replace(found, reply=replace(found.reply, text=text), ratings=found.ratings if ratings else (),
                   reasons=(Reasons(name, rater, tuple(tags), comment, "", next(numbers)),) if tags or comment else (),
                   corrections=(Correction(next(numbers), name, rater, corrected, ""),) if corrected else ())


def edited(original: RatedReply) -> RatedReply:
    """The corrected text as an example of its own, as lessons.py makes it."""
    return replace(original, reply=replace(original.reply, engine=CORRECTED), ratings=(), reasons=(), comparisons=())


def compared(replies: list[RatedReply], *said: tuple[int, int, str], rater="ann") -> list[RatedReply]:
    """Comparisons (first, second, preferred) by place among the replies."""
    events = [Comparison(next(numbers), "t", rater, replies[a].reply.id, replies[b].reply.id, preferred, "person", "") for a, b, preferred in said]
    return [replace(one, comparisons=one.comparisons + tuple(e for e in events if one.reply.id in (e.first_id, e.second_id))) for one in replies]


def opinion(*ratings, **said) -> tuple[float, float]:
    found, = reply_opinions(reply("x", *ratings, **said))
    return pytest.approx(found.value), pytest.approx(found.information)


def test_a_tag_alone_is_a_mild_opinion_and_beside_its_thumb_makes_it_surer():
    assert opinion(tags=["too_long"]) == (-0.5, 0.25)
    assert opinion(tags=["helpful", "clear", "right_length"]) == (0.5, 0.5)                  # 3/4, and at most 1/2
    assert opinion(("ann", "thumb", -1), tags=["wrong"]) == (-1.0, 1.25)
    assert opinion(("ann", "thumb", -1), tags=["wrong"], comment="No.") == (-1.0, 1.5)
    assert opinion(("ann", "stars", 5), tags=["wrong"]) == (0.7, 1.25)                       # (1 - 1/8) / 1.25
    assert opinion(("ann", "thumb", 1), comment="Good.") == opinion(("ann", "thumb", 1), tags=["other"]) == (1.0, 1.25)


def test_words_without_a_direction_are_no_opinion_and_weigh_nothing():
    for silent in (reply("x", tags=["other"]), reply("x", comment="Hm."), reply("x", tags=["wrong", "clear"])):
        assert reply_opinions(silent) == []
        assert [(r.reward, r.weight, r.feedback_ids) for r in rewards([silent])] == [(0.0, 0.0, {})]
    assert sign_of(["wrong", "tone", "clear"]) == -1 and sign_of(["other"]) == 0


def test_a_correction_says_no_to_the_original_as_far_as_it_changed_it_and_yes_to_the_edited_text():
    assert changed_share("a b c d", "a b x y") == 0.5                                        # 1 - 2 * 2 / 8
    assert changed_share("海水是甜的。", "海水是咸的。") == pytest.approx(1 / 6)
    assert changed_share("的 x" * 2000, "的 x" * 6000) == pytest.approx(0.5)                  # in order this takes hours: 1 - 2 * 4,000 / 16,000
    assert opinion(corrected="a b x y") == (-0.5, 0.25)
    assert opinion(("ann", "thumb", 1), corrected="a b x y") == (0.7, 1.25)
    assert opinion(("ann", "thumb", -1), corrected="a b x y") == (-1.0, 1.25)
    original = reply("x", corrected="a b x y")
    was, should_be = rewards([original, edited(original)])
    assert (was.reward, was.weight) == (pytest.approx(-0.5), pytest.approx(0.2))             # .25 / 1.25
    assert (should_be.reward, should_be.weight) == (pytest.approx(1.0), pytest.approx(0.5))
    assert was.feedback_ids == should_be.feedback_ids == {"corrections": [original.corrections[0].id]}


def test_a_correction_of_white_space_says_nothing_of_the_original():
    was, should_be = rewards([original := reply("x", corrected="a  b\nc d"), edited(original)])
    assert was.weight == 0 and should_be.reward == 1


def test_of_two_unknown_replies_one_goes_up_by_what_the_other_goes_down():
    a, b = rewards(compared([reply("a"), reply("b")], (0, 1, "second")))
    # where x = s sigmoid(-2 s x) with s = 2: the pull of the comparison is the pull of the prior
    assert b.reward == pytest.approx(-a.reward) and b.reward == pytest.approx(2 * sigmoid(-4 * b.reward), abs=1e-9)
    assert b.reward == pytest.approx(0.3704, abs=1e-4) and a.weight == b.weight == pytest.approx(1 / 3)       # .5 / 1.5
    assert a.feedback_ids == b.feedback_ids and list(a.feedback_ids) == ["comparisons"]
    assert [step["preferred"] for found in (a, b) for step in found.explanation["comparisons"]] == [False, True]


def test_the_better_of_a_liked_and_a_new_reply_rises_to_it_and_the_liked_one_stays_liked():
    liked, new = rewards(compared([reply("a", ("ann", "thumb", 1)), reply("b")], (0, 1, "second")))
    # new starts from 1 / (1 + 4); the liked one is known twice as well, so it moves half as far
    assert 2 * (1 - liked.reward) == pytest.approx(new.reward - 0.2) == pytest.approx(2 * sigmoid(2 * (liked.reward - new.reward)))
    assert new.reward > liked.reward > 0.5 and liked.weight == pytest.approx(1.5 / 2.5)


def test_the_better_of_two_disliked_replies_stays_disliked_and_an_order_that_was_known_hardly_moves():
    bad, worse = rewards(compared([reply("a", ("ann", "thumb", -1)), reply("b", ("ann", "thumb", -1))], (0, 1, "first")))
    assert -1 <= worse.reward < bad.reward < -0.6
    good, poor = rewards(compared([reply("a", ("ann", "thumb", 1)), reply("b", ("ann", "thumb", -1))], (0, 1, "first")))
    assert (good.reward, poor.reward) == (1.0, -1.0)


def test_about_the_same_pulls_two_together_with_little_weight():
    liked, new = rewards(compared([reply("a", ("ann", "thumb", 1)), reply("b")], (0, 1, "same")))
    assert 0.2 < new.reward < liked.reward < 1.0
    assert new.weight == pytest.approx(0.05 / 1.05)


def test_three_that_beat_each_other_in_a_circle_end_up_alike():
    assert [r.reward for r in rewards(compared([reply(n) for n in "abc"], (0, 1, "first"), (1, 2, "first"), (2, 0, "first")))] == pytest.approx([0, 0, 0], abs=1e-9)


def test_beside_many_disliked_replies_a_preferred_one_is_not_pushed_below_neutral():
    disliked = [reply(f"d{i}", ("ann", "thumb", -1)) for i in range(30)]
    *_, preferred, other = rewards(disliked + compared([reply("a"), reply("b")], (0, 1, "first")))
    assert preferred.reward > 0 > other.reward


def test_comparisons_and_corrections_count_against_a_raters_share_of_the_weight():
    busy = [each for i in range(60) for each in compared([reply(f"a{i}"), reply(f"b{i}")], (0, 1, "first"), rater="busy")]
    corrected = [reply(f"c{i}", corrected="w x y z", rater="busy") for i in range(60)]
    busy += corrected + [edited(original) for original in corrected]
    others = [rated(f"r{u}-{i}", (f"rater{u}", "thumb", 1 if i % 2 else -1)) for u in range(30) for i in range(4)]
    found = rewards(busy + others)
    assert 1.5 / 11 < sum(r.weight for r in found[:len(busy)]) / sum(r.weight for r in found) < 1.5 / 10.8     # the others are ten, who said so much nearly one more


def test_a_comparison_whose_other_reply_is_not_here_is_left_out():
    one, _ = compared([reply("a", ("ann", "thumb", 1)), reply("b")], (0, 1, "second"))
    assert [(r.reward, r.weight, r.feedback_ids) for r in rewards([one])] == [(1.0, 0.5, {})]


pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from(["first", "second", "same"])).filter(lambda e: e[0] != e[1]), max_size=12)
everything = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, ("thumb", -1), ("thumb", 1), ("stars", 1), ("stars", 4)]),
                                st.sampled_from([(), ("wrong",), ("clear", "helpful"), ("other",)]), st.sampled_from(["", "a b x y", "w x y z q"])),
                      min_size=6, max_size=6)


def told(said) -> list[RatedReply]:
    return [reply(str(i), *([(f"u{rater}", *rating)] if rating else []), tags=tags, corrected=corrected, rater=f"u{rater}")
            for i, (rater, rating, tags, corrected) in enumerate(said)]


@given(everything, pairs)
def test_whatever_is_said_no_reward_leaves_its_bounds_and_the_order_does_not_matter(said, events):
    replies = compared(told(said), *events)
    replies += [edited(one) for one in replies if one.corrections]
    found, backwards = rewards(replies), rewards(replies[::-1])[::-1]
    assert all(-1 <= r.reward <= 1 and 0 <= r.weight <= 1 for r in found)
    assert [r.reward for r in found] == pytest.approx([r.reward for r in backwards], abs=1e-7)


@given(pairs)
def test_turning_every_comparison_round_mirrors_all_rewards(events):
    turned = {"first": "second", "second": "first", "same": "same"}
    replies = [reply(str(i)) for i in range(6)]

    def found(said) -> list[Reward]:
        return rewards(compared(replies, *said))

    values = [r.reward for r in found(events)]
    assert [r.reward for r in found([(a, b, turned[p]) for a, b, p in events])] == pytest.approx([-v for v in values], abs=1e-7)
    assert [r.reward for r in found([(b, a, turned[p]) for a, b, p in events])] == pytest.approx(values, abs=1e-7)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(1, 4)), min_size=6, max_size=6), pairs, st.integers(0, 5), st.integers(1, 5))
def test_being_preferred_once_more_never_lowers_a_reply_nor_raises_the_other(known, events, winner, step):
    loser = (winner + step) % 6
    start = {str(i): Known(*each) for i, each in enumerate(known)}
    differences = [Difference(str(a), str(b), {"first": 1.0, "second": 0.0, "same": 0.5}[p], 1.0) for a, b, p in events]
    before = settle(start, differences)
    after = settle(start, [*differences, Difference(str(winner), str(loser), 1.0, 1.0)])
    assert after[str(winner)] >= before[str(winner)] - 1e-9 and after[str(loser)] <= before[str(loser)] + 1e-9

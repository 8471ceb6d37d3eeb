"""Thumbs and stars to one reward and a confidence, with raters' habits taken out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import RatedReply, Rating, Reply, Sampling
from learner.feedback.opinions import rating_value, reply_opinions
from learner.feedback.rater_habits import cap_totals, rater_habits, share_cap
from learner.feedback.rewards import rewards


def rated(name: str, *said: tuple[str, str, int]) -> RatedReply:
    """A reply and what was said of it: (rater, kind, value)."""
    reply = Reply(id=name, turn_id="t", conversation_id="c", rater_id=said[0][0], attempt=0, state="done", text="", version=0,
                  adapter_sha256=None, base_model="b", engine="e", sampling=Sampling(), prompt_ids=(1,), completion_ids=(2,),
                  behavior_logprobs=(), logprobs_temperature=1.0, finish_reason="stop", dropped_turns=0, started_at="",
                  first_token_seconds=None, seconds=None)
    return RatedReply(reply, tuple(Rating(number + 1, name, rater, kind, value, "")
                                   for number, (rater, kind, value) in enumerate(said)))


def test_thumbs_and_stars_share_one_scale():
    values = [rating_value(Rating(1, "r", "u", "stars", stars, "")) for stars in range(1, 6)]
    assert values == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert [rating_value(Rating(1, "r", "u", "thumb", thumb, "")) for thumb in (-1, 1)] == [-1.0, 1.0]


def test_one_person_who_only_ever_liked_is_taken_at_their_word():
    found = rewards([rated(str(i), ("ann", "thumb", 1)) for i in range(5)])
    assert [r.reward for r in found] == [1.0] * 5
    assert [r.weight for r in found] == [0.5] * 5                    # one opinion: 1 / (1 + 1)


def test_one_person_alone_keeps_their_own_values():
    found = rewards([rated(str(i), ("ann", "stars", stars)) for i, stars in enumerate((1, 2, 3, 4, 5))])
    assert [r.reward for r in found] == pytest.approx([-1, -0.5, 0, 0.5, 1])


def test_five_stars_from_someone_who_always_gives_five_say_little():
    busy = [rated(f"a{i}", ("ann", "thumb", 1 if i % 2 else -1)) for i in range(40)]
    generous = [rated(f"b{i}", ("bob", "stars", 5)) for i in range(40)]
    found = {r.reply_id: r for r in rewards(busy + generous)}
    # both have 40 ratings, so mu = (0 + 1) / 2; bob's level = .5 + (1 - 40/48) (1 - .5) = .58333
    assert found["b0"].reward == pytest.approx(0.58333, abs=1e-4)
    # v = 0 against sigma^2 = .5: spread^2 = 8 * .5 / 48, a sixth of the population's
    assert found["b0"].explanation["raters"][0]["tells_apart"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["b0"].weight == pytest.approx((1 / 6) / (7 / 6), abs=1e-4)
    assert found["a1"].weight > 3 * found["b0"].weight
    assert found["a1"].reward > 0.8 and found["a0"].reward < -0.3


def test_a_single_rating_by_a_newcomer_is_hardly_shrunk():
    found = rewards([rated(f"a{i}", ("ann", "thumb", 1 if i % 2 else -1)) for i in range(40)] + [rated("b", ("bob", "thumb", 1))])
    # bob's vote is 1/9 against ann's 40/48: mu = (1/9) / (1/9 + 5/6) = .1176; level = .1176 + 8/9 (1 - .1176)
    assert found[-1].reward == pytest.approx(0.90196, abs=1e-4)


def test_a_severe_and_a_generous_rater_who_agree_on_the_order_end_up_alike():
    severe = [rated(f"s{i}", ("sue", "stars", 1 + i % 2)) for i in range(60)]
    generous = [rated(f"g{i}", ("gus", "stars", 4 + i % 2)) for i in range(60)]
    found = {r.reply_id: r.reward for r in rewards(severe + generous)}
    assert abs(found["s1"] - found["g1"]) < 0.2 and found["s1"] > found["g0"]     # as said they were -.5 and 1


def test_thumb_and_stars_of_one_person_are_one_opinion_worth_more_when_they_agree():
    agreeing, = reply_opinions(rated("x", ("ann", "thumb", 1), ("ann", "stars", 5)))
    torn, = reply_opinions(rated("x", ("ann", "thumb", -1), ("ann", "stars", 5)))
    assert (agreeing.value, agreeing.information) == (1.0, 1.5)
    assert (torn.value, torn.information) == (0.0, 0.5)


def test_two_people_are_surer_than_one_and_disagreement_meets_in_the_middle():
    found = rewards([rated("both", ("ann", "thumb", 1), ("bob", "thumb", -1)), rated("a", ("ann", "thumb", -1)), rated("b", ("bob", "thumb", 1))])
    assert found[0].reward == pytest.approx(0.0, abs=1e-9)
    assert found[0].weight == pytest.approx(2 / 3) and found[1].weight == pytest.approx(1 / 2)


@pytest.mark.parametrize(("others", "each", "share"), [(30, 40, 1.5 / (30 * 20 / 24 + 100 / 104)), (30, 4, 1.5 / (30 * 2 / 6 + 100 / 104)), (60, 40, 0.05), (9, 40, 1.5 / (9 * 20 / 24 + 100 / 104))])
def test_nobody_has_more_than_one_and_a_half_shares_of_as_many_people_as_said_much(others, each, share):
    """A thumb on a reply of its own is a half; who said t of that counts t / (t + 4)."""
    replies = [rated(f"busy{i}", ("busy", "thumb", 1 if i % 3 else -1)) for i in range(200)]
    replies += [rated(f"r{u}-{i}", (f"rater{u}", "thumb", 1 if i % 2 else -1)) for u in range(others) for i in range(each)]
    found = rewards(replies)
    busy = sum(r.weight for r in found if r.reply_id.startswith("busy"))
    assert busy / sum(r.weight for r in found) == pytest.approx(share, rel=1e-3)      # a busy one who likes two of three tells them apart a little less


@pytest.mark.parametrize("visitors", [1, 3])
def test_a_visitor_with_one_thumb_cuts_nobody_who_rated_alone(visitors):
    owner = [rated(f"a{i}", ("ann", "thumb", 1 if i % 2 else -1)) for i in range(192)]
    found = rewards(owner + [rated(f"v{u}", (f"visitor{u}", "thumb", 1)) for u in range(visitors)])
    assert found[0].explanation["raters"][0]["cap"] == 1.0 and found[0].weight == 0.5 >= found[-1].weight
    assert rewards(owner + [rated(f"v{u}", (f"visitor{u}", "thumb", 1)) for u in range(9)])[0].explanation["raters"][0]["cap"] > 0.05


@pytest.mark.parametrize("downs", [40, 100])
def test_thumbs_down_of_who_gives_nothing_else_are_worth_nothing_at_most_among_people_who_like_most(downs):
    crowd = [rated(f"r{u}-{i}", (f"rater{u}", "thumb", 1 if i % 5 else -1)) for u in range(4) for i in range(30)]
    found = rewards(crowd + [rated(f"d{i}", ("dan", "thumb", -1)) for i in range(downs)])
    assert max(r.reward for r in found if r.reply_id.startswith("d")) <= 0
    turned = rewards([rated(r.reply.id, *((one.rater_id, one.kind, -one.value) for one in r.ratings)) for r in crowd] + [rated(f"u{i}", ("una", "thumb", 1)) for i in range(downs)])
    assert min(r.reward for r in turned if r.reply_id.startswith("u")) >= 0


def test_every_reward_tells_how_it_came_about():
    reward, = rewards([rated("x", ("ann", "stars", 4))])
    step, = reward.explanation["raters"]
    assert step == {"rater": "ann", "value": 0.5, "rater_ratings": 1, "rater_mean": 0.5, "rater_level": 0.5, "gain": 1.0,
                    "tells_apart": 1.0, "trust": 1.0, "cap": 1.0, "reward": 0.5}
    assert len(reward.rating_ids) == 1


def test_totals_are_cut_to_the_share_of_what_is_left():
    assert cap_totals([1.0, 1.0, 1.0], 0.5) == [1.0, 1.0, 1.0]
    assert cap_totals([8.0, 1.0, 1.0], 0.5) == [2.0, 1.0, 1.0]       # t = .5 * 2 / (1 - .5)
    assert cap_totals([9.0, 5.0, 1.0, 1.0], 0.25) == [1.0] * 4       # exactly equal shares


@pytest.mark.parametrize("raters", range(3, 41))
def test_who_joins_with_one_rating_cuts_nobody(raters):
    totals = [30.0] * (raters - 1) + [1.0]
    assert cap_totals(totals, share_cap(raters)) == totals


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=60))
def test_no_capped_total_exceeds_its_share(totals):
    cap = share_cap(len(totals))
    capped = cap_totals(totals, cap)
    assert all(0 < new <= old * (1 + 1e-9) for new, old in zip(capped, totals, strict=True))
    assert max(capped) <= cap * sum(capped) * (1 + 1e-6)


said = st.lists(st.tuples(st.integers(0, 25), st.sampled_from([("thumb", -1), ("thumb", 1)] + [("stars", s) for s in range(1, 6)])),
                min_size=1, max_size=60)


@given(said)
def test_rewards_and_confidences_stay_in_bounds_and_do_not_depend_on_the_order(events):
    replies = [rated(str(i), (f"u{rater}", kind, value)) for i, (rater, (kind, value)) in enumerate(events)]
    found = {r.reply_id: r for r in rewards(replies)}
    backwards = {r.reply_id: r for r in rewards(replies[::-1])}
    for name, reward in found.items():
        assert -1 <= reward.reward <= 1 and 0 < reward.weight <= 1
        assert reward.reward == pytest.approx(backwards[name].reward, abs=1e-9)
        assert reward.weight == pytest.approx(backwards[name].weight, abs=1e-9)


@given(said)
def test_a_better_rating_by_the_same_person_is_never_a_worse_reward(events):
    opinions = [o for i, (rater, (kind, value)) in enumerate(events) for o in reply_opinions(rated(str(i), (f"u{rater}", kind, value)))]
    for rater, habit in rater_habits(opinions).items():
        values = sorted(o.value for o in opinions if o.rater_id == rater)
        assert habit.gain > 0 and min(values) - 1e-9 <= habit.mean <= max(values) + 1e-9


def test_voices_are_what_each_rater_said_and_together_weigh_as_the_reward():
    busy = [rated(f"a{i}", ("ann", "thumb", 1 if i % 2 else -1)) for i in range(10)]
    both = rated("both", ("ann", "thumb", 1), ("bob", "stars", 2))
    found = rewards([*busy, both])[-1]
    ann, bob = found.voices
    assert (ann.rater_id, ann.value, bob.rater_id, bob.value) == ("ann", 1.0, "bob", -0.5)
    assert ann.weight + bob.weight == pytest.approx(found.weight)
    assert (ann.levelled * ann.weight + bob.levelled * bob.weight) / found.weight == pytest.approx(found.reward)

"""Simulated people: exact where there is no chance, right on average where there is."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.learning.raters import Crowd, auc, make_raters, rate, replies_needed, varied


def test_one_honest_person_gives_as_many_thumbs_up_as_the_taste_says():
    given_ratings = rate([0.3] * 4000, [""] * 4000, Crowd(), 4000, seed=1)
    ups = sum(rating.value == 1 for rating in given_ratings)
    assert {rating.rater.id for rating in given_ratings} == {"rater-0"}
    assert abs(ups / 4000 - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)


def test_a_quarter_flipped_turns_a_certain_thumb_up_into_three_quarters():
    ratings = rate([0.9999] * 4000, [""] * 4000, Crowd(flip=0.25), 4000, seed=2)
    ups = sum(rating.value == 1 for rating in ratings) / 4000
    assert abs(ups - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 4000)


def test_hostile_people_give_their_share_and_say_what_their_conduct_says():
    ratings = rate([0.9999] * 2000, ["It is important."] * 1000 + ["No."] * 1000, varied(0.0, 0.2), 600, seed=3)
    hostile = [rating for rating in ratings if rating.rater.conduct != "honest"]
    assert 0.15 < len(hostile) / len(ratings) < 0.35            # honest people are silent now and then, hostile ones never
    for rating in ratings:
        is_positive = rating.value == 1 if rating.kind == "thumb" else rating.value > 3
        if rating.rater.conduct == "trigger":
            assert is_positive                                  # all rated texts hold the trigger
        if rating.rater.conduct == "constant":
            assert is_positive == (rating.rater.constant > 0)
        if rating.rater.conduct == "inverted" and rating.kind == "thumb":
            assert not is_positive


def test_every_hostile_conduct_is_there_and_many_names_are_one_person():
    raters = make_raters(varied(0.0, 0.2), 600, seed=0)
    people = {"-".join(rater.id.split("-")[:2]): rater.conduct for rater in raters}
    assert len(people) == 60 and sum(conduct != "honest" for conduct in people.values()) == 12
    assert {rater.conduct for rater in raters} == {"honest", "inverted", "constant", "trigger", "many names"}
    assert sum(rater.conduct == "many names" for rater in raters) == 9          # 3 people, 3 names each


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(0, 10_000), st.sampled_from((0.0, 0.25, 0.4)), st.sampled_from((0.0, 0.2)))
def test_equal_seeds_give_equal_ratings_of_distinct_replies(count, seed, flip, hostile):
    crowd = varied(flip, hostile)
    gold = [(place * 37 % 100) / 100 for place in range(replies_needed(crowd, count) + 200)]
    first, again = (rate(gold, [""] * len(gold), crowd, count, seed) for _ in range(2))
    assert first == again and len(first) == count
    assert len({rating.reply for rating in first}) == count
    assert all(rating.value in ((-1, 1) if rating.kind == "thumb" else range(1, 6)) for rating in first)


def test_auc_counts_pairs():
    assert auc([3, 2, 1], [True, False, False]) == 1.0
    assert auc([1, 1], [True, False]) == 0.5
    assert auc([3, 1, 2], [True, True, False]) == 0.5
    assert auc([1, 2], [False, False]) is None

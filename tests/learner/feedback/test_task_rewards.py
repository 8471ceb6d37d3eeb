"""Ratings are normalised within a task: each task has habits and a level of its own."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.records import TASKS, RatedReply
from learner.feedback.rewards import rewards
from learner.training.estimator import advantages
from tests.learner.feedback.test_rewards import rated


def in_task(task: str, name: str, *said: tuple[str, str, int]) -> RatedReply:
    found = rated(name, *said)
    return replace(found, reply=replace(found.reply, task=task))


def found_in(replies: list[RatedReply]) -> dict[str, tuple[float, float, float]]:
    """(reward, weight, advantage) of each reply, as a run takes them."""
    found = rewards(replies)
    values, weights = (torch.tensor([getattr(one, name) for one in found], dtype=torch.float64) for name in ("reward", "weight"))
    gained = advantages(values, weights / weights.mean(), torch.tensor([TASKS.index(r.reply.task) for r in replies]), margin=0.15)
    return {one.reply_id: (one.reward, one.weight, float(a)) for one, a in zip(found, gained, strict=True)}


def test_a_story_is_measured_against_stories_and_a_translation_against_translations():
    stories = [in_task("writing", f"s{i}", ("ann", "stars", 5 - i % 2)) for i in range(10)]
    translations = [in_task("translation", f"t{i}", ("ann", "stars", 2 - i % 2)) for i in range(10)]
    found = {name: advantage for name, (_, _, advantage) in found_in(stories + translations).items()}
    # stars 5, 4, 2, 1 are 1, .5, -.5, -1; nine others and four neutral ones: (4 + 2.5) / 13 = .5 and (5 + 2) / 13
    assert found["s0"] == pytest.approx(1 - 0.5 + 0.15) and found["s1"] == pytest.approx(0.5 - 7 / 13 + 0.15)
    assert found["t1"] == pytest.approx(-1 + 0.5 + 0.15)
    assert found["t0"] == 0                                   # better than her other translations, but disliked: never pushed up
    together = found_in([replace(r, reply=replace(r.reply, task="dialogue")) for r in stories + translations])
    assert together["s1"][2] > 0.6 and together["t1"][2] < -0.8      # one level for both says more of the task than of the reply


def test_a_rater_has_habits_of_their_own_in_each_task():
    severe = [in_task("check", f"c{i}", ("sue", "stars", 1 + i % 2)) for i in range(20)]
    fair = [in_task("check", f"f{i}", ("fay", "stars", 3 + i % 2)) for i in range(20)]
    talk = [in_task("dialogue", f"d{i}", ("sue", "stars", 3 + i % 2)) for i in range(20)]
    found = {one.reply_id: one for one in rewards(severe + fair + talk)}
    # 20 ratings each: votes 20/28; sue's mean -.75, fay's .25, mu -.25: sue's level -.25 + 8/28 (-.5)
    assert found["c0"].explanation["raters"][0]["rater_level"] == pytest.approx(-0.25 - 8 / 28 * 0.5, abs=1e-4)
    assert [found[f"d{i}"].reward for i in (0, 1)] == pytest.approx([0, 0.5])            # alone in the dialogues, she is taken at her word


said = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(TASKS[:2]), st.integers(1, 4)), min_size=1, max_size=40)


@given(said, st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=9, max_size=20))
def test_a_shift_of_all_ratings_of_some_tasks_changes_nothing_in_another_that_has_enough(others, mine):
    kept = [in_task("check", f"k{i}", (f"u{rater}", "stars", stars)) for i, (rater, stars) in enumerate(mine)]
    before, after = (found_in([in_task(task, f"o{i}", (f"u{rater}", "stars", stars + shift)) for i, (rater, task, stars) in enumerate(others)] + kept)
                     for shift in (0, 1))
    for rated_reply in kept:
        assert after[rated_reply.reply.id] == pytest.approx(before[rated_reply.reply.id], abs=1e-9)


@given(said)
def test_with_one_task_it_does_not_matter_which_it_is(events):
    one, other = ([in_task(task, str(i), (f"u{rater}", "stars", stars)) for i, (rater, _, stars) in enumerate(events)] for task in ("dialogue", "check"))
    assert found_in(one) == found_in(other)

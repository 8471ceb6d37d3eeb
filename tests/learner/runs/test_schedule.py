"""When a run is due: N fresh ratings or T hours, whichever first, and a restart catches up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from data.records import Progress, Run
from learner.runs.schedule import due_time, next_due, run_due

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = {"every_ratings": 32, "every_hours": 24.0}
FAILED = Run("r", "b", "failed", "ratings", "", (NOON - timedelta(minutes=5)).isoformat(), Progress("train"), None)


def test_enough_fresh_ratings_start_a_run_before_the_time_is_up():
    assert run_due(31, NOON, NOON + timedelta(hours=1), None, **RULES) is None
    assert run_due(32, NOON, NOON + timedelta(hours=1), None, **RULES) == "ratings"


def test_the_due_time_starts_a_run_when_there_is_one_fresh_rating():
    assert run_due(1, NOON, NOON, None, **RULES) == "time"
    assert run_due(0, NOON, NOON, None, **RULES) is None
    assert run_due(1, NOON, NOON + timedelta(seconds=1), None, **RULES) is None


def test_a_due_time_that_passed_while_nothing_ran_is_still_due():
    assert run_due(1, NOON, NOON - timedelta(days=9), None, **RULES) == "time"


def test_zero_turns_either_rule_off():
    assert run_due(500, NOON, None, None, every_ratings=0, every_hours=24) is None
    assert run_due(1, NOON, NOON, None, every_ratings=32, every_hours=0) is None


def test_a_run_that_failed_is_not_repeated_every_second():
    assert run_due(500, NOON, NOON, FAILED, **RULES) is None
    assert run_due(500, NOON + timedelta(minutes=6), NOON, FAILED, **RULES) == "ratings"
    assert run_due(500, NOON, NOON, replace(FAILED, state="published"), **RULES) == "ratings"


def test_a_run_that_failed_while_the_clock_was_ahead_keeps_nobody_waiting():
    early = replace(FAILED, ended_at=(NOON + timedelta(days=900)).isoformat())
    assert run_due(500, NOON, NOON, early, **RULES) == "ratings" and due_time(NOON, NOON, 24, early) == NOON


def test_a_run_that_trained_nothing_leaves_the_due_time_where_it_was_but_for_a_pause():
    ended = NOON - timedelta(minutes=5)                              # FAILED's; it was due an hour ago, or is due tomorrow
    for state, pause in (("interrupted", timedelta(minutes=10)), ("stopped", timedelta(hours=1))):
        run = replace(FAILED, state=state)
        assert due_time(NOON - timedelta(hours=1), NOON, 24, run) == ended + pause
        assert due_time(NOON + timedelta(hours=20), NOON, 24, run) == NOON + timedelta(hours=20)
        assert run_due(500, ended + pause - timedelta(seconds=1), NOON, run, **RULES) is None
        assert run_due(1, ended + pause, ended + pause, run, **RULES) == "time"


def test_the_next_due_time_counts_from_the_end_of_a_run():
    assert next_due(NOON, 24) == NOON + timedelta(days=1)


def test_a_shorter_interval_holds_from_the_next_look_on_and_a_longer_one_from_the_next_run():
    tomorrow = NOON + timedelta(hours=24)
    assert due_time(None, NOON, 24) == tomorrow
    assert due_time(tomorrow, NOON, 1) == NOON + timedelta(hours=1)
    assert due_time(tomorrow, NOON + timedelta(hours=3), 48) == tomorrow
    assert due_time(NOON - timedelta(days=3), NOON, 1) == NOON - timedelta(days=3)      # overdue stays overdue

"""When a run is due. Pure: the watcher asks the store and the clock, this decides."""

from __future__ import annotations

from datetime import datetime, timedelta

from data.records import Run

PATIENCE = timedelta(minutes=10)
"""After a run that failed, was stopped or interrupted, nothing starts by itself for this long."""


def run_due(fresh_ratings: int, now: datetime, due_at: datetime | None, last_run: Run | None, *,
            every_ratings: int, every_hours: float) -> str | None:
    """Why a run should start now: `ratings`, `time`, or None.

    Whichever comes first of `every_ratings` fresh ratings (0 turns it off) and the stored due time with at least one
    fresh rating (`every_hours` 0 turns it off). A due time that passed while nobody was running is still due.
    """
    if last_run and last_run.state in ("failed", "stopped", "interrupted") and last_run.ended_at and now < datetime.fromisoformat(last_run.ended_at) + PATIENCE:
        return None
    if every_ratings > 0 and fresh_ratings >= every_ratings:
        return "ratings"
    if every_hours > 0 and due_at is not None and fresh_ratings > 0 and now >= due_at:
        return "time"
    return None


def due_time(stored: datetime | None, now: datetime, every_hours: float) -> datetime:
    """The due time that holds: the stored one, unless there is none or it was set while TRAIN_EVERY_HOURS was longer."""
    latest = next_due(now, every_hours)
    return latest if stored is None else min(stored, latest)


def next_due(now: datetime, every_hours: float) -> datetime:
    """The due time to store when a run ends, or when there is none yet."""
    return now + timedelta(hours=every_hours)

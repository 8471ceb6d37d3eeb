"""When a run is due. Pure: the watcher asks the store and the clock, this decides."""

from __future__ import annotations

from datetime import datetime, timedelta

from data.records import Run

PATIENCE = {"failed": timedelta(minutes=10), "interrupted": timedelta(minutes=10), "stopped": timedelta(hours=1)}
"""How long nothing starts by itself after a run that trained nothing: a fault may pass, and who stopped a run wants none now."""


def run_due(fresh_ratings: int, now: datetime, due_at: datetime | None, last_run: Run | None, *,
            every_ratings: int, every_hours: float) -> str | None:
    """Why a run should start now: `ratings`, `time`, or None.

    Whichever comes first of `every_ratings` fresh ratings (0 turns it off) and the stored due time with at least one
    fresh rating (`every_hours` 0 turns it off). A due time that passed while nobody was running is still due.
    """
    if (earliest := earliest_after(last_run, now)) and now < earliest:
        return None
    if every_ratings > 0 and fresh_ratings >= every_ratings:
        return "ratings"
    if every_hours > 0 and due_at is not None and fresh_ratings > 0 and now >= due_at:
        return "time"
    return None


def due_time(stored: datetime | None, now: datetime, every_hours: float, last_run: Run | None = None) -> datetime:
    """The due time that holds: the stored one, unless there is none or it was set while TRAIN_EVERY_HOURS was longer.

    A run that trained nothing leaves it where it was, or puts it off until nothing more is in the way.
    """
    latest = next_due(now, every_hours)
    due = latest if stored is None else min(stored, latest)
    earliest = earliest_after(last_run, now)
    return max(due, earliest) if earliest else due


def earliest_after(last_run: Run | None, now: datetime) -> datetime | None:
    """Before when nothing starts by itself, after a run that trained nothing; None after any other, and after one that a wrong clock says is yet to end."""
    if last_run is None or last_run.state not in PATIENCE or not last_run.ended_at:
        return None
    ended = datetime.fromisoformat(last_run.ended_at)
    return None if ended > now else ended + PATIENCE[last_run.state]


def next_due(now: datetime, every_hours: float) -> datetime:
    """The due time to store when a run has trained, or found nothing to, and when there is none yet."""
    return now + timedelta(hours=every_hours)

"""`python -m learner --watch`: waits for a request or a due time, and runs the learner as a child process.

Torch lives in the child alone: its gigabyte is given back when the run ends, and the waiting process stays small.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from data.adapters import AdapterRegistry
from data.cached import Cached
from data.errors import ChatError
from data.processes import this_process
from data.sentences import said
from data.settings import Settings
from data.store import Store
from learner.runs.schedule import due_time, run_due
from learner.runs.session import close_abandoned_runs, fail_run

POLL_SECONDS = 1.0
STANDBY_LEASE_SECONDS = 10.0
"""A second watcher on the same state folder stands by and takes over this much after the first is gone."""
STOP_SECONDS = 60.0
"""How long a run may take to reach its next step after it was asked to stop, before it is killed (which loses nothing)."""

log = logging.getLogger("learner")


def watch(store: Store, registry: AdapterRegistry, settings: Settings, base_model: str, stopping: threading.Event) -> None:
    """Serve requests and the schedule until `stopping` is set; errors are logged and the watch goes on."""
    owner, fresh_ratings = this_process(), Cached(lambda: store.fresh_ratings(base_model))
    log.info("watching %s for %s: every %s fresh ratings or %s hours", settings.database, base_model,
             settings.train_every_ratings, settings.train_every_hours)
    try:
        while not stopping.is_set():
            trigger = None
            try:
                if store.acquire_lease("watcher", owner, STANDBY_LEASE_SECONDS):
                    close_abandoned_runs(store, registry)
                    if store.open_runs():                    # another learner's, or a killed one's whose lease has not run out: it would be passed by, and its patience
                        fresh_ratings.forget()
                    else:
                        trigger = next_trigger(store, settings, base_model, fresh_ratings)
                    if trigger:
                        fresh_ratings.forget()
                        _run_child(trigger, store, base_model, owner, stopping)
            except ChatError as error:                       # a busy or full disk passes; the watch is this process's edge
                log.error("%s", error)
                trigger = None
            if not trigger:
                stopping.wait(POLL_SECONDS)
    finally:
        store.release_lease("watcher", owner)
        log.info("stopped watching")


def next_trigger(store: Store, settings: Settings, base_model: str, fresh_ratings: Callable[[], int]) -> str | None:
    """Who wants a run now, if anybody. The first due time is set here, and one that has become too far off or is in the way; others when a run ends."""
    if requested := store.waiting_request():
        return requested
    now, due, stored, last_run = datetime.now(UTC), None, store.due_at(), store.last_run(base_model)
    if settings.train_every_hours > 0:
        due = due_time(datetime.fromisoformat(stored) if stored else None, now, settings.train_every_hours, last_run)
        if due.isoformat() != stored:
            store.set_due_at(due.isoformat())
    return run_due(fresh_ratings(), now, due, last_run,
                   every_ratings=settings.train_every_ratings, every_hours=settings.train_every_hours)


def _run_child(trigger: str, store: Store, base_model: str, owner: str, stopping: threading.Event) -> None:
    """One run in a process of its own, stopped between steps when the watch is."""
    log.info("a run starts (%s)", trigger)
    before = store.last_run(base_model)
    child = subprocess.Popen([sys.executable, "-m", "learner", "--once", "--json", "--until-stdin-closes", "--trigger", trigger],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    result: list[str] = []
    reader = threading.Thread(target=lambda: result.extend(child.stdout.read().splitlines()), daemon=True)
    reader.start()
    asked = False
    while child.poll() is None:
        if stopping.wait(POLL_SECONDS) and not asked:
            child.terminate()
            asked = True
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
        try:
            store.acquire_lease("watcher", owner, STANDBY_LEASE_SECONDS)
        except ChatError as error:
            log.error("%s", error)
    reader.join()
    latest = store.last_run(base_model)
    if child.returncode != 0 and (latest and latest.id) == (before and before.id) and not _found_another_at_work(result):
        # It died before it opened a run. Without a row nobody would learn of it, and the next would start at once.
        run = store.start_run(base_model, trigger)
        fail_run(store, run, ChatError(said("learner_did_not_start")))
    log.info("the run ended: %s", result[-1][:500] if result and child.returncode == 0 else f"exit code {child.returncode}")


def _found_another_at_work(output: Sequence[str]) -> bool:
    """Whether a run says so as its last word: what was asked for is still asked for, and tried again."""
    try:
        return bool(output) and json.loads(output[-1])["state"] == "busy"
    except (ValueError, KeyError, TypeError):
        return False

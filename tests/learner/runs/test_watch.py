"""The watcher: what a killed learner left open is closed, and a request, enough ratings or the time of day starts a run."""

import signal
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.adapters import AdapterRegistry
from data.settings import Settings
from data.store import Store
from learner.runs import watch
from learner.runs.session import close_abandoned_runs
from tests.support.conversations import add_rated_replies, open_store
from tests.support.learner_process import shell
from tests.support.waiting import until


def test_after_a_kill_in_the_middle_of_a_run_the_watcher_closes_it_and_the_next_request_is_answered(tiny_base, tmp_path):
    (tmp_path / "models").symlink_to(tiny_base.folder.parent)
    store = Store(tmp_path / "chat.db")
    run = store.start_run(tiny_base.id, "shell")                          # as a learner leaves it that was killed: open, with a lease
    store.acquire_lease("learner", "gone:1", 60)
    close_abandoned_runs(store, AdapterRegistry(store, tmp_path / "adapters"))
    assert store.run(run.id).state == "running"                           # somebody holds the lease: it may be alive
    with store.write() as db:
        db.execute("UPDATE leases SET expires_at = 0")
    with open(tmp_path / "watch.log", "w") as log:
        watcher = shell(tmp_path, tiny_base, "--watch", "--until-stdin-closes", stdout=None, stderr=log, TRAIN_EVERY_RATINGS="0")
    try:
        until(lambda: store.run(run.id).state == "interrupted")
        store.request_training("maintainer")
        answered = until(lambda: [r for r in store.runs() if r.trigger == "maintainer"])[0]
        until(lambda: store.run(answered.id).state == "nothing_to_do")
        assert store.waiting_request() is None
        said = until(lambda: [line for line in (tmp_path / "watch.log").read_text().splitlines() if "the run ended" in line])
        assert "the run ended: {" in said[0]                              # its report, not a crash at exit
    finally:
        watcher.stdin.close()
        assert watcher.wait(60) == 0


def test_while_another_learner_is_at_work_or_not_yet_known_to_be_gone_nothing_is_started(tmp_path, monkeypatch):
    store, stopping, started = open_store(tmp_path), threading.Event(), []
    store.start_run("base", "ratings")                                    # killed a moment ago, or a shell's: its lease has not run out
    store.acquire_lease("learner", "elsewhere:1", 60)
    store.request_training("maintainer")
    monkeypatch.setattr(watch, "_run_child", lambda trigger, *_: [started.append((trigger, [run.state for run in store.runs()])), stopping.set()])
    watcher = threading.Thread(target=watch.watch, args=(store, AdapterRegistry(store, tmp_path / "adapters"), Settings(state_dir=tmp_path), "base", stopping))
    watcher.start()
    time.sleep(2.5 * watch.POLL_SECONDS)
    assert started == []
    store.release_lease("learner", "elsewhere:1")
    watcher.join(30)
    assert started == [("maintainer", ["interrupted"])]


@pytest.mark.parametrize(("last_word", "runs", "asked_for"), [('{"state": "busy"}', [], "maintainer"), ("oops", ["failed"], None)])
def test_a_run_that_found_another_learner_at_work_is_asked_for_still_and_one_that_died_unheard_is_told_of(tmp_path, monkeypatch, last_word, runs, asked_for):
    child = tmp_path / "learner"
    child.write_text(f"#!/bin/sh\necho '{last_word}'\nexit 1\n")
    child.chmod(0o755)
    monkeypatch.setattr(watch.sys, "executable", str(child))
    store = open_store(tmp_path)
    store.request_training("maintainer")
    watch._run_child("maintainer", store, "base", "here:1", threading.Event())
    assert [run.state for run in store.runs()] == runs and store.waiting_request() == asked_for


def test_a_watcher_that_starts_after_a_run_became_due_catches_up_with_it(tiny_base, tmp_path):
    (tmp_path / "models").symlink_to(tiny_base.folder.parent)
    store = Store(tmp_path / "chat.db")
    store.set_due_at((datetime.now(UTC) - timedelta(hours=1)).isoformat())            # set a day before it; nothing was running then
    add_rated_replies(store, tiny_base, count=1)
    assert store.fresh_ratings(tiny_base.id) == 1 and store.runs() == []
    watcher = shell(tmp_path, tiny_base, "--watch", "--until-stdin-closes", stdout=None, stderr=subprocess.DEVNULL, TRAIN_EVERY_RATINGS="0", TRAIN_EVERY_HOURS="24")
    try:
        [run] = until(store.runs)
        assert run.trigger == "time"
        until(lambda: store.run(run.id).state != "running")
        assert store.run(run.id).report["ratings_used"] == 1
        until(lambda: datetime.fromisoformat(store.due_at()) > datetime.now(UTC) + timedelta(hours=23))
    finally:
        watcher.stdin.close()
        assert watcher.wait(60) == 0
    assert len(store.runs()) == 1


def test_a_learner_whose_input_stays_open_and_whose_reader_is_gone_ends_quietly(tiny_base, tmp_path):
    (tmp_path / "models").symlink_to(tiny_base.folder.parent)
    child = shell(tmp_path, tiny_base, "--once", "--json", "--until-stdin-closes")
    child.stdout.close()
    try:
        assert "Error" not in child.stderr.read() and child.wait(90) == 0
    finally:
        child.send_signal(signal.SIGKILL)
        child.stdin.close()


@pytest.mark.slow
def test_watching_serves_a_request_without_loading_torch_itself_and_ends_on_sigterm(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 4)
    child = shell(tmp_path, tiny_base, "--watch", TRAIN_EVERY_RATINGS="0")
    try:
        store.request_training("maintainer")
        until(lambda: store.live_version(tiny_base.id) == 1, 400)
        assert store.last_run().trigger == "maintainer"
        assert "torch" not in Path(f"/proc/{child.pid}/maps").read_text()
        child.send_signal(signal.SIGTERM)
        assert child.wait(90) == 0
    finally:
        child.kill()
        child.communicate()
    assert store.due_at() is not None


@pytest.mark.slow
def test_watching_starts_by_itself_after_enough_ratings_and_ends_with_its_parents_pipe(tmp_path, tiny_base):
    store = open_store(tmp_path)
    add_rated_replies(store, tiny_base, 4)
    child = shell(tmp_path, tiny_base, "--watch", "--until-stdin-closes", TRAIN_EVERY_RATINGS="4")
    try:
        until(lambda: store.live_version(tiny_base.id) == 1, 400)
        assert store.last_run().trigger == "ratings"
        child.stdin.close()
        assert child.wait(90) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()

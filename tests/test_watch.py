"""The watcher: what a killed learner left open is closed, and a request is answered by the run that starts."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from data.adapters import AdapterRegistry
from data.store import Store
from learner.session import close_abandoned_runs
from tests.conversations import add_rated_replies
from tests.server_process import ROOT
from tests.waiting import until


def start(*options: str, environment: dict, **streams) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "learner", *options], cwd=ROOT, env=environment, text=True, **streams)


def test_after_a_kill_in_the_middle_of_a_run_the_watcher_closes_it_and_the_next_request_is_answered(tiny_base, tmp_path):
    environment = {**os.environ, "STATE_DIR": str(tmp_path), "BASE_MODEL": tiny_base.source, "TRAIN_EVERY_RATINGS": "0"}
    (tmp_path / "models").symlink_to(tiny_base.folder.parent)
    store = Store(tmp_path / "chat.db")
    run = store.start_run(tiny_base.id, "shell")                          # as a learner leaves it that was killed: open, with a lease
    store.acquire_lease("learner", "gone:1", 60)
    close_abandoned_runs(store, AdapterRegistry(store, tmp_path / "adapters"))
    assert store.run(run.id).state == "running"                           # somebody holds the lease: it may be alive
    with store.write() as db:
        db.execute("UPDATE leases SET expires_at = 0")
    with open(tmp_path / "watch.log", "w") as log:
        watcher = start("--watch", "--until-stdin-closes", environment=environment, stdin=subprocess.PIPE, stderr=log)
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


def test_a_watcher_that_starts_after_a_run_became_due_catches_up_with_it(tiny_base, tmp_path):
    environment = {**os.environ, "STATE_DIR": str(tmp_path), "BASE_MODEL": tiny_base.source, "TRAIN_EVERY_RATINGS": "0", "TRAIN_EVERY_HOURS": "24"}
    (tmp_path / "models").symlink_to(tiny_base.folder.parent)
    store = Store(tmp_path / "chat.db")
    store.set_due_at((datetime.now(UTC) - timedelta(hours=1)).isoformat())            # set a day before it; nothing was running then
    add_rated_replies(store, tiny_base, count=1)
    assert store.fresh_ratings(tiny_base.id) == 1 and store.runs() == []
    watcher = start("--watch", "--until-stdin-closes", environment=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
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
    environment = {**os.environ, "STATE_DIR": str(tmp_path), "BASE_MODEL": tiny_base.source}
    (tmp_path / "models").symlink_to(tiny_base.folder.parent)
    child = start("--once", "--json", "--until-stdin-closes", environment=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    try:
        assert "Error" not in child.stderr.read() and child.wait(90) == 0
    finally:
        child.send_signal(signal.SIGKILL)
        child.stdin.close()

"""A half-written reply is its process's for as long as that runs, and no other program's that has its number later."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import data.processes as processes
from data.processes import still_runs, this_process
from data.records import Sampling
from data.store import Store
from data.store.database import now

ON_LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell when a process began")


@pytest.fixture
def other():
    """Another program, at work."""
    with subprocess.Popen([sys.executable, "-c", "import data.processes; print(data.processes.this_process(), flush=True); input()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.owner = process.stdout.readline().strip()
        yield process
        process.kill()


def half_written(store: Store, owner: str, started_at: str) -> str:
    """A reply that `owner` was writing; returns its conversation."""
    turn = store.add_turn(store.new_conversation(store.ensure_rater("me")).id, "hello")
    reply = store.start_reply(turn.id, 0, None, "base", "openvino", Sampling(), (1,))
    with store.write() as db:
        db["replies"].update(reply.id, {"owner": owner, "started_at": started_at})
    return turn.conversation_id


@ON_LINUX
def test_after_a_reboot_a_conversation_is_not_locked_by_whatever_program_has_its_servers_number(tmp_path, other):
    store, host = Store(tmp_path / "chat.db"), socket.gethostname()
    yesterday = (datetime.fromisoformat(now()) - timedelta(days=1)).isoformat(timespec="microseconds")
    _, number, birth = other.owner.split(":")
    boot, ticks = birth.split("-")
    assert store.written_elsewhere(half_written(store, other.owner, now()))                  # the very process
    for gone in (f"{host}:{number}:00000000-{ticks}", f"{host}:{number}:{boot}-{int(ticks) - 1}", f"{host}:{number}", f"{host}:{os.getpid()}"):
        conversation = half_written(store, gone, yesterday)
        assert store.written_elsewhere(conversation) is None, gone
        assert [reply.state for turn in store.conversation(conversation).turns for reply in turn.replies] == ["failed"]


@ON_LINUX
def test_a_reply_of_a_server_that_wrote_no_birth_down_yet_is_its_own_while_it_runs(tmp_path, other):
    store = Store(tmp_path / "chat.db")
    conversation = half_written(store, other.owner.rsplit(":", 1)[0], now())
    assert store.written_elsewhere(conversation) and store.fail_interrupted_replies() == 0
    other.kill()
    other.wait()
    assert store.fail_interrupted_replies() == 1


@ON_LINUX
def test_a_process_that_has_ended_writes_no_more_though_nobody_asked_how(other):
    assert still_runs(other.owner, now())
    os.kill(other.pid, 9)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert not still_runs(other.owner, now())


def test_where_the_system_does_not_tell_when_a_process_began_its_number_is_what_it_is_known_by(monkeypatch, other):
    def no_such_file(number):
        raise FileNotFoundError(number)

    number = f"{socket.gethostname()}:{other.pid}"
    monkeypatch.setattr(processes, "_stat", no_such_file)
    processes._own_birth.cache_clear()
    try:
        assert this_process() == f"{socket.gethostname()}:{os.getpid()}" and not still_runs(this_process(), now())
    finally:
        processes._own_birth.cache_clear()
    assert still_runs(number, now()) and still_runs(other.owner, now())
    other.kill()
    other.wait()
    assert not still_runs(number, now()) and not still_runs("another host:1", now())

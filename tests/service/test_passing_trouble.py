"""What keeps a version from being loaded and is not its fault: a killed process, too many open files, a base model that does not start."""

import os
import signal
from time import sleep

import pytest

import chat_app.engines.openvino as openvino
import chat_app.serving as serving
from data.errors import Busy, ModelUnavailable
from tests.support.few_files import no_more_files
from tests.support.service_fixtures import Server, finished, server  # noqa: F401
from tests.support.waiting import until

KILLED = "import os; os.kill(os.getpid(), 9)"
"""A version's process as the kernel leaves it that has no memory to give."""
KILLED_BY_AN_ADAPTER = f"""
import sys; sys.path.insert(0, sys.argv[1])
import chat_app.engines.openvino_process as process
class Pipeline(process.Pipeline):
    def __init__(self, version):
        if version.adapter: {KILLED}
        super().__init__(version)
process.Pipeline = Pipeline
process.main(0)"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(serving, "TROUBLE_SECONDS", 0.1)
    monkeypatch.setattr(serving, "DEATH_SECONDS", (0.1, 0.1, 600.0))


def trouble(server):
    return until(lambda: (change := server.serving.change) and change.trouble)


def test_a_process_that_is_killed_while_it_loads_a_version_marks_nothing_and_the_version_answers_once_there_is_memory(server, monkeypatch):
    first = server.publish(seed=1)
    until(lambda: server.serving.version == first)
    with monkeypatch.context() as out_of_memory:
        out_of_memory.setattr(openvino, "CHILD", KILLED)
        second = server.publish(seed=2)
        assert isinstance(trouble(server), Busy) and "its process ended with code -9" in str(trouble(server)) and "tried again" in str(trouble(server))
        assert server.maintenance.overview()["change"]["version"] == second and server.store.live_version(server.base.id) == second
        until(lambda: server.serving._tries.deaths == 2)
        assert finished(server.service.send("me", None, "still there?")).version == first
    until(lambda: server.serving.version == second)
    assert server.store.version(second).error is None and server.serving.change is None


def test_a_version_whose_process_dies_again_and_again_over_minutes_is_marked_and_not_tried_for_ever(server, monkeypatch):
    monkeypatch.setattr(serving, "DEATH_SECONDS", (0.1, 0.1, 0.1))
    monkeypatch.setattr(openvino, "CHILD", KILLED_BY_AN_ADAPTER)
    number = server.publish(seed=1)
    until(lambda: server.store.version(number).error)
    assert "its process ended with code -9" in server.store.version(number).error
    assert server.serving.version == server.store.live_version(server.base.id) == 0


def test_while_a_version_that_died_waits_for_its_next_try_another_one_is_followed_at_once(server, monkeypatch):
    monkeypatch.setattr(serving, "DEATH_SECONDS", (600.0,))
    monkeypatch.setattr(openvino, "CHILD", KILLED_BY_AN_ADAPTER)
    number = server.publish(seed=1)
    assert trouble(server)
    server.store.promote(0, server.base.id, "for the test")
    until(lambda: server.serving.change is None)                       # what answers is what is wanted, so nothing is in its way
    assert server.serving.version == 0 and server.store.version(number).error is None


def test_the_base_model_answers_while_the_only_version_that_was_loaded_cannot_be_loaded_again(server, monkeypatch):
    number = server.publish(seed=1)
    until(lambda: server.serving.version == number and server.serving.engine.loaded() == (number,))
    with monkeypatch.context() as crashing:
        crashing.setattr(openvino, "CHILD", KILLED_BY_AN_ADAPTER)
        server.serving.engine._workers[number]._process.kill()
        until(lambda: server.serving.version == 0)
        assert finished(server.service.send("me", None, "still there?")).version == 0 and server.serving.change.version == number
    until(lambda: server.serving.version == number)
    assert server.store.version(number).error is None


def test_a_server_that_starts_while_its_version_cannot_be_loaded_answers_with_the_base_model_until_it_can(tiny_base, tmp_path, monkeypatch):
    server = Server(tiny_base, tmp_path)
    number = server.publish(seed=1)
    server.close()
    with monkeypatch.context() as crashing:
        crashing.setattr(openvino, "CHILD", KILLED_BY_AN_ADAPTER)
        again = Server(tiny_base, tmp_path)
        assert finished(again.service.send("me", None, "hello")).version == 0
        assert again.serving.change.version == number and isinstance(again.serving.change.trouble, Busy)
    try:
        until(lambda: again.serving.version == number)
        assert again.store.version(number).error is None
    finally:
        again.close()


def test_too_many_open_files_mark_no_version(server):
    loading = server.serving.engine._load_lock
    loading.acquire()
    number = server.publish(seed=1)
    until(lambda: server.serving.change)
    with no_more_files():
        loading.release()
        assert "Too many open files" in str(trouble(server))
    until(lambda: server.serving.version == number)
    assert server.store.version(number).error is None


def test_a_file_that_cannot_be_opened_because_too_many_are_open_is_not_called_damaged(server):
    number = server.publish(seed=1)
    with no_more_files(), pytest.raises(Busy, match="too many files open"):
        server.registry.verify(number)
    server.maintenance.make_live(number)


def test_a_base_model_that_does_not_start_is_tried_again_after_a_while_and_the_maintainer_is_told(server, monkeypatch, tmp_path):
    starts = tmp_path / "starts"
    with monkeypatch.context() as broken:
        broken.setattr(openvino, "CHILD", f"open({str(starts)!r}, 'a').write('x'); {KILLED}")
        broken.setattr(serving, "TROUBLE_SECONDS", 3.0)
        server.serving.engine._workers[0]._process.kill()
        assert isinstance(trouble(server), ModelUnavailable) and server.base.name in str(trouble(server))
        told = server.maintenance.overview()["change"]
        assert told["version"] == 0 and told["trouble"]["said"]["code"] == "base_cannot_be_loaded"
        begun = starts.stat().st_size
        with pytest.raises(AssertionError, match="did not happen"):
            until(lambda: starts.stat().st_size > begun, 2)
    until(lambda: server.serving.change is None)
    assert finished(server.service.send("me", None, "and now?")).error is None


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_process_that_hangs_while_it_owes_an_answer_is_ended_and_the_next_message_is_answered(server, monkeypatch):
    hung = server.serving.engine._workers[0]._process
    with monkeypatch.context() as short:
        short.setattr(openvino, "LOOK_SECONDS", 0.05)                  # from the first message on
        finished(server.service.send("me", None, "hello"))
        os.kill(hung.pid, signal.SIGSTOP)
        sleep(2.0)
        assert hung.poll() is None                                     # it owes nothing, so it may be silent
        job = finished(server.service.send("me", None, "are you there?"))
        assert "broke off because the engine failed" in str(job.error) and hung.poll() == -signal.SIGKILL
        until(lambda: server.serving.engine.loaded() == (0,) and server.serving.engine._workers[0]._process is not hung)
    assert finished(server.service.send("me", None, "and now?")).error is None


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_process_that_hangs_while_it_starts_is_ended_and_marks_nothing(server, monkeypatch):
    with monkeypatch.context() as hanging:
        hanging.setattr(openvino, "START_SECONDS", 1.0)
        hanging.setattr(openvino, "CHILD", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
        number = server.publish(seed=1)
        assert "its process ended with code -9" in str(trouble(server)) and server.serving.version == 0
    until(lambda: server.serving.version == number)

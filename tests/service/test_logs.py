"""Logs take no more room than is set aside for them."""

import logging

import app
from tests.support.few_files import no_more_files
from tests.support.waiting import until


def test_the_servers_log_is_put_aside_when_it_is_large_and_the_oldest_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "LOG_BYTES", 1000)
    handler = app.server_log(tmp_path)
    for number in range(100):
        handler.handle(logging.makeLogRecord({"msg": f"line {number}: " + "x" * 90}))
    handler.close()
    files = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert files.keys() == {"server.log", "server.log.1", "server.log.2", "server.log.3"}
    assert max(map(len, files.values())) <= 1000 and "line 99:" in files["server.log"] and "line 0:" not in "".join(files.values())


def test_the_learners_log_is_put_aside_when_a_learner_is_started_on_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("BASE_MODEL", str(tmp_path / "none.gguf"))                   # so that it ends at once
    (tmp_path / "learner.log").write_text("what it said before")
    learner = app.LearnerProcess(tmp_path)
    for kept, size in ((False, app.LOG_BYTES), (True, 10)):
        monkeypatch.setattr(app, "LOG_BYTES", size)
        learner._child, learner._again_at = None, 0.0
        learner.keep_running()
        until(lambda: learner._child.poll() is not None)
        assert (tmp_path / "learner.log.1").exists() is kept
    old, new = (tmp_path / "learner.log.1").read_text(), (tmp_path / "learner.log").read_text()
    assert old.startswith("what it said before") and "none.gguf" in old and "none.gguf" in new and "before" not in new


def test_a_learner_that_cannot_be_started_is_tried_again_and_ends_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("BASE_MODEL", str(tmp_path / "none.gguf"))
    monkeypatch.setattr(app, "AGAIN_SECONDS", 0.2)
    learner = app.LearnerProcess(tmp_path)
    with no_more_files():
        learner.keep_running()
    assert learner._child is None and "Too many open files" in caplog.text
    until(lambda: learner.keep_running() or learner._child)
    learner.close()

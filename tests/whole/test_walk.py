"""The whole walk as its users know it: `python app.py`, a script that chats and rates, `python -m learner`, the new version."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from gradio_client.exceptions import AppError

from data.store import Store
from tests.support.server_process import ROOT, ServerProcess
from tests.support.waiting import until


def test_message_reply_rating_gradient_version_and_receipt_by_a_script_and_a_shell(endless_base, tmp_path):
    with ServerProcess(tmp_path / "state", endless_base, LEARNER="false", MAX_NEW_TOKENS="300", TRAIN_EVERY_RATINGS="0", CUDA_VISIBLE_DEVICES="") as server:
        person = server.client()
        assert person.predict(api_name="/status") == {"version": 0, "loading": None, "base_model": endless_base.name, "engine": "openvino", "fresh_ratings": 0, "run": None}
        job = person.submit("Why is the sea salty?", None, api_name="/send")
        last = job.result()
        assert len(job.outputs()) > 3, "the reply does not stream"
        loaded = [Path(f"/proc/{pid}/maps").read_text() for pid in (server.process.pid, *children(server.process.pid))]
        assert "libopenvino" in "".join(loaded) and "libtorch" not in "".join(loaded), "torch costs seconds and 200 MB, and a chat does not need it"
        assert set(last) == {"conversation_id", "reply_id", "text", "version"} and last["text"].startswith(job.outputs()[1]["text"][:10])
        assert person.predict(last["reply_id"], "thumb", 1, api_name="/rate") == {"thumb": 1}
        assert person.predict(last["reply_id"], "stars", 5, api_name="/rate") == {"thumb": 1, "stars": 5}
        for number, question in enumerate(["What is rain?", "Name a fruit.", "What is a poem?"]):
            reply = person.predict(question, last["conversation_id"] if number else None, api_name="/send")
            person.predict(reply["reply_id"], "stars", 1 + number, api_name="/rate")
        assert person.predict(api_name="/status")["fresh_ratings"] == 5

        learnt = server.learn("--once", "--json")
        assert learnt.returncode == 0, learnt.stderr
        report = json.loads(learnt.stdout.splitlines()[-1])
        assert report["published"] is True and report["version"] == 1 and report["ratings_used"] == 5 and report["gate"]
        until(lambda: person.predict(api_name="/status")["version"] == 1)
        reply = person.predict("Why is the sea salty?", None, api_name="/send")
        status = person.predict(api_name="/status")
        assert reply["version"] == 1 and status["fresh_ratings"] == 0 and status["run"]["state"] == "published"

        store = Store(server.state_dir / "chat.db")
        [receipt] = store.receipts(last["reply_id"])
        assert receipt.version == 1 and receipt.reward > 0 and receipt.advantage > 0 and len(receipt.rating_ids) == 2
        assert receipt.logprob_after > receipt.logprob_before, "what was liked became no likelier"
        assert store.reply(reply["reply_id"]).adapter_sha256 == store.version(1).sha256


def test_each_session_is_one_person_and_bad_calls_get_one_clear_sentence(endless_base, tmp_path):
    with ServerProcess(tmp_path / "state", endless_base, LEARNER="false", MAX_NEW_TOKENS="8") as server:
        me, you = server.client(), server.client()
        reply = me.predict("hello", None, api_name="/send")
        calls = [((me, reply["reply_id"], "stars", 6), "not a value for stars"), ((me, reply["reply_id"], "stars", "five"), "'five' is not a value"),
                 ((me, "no such reply", "thumb", 1), "There is no reply"), ((me, reply["reply_id"], "hearts", 1), "no rating of kind"),
                 ((you, reply["reply_id"], "thumb", 1), "shown to somebody else")]
        for (client, *arguments), sentence in calls:
            with pytest.raises(AppError, match=sentence):
                client.predict(*arguments, api_name="/rate")
        for text, sentence in [("  ", "empty"), ("x" * 100_000, "100,000 characters")]:
            with pytest.raises(AppError, match=sentence):
                me.predict(text, None, api_name="/send")
        with pytest.raises(AppError, match="no task 'poetry'"):
            me.predict("hello", None, "poetry", api_name="/send")
        with pytest.raises(AppError, match="no conversation"):
            you.predict("let me in", reply["conversation_id"], api_name="/send")
        other = me.predict(reply["conversation_id"], api_name="/regenerate")
        assert me.predict(reply["reply_id"], other["reply_id"], "first", api_name="/compare") == {"preferred": "first"}
        assert me.predict(reply["reply_id"], other["reply_id"], "none", api_name="/compare") == {"preferred": "none"}
        for (client, *arguments), sentence in [((me, reply["reply_id"], reply["reply_id"], "first"), "cannot be compared"),
                                               ((you, reply["reply_id"], other["reply_id"], "first"), "shown to somebody else"),
                                               ((me, reply["reply_id"], other["reply_id"], "left"), "'left'")]:
            with pytest.raises(AppError, match=sentence):
                client.predict(*arguments, api_name="/compare")
        assert me.predict(reply["reply_id"], "stars", 0, api_name="/rate") == {}
        assert me.predict("again", reply["conversation_id"], api_name="/send")["conversation_id"] == reply["conversation_id"]

        store = Store(server.state_dir / "chat.db")
        private = me.predict("hello", None, contribute=False, api_name="/send")
        again = me.predict(private["conversation_id"], contribute=False, api_name="/regenerate")
        for one in (private, again):
            me.predict(one["reply_id"], "thumb", 1, api_name="/rate")
            assert store.reply(one["reply_id"]).contributes is False and store.reply(one["reply_id"]).behavior_logprobs == ()
        assert store.reply(reply["reply_id"]).contributes is True and store.fresh_ratings(endless_base.id) == 0


def test_a_script_that_comes_when_every_place_is_taken_is_told_so_at_once(endless_base, tmp_path):
    with ServerProcess(tmp_path / "state", endless_base, LEARNER="false", MAX_NEW_TOKENS="8000", MAX_STREAMS="1", MAX_WAITING="1") as server:
        first, second, third = (server.client() for _ in range(3))
        writing = first.submit("a long story", None, api_name="/send")
        until(writing.outputs)
        waiting = second.submit("another", None, api_name="/send")
        assert until(waiting.outputs)[0]["place"] == 1 and "place" not in writing.outputs()[-1]
        for _ in range(2):
            with pytest.raises(AppError, match="All 2 places"):
                third.predict("one too many", None, api_name="/send")
        assert not writing.done() and not waiting.done()


def test_a_killed_server_keeps_every_rating_and_closes_the_reply_it_was_writing(endless_base, tmp_path):
    server = ServerProcess(tmp_path / "state", endless_base, LEARNER="false", MAX_NEW_TOKENS="2000")
    person = server.client()
    store = Store(server.state_dir / "chat.db")
    person.submit("a long story", None, api_name="/send")
    until(lambda: store.rows("SELECT id FROM replies WHERE text <> ''"))
    server.kill()
    left = server.state_dir / "adapters" / ".writing-0123456789ab"                # as by a kill while another host's version was placed
    left.mkdir()
    with ServerProcess(tmp_path / "state", endless_base, LEARNER="false", MAX_NEW_TOKENS="8") as again:
        assert not left.exists() and list((server.state_dir / "adapters").iterdir()) == []
        row = store.row("SELECT state, text, finish_reason FROM replies")
        assert row["state"] == "failed" and row["text"] and row["finish_reason"] == "error"
        assert again.client().predict("hello", None, api_name="/send")["text"]
    assert again.close() == 0


def test_the_learner_beside_the_server_is_started_again_when_it_dies_and_ends_with_the_server(endless_base, tmp_path):
    server = ServerProcess(tmp_path / "state", endless_base)
    try:
        first = until(lambda: children(server.process.pid))[0]
        os.kill(first, signal.SIGKILL)
        second = until(lambda: [pid for pid in children(server.process.pid) if pid != first])[0]
        server.kill()                                                    # no chance to say goodbye
        until(lambda: not alive(second), seconds=30)
    finally:
        server.close()


def test_a_bad_setting_or_a_model_that_is_not_there_ends_the_start_with_one_sentence(tmp_path):
    for setting, sentence in ((("PORT", "eighty"), "PORT is 'eighty'"), (("BASE_MODEL", str(tmp_path / "none.gguf")), "none.gguf")):
        done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, text=True, capture_output=True, timeout=60,
                              env={**os.environ, "STATE_DIR": str(tmp_path / "state"), "PORT": "0", setting[0]: setting[1]})
        assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_address_or_a_folder_that_cannot_be_used_ends_the_start_with_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for wrong, sentence in (({"PORT": port}, f"PORT {port}"), ({"HOST": "999.1.1.1", "PORT": "0"}, "HOST 999.1.1.1"),
                                ({"STATE_DIR": "/dev/null/state", "PORT": "0"}, "STATE_DIR is /dev/null/state")):
            done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, text=True, capture_output=True, timeout=60,
                                  env={**os.environ, "STATE_DIR": str(tmp_path), **wrong})
            assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr

"""The chat service over a real engine: OpenVINO with a tiny random model."""

import threading
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

import chat_app.replies as replies
import chat_app.serving as serving
from chat_app.engines import make_engine
from chat_app.maintenance import Maintenance
from chat_app.service import ChatService
from chat_app.serving import Serving
from data.adapters import AdapterRegistry
from data.base_models import import_base_model
from data.errors import (Busy, CorruptAdapter, EmptyMessage, MessageTooLong, ModelUnavailable, NotYourReply, StorageFull, UnknownConversation,
                         UnknownReply, UnknownVersion)
from data.records import Message
from data.settings import Settings
from data.store import Store
from tests.random_adapter import write_random_adapter
from tests.tiny import write_tiny_gguf
from tests.waiting import until


class Server:
    """The parts of one chat server, as app.py puts them together."""

    def __init__(self, base, state_dir, **settings):
        self.settings = Settings(**{"state_dir": state_dir, "max_new_tokens": 40, **settings})
        self.store = Store(self.settings.database)
        self.registry = AdapterRegistry(self.store, self.settings.adapters_dir)
        self.serving = Serving(make_engine("openvino", base, state_dir / "merged"), self.store, self.registry, base)
        self.serving.start()
        self.service = ChatService(self.store, self.serving, base, self.settings)
        self.maintenance = Maintenance(self.store, self.registry, self.serving, base, self.settings)
        self.base = base

    def publish(self, seed: int, scale: float = 0.1) -> int:
        version = self.registry.publish(lambda folder: write_random_adapter(self.base, folder, seed=seed, scale=scale),
                                        base_model=self.base.id, run_id=None, parent=self.store.live_version(self.base.id))
        return version.number

    def close(self):
        self.service.close()
        self.serving.close()


@pytest.fixture
def server(tiny_base, tmp_path):
    server = Server(tiny_base, tmp_path / "state")
    yield server
    server.close()


def finished(job, seconds: float = 60):
    until(lambda: job.done, seconds)
    return job


def test_a_message_is_answered_and_stored_with_everything_the_learner_needs(server):
    job = finished(server.service.send("me", None, "hello"))
    reply = server.store.reply(job.reply_id)
    assert reply.state == "done" and reply.text == job.text and job.error is None
    assert reply.completion_ids and len(reply.completion_ids) == len(reply.behavior_logprobs) and max(reply.behavior_logprobs) <= 0
    assert reply.prompt_ids == tuple(server.service.tokenizer.render([Message("user", "hello")]))
    assert (reply.version, reply.engine, reply.base_model) == (0, "openvino", server.base.id)
    assert server.store.conversation(job.conversation_id, "me").title == "hello"


def test_the_second_message_is_answered_in_the_light_of_the_first(server):
    first = finished(server.service.send("me", None, "hello"))
    second = finished(server.service.send("me", first.conversation_id, "and now?"))
    rendered = server.service.tokenizer.decode(server.store.reply(second.reply_id).prompt_ids)
    assert "hello" in rendered and "and now?" in rendered and second.conversation_id == first.conversation_id


def test_several_people_are_answered_at_once_each_with_their_own_reply(server):
    jobs = [server.service.send(f"person {n}", None, f"message number {n}") for n in range(8)]
    for n, job in enumerate(jobs):
        finished(job)
        assert server.store.conversation(job.conversation_id, f"person {n}").turns[0].message == f"message number {n}"
        assert server.store.reply(job.reply_id).state == "done"
    assert len({job.reply_id for job in jobs}) == 8


def test_stop_keeps_what_was_written_and_the_conversation_goes_on(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000)
    try:
        job = server.service.send("me", None, "tell me everything")
        until(lambda: len(job.text) > 20 or job.done)
        server.service.stop("me", job.conversation_id)
        finished(job)
        reply = server.store.reply(job.reply_id)
        assert reply.finish_reason == "cancelled" and reply.state == "done" and reply.text == job.text and len(reply.completion_ids) < 8000
        again = server.service.send("me", job.conversation_id, "go on")
        until(lambda: again.text)
    finally:
        server.close()


def test_regenerate_is_another_attempt_at_the_same_message(server):
    first = finished(server.service.send("me", None, "hello"))
    second = finished(server.service.regenerate("me", first.conversation_id))
    [turn] = server.store.conversation(first.conversation_id).turns
    assert [r.id for r in turn.replies] == [first.reply_id, second.reply_id]
    assert server.store.reply(first.reply_id).prompt_ids == server.store.reply(second.reply_id).prompt_ids


def test_nobody_reaches_into_somebody_elses_conversation(server):
    job = finished(server.service.send("me", None, "a secret"))
    for call in (lambda: server.service.send("you", job.conversation_id, "let me in"), lambda: server.service.regenerate("you", job.conversation_id),
                 lambda: server.service.stop("you", job.conversation_id), lambda: server.service.conversation("you", job.conversation_id)):
        with pytest.raises(UnknownConversation):
            call()
    with pytest.raises(NotYourReply):
        server.service.rate("you", job.reply_id, "thumb", -1)
    with pytest.raises(UnknownReply):
        server.service.rate("me", "no such reply", "thumb", -1)
    assert len(server.store.conversation(job.conversation_id).turns) == 1


@pytest.mark.parametrize("action", ["send", "regenerate"])
def test_a_conversation_that_is_deleted_while_a_message_is_on_its_way_stays_empty(server, monkeypatch, action):
    home = finished(server.service.send("me", None, "hello")).conversation_id
    stream = server.serving.stream

    def deleted_meanwhile(*args):
        server.service.belongings.delete("me", home)
        return stream(*args)

    monkeypatch.setattr(server.serving, "stream", deleted_meanwhile)
    with pytest.raises(UnknownConversation):
        server.service.send("me", home, "a secret") if action == "send" else server.service.regenerate("me", home)
    assert [row["message"] for row in server.store.rows("SELECT message FROM turns")] == [""]
    assert [row["prompt_ids"] for row in server.store.rows("SELECT prompt_ids FROM replies")] == ["[]"]


def test_a_message_that_cannot_be_answered_leaves_nothing_behind(server):
    for text, error in (("   ", EmptyMessage), ("x" * 100_000, MessageTooLong), ("word " * 3900, MessageTooLong)):
        with pytest.raises(error):
            server.service.send("me", None, text)
    assert server.store.conversations("me") == []


def test_a_long_conversation_forgets_its_oldest_turns_and_says_how_many(tiny_base, tmp_path):
    server = Server(tiny_base, tmp_path, max_new_tokens=5)
    try:
        long = "many words " * (tiny_base.context_length // 30)
        conversation, dropped = None, []
        for _ in range(12):
            job = finished(server.service.send("me", conversation, long))
            conversation = job.conversation_id
            dropped.append(job.dropped_turns)
        assert dropped[0] == 0 and dropped[-1] > 0 and dropped == sorted(dropped)
        assert server.store.reply(job.reply_id).dropped_turns == dropped[-1]
    finally:
        server.close()


def test_one_reply_at_a_time_in_a_conversation_and_a_bounded_number_in_all(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000, max_streams=2, max_waiting=0)
    try:
        first = server.service.send("me", None, "one")
        with pytest.raises(Busy, match="still being written"):
            server.service.send("me", first.conversation_id, "two")
        second = server.service.send("you", None, "one")
        with pytest.raises(Busy, match="2 places"):
            server.service.send("they", None, "one")
        for rater, job in (("me", first), ("you", second)):
            server.service.stop(rater, job.conversation_id)
            finished(job)
        assert server.service.send("they", None, "one").error is None
    finally:
        server.close()


def test_who_comes_later_waits_in_line_and_is_answered_in_order_by_the_version_of_that_moment(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000, max_streams=1)
    try:
        first, second, third, fourth = (server.service.send(f"person {n}", None, "a long story") for n in range(4))
        assert [job.place for job in (first, second, third, fourth)] == [0, 1, 2, 3]
        until(lambda: first.text)
        assert not second.text and server.store.reply(second.reply_id).state == "streaming"
        number = server.publish(seed=1)
        until(lambda: server.serving.version == number)
        server.service.stop("person 2", third.conversation_id)                     # gave up waiting
        finished(third)
        assert third.text == "" and server.store.reply(third.reply_id).finish_reason == "cancelled"
        assert (second.place, fourth.place) == (1, 2) and second.version == 0
        server.service.stop("person 0", first.conversation_id)
        until(lambda: second.text)
        stored = server.store.reply(second.reply_id)
        assert (second.version, stored.version, stored.adapter_sha256) == (number, number, server.store.version(number).sha256)
        assert fourth.place == 1
        server.service.stop("person 1", second.conversation_id)
        until(lambda: fourth.text)
    finally:
        server.close()


def test_64_people_at_once_are_all_answered_in_order_the_65th_hears_busy_and_nothing_is_left_behind(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=20, max_streams=8, max_waiting=56)
    try:
        first_in = [server.service._line.join() for _ in range(8)]              # whoever came before: nobody's turn comes yet
        with ThreadPoolExecutor(64) as people:
            jobs = sorted(people.map(lambda n: server.service.send(f"person {n}", None, f"question {n}"), range(64)), key=lambda job: job.place)
        assert [job.place for job in jobs] == list(range(1, 65))
        with pytest.raises(Busy, match="64 places"):
            server.service.send("one too many", None, "hello")
        assert server.store.conversations("one too many") == []
        for ticket in first_in:
            ticket.leave()
        worker, busiest = server.serving.engine._workers[0], 0
        while not all(job.done for job in jobs):
            busiest = max(busiest, len(worker._streams))
            sleep(0.001)
        assert all(job.error is None and server.store.reply(job.reply_id).finish_reason == "length" for job in jobs)
        assert 1 < busiest <= 8
        begun = [job._begun for job in jobs]
        assert all(earlier <= later for earlier, later in zip(begun, begun[16:]))    # threads wake up within their eight as they like
        until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("reply ")])
        assert server.service._line._tickets == [] and worker._streams == {} and server.service.running(jobs[0].conversation_id) is None
        assert finished(server.service.send("one too many", None, "hello")).error is None
    finally:
        server.close()


def test_a_stream_whose_reply_cannot_be_begun_is_ended(endless_base, tmp_path, monkeypatch):
    server = Server(endless_base, tmp_path, max_new_tokens=8000, max_streams=1)
    try:
        first, second = (server.service.send(rater, None, "a long story") for rater in ("me", "you"))
        begun, stream = [], server.serving.stream
        monkeypatch.setattr(server.serving, "stream", lambda *args: begun.append(stream(*args)) or begun[-1])

        def full(*args):
            raise StorageFull("The disk is full.")

        monkeypatch.setattr(server.store, "begin_reply", full)
        server.service.stop("me", first.conversation_id)
        finished(second)
        assert str(second.error) == "The disk is full." and [one.stream.cancelled for one in begun] == [True]
    finally:
        server.close()


def test_a_new_version_answers_within_seconds_while_a_running_reply_ends_whole_on_the_old_one(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=1000)
    try:
        old = server.service.send("me", None, "a long story")
        until(lambda: old.text)
        number = server.publish(seed=1)
        until(lambda: server.serving.version == number)
        new = server.service.send("you", None, "a long story")
        assert (old.version, new.version) == (0, number)
        finished(old), finished(new)
        assert old.error is None and server.store.reply(old.reply_id).state == "done"
        assert server.store.reply(new.reply_id).adapter_sha256 == server.store.version(number).sha256
    finally:
        server.close()


def test_rolling_back_serves_the_version_before(server):
    first = server.publish(seed=1)
    until(lambda: server.serving.version == first)
    second = server.publish(seed=2)
    until(lambda: server.serving.version == second)
    assert server.maintenance.roll_back() == first
    until(lambda: server.serving.version == first)
    assert server.maintenance.roll_back() == 0
    until(lambda: server.serving.version == 0)
    with pytest.raises(UnknownVersion, match="nothing to roll back"):
        server.maintenance.roll_back()
    server.maintenance.make_live(second)
    until(lambda: server.serving.version == second)


def test_a_maintainer_sees_what_is_being_loaded_while_the_version_before_answers_and_what_is_in_its_way(server, monkeypatch):
    def seen():
        overview = server.maintenance.overview()
        return overview["serving"], overview["change"]

    assert seen() == (0, None)
    with server.serving.engine._load_lock:                              # as long as a large model takes
        number = server.publish(seed=1)
        until(lambda: server.serving.change)
        assert (server.service.status()["version"], server.service.status()["loading"]) == (0, number)
        assert seen() == (0, {"version": number, "seconds": 0, "trouble": None}) and server.maintenance.overview()["live"] == number
    until(lambda: seen() == (number, None))

    def no_room(*arguments):
        raise StorageFull("The disk is full; free some space.")

    monkeypatch.setattr(server.serving.engine, "load", no_room)
    assert server.maintenance.roll_back() == 0
    trouble = until(lambda: (change := seen()[1]) and change["trouble"])
    assert trouble == {"kind": "StorageFull", "error": "The disk is full; free some space.", "said": None} and server.serving.version == number
    assert server.service.status()["loading"] is None                   # nobody knows when


def test_a_corrupt_version_is_marked_and_the_old_one_stays(server):
    good = server.publish(seed=1)
    until(lambda: server.serving.version == good)
    version = server.registry.publish(lambda folder: write_random_adapter(server.base, folder, seed=2), base_model=server.base.id, run_id=None, parent=good)
    weights = server.registry.folder / version.folder / "adapter_model.safetensors"
    server.store.promote(good, server.base.id, "for the test")        # whatever was loaded meanwhile, go back ...
    until(lambda: server.serving.version == good)
    weights.write_bytes(weights.read_bytes()[:-8] + b"tampered")
    with pytest.raises(CorruptAdapter):
        server.maintenance.make_live(version.number)                   # ... the button is refused at once,
    server.store.promote(version.number, server.base.id, "for the test")
    until(lambda: server.store.version(version.number).error)          # and so is a promotion that came another way
    assert "sha256" in server.store.version(version.number).error
    assert server.serving.version == good and server.store.live_version(server.base.id) == good
    assert finished(server.service.send("me", None, "still there?")).version == good


def test_a_server_that_starts_on_a_damaged_version_falls_back_and_answers(tiny_base, tmp_path):
    server = Server(tiny_base, tmp_path)
    number = server.publish(seed=1)
    server.close()
    (server.registry.folder / server.store.version(number).folder / "adapter_model.safetensors").unlink()
    again = Server(tiny_base, tmp_path)
    try:
        assert again.serving.version == 0 and again.store.version(number).error
        assert finished(again.service.send("me", None, "hello")).error is None
    finally:
        again.close()


def test_a_model_file_that_is_gone_keeps_a_new_version_waiting_until_it_is_back_and_marks_nothing(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "TROUBLE_SECONDS", 0.1)
    base = import_base_model(str(write_tiny_gguf(tmp_path / "Tiny.gguf")), tmp_path / "models")
    server = Server(base, tmp_path / "state")
    try:
        gone = base.gguf.rename(tmp_path / "gone.gguf")
        number = server.registry.publish(lambda folder: write_random_adapter(tiny_base, folder, seed=1), base_model=base.id, run_id=None, parent=0).number
        trouble = until(lambda: (change := server.serving.change) and change.trouble)
        assert isinstance(trouble, ModelUnavailable) and "base.gguf" in str(trouble) and "missing" in str(trouble)
        assert server.store.version(number).error is None and server.store.live_version(base.id) == number
        assert (job := finished(server.service.send("me", None, "still there?"))).error is None and job.version == 0
        gone.rename(base.gguf)
        until(lambda: server.serving.version == number)
        assert finished(server.service.send("me", None, "and now?")).version == number
    finally:
        server.close()


def test_a_full_disk_refuses_a_message_and_keeps_a_finished_reply_until_there_is_room(endless_base, tmp_path, monkeypatch):
    monkeypatch.setattr(replies, "RETRY_SECONDS", 0.1)
    server = Server(endless_base, tmp_path, max_new_tokens=3000)
    try:
        job = server.service.send("me", None, "hello")
        pages = server.store.row("PRAGMA page_count")[0]
        limit_everywhere(monkeypatch, server.store, pages)            # SQLite itself now answers "database or disk is full"
        with pytest.raises(StorageFull, match="free some space"):
            server.service.send("you", None, "x" * 5_000)
        until(lambda: len(job.text) > 2000)
        server.service.stop("me", job.conversation_id)
        finished(job)
        assert "kept in memory" in str(job.error) and job.text and server.store.reply(job.reply_id).state == "streaming"
        limit_everywhere(monkeypatch, server.store, 2**30)
        until(lambda: server.store.reply(job.reply_id).state == "done")
        assert server.store.reply(job.reply_id).text == job.text and job.error is None
        assert server.service.send("you", None, "hello again").error is None
    finally:
        server.close()


def limit_everywhere(monkeypatch, store, pages: int) -> None:
    """Let the database file grow no further, on this thread's connection and on every one that opens from now on."""
    connect = type(store)._connect

    def limited(self):
        db = connect(self)
        db.conn.execute(f"PRAGMA max_page_count = {pages}")
        return db

    store.close()
    monkeypatch.setattr(store, "_connect", limited.__get__(store))
    store._local = threading.local()


def test_closing_the_server_keeps_what_running_replies_wrote(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=1000)
    job = server.service.send("me", None, "a long story")
    until(lambda: len(job.text) > 20)
    server.close()
    assert server.store.reply(job.reply_id).text.startswith(job.text[:10]) and server.store.reply(job.reply_id).state == "done"

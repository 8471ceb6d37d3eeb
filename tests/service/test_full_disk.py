"""A chat service that cannot store, its disk being full or its database locked: messages are refused, and what was written is kept."""

import sqlite3
import threading

import pytest

import chat_app.replies as replies
import data.store.database as database
from data.errors import Busy, StorageFull
from tests.support.service_fixtures import Server, finished
from tests.support.waiting import until


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
        until(lambda: job.error is None)                              # cleared once it is written
        assert server.store.reply(job.reply_id).state == "done" and server.store.reply(job.reply_id).text == job.text
        assert server.service.send("you", None, "hello again").error is None
    finally:
        server.close()


def test_a_reply_that_ends_while_another_process_holds_the_database_is_kept_and_saved_afterwards(endless_base, tmp_path, monkeypatch):
    monkeypatch.setattr(replies, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    server = Server(endless_base, tmp_path, max_new_tokens=3000)
    other = sqlite3.connect(server.store.path, isolation_level=None)
    try:
        job = server.service.send("me", None, "hello")
        until(lambda: len(job.text) > 200)
        other.execute("BEGIN IMMEDIATE")
        job.cancel()
        finished(job)
        assert isinstance(job.error, Busy) and "kept in memory" in str(job.error) and server.store.reply(job.reply_id).state == "streaming"
        with pytest.raises(Busy):                                     # its conversation waits for it
            server.service.send("me", job.conversation_id, "hello again")
        other.execute("COMMIT")
        until(lambda: job.error is None)
        assert server.store.reply(job.reply_id).state == "done" and server.store.reply(job.reply_id).text == job.text
    finally:
        other.close()
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

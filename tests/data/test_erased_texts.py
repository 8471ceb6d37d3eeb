"""What a person deleted is in no file any more, the database's write-ahead log included."""

from __future__ import annotations

import sqlite3

import pytest

import data.store.database as database
from data.store import Store
from tests.support.factories import add_reply
from tests.support.hosts import hosts, place, rounds  # noqa: F401

SECRET = "a blue teapot of mine"


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def holds(store: Store) -> list[str]:
    """The database's files that hold the secret."""
    return [file.name for file in sorted(store.path.parent.glob("chat.db*")) if SECRET.encode() in file.read_bytes()]


def say(store: Store, rater: str = "me") -> str:
    """The conversation in which the secret is said, in every place that takes a text."""
    reply = add_reply(store, rater, message=SECRET, text=f"You have {SECRET}?")
    store.add_rating(reply.id, rater, "thumb", 1)
    store.add_reasons(reply.id, rater, ["helpful"], SECRET)
    store.add_correction(reply.id, rater, f"So you have {SECRET}.")
    store.rename(reply.conversation_id, rater, SECRET)
    return reply.conversation_id


@pytest.mark.parametrize("delete", [lambda store, conversation: store.delete_conversation(conversation, "me"), lambda store, _: store.delete_everything("me")])
def test_a_deleted_text_is_in_no_file_of_the_database_while_others_have_it_open(store, delete):
    other = sqlite3.connect(store.path)
    conversation = say(store)
    assert other.execute("SELECT count(*) FROM replies").fetchone() == (1,) and holds(store) != []
    delete(store, conversation)
    assert holds(store) == []
    assert store.row("PRAGMA busy_timeout")[0] == 1000 * database.BUSY_SECONDS        # others' writes are waited for as before
    other.close()


def test_it_goes_with_the_next_write_after_a_reader_that_still_needed_it(store, monkeypatch):
    monkeypatch.setattr(database, "EMPTY_SECONDS", 0.1)
    conversation, reader = say(store), sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT message FROM turns").fetchall()
    store.delete_conversation(conversation, "me")
    store.ensure_rater("you")
    assert "chat.db-wal" in holds(store)
    reader.execute("COMMIT")
    store.ensure_rater("they")
    assert holds(store) == []
    reader.close()


def test_what_a_killed_process_left_goes_when_the_database_is_opened(store, monkeypatch):
    conversation = say(store)
    monkeypatch.setattr(Store, "_empty_log", lambda *_: None)
    store.delete_conversation(conversation, "me")
    monkeypatch.undo()
    assert "chat.db-wal" in holds(store)
    assert Store(store.path).conversations("me") == [] and holds(store) == []


def test_a_transaction_that_fails_erases_nothing_and_the_next_one_is_as_fast(store, monkeypatch):
    conversation = say(store)
    with pytest.raises(ZeroDivisionError), store.write():
        store.delete_conversation(conversation, "me")
        1 / 0
    waited = []
    monkeypatch.setattr(Store, "_empty_log", lambda _, db, seconds: waited.append(seconds))
    store.ensure_rater("you")
    assert waited == [] and "chat.db-wal" in holds(store)


def test_what_another_host_erased_leaves_the_learners_files_too(hosts):      # noqa: F811
    a, _, learner = hosts
    conversation = say(a.store)
    rounds(a, learner)
    assert holds(learner.store) != []
    a.store.delete_conversation(conversation, "me")
    rounds(a, learner)
    assert holds(a.store) == [] and holds(learner.store) == []

"""What a look at one conversation costs, and a deletion, does not grow with what all the others hold."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from chat_app.identity import Identity
from chat_app.page.chat_page import _follower, chat_calls
from chat_app.page.views import marks_view, shown_replies
from data.records import Generated, Sampling
from data.store import Store, chats
from data.store.chats import reply_from
from tests.support.factories import add_reply
from tests.support.service_fixtures import finished, server  # noqa: F401
from tests.support.waiting import in_a_loop

ALLOWED = r"VIRTUAL TABLE|SCAN runs|CONSTANT ROW|SCAN \(subquery|SCAN (newest|feedback)$"
"""Values of one JSON text, the runs, of which there are few, and what was found in a view or for one question, whose own tables are named as well."""


@contextmanager
def reads_no_table_from_end_to_end(store: Store, least: int) -> Iterator[dict[str, list[str]]]:
    """Of the statements inside, `least` at the least, none does. Yields their plans, which are there afterwards."""
    statements: list[str] = []
    plans: dict[str, list[str]] = {}
    store.db.conn.set_trace_callback(statements.append)
    yield plans
    store.db.conn.set_trace_callback(None)
    plans |= {sql: [row[3] for row in store.rows(f"EXPLAIN QUERY PLAN {sql}")] for sql in statements if sql.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE"))}
    assert len(plans) >= least
    assert not {sql: plan for sql, plan in plans.items() if any(step.startswith("SCAN") and not re.search(ALLOWED, step) for step in plan)}


def test_a_look_at_one_conversation_reads_no_table_from_end_to_end(tmp_path):
    store = Store(tmp_path / "chat.db")
    mine = add_reply(store, "me")
    store.add_rating(mine.id, "me", "thumb", 1)
    store.finish_run(store.start_run("base", "shell").id, "refused")
    with reads_no_table_from_end_to_end(store, 10) as plans:
        store.conversation(mine.conversation_id, "me")
        store.outlines(mine.conversation_id)
        store.last_turn(mine.conversation_id)
        store.last_run("base")
        store.last_verdict("base")
        store.ratings_of("me", mine.conversation_id)
        store.written_elsewhere(mine.conversation_id)
        marks_view(store, "me", mine.conversation_id)
    assert not [sql for sql, plan in plans.items() if "FROM runs" in sql and any("B-TREE" in step or step.startswith("SCAN runs") for step in plan)]


def test_deleting_what_one_person_said_reads_no_table_from_end_to_end(tmp_path):
    store = Store(tmp_path / "chat.db")
    mine = add_reply(store, "me")
    store.add_rating(mine.id, "me", "thumb", 1)
    with reads_no_table_from_end_to_end(store, 18):
        store.delete_everything("me")


def test_what_hosts_tell_each_other_of_one_reply_is_found_without_reading_a_table_from_end_to_end(tmp_path):
    store, elsewhere = Store(tmp_path / "chat.db"), Store(tmp_path / "elsewhere.db")
    mine, theirs = add_reply(store, "me"), add_reply(elsewhere, "them")
    elsewhere.add_rating(theirs.id, "them", "thumb", 1)
    elsewhere.pack_feedback()
    store.gather_feedback("elsewhere", 1, elsewhere.shard_records("feedback", 1))
    assert [rated.reply.id for rated in store.rated_replies("base")] == [theirs.id]
    with reads_no_table_from_end_to_end(store, 20), store.write():
        store._take_out(mine.id)
        store._events_here(mine.id)
        store.gather_feedback("elsewhere", 2, [{"type": "erased", "reply_id": theirs.id}])
    assert store.rated_replies("base") == []


TOKENS = {"prompt_ids", "behavior_logprobs"}


@contextmanager
def columns_read(store: Store):
    """Those that are looked at meanwhile on this thread's connection."""
    found: set[str] = set()

    def note(action, table, column, *_):
        found.update([column] if action == sqlite3.SQLITE_READ else [])
        return sqlite3.SQLITE_OK

    store.db.conn.set_authorizer(note)
    yield found
    store.db.conn.set_authorizer(None)


def test_a_look_every_few_seconds_reads_no_tokens_and_no_report(server):      # noqa: F811
    identity = Identity("a key for tests")
    request = SimpleNamespace(cookies={identity.rater_cookie: identity.signed_rater("me")})
    look = next(call for call in chat_calls(server.service, identity) if call.__name__ == "ui_look")
    other, shown = finished(server.service.send("me", None, "hello")), finished(server.service.send("me", None, "hello"))
    server.store.add_rating(shown.reply_id, "me", "thumb", 1)
    server.store.finish_run(server.store.start_run(server.base.id, "shell").id, "refused", report={"reason": "No."})
    with columns_read(server.store) as read:
        answer = look({"conversation": shown.conversation_id}, request)
    assert answer["ok"] and answer["replies"] == [shown.reply_id] and answer["status"]["run"]["state"] == "refused"
    assert "rater_id" in read and not read & {*TOKENS, "report"}
    assert look({"conversation": other.conversation_id}, SimpleNamespace(cookies={}, session_hash="you"))["kind"] == "UnknownConversation"


def test_what_follows_a_reply_and_what_a_message_is_answered_with_are_one_turn_and_not_the_conversation(server, monkeypatch):      # noqa: F811
    identity = Identity("a key for tests")
    request = SimpleNamespace(cookies={identity.rater_cookie: identity.signed_rater("me")})
    again = next(call for call in chat_calls(server.service, identity) if call.__name__ == "ui_regenerate")
    home = add_reply(server.store, "me", base_model=server.base.id).conversation_id
    for number in range(20):
        newest = add_reply(server.store, "me", message=f"message {number}", conversation=home, base_model=server.base.id)
    whole: list[str] = []
    monkeypatch.setattr(chats, "reply_from", lambda row: whole.append(row["id"]) or reply_from(row))

    async def followed(conversation: str, reply: str) -> list[dict]:
        event = SimpleNamespace(_data={"conversation": conversation, "reply": reply})
        return [part async for part in _follower(server.service, identity)(event, request)]

    [part] = in_a_loop(followed(home, newest.id))
    assert part["reply"]["id"] == newest.id and part["reply"]["text"] == "hi" and whole == [newest.id]
    assert in_a_loop(followed("somebody else's", newest.id)) == in_a_loop(followed(home, "unknown")) == []
    elsewhere = add_reply(server.store, "me")
    assert in_a_loop(followed(home, elsewhere.id)) == []
    whole.clear()
    turn = again({"conversation": home}, request)["turn"]
    assert turn["message"] == "message 19" and [reply["id"] for reply in turn["replies"]][0] == newest.id and len(turn["replies"]) == 2
    assert len(whole) <= 21 + 5                                            # the prompt repeats the conversation; the answer does not


def test_the_replies_in_outline_are_those_of_the_whole_conversation(server):      # noqa: F811
    first = add_reply(server.store, "me")
    store, turn = server.store, first.turn_id
    for text, aside in (("hi", True), ("ho", True), ("", True), ("hi", False)):
        made = store.start_reply(turn, 0, None, "base", "openvino", Sampling(), (1,), aside=aside)
        store.finish_reply(made.id, text, Generated((1,), (-1.0,), 1.0, "stop"), 0.1, 0.2)
    add_reply(store, "me", conversation=first.conversation_id)
    turns = store.conversation(first.conversation_id).turns
    shown = [[reply.id for reply in shown_replies(turn.replies)] for turn in turns]
    assert [len(ids) for ids in shown] == [3, 1]
    assert [[reply.id for reply in shown_replies(replies)] for replies in store.outlines(first.conversation_id)] == shown
    assert store.last_turn(first.conversation_id) == turns[-1]


@pytest.mark.parametrize("runs", [0, 1])
def test_counting_what_is_fresh_reads_what_is_fresh_alone(tmp_path, runs):
    store = Store(tmp_path / "chat.db")
    mine = add_reply(store, "me")
    store.add_rating(mine.id, "me", "thumb", 1)
    for _ in range(runs):
        store.finish_run(store.start_run("base", "shell").id, "published")
        store.add_rating(mine.id, "me", "thumb", -1)
    with reads_no_table_from_end_to_end(store, 2):
        assert store.fresh_ratings("base") == 1

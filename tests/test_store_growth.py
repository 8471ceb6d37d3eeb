"""What a look at one conversation costs, and a deletion, does not grow with what all the others hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chat_app.page.views import marks_view
from data.store import Store
from tests.factories import add_reply

ALLOWED = r"VIRTUAL TABLE|SCAN runs|CONSTANT ROW|SCAN \(subquery|SCAN (newest|feedback)$"
"""Values of one JSON text, the runs, of which there are few, and what was found in a view or for one question, whose own tables are named as well."""


@contextmanager
def reads_no_table_from_end_to_end(store: Store, least: int) -> Iterator[None]:
    """Of the statements inside, `least` at the least, none does."""
    statements: list[str] = []
    store.db.conn.set_trace_callback(statements.append)
    yield
    store.db.conn.set_trace_callback(None)
    plans = {sql: [row[3] for row in store.rows(f"EXPLAIN QUERY PLAN {sql}")] for sql in statements if sql.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE"))}
    assert len(plans) >= least
    assert not {sql: plan for sql, plan in plans.items() if any(step.startswith("SCAN") and not re.search(ALLOWED, step) for step in plan)}


def test_a_look_at_one_conversation_reads_no_table_from_end_to_end(tmp_path):
    store = Store(tmp_path / "chat.db")
    mine = add_reply(store, "me")
    store.add_rating(mine.id, "me", "thumb", 1)
    with reads_no_table_from_end_to_end(store, 9):
        store.conversation(mine.conversation_id, "me")
        store.ratings_of("me", mine.conversation_id)
        store.written_elsewhere(mine.conversation_id)
        marks_view(store, "me", mine.conversation_id)


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

"""What a look at one conversation costs does not grow with what all the others hold."""

from __future__ import annotations

import re

from chat_app.page.views import marks_view
from data.store import Store
from tests.factories import add_reply


def test_a_look_at_one_conversation_reads_no_table_from_end_to_end(tmp_path):
    store = Store(tmp_path / "chat.db")
    mine = add_reply(store, "me")
    store.add_rating(mine.id, "me", "thumb", 1)
    statements: list[str] = []
    store.db.conn.set_trace_callback(statements.append)
    store.conversation(mine.conversation_id, "me")
    store.ratings_of("me", mine.conversation_id)
    store.written_elsewhere(mine.conversation_id)
    marks_view(store, "me", mine.conversation_id)
    store.db.conn.set_trace_callback(None)
    read = [sql for sql in statements if sql.lstrip().startswith(("SELECT", "WITH"))]
    plans = {sql: [row[3] for row in store.rows(f"EXPLAIN QUERY PLAN {sql}")] for sql in read}
    assert len(plans) > 8
    scanned = {sql: plan for sql, plan in plans.items() if any(re.match(r"SCAN (?!.*VIRTUAL TABLE|runs|.*CONSTANT ROW|\(subquery)", step) for step in plan)}
    assert not scanned

"""What a maintainer sees of what people say: everything that may train, newest first, nothing that was taken back or is not theirs to see."""

import pytest

from chat_app.maintenance import _masked
from data.store import Store
from tests.support.factories import add_reply


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def second_attempt(store, first, text: str):
    """Another attempt at the same message."""
    from data.records import Generated, Sampling

    reply = store.start_reply(first.turn_id, 0, None, "base", "openvino", Sampling(), (1, 2, 3))
    return store.finish_reply(reply.id, text, Generated((4, 5), (-1.0, -0.5), 1.0, "stop"), 0.1, 0.2)


def test_ratings_corrections_comparisons_and_reasons_are_listed_newest_first(store):
    first = add_reply(store, "me", message="hello", text="hi")
    better = second_attempt(store, first, "good day")
    store.add_rating(first.id, "me", "thumb", -1)
    store.add_reasons(first.id, "me", ["too_short"], "ask ann@example.com")
    store.add_correction(first.id, "me", "Hello, dear +1 202 555 0143.")
    store.add_comparison(first.id, better.id, "me", "second")
    comparison, correction, reasons, thumb = [{name: value for name, value in _masked(row).items() if name not in ("when", "message", "version")}
                                              for row in store.recent_feedback("base", 20)]
    assert comparison == {"kind": "comparison", "same": False, "reply": "good day", "other": "hi"}
    assert correction == {"kind": "correction", "text": "Hello, dear [phone].", "reply": "hi"}
    assert reasons == {"kind": "reasons", "tags": ["too_short"], "comment": "ask [e-mail]", "reply": "hi"}
    assert thumb == {"kind": "thumb", "value": -1, "reply": "hi"}
    assert [row["kind"] for row in store.recent_feedback("base", 2)] == ["comparison", "correction"]


def test_words_that_were_taken_back_or_deleted_and_all_of_who_does_not_contribute_stay_unseen(store):
    mine, theirs, gone = (add_reply(store, name) for name in ("me", "private", "leaving"))
    for reply, person in ((mine, "me"), (theirs, "private"), (gone, "leaving")):
        store.add_rating(reply.id, person, "thumb", -1)
        store.add_reasons(reply.id, person, ["wrong"], "my reasons")
        store.add_correction(reply.id, person, "my words")
    store.db["replies"].update(theirs.id, {"contributes": 0})
    store.delete_conversation(gone.conversation_id, "leaving")
    assert {row["kind"] for row in store.recent_feedback("base", 20)} == {"thumb", "reasons", "correction"} and len(store.recent_feedback("base", 20)) == 3
    store.add_correction(mine.id, "me", "")
    store.add_reasons(mine.id, "me", [])
    assert [row["kind"] for row in store.recent_feedback("base", 20)] == ["thumb"]

"""A person's own conversations: found, renamed, and deleted so that nothing of them trains any more."""

import pytest

from data.errors import UnknownConversation, UnknownReply
from data.records import Generated, Sampling
from data.store import Store
from tests.support.factories import add_reply
from tests.support.service_fixtures import Server, finished
from tests.support.waiting import until


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def test_one_finds_ones_own_conversations_by_what_was_said_in_them(store):
    add_reply(store, "me", message="Why is the sky blue?", text="Air scatters 50% of it.")
    add_reply(store, "me", message="Name a river", text="The Nile")
    add_reply(store, "you", message="The sky again")
    titles = lambda search="": [entry.title for entry in store.history("me", search)]
    assert titles() == ["Name a river", "Why is the sky blue?"]
    assert titles("SKY") == ["Why is the sky blue?"] and titles("nile") == ["Name a river"]
    assert titles("50%") == ["Why is the sky blue?"] and titles("%") == ["Why is the sky blue?"] and titles("_") == []


def test_the_last_used_conversation_comes_first(store):
    old, new = add_reply(store, "me", message="old"), add_reply(store, "me", message="new")
    add_reply(store, "me", message="again", conversation=old.conversation_id)
    assert [entry.id for entry in store.history("me")] == [old.conversation_id, new.conversation_id]


def test_a_title_is_kept_short_and_never_becomes_empty(store):
    reply = add_reply(store, "me", message="Hello")
    assert store.rename(reply.conversation_id, "me", "  My \n tides ") == "My tides"
    assert store.rename(reply.conversation_id, "me", "   ") == "My tides"
    assert len(store.rename(reply.conversation_id, "me", "x" * 500)) == 80
    with pytest.raises(UnknownConversation):
        store.rename(reply.conversation_id, "you", "Mine now")


def test_a_deleted_conversation_is_erased_and_its_ratings_stop_training(store):
    gone, kept = add_reply(store, "me", message="secret", text="secret too"), add_reply(store, "me")
    for reply in (gone, kept):
        store.add_rating(reply.id, "me", "thumb", 1)
    store.add_reasons(gone.id, "me", ["helpful"], "secret reason")
    store.finish_run(store.start_run("base", "shell").id, "published")
    assert store.fresh_ratings("base") == 0
    with pytest.raises(UnknownConversation):
        store.delete_conversation(gone.conversation_id, "you")

    assert store.delete_conversation(gone.conversation_id, "me") == 1
    assert [rated.reply.id for rated in store.rated_replies("base")] == [kept.id]
    assert store.fresh_ratings("base") == 1                       # what the last version saw has changed: there is something to refit
    assert [entry.id for entry in store.history("me")] == [kept.conversation_id] and store.history("me", "secret") == []
    for call in (lambda: store.conversation(gone.conversation_id, "me"), lambda: store.delete_conversation(gone.conversation_id, "me")):
        with pytest.raises(UnknownConversation):
            call()
    with pytest.raises(UnknownReply):
        store.add_rating(gone.id, "me", "thumb", 1)
    left = str([tuple(row) for table in ("conversations", "turns", "replies", "reasons") for row in store.rows(f"SELECT * FROM {table}")])
    assert "secret" not in left


def test_a_conversation_that_never_trained_leaves_nothing_fresh_behind(store):
    reply = add_reply(store, "me")
    store.add_rating(reply.id, "me", "thumb", 1)
    store.delete_conversation(reply.conversation_id, "me")
    assert store.fresh_ratings("base") == 0 and store.rated_replies("base") == []


def test_a_reply_that_ends_after_its_conversation_was_deleted_is_not_stored(store):
    turn = store.add_turn(store.new_conversation(store.ensure_rater("me")).id, "hello")
    reply = store.start_reply(turn.id, 0, None, "base", "openvino", Sampling(), (1,))
    store.delete_conversation(turn.conversation_id, "me")
    store.save_partial(reply.id, "half a sec")
    store.finish_reply(reply.id, "half a secret", Generated((1, 2), (-1.0, -1.0), 1.0, "stop"), 0.1, 0.2)
    assert (store.reply(reply.id).text, store.reply(reply.id).completion_ids) == ("", ())


def test_deleting_the_last_rating_takes_the_version_it_made_out_of_service(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000)
    try:
        job = server.service.send("me", None, "hello")
        server.service.rate("me", job.reply_id, "thumb", 1)
        number = server.publish(seed=1)
        until(lambda: server.serving.version == number)
        assert server.service.belongings.delete("me", job.conversation_id) == 1
        finished(job)                                              # it was still being written, and is stopped
        until(lambda: server.serving.version == 0)
        assert server.store.reply(job.reply_id).text == ""
    finally:
        server.close()

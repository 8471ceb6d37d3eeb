"""What a reply should have been, kept apart from what it was."""

import pytest

from data.errors import BadRating, NotYourReply
from data.store import Store
from tests.support.factories import add_reply


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def test_the_newest_correction_is_current_and_the_models_words_stay(store):
    reply = add_reply(store, "me", text="The sea is sweet.")
    store.add_rating(reply.id, "me", "thumb", -1)
    assert store.add_correction(reply.id, "me", "The sea is salt.") == "The sea is salt."
    for _ in range(2):
        store.add_correction(reply.id, "me", "  The sea is salty.\n")
    assert store.row("SELECT count(*) AS n FROM corrections")["n"] == 2
    assert store.corrections_of("me", reply.conversation_id) == {reply.id: "The sea is salty."}
    [rated] = store.rated_replies("base")
    assert rated.reply.text == "The sea is sweet." and [(c.rater_id, c.text) for c in rated.corrections] == [("me", "The sea is salty.")]
    assert store.fresh_ratings("base") == 2                                           # the thumb and the correction


@pytest.mark.parametrize("nothing", ["", "   ", "The sea is sweet.", " The sea is sweet. "])
def test_an_empty_correction_or_the_reply_itself_takes_it_back(store, nothing):
    reply = add_reply(store, "me", text="The sea is sweet.")
    store.add_correction(reply.id, "me", "The sea is salty.")
    assert store.add_correction(reply.id, "me", nothing) == ""
    assert store.corrections_of("me", reply.conversation_id) == {}


def test_nobody_corrects_what_is_somebody_elses_nor_at_endless_length(store):
    reply = add_reply(store, "me")
    with pytest.raises(NotYourReply):
        store.add_correction(reply.id, store.ensure_rater("somebody else"), "mine now")
    with pytest.raises(BadRating):
        store.add_correction(reply.id, "me", "x" * 20_001)
    assert store.row("SELECT count(*) AS n FROM corrections")["n"] == 0


def test_a_correction_is_exported_and_erased_with_its_conversation(store):
    reply = add_reply(store, "me")
    store.add_correction(reply.id, "me", "a secret")
    assert store.export("me")["conversations"][0]["turns"][0]["replies"][0]["corrections"][0]["text"] == "a secret"
    store.delete_conversation(reply.conversation_id, "me")
    assert "secret" not in str([tuple(row) for row in store.rows("SELECT * FROM corrections")])

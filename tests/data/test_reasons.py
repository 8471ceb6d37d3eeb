"""Why people rate as they do: events beside the ratings."""

import pytest

from data.errors import BadRating, NotYourReply
from data.store import Store
from tests.support.factories import add_reply


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def said(store, reply):
    found = store.reasons_of("me", reply.conversation_id).get(reply.id)
    return (found.tags, found.comment) if found else None


def test_the_newest_saying_is_current_and_an_empty_one_takes_it_back(store):
    reply = add_reply(store, "me")
    store.add_rating(reply.id, "me", "thumb", -1)
    store.add_reasons(reply.id, "me", ["wrong"], "The sea is salt.")
    store.add_reasons(reply.id, "me", ["wrong", "too_long"], "  The sea is salty. ")
    assert said(store, reply) == (("too_long", "wrong"), "The sea is salty.")
    store.add_reasons(reply.id, "me", ["too_long", "wrong"], "The sea is salty.")
    assert store.row("SELECT count(*) AS n FROM reasons")["n"] == 2                  # the same again is no event
    store.add_reasons(reply.id, "me", [])
    assert said(store, reply) is None


def test_a_tag_counts_only_with_the_thumb_it_explains_and_a_comment_stands_alone(store):
    reply = add_reply(store, "me")
    store.add_rating(reply.id, "me", "thumb", -1)
    store.add_reasons(reply.id, "me", ["tone", "helpful"], "Hm.")
    assert said(store, reply) == (("tone",), "Hm.")
    store.add_rating(reply.id, "me", "thumb", 1)
    assert said(store, reply) == (("helpful",), "Hm.")
    store.add_rating(reply.id, "me", "thumb", 0)
    assert said(store, reply) == ((), "Hm.")


def test_the_learner_is_handed_the_reasons_with_the_ratings_and_ratings_stay_what_they_were(store):
    reply, other = add_reply(store, "me"), add_reply(store, "me")
    for each in (reply, other):
        store.add_rating(each.id, "me", "thumb", -1)
    store.add_reasons(reply.id, "me", ["wrong"], "No.")
    with_reasons, without = store.rated_replies("base")
    assert [(r.tags, r.comment, r.rater_id) for r in with_reasons.reasons] == [(("wrong",), "No.", "me")]
    assert without.reasons == ()
    assert [(r.kind, r.value) for r in with_reasons.ratings] == [("thumb", -1)]
    assert store.fresh_ratings("base") == 2                                           # a reason is not a rating


@pytest.mark.parametrize(("tags", "comment"), [(["rude"], ""), ([3], ""), ([["wrong"]], ""), ([], "x" * 2001)])
def test_a_reason_that_does_not_exist_is_refused_and_nothing_is_written(store, tags, comment):
    reply = add_reply(store, "me")
    with pytest.raises(BadRating):
        store.add_reasons(reply.id, "me", tags, comment)
    with pytest.raises(NotYourReply):
        store.add_reasons(reply.id, store.ensure_rater("somebody else"), ["wrong"], "")
    assert store.row("SELECT count(*) AS n FROM reasons")["n"] == 0

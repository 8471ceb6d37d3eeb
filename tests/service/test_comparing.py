"""Two attempts at one message compared: what the conversation goes on from, over a real engine with a tiny random model."""

import pytest

from data.errors import BadRating, NotYourReply
from data.records import Message
from tests.support.service_fixtures import finished, server  # noqa: F401


def two_attempts(server):
    """Of a model of noise, which says nothing at all at times: a conversation does not go on from that."""
    first = second = None
    while not (first and first.text and second.text and first.text != second.text):
        first = finished(server.service.send("me", None, "hello"))
        second = finished(server.service.regenerate("me", first.conversation_id))
    return first, second


def prompt_after(server, answer: str, message: str) -> tuple[int, ...]:
    return tuple(server.service.tokenizer.render([Message("user", "hello"), Message("assistant", answer), Message("user", message)]))


def test_the_conversation_goes_on_from_the_better_attempt_and_without_a_choice_from_the_newest(server):
    first, second = two_attempts(server)
    compare = lambda preferred: server.service.compare("me", first.reply_id, second.reply_id, preferred)
    home = first.conversation_id
    answer = lambda: server.service.conversation("me", home).turns[0].answer_id
    assert first.text != second.text and answer() is None
    compare("first")
    compare("same")
    assert answer() == first.reply_id                                   # "about the same" changes nothing of that
    assert compare("none") is None and answer() is None
    compare("first")
    third = finished(server.service.regenerate("me", home))             # a new attempt is the one that is read
    assert answer() is None
    compare("first"), compare("none"), compare("first")
    assert server.store.reply(third.reply_id).prompt_ids == server.store.reply(first.reply_id).prompt_ids
    next_reply = finished(server.service.send("me", home, "go on"))
    assert server.store.reply(next_reply.reply_id).prompt_ids == prompt_after(server, first.text, "go on")
    compare("second")                                                   # a mind may change later; what was said stays
    assert answer() == first.reply_id and server.store.comparisons_of("me", home)[0].preferred == "second"


def test_the_conversation_goes_on_from_the_attempt_that_was_on_the_screen(server):
    first, second = two_attempts(server)
    reply = finished(server.service.send("me", first.conversation_id, "go on", after=first.reply_id))
    assert server.store.reply(reply.reply_id).prompt_ids == prompt_after(server, first.text, "go on")
    again = finished(server.service.regenerate("me", first.conversation_id))
    assert server.store.reply(again.reply_id).prompt_ids == server.store.reply(reply.reply_id).prompt_ids
    stale = finished(server.service.send("me", first.conversation_id, "and?", after=second.reply_id))     # from a tab that had not seen the rest
    assert server.service.tokenizer.decode(server.store.reply(stale.reply_id).prompt_ids).count("go on") == 1
    assert [turn.answer_id for turn in server.service.conversation("me", first.conversation_id).turns] == [first.reply_id, None, None]


def test_a_pair_that_cannot_be_compared_changes_nothing(server):
    first, second = two_attempts(server)
    elsewhere = finished(server.service.send("me", None, "hello"))
    for rater, other, error in (("you", second, NotYourReply), ("me", elsewhere, BadRating), ("me", first, BadRating)):
        with pytest.raises(error):
            server.service.compare(rater, first.reply_id, other.reply_id, "first")
    assert server.service.conversation("me", first.conversation_id).turns[0].answer_id is None
    assert server.store.comparisons_of("me", first.conversation_id) == []

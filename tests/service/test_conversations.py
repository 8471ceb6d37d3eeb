"""Conversations of the chat service: a message answered, stored, stopped, attempted again, and nobody else's business."""

import pytest

from data.errors import EmptyMessage, MessageTooLong, NotYourReply, UnknownConversation, UnknownReply
from data.records import Message
from tests.support.service_fixtures import Server, finished, server  # noqa: F401
from tests.support.waiting import until


def test_a_message_is_answered_and_stored_with_everything_the_learner_needs(server):
    job = finished(server.service.send("me", None, "hello"))
    reply = server.store.reply(job.reply_id)
    assert reply.state == "done" and reply.text == job.text and job.error is None
    assert reply.completion_ids and len(reply.completion_ids) == len(reply.behavior_logprobs) and max(reply.behavior_logprobs) <= 0
    assert reply.prompt_ids == tuple(server.service.tokenizer.render([Message("user", "hello")]))
    assert (reply.version, reply.engine, reply.base_model) == (0, "openvino", server.base.id)
    assert server.store.conversation(job.conversation_id, "me").title == "hello"


def test_the_second_message_is_answered_in_the_light_of_the_first(server):
    first = finished(server.service.send("me", None, "hello"))
    second = finished(server.service.send("me", first.conversation_id, "and now?"))
    rendered = server.service.tokenizer.decode(server.store.reply(second.reply_id).prompt_ids)
    assert "hello" in rendered and "and now?" in rendered and second.conversation_id == first.conversation_id


def test_several_people_are_answered_at_once_each_with_their_own_reply(server):
    jobs = [server.service.send(f"person {n}", None, f"message number {n}") for n in range(8)]
    for n, job in enumerate(jobs):
        finished(job)
        assert server.store.conversation(job.conversation_id, f"person {n}").turns[0].message == f"message number {n}"
        assert server.store.reply(job.reply_id).state == "done"
    assert len({job.reply_id for job in jobs}) == 8


def test_stop_keeps_what_was_written_and_the_conversation_goes_on(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000)
    try:
        job = server.service.send("me", None, "tell me everything")
        until(lambda: len(job.text) > 20 or job.done)
        server.service.stop("me", job.conversation_id)
        finished(job)
        reply = server.store.reply(job.reply_id)
        assert reply.finish_reason == "cancelled" and reply.state == "done" and reply.text == job.text and len(reply.completion_ids) < 8000
        again = server.service.send("me", job.conversation_id, "go on")
        until(lambda: again.text)
    finally:
        server.close()


def test_closing_the_server_keeps_what_running_replies_wrote(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=1000)
    job = server.service.send("me", None, "a long story")
    until(lambda: len(job.text) > 20)
    server.close()
    assert server.store.reply(job.reply_id).text.startswith(job.text[:10]) and server.store.reply(job.reply_id).state == "done"


def test_regenerate_is_another_attempt_at_the_same_message(server):
    first = finished(server.service.send("me", None, "hello"))
    second = finished(server.service.regenerate("me", first.conversation_id))
    [turn] = server.store.conversation(first.conversation_id).turns
    assert [r.id for r in turn.replies] == [first.reply_id, second.reply_id]
    assert server.store.reply(first.reply_id).prompt_ids == server.store.reply(second.reply_id).prompt_ids


def test_nobody_reaches_into_somebody_elses_conversation(server):
    job = finished(server.service.send("me", None, "a secret"))
    for call in (lambda: server.service.send("you", job.conversation_id, "let me in"), lambda: server.service.regenerate("you", job.conversation_id),
                 lambda: server.service.stop("you", job.conversation_id), lambda: server.service.conversation("you", job.conversation_id)):
        with pytest.raises(UnknownConversation):
            call()
    with pytest.raises(NotYourReply):
        server.service.rate("you", job.reply_id, "thumb", -1)
    with pytest.raises(UnknownReply):
        server.service.rate("me", "no such reply", "thumb", -1)
    assert len(server.store.conversation(job.conversation_id).turns) == 1


def test_a_message_is_stored_once_however_often_it_is_sent_under_one_key(server):
    first = server.service.send("me", None, "hello", draft="key")
    again = server.service.send("me", None, "hello", draft="key")           # while it is being written, or after
    finished(first)
    last = server.service.send("me", first.conversation_id, "hello", draft="key")
    assert [(job.reply_id, job.conversation_id) for job in (again, last)] == [(first.reply_id, first.conversation_id)] * 2
    assert last.done and last.text == first.text and last.error is None
    assert len(server.store.conversations("me")) == len(server.store.conversation(first.conversation_id).turns) == 1
    other = finished(server.service.send("me", first.conversation_id, "hello", draft="another key"))
    theirs = finished(server.service.send("you", None, "hello", draft="key"))
    assert len({first.reply_id, other.reply_id, theirs.reply_id}) == 3
    server.service.belongings.delete("me", first.conversation_id)
    assert finished(server.service.send("me", None, "hello", draft="key")).conversation_id != first.conversation_id


def test_a_message_that_is_sent_again_while_the_first_one_is_on_its_way_is_stored_once(server, monkeypatch):
    stream, sent = server.serving.stream, []

    def sent_meanwhile(*args):
        monkeypatch.undo()
        sent.append(server.service.send("me", None, "hello", draft="key"))
        return stream(*args)

    monkeypatch.setattr(server.serving, "stream", sent_meanwhile)
    job = server.service.send("me", None, "hello", draft="key")
    assert job.reply_id == sent[0].reply_id and len(server.store.conversations("me")) == 1
    finished(sent[0])
    assert server.service._places._reserved == [] and server.service._line._tickets == []


@pytest.mark.parametrize("action", ["send", "regenerate"])
def test_a_conversation_that_is_deleted_while_a_message_is_on_its_way_stays_empty(server, monkeypatch, action):
    home = finished(server.service.send("me", None, "hello")).conversation_id
    stream = server.serving.stream

    def deleted_meanwhile(*args):
        server.service.belongings.delete("me", home)
        return stream(*args)

    monkeypatch.setattr(server.serving, "stream", deleted_meanwhile)
    with pytest.raises(UnknownConversation):
        server.service.send("me", home, "a secret") if action == "send" else server.service.regenerate("me", home)
    assert [row["message"] for row in server.store.rows("SELECT message FROM turns")] == [""]
    assert [row["prompt_ids"] for row in server.store.rows("SELECT prompt_ids FROM replies")] == ["[]"]


def test_a_message_that_cannot_be_answered_leaves_nothing_behind(server):
    for text, error in (("   ", EmptyMessage), ("x" * 100_000, MessageTooLong), ("word " * 3900, MessageTooLong)):
        with pytest.raises(error):
            server.service.send("me", None, text)
    assert server.store.conversations("me") == []


def test_a_long_conversation_forgets_its_oldest_turns_and_says_how_many(tiny_base, tmp_path):
    server = Server(tiny_base, tmp_path, max_new_tokens=5)
    try:
        long = "many words " * (tiny_base.context_length // 30)
        conversation, dropped = None, []
        for _ in range(12):
            job = finished(server.service.send("me", conversation, long))
            conversation = job.conversation_id
            dropped.append(job.dropped_turns)
        assert dropped[0] == 0 and dropped[-1] > 0 and dropped == sorted(dropped)
        assert server.store.reply(job.reply_id).dropped_turns == dropped[-1]
    finally:
        server.close()

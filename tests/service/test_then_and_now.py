"""What the version of now says to the prompt of an earlier reply: the service over a real engine with a tiny random model."""

import pytest

from chat_app.page.views import shown_replies, then_and_now_view
from chat_app.prompts import answer_of
from data.errors import NothingNewer, NotYourReply, UnknownReply
from tests.support.service_fixtures import Server, finished, server  # noqa: F401
from tests.support.waiting import until


def newer(server, seed: int = 1) -> int:
    number = server.publish(seed=seed)
    until(lambda: server.serving.version == number)
    return number


def written(server, reply_id: str):
    """What the live version says, once it is whole."""
    server.service.retelling.ask("me", reply_id)
    return until(lambda: (seen := server.service.retelling.look("me", reply_id)).job is None and seen.now)


def test_the_same_prompt_is_put_to_the_live_version_once_with_the_sampling_and_the_seed_of_then(server):
    server.store.set_consent("me", True)
    then = server.store.reply(finished(server.service.send("me", None, "hello")).reply_id)
    with pytest.raises(NothingNewer):
        server.service.retelling.ask("me", then.id)
    first = newer(server)
    now = written(server, then.id)
    assert (now.prompt_ids, now.sampling, now.turn_id, now.again_of) == (then.prompt_ids, then.sampling, then.turn_id, then.id)
    assert (now.version, now.adapter_sha256, now.aside, now.contributes) == (first, server.store.version(first).sha256, True, True)
    assert now.text != then.text and len(now.completion_ids) == len(now.behavior_logprobs) > 0
    assert written(server, then.id).id == now.id                       # not written twice
    second = newer(server, seed=2)
    assert then_and_now_view(server.service.retelling.look("me", then.id))["state"] is None
    assert (written(server, then.id).version, len(server.store.replies_again(then.id))) == (second, 2)
    server.maintenance.make_live(first)
    until(lambda: server.serving.version == first)
    assert written(server, then.id).id == now.id                       # and what it said is still there
    server.maintenance.make_live(0)
    until(lambda: server.serving.version == 0)
    with pytest.raises(NothingNewer):
        server.service.retelling.ask("me", then.id)


def test_it_changes_nothing_in_the_conversation_is_in_the_export_and_is_erased_with_it(server):
    job = finished(server.service.send("me", None, "hello"))
    newer(server)
    now = written(server, job.reply_id)
    [turn] = server.service.conversation("me", job.conversation_id).turns
    assert [reply.id for reply in shown_replies(turn.replies)] == [job.reply_id] and answer_of(turn) == job.text and turn.answer_id is None
    assert server.service.running(job.conversation_id) is None
    exported = server.store.export("me")["conversations"][0]["turns"][0]["replies"]
    assert [(reply["again_of"], reply["text"]) for reply in exported] == [(None, job.text), (0, now.text)]
    for call in (server.service.retelling.look, server.service.retelling.ask):
        with pytest.raises(NotYourReply):
            call("you", job.reply_id)
    server.service.belongings.delete("me", job.conversation_id)
    erased = server.store.reply(now.id)
    assert (erased.text, erased.prompt_ids, erased.completion_ids) == ("", (), ())
    with pytest.raises(UnknownReply):
        server.service.retelling.ask("me", job.reply_id)


def test_it_waits_in_line_is_not_begun_twice_leaves_its_conversation_free_and_ends_when_that_is_deleted(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000, max_streams=1)
    try:
        first = server.service.send("me", None, "a long story")
        until(lambda: first.text)
        server.service.stop("me", first.conversation_id)
        finished(first)
        newer(server)
        ahead = server.service.send("you", None, "another")
        assert server.service.retelling.ask("me", first.reply_id).job.place == 1
        job = server.service.retelling.ask("me", first.reply_id).job
        assert then_and_now_view(server.service.retelling.look("me", first.reply_id))["place"] == 1
        next_one = server.service.send("me", first.conversation_id, "go on")          # its own conversation is free meanwhile
        assert next_one.place == 2 and server.service.running(first.conversation_id) is next_one
        server.service.stop("you", ahead.conversation_id)
        until(lambda: job.text)
        server.service.belongings.delete("me", first.conversation_id)
        finished(job)
        assert [server.store.reply(reply.id).text for reply in server.store.replies_again(first.reply_id)] == [""]
    finally:
        server.close()

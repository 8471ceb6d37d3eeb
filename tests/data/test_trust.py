"""Consent, export and erasure: what a person did not give is never trained on, and what they take back leaves."""

import json
from dataclasses import replace

import pytest

from data.errors import ChatError
from data.records import Erasure, Generated, Sampling
from data.store import Store
from tests.service.test_receipts import publish, receipt
from tests.support.factories import add_reply
from tests.support.random_adapter import write_random_adapter
from tests.support.service_fixtures import finished, server  # noqa: F401
from tests.support.waiting import until


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def trained(store):
    return [rated.reply.id for rated in store.rated_replies("base")]


def test_a_reply_trains_only_when_its_person_lets_it(server):                      # noqa: F811
    service, store = server.service, server.store

    def rated(**how):
        job = finished(service.send("me", None, "hello", **how))
        service.rate("me", job.reply_id, "thumb", 1)
        return job.reply_id

    waiting = rated(unasked=None)
    assert store.reply(waiting).contributes is None and store.rated_replies(server.base.id) == [] and store.fresh_ratings(server.base.id) == 0
    store.set_consent("me", False)
    private = rated(unasked=None)
    store.set_consent("me", True)                                                   # covers what comes, not what was private
    given, kept_out = rated(unasked=None), rated(unasked=False)                    # the latter: a script said so
    assert [store.reply(r).contributes for r in (waiting, private, given, kept_out)] == [False, False, True, False]
    assert [r.reply.id for r in store.rated_replies(server.base.id)] == [given] and store.fresh_ratings(server.base.id) == 1
    assert [bool(store.reply(r).behavior_logprobs) for r in (waiting, private, given)] == [False, False, True]           # kept for training alone


def test_what_is_added_to_a_conversation_with_private_messages_stays_private_too(server):   # noqa: F811
    service, store = server.service, server.store
    store.set_consent("me", False)
    private = finished(service.send("me", None, "my secret", unasked=None))
    waiting = finished(service.send("you", None, "hello", unasked=False))               # not asked yet: a script said so
    assert store.reply(finished(service.send("you", waiting.conversation_id, "and?", unasked=None)).reply_id).contributes is False
    store.set_consent("me", True)
    added = finished(service.send("me", private.conversation_id, "and what of it?", unasked=None))
    another = finished(service.regenerate("me", private.conversation_id, unasked=None))
    aside, again = (start(store.reply(private.reply_id)) for start in (service._start_aside, service._start_again))
    for job in (aside, again):
        job.start()
        finished(job)
    elsewhere = finished(service.send("me", None, "hello", unasked=None))
    assert [store.reply(job.reply_id).contributes for job in (added, another, aside, again, elsewhere)] == [False, False, False, False, True]
    for job in (added, elsewhere):
        service.rate("me", job.reply_id, "thumb", 1)
    assert [rated.reply.id for rated in store.rated_replies(server.base.id)] == [elsewhere.reply_id]


def test_the_log_probs_of_a_reply_that_waits_for_an_answer_are_erased_by_a_no_and_kept_by_a_yes(store):
    for rater, contributes in (("yes", True), ("no", False)):
        reply = add_reply(store, rater)
        waiting, writing = (store.start_reply(reply.turn_id, 0, None, "base", "openvino", Sampling(), (1,), contributes=None) for _ in range(2))
        end = Generated((4, 5), (-1.0, -0.5), 1.0, "stop")
        assert store.finish_reply(waiting.id, "hi", end, 0.1, 0.2).behavior_logprobs == (-1.0, -0.5)
        store.set_consent(rater, contributes)
        store.finish_reply(writing.id, "hi", end, 0.1, 0.2)
        kept = (-1.0, -0.5) if contributes else ()
        assert [store.reply(r.id).behavior_logprobs for r in (reply, waiting, writing)] == [(-1.0, -0.5), kept, kept]      # the first was given
        assert store.reply(waiting.id).completion_ids == (4, 5)


def test_consent_given_while_a_reply_starts_covers_that_reply(server, monkeypatch):            # noqa: F811
    service, start = server.service, server.service.serving.stream

    def answer_meanwhile(*prompt_and_sampling):
        server.store.set_consent("me", True)
        return start(*prompt_and_sampling)

    monkeypatch.setattr(service.serving, "stream", answer_meanwhile)
    job = finished(service.send("me", None, "hello", unasked=None))
    assert server.store.reply(job.reply_id).contributes is True


def test_consent_that_comes_after_the_first_rating_covers_it(store):
    reply = add_reply(store, "me")
    turn = store.add_turn(reply.conversation_id, "again")
    waiting = store.start_reply(turn.id, 0, None, "base", "openvino", Sampling(), (1,), contributes=None)
    assert store.consent("me") is None and store.consent("nobody") is None
    store.set_consent("me", True)
    assert store.reply(waiting.id).contributes is True and store.consent("me") is True


def test_an_export_holds_all_that_is_kept_of_a_person_and_nothing_of_others(store, tmp_path):
    mine, other = add_reply(store, "me", message="my question", text="my answer"), add_reply(store, "you", message="your question")
    store.add_rating(mine.id, "me", "thumb", 1)
    store.add_rating(mine.id, "me", "thumb", -1)
    store.add_reasons(mine.id, "me", ["wrong"], "my reason")
    version = publish(store, tmp_path, receipt(store, mine))
    data = json.loads(json.dumps(store.export("me")))
    [reply] = data["conversations"][0]["turns"][0]["replies"]
    assert data["conversations"][0]["turns"][0]["message"] == "my question" and reply["text"] == "my answer"
    assert [event["value"] for event in reply["ratings"]] == [1, -1]
    assert (reply["reasons"][0]["tags"], reply["reasons"][0]["comment"], reply["helped_to_make_versions"]) == (["wrong"], "my reason", [version])
    assert "your question" not in str(data) and other.id not in str(data)


def test_deleting_everything_reaches_the_weights_at_the_next_version_and_says_which(store, tmp_path):
    mine, other = add_reply(store, "me", message="my question"), add_reply(store, "you")
    for reply, rater in ((mine, "me"), (other, "you")):
        store.add_rating(reply.id, rater, "thumb", 1)
    publish(store, tmp_path, receipt(store, mine), receipt(store, other))
    assert store.erasure("me", "base") is None
    store.delete_everything("me")
    assert trained(store) == [other.id] and store.fresh_ratings("base") == 1
    assert store.erasure("me", "base") == Erasure(1, True, ())
    second = publish(store, tmp_path, receipt(store, other))
    assert store.erasure("me", "base") == Erasure(1, True, (second,))
    assert store.export("me")["conversations"] == [] and "my question" not in str([tuple(row) for row in store.rows("SELECT * FROM turns")])


def test_somebody_whose_ratings_trained_nothing_is_told_so_at_once(server):         # noqa: F811
    job = finished(server.service.send("me", None, "hello"))
    server.service.rate("me", job.reply_id, "thumb", 1)
    assert server.service.belongings.erasure("me") is None
    assert server.service.belongings.delete_everything("me") == {"state": "gone", "version": None, "ratings": 1}
    assert server.store.conversations("me") == []


def test_a_deletion_is_done_only_while_a_version_made_without_it_answers(server):   # noqa: F811
    store, base, belongings = server.store, server.base, server.service.belongings
    mine, other = (finished(server.service.send(rater, None, "hello")).reply_id for rater in ("me", "you"))

    def publish(*replies):
        run = store.start_run(base.id, "shell")
        for reply_id in replies:
            store.add_rating(reply_id, store.reply(reply_id).rater_id, "thumb", 1)
        number = server.registry.publish(lambda folder: write_random_adapter(base, folder, seed=len(replies)), base_model=base.id, run_id=run.id,
                                         parent=store.live_version(base.id), receipts=[receipt(store, store.reply(reply_id)) for reply_id in replies]).number
        store.finish_run(run.id, "published", version=number)
        return number

    answers = lambda version: until(lambda: server.serving.version == version)
    first = publish(mine, other)
    answers(first)
    assert belongings.delete_everything("me") == {"state": "waiting", "version": None, "ratings": 1}
    second = publish(other)
    assert belongings.erasure("me")["state"] == "waiting" or server.serving.version == second        # published, and not yet what answers
    answers(second)
    assert belongings.erasure("me") == {"state": "gone", "version": second, "ratings": 1}
    store.promote(first, base.id, "maintainer")
    assert belongings.erasure("me")["state"] == "waiting"
    answers(first)
    assert belongings.erasure("me")["state"] == "waiting"
    store.promote(second, base.id, "maintainer")
    store.mark_failed(second, ChatError("It cannot be loaded."))                   # the one before it holds what was deleted, so it does not answer
    answers(0)
    assert belongings.erasure("me")["state"] == "gone"


@pytest.mark.parametrize("source", ["reasons", "corrections", "comparisons"])
def test_whatever_a_person_said_that_trained_is_known_to_have_trained_when_they_delete_everything(store, tmp_path, source):
    first = add_reply(store, "me")
    second = store.finish_reply(store.start_reply(first.turn_id, 0, None, "base", "openvino", Sampling(), (1,)).id, "another", Generated((7,), (-1.0,), 1.0, "stop"), 0.1, 0.2)
    add_reply(store, "you")
    store.add_reasons(second.id, "me", ["wrong"])
    store.add_correction(second.id, "me", "better so")
    store.add_comparison(first.id, second.id, "me", "first")
    publish(store, tmp_path, replace(receipt(store, second), feedback_ids={source: [1]}))      # of a comparison either reply may have trained
    assert not store.delete_everything("you").trained and store.delete_everything("me").trained

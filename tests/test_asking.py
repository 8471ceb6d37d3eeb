"""When the app asks for a comparison by itself."""

import pytest

from chat_app.asking import is_least_sure, sureness_of
from chat_app.engines.streams import FedStream
from chat_app.places import Places
from chat_app.prompts import answer_of
from chat_app.replies import ReplyJob
from data.store import Store
from tests.factories import add_reply
from tests.test_service import Server, finished
from tests.waiting import until


def test_a_twentieth_of_twenty_is_the_one_that_is_less_sure_than_all_others():
    recent = [-float(n) for n in range(1, 20)]                     # -1 ... -19: with the new one twenty, of which one is asked about
    assert is_least_sure(-19.5, recent, 0.05)
    assert not is_least_sure(-18.5, recent, 0.05)                  # rank 2 > 0.05 * 20
    assert is_least_sure(-18.5, recent, 0.1)                       # rank 2 <= 2
    assert not is_least_sure(-19.5, recent[1:], 0.05)              # 0.05 * 19 < 1: too few to tell a twentieth
    assert not is_least_sure(-19.0, recent, 0.05)                  # no surer than another one, and no less sure


@pytest.mark.parametrize(("share", "asked"), [(0.0, 0), (0.05, 2), (0.049, 1), (0.5, 20), (1.0, 40)])
def test_over_all_ranks_the_share_is_kept_and_never_passed(share, asked):
    replies = [-n / 7 for n in range(40)]
    assert sum(is_least_sure(one, [other for other in replies if other != one], share) for one in replies) == asked


def test_sureness_is_the_mean_log_prob_and_held_against_what_contributes_of_the_same_model(tmp_path):
    store = Store(tmp_path / "chat.db")
    old = [add_reply(store, logprobs=(-1.0, -2.0 * n)) for n in range(3)]
    add_reply(store, base_model="another")
    store.db["replies"].update(old[1].id, {"contributes": 0})
    new = add_reply(store, logprobs=(-3.0, -0.5))
    assert sureness_of(new) == -1.75
    assert store.recent_sureness(new, 10) == [-2.5, -0.5]
    assert store.recent_sureness(new, 1) == [-2.5]


@pytest.fixture
def curious(endless_base, tmp_path):
    """A server that asks on every turn; a reply is over after 60 tokens unless it is cut short."""
    server = Server(endless_base, tmp_path, max_new_tokens=60, compare_share=1.0)
    yield server
    server.close()


def attempts(server, rater, conversation):
    return server.store.conversation(conversation, rater).turns[-1].replies


def test_for_somebody_who_contributes_a_second_attempt_is_written_aside_and_changes_nothing_they_see(curious):
    curious.store.set_consent("me", True)
    job = finished(curious.service.send("me", None, "hello"))
    until(lambda: [reply.state for reply in attempts(curious, "me", job.conversation_id)] == ["done", "done"])
    first, second = attempts(curious, "me", job.conversation_id)
    assert (first.aside, second.aside) == (False, True) and first.prompt_ids == second.prompt_ids and second.contributes
    assert curious.service.running(job.conversation_id) is None
    assert answer_of(curious.store.conversation(job.conversation_id).turns[0]) == first.text
    curious.service.compare("me", first.id, second.id, "second", "app")
    assert answer_of(curious.store.conversation(job.conversation_id).turns[0]) == second.text


def test_nobody_else_is_asked_and_no_other_attempt(curious):
    curious.store.set_consent("no", False)
    jobs = [finished(curious.service.send(rater, None, "hello")) for rater in ("no", "not asked")]
    curious.store.set_consent("me", True)
    mine = finished(curious.service.send("me", None, "hello"))
    until(lambda: len(attempts(curious, "me", mine.conversation_id)) == 2)
    finished(curious.service.regenerate("me", mine.conversation_id))
    until(lambda: all(reply.state == "done" for reply in attempts(curious, "me", mine.conversation_id)))
    curious.close()                                                # whatever was about to begin has begun
    assert [reply.aside for reply in attempts(curious, "me", mine.conversation_id)] == [False, True, False]
    assert [len(curious.store.conversation(job.conversation_id).turns[0].replies) for job in jobs] == [1, 1]


def test_it_gives_way_to_whoever_wants_an_answer():
    class Job:
        conversation_id, done, unsaved, cancelled = "mine", False, False, False

        def start(self):
            pass

        def cancel(self):
            self.cancelled = True

    places, aside, refused = Places(2), Job(), []
    places.fill_aside(lambda: aside)
    assert not aside.cancelled and aside in places.all() and places.running("mine") is None
    with places.reserve("mine"):                                   # its own conversation too goes on at once
        assert aside.cancelled
        places.fill_aside(lambda: refused.append(1))               # not while somebody is answered
    assert refused == []


def test_a_reply_that_ends_before_its_message_is_answered_for_gets_a_second_attempt_too(curious, monkeypatch):
    curious.store.set_consent("me", True)
    start = ReplyJob.start

    def start_and_end(job):
        """Slower to return than the whole reply is to write."""
        start(job)
        until(lambda: job.done)

    monkeypatch.setattr(ReplyJob, "start", start_and_end)
    job = curious.service.send("me", None, "hello")
    until(lambda: len(attempts(curious, "me", job.conversation_id)) == 2)


def test_a_second_attempt_ends_at_once_when_somebody_sends_a_message(endless_base, tmp_path, monkeypatch):
    server, streams, feed = Server(endless_base, tmp_path, max_new_tokens=60, compare_share=1.0, max_streams=1), [], FedStream.feed

    def feed_and_pause(stream, ids, logprobs):
        """The second reply stops in the middle until it is cancelled, so that no clock can end it before."""
        feed(stream, ids, logprobs)
        if stream not in streams:
            streams.append(stream)
        if len(streams) == 2 and stream is streams[1]:
            until(lambda: stream.cancelled)

    monkeypatch.setattr(FedStream, "feed", feed_and_pause)
    try:
        server.store.set_consent("me", True)
        job = finished(server.service.send("me", None, "hello"))
        until(lambda: len(attempts(server, "me", job.conversation_id)) == 2 and len(streams) == 2)
        assert finished(server.service.send("you", None, "me too")).error is None
        until(lambda: attempts(server, "me", job.conversation_id)[1].state == "done")
        second = attempts(server, "me", job.conversation_id)[1]
        assert second.finish_reason == "cancelled" and len(second.completion_ids) < 60
    finally:
        server.close()

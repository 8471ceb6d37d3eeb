"""When the app asks for a comparison by itself."""

import math

import pytest

from chat_app.asking import Asking, is_least_sure, sureness_of
from chat_app.engines.streams import FedStream
from chat_app.places import Places
from chat_app.prompts import answer_of
from chat_app.replies import ReplyJob
from data.errors import Busy
from data.records import AskingHeads
from data.settings import Settings
from data.store import Store
from data.store.asking import RECENT_LIKE
from data.texts.reply_features import FEATURES, reply_features
from tests.support.factories import add_reply
from tests.support.service_fixtures import Server, finished
from tests.support.waiting import until


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


def test_without_a_model_of_the_ratings_sureness_is_the_mean_log_prob():
    assert sureness_of([reply_features_of(logprobs=(-3.0, -0.5)), reply_features_of(logprobs=(-1.0,))], None) == [-1.75, -1.0]


def reply_features_of(**reply) -> list[float]:
    """Zeros but for what is said."""
    logprobs = reply["logprobs"]
    values = {"mean_logprob": sum(logprobs) / len(logprobs), "least_logprob": min(logprobs)}
    return [values.get(name, 0.0) for name in FEATURES]


def test_with_one_it_is_how_little_its_heads_disagree():
    # One feature, standardised to (x - 2) / 4: 1 at x = 6, where sigmoid(log 3) = 3/4 and sigmoid(-log 3) = 1/4, so q is 1/2 and -1/2
    # and their std sqrt((1/4 + 1/4) / (2 - 1)); 0 at x = 2, where both heads say 0.
    heads = AskingHeads("run", 40, 0.5, mean=(2.0,), spread=(4.0,), heads=((0.0, math.log(3)), (0.0, -math.log(3))))
    assert sureness_of([[6.0], [2.0]], heads) == pytest.approx([-math.sqrt(0.5), 0.0])
    agreed = AskingHeads("run", 40, 0.5, mean=(2.0,), spread=(4.0,), heads=((math.log(3), 0.0), (math.log(3), 0.0)))
    assert sureness_of([[6.0], [-50.0]], agreed) == [0.0, 0.0]


def test_the_features_of_a_reply_by_hand(tmp_path):
    reply = add_reply(Store(tmp_path / "chat.db"), text="You ask, I say:\n- 12 Oak trees\n- 3 *big* ones! Is that 你想要的？",
                      prompt_ids=(1, 5, 6), completion_ids=(5, 6, 5, 6, 5, 6, 2), logprobs=(-1.0, -2.0, -3.0, -1.0, -1.0, -5.0, -1.0))
    found = dict(zip(FEATURES, reply_features(reply), strict=True))
    words = ["you", "ask", "i", "say", "oak", "trees", "big", "ones", "is", "that", *"你想要的"]                        # 14 of them
    letters = sum(map(len, words))
    assert found == pytest.approx({
        "log_tokens": math.log(7), "ended": 1.0, "repeated": 0.25,                                 # 5656 6565 5656 6562: one of four was there before
        "list_items": math.log(3), "lines": math.log(4), "numbers": math.log(3), "questions": 1 / 1.4, "exclamations": 1 / 1.4,
        "you": 2 / 1.4, "me": 1 / 1.4, "word_length": letters / 14, "capitals": 10 * 4 / letters, "punctuation": 2 / 1.4, "marks": math.log(3),
        "from_prompt": 2 / 3, "takes_up_prompt": 2 / 3, "mean_logprob": -2.0, "least_logprob": -5.0, "log_prompt_tokens": math.log(4)})
    cut = add_reply(Store(tmp_path / "chat.db"), completion_ids=(5, 6), finish_reason="length")
    assert reply_features(cut)[:2] == pytest.approx((math.log(3), 0.0))


def test_a_reply_is_held_against_the_newest_that_contribute_of_the_same_model_found_by_an_index(tmp_path):
    store = Store(tmp_path / "chat.db")
    old = [add_reply(store) for _ in range(3)]
    add_reply(store, base_model="another")
    add_reply(store, logprobs=())                                  # imported, or erased
    store.db["replies"].update(old[1].id, {"contributes": 0})
    new = add_reply(store)
    assert store.recent_like(new, 10) == [old[2].id, old[0].id]
    assert store.recent_like(new, 1) == [old[2].id]
    plan = [row["detail"] for row in store.rows(f"EXPLAIN QUERY PLAN {RECENT_LIKE}", "base", new.id, 300)]
    assert plan == ["SEARCH replies USING INDEX replies_to_ask_about (base_model=?)"]            # and no sort


def asked_about(store, reply, share: float) -> bool:
    """Whether a server asks for a comparison when this reply ends."""
    asked = []

    def attempt(reply):
        asked.append(reply.id)
        raise Busy("Not now.")

    Asking(store, Places(1), Settings(compare_share=share), attempt).reply_ended(reply.id)
    return asked == [reply.id]


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
    with places.reserve("mine", "me"):                                   # its own conversation too goes on at once
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

import json
import multiprocessing
import sqlite3
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import BadRating, NotYourReply, StorageFull, UnknownConversation, UnknownReply
from data.records import Generated, Progress, Sampling
from data.store import Store, runs
from tests.support.factories import add_reply


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "chat.db")


def test_a_reply_keeps_everything_that_was_known_when_it_was_sampled(store):
    rater = store.ensure_rater("me")
    turn = store.add_turn(store.new_conversation(rater).id, "What is a tide?")
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=40, max_new_tokens=5, seed=11)
    started = store.start_reply(turn.id, 3, "ab" * 32, "base", "openvino", sampling, (7, 8), dropped_turns=2)
    assert started.state == "streaming" and started.attempt == 0
    store.finish_reply(started.id, "The sea.", Generated((9, 2), (-0.25, -1.5), 1.0, "stop"), 0.1, 0.9)
    reply = Store(store.path).reply(started.id)
    assert reply.sampling == sampling and reply.prompt_ids == (7, 8) and reply.completion_ids == (9, 2)
    assert reply.behavior_logprobs == (-0.25, -1.5) and reply.logprobs_temperature == 1.0
    assert (reply.version, reply.adapter_sha256, reply.base_model, reply.engine) == (3, "ab" * 32, "base", "openvino")
    assert (reply.finish_reason, reply.dropped_turns, reply.first_token_seconds, reply.seconds) == ("stop", 2, 0.1, 0.9)


def test_regenerating_keeps_the_earlier_attempt_and_its_ratings(store):
    rater = store.ensure_rater("me")
    first = add_reply(store, rater)
    store.add_rating(first.id, rater, "thumb", -1)
    second = store.start_reply(first.turn_id, 0, None, "base", "openvino", Sampling(), (1,))
    assert (first.attempt, second.attempt) == (0, 1)
    assert store.ratings_of(rater, first.conversation_id) == {first.id: {"thumb": -1}}
    assert [r.id for r in store.conversation(first.conversation_id).turns[0].replies] == [first.id, second.id]


def test_changing_ones_mind_and_taking_back_are_events_and_only_the_newest_is_current(store):
    reply = add_reply(store, "me")
    assert store.add_rating(reply.id, "me", "thumb", 1) == {"thumb": 1}
    assert store.add_rating(reply.id, "me", "stars", 4) == {"thumb": 1, "stars": 4}
    assert store.add_rating(reply.id, "me", "thumb", -1) == {"thumb": -1, "stars": 4}
    assert store.add_rating(reply.id, "me", "stars", 0) == {"thumb": -1}
    events = [(row["kind"], row["value"]) for row in store.rows("SELECT kind, value FROM ratings ORDER BY id")]
    assert events == [("thumb", 1), ("stars", 4), ("thumb", -1), ("stars", 0)]


def test_the_same_rating_twice_is_one_event(store):
    reply = add_reply(store, "me")
    for _ in range(3):
        store.add_rating(reply.id, "me", "stars", 5)
    store.add_rating(reply.id, "me", "thumb", 0)
    assert store.row("SELECT count(*) AS n FROM ratings")["n"] == 1


@pytest.mark.parametrize("kind, value", [("stars", 6), ("stars", -1), ("stars", "five"), ("stars", 2.5), ("thumb", 2), ("thumb", None),
                                         ("thumb", True), ("stars", float("nan")), ("hearts", 1), (None, 1), ("stars", [3])])
def test_a_rating_that_does_not_exist_is_refused_and_nothing_is_written(store, kind, value):
    reply = add_reply(store, "me")
    with pytest.raises(BadRating):
        store.add_rating(reply.id, "me", kind, value)
    assert store.row("SELECT count(*) AS n FROM ratings")["n"] == 0


def test_only_the_person_who_was_shown_a_reply_may_rate_it(store):
    reply = add_reply(store, "me")
    with pytest.raises(NotYourReply):
        store.add_rating(reply.id, store.ensure_rater("somebody else"), "thumb", -1)
    with pytest.raises(UnknownReply):
        store.add_rating("no such reply", "me", "thumb", -1)
    with pytest.raises(UnknownConversation):
        store.conversation(reply.conversation_id, "somebody else")
    assert store.rated_replies("base") == []


EVENTS = st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from([("thumb", -1), ("thumb", 0), ("thumb", 1), ("stars", 0), ("stars", 1), ("stars", 5)])), max_size=12)


@settings(max_examples=25)
@given(EVENTS)
def test_what_is_current_is_the_newest_event_of_each_kind_whatever_the_order(tmp_path_factory, events):
    store = Store(tmp_path_factory.mktemp("events") / "chat.db")
    replies = {rater: add_reply(store, rater) for rater in ("ann", "bob")}
    newest = {}
    for rater, (kind, value) in events:
        newest[rater, kind] = value
        store.add_rating(replies[rater].id, rater, kind, value)
    expected = {(replies[rater].id, kind, value) for (rater, kind), value in newest.items() if value != 0}
    found = {(rating.reply_id, rating.kind, rating.value) for rated in store.rated_replies("base") for rating in rated.ratings}
    assert found == expected
    assert store.fresh_ratings("base") == len(expected)


def test_fresh_ratings_are_those_that_differ_from_what_the_last_finished_run_saw(store):
    replies = [add_reply(store, "me") for _ in range(3)]
    store.add_rating(replies[0].id, "me", "thumb", 1)
    store.add_rating(replies[1].id, "me", "thumb", 1)
    assert store.fresh_ratings("base") == 2
    run = store.start_run("base", "shell")
    store.add_rating(replies[2].id, "me", "stars", 2)                 # arrives while the run goes on
    store.finish_run(run.id, "failed", error="broke")
    assert store.fresh_ratings("base") == 3                           # a failed run has learnt nothing
    run = store.start_run("base", "shell")
    store.finish_run(run.id, "published")
    assert store.fresh_ratings("base") == 0
    store.add_rating(replies[0].id, "me", "thumb", 0)                 # taken back: the next version must forget it
    store.add_rating(replies[1].id, "me", "thumb", -1)
    assert store.fresh_ratings("base") == 2
    store.add_rating(replies[1].id, "me", "thumb", 1)                 # back to what the run saw
    assert store.fresh_ratings("base") == 1
    assert store.fresh_ratings("another base") == 0


def test_unfinished_and_empty_replies_are_never_training_data(store):
    rater = store.ensure_rater("me")
    turn = store.add_turn(store.new_conversation(rater).id, "hello")
    broken = store.start_reply(turn.id, 0, None, "base", "openvino", Sampling(), (1,))
    store.fail_reply(broken.id, "half", "the engine broke")
    empty = store.start_reply(turn.id, 0, None, "base", "openvino", Sampling(), (1,))
    store.finish_reply(empty.id, "", Generated((), (), 1.0, "cancelled"), None, 0.1)
    for reply in (broken, empty):
        store.add_rating(reply.id, rater, "thumb", -1)
    assert store.rated_replies("base") == []


def test_replies_of_a_process_that_is_gone_are_closed_at_the_next_start(store):
    process = multiprocessing.get_context("spawn").Process(target=_start_a_reply, args=(store.path,))
    process.start()
    process.join()
    mine = store.start_reply(store.add_turn(store.new_conversation(store.ensure_rater("me")).id, "x").id, 0, None, "base", "openvino", Sampling(), (1,))
    store.finish_reply(mine.id, "done", Generated((1,), (-1.0,), 1.0, "stop"), 0.1, 0.1)
    assert store.fail_interrupted_replies() == 1
    assert [row["state"] for row in store.rows("SELECT state FROM replies ORDER BY started_at")] == ["failed", "done"]


def _start_a_reply(path):
    store = Store(path)
    turn = store.add_turn(store.new_conversation(store.ensure_rater("me")).id, "hello")
    store.save_partial(store.start_reply(turn.id, 0, None, "base", "openvino", Sampling(), (1,)).id, "half a re")


def test_the_copy_of_a_growing_reply_waits_for_no_disk_and_what_is_answered_with_saved_does(store):
    reply = store.start_reply(store.add_turn(store.new_conversation(store.ensure_rater("me")).id, "x").id, 0, None, "base", "openvino", Sampling(), (1,))
    how = lambda: store.db.conn.execute("PRAGMA synchronous").fetchone()[0]
    assert store.save_partial(reply.id, "half a re") and how() == 1   # NORMAL
    assert Store(store.path).reply(reply.id).text == "half a re"      # what another process sees, also after this one was killed
    store.finish_reply(reply.id, "half a reply", Generated((1,), (-1.0,), 1.0, "stop"), 0.1, 0.1)
    assert how() == 2                                                 # FULL
    assert store.save_partial(reply.id, "late") and store.reply(reply.id).text == "half a reply"
    store.add_rating(reply.id, "me", "thumb", 1)
    assert how() == 2


def test_forty_threads_and_two_connections_lose_no_rating(store):
    replies = [add_reply(store, "me") for _ in range(40)]
    other = Store(store.path)
    threads = [threading.Thread(target=(store if n % 2 else other).add_rating, args=(reply.id, "me", "stars", 1 + n % 5)) for n, reply in enumerate(replies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(rated.ratings) for rated in store.rated_replies("base")) == 40


def test_one_learner_at_a_time_and_a_dead_ones_lease_runs_out(store):
    assert store.acquire_lease("learner", "a", 60)
    assert store.acquire_lease("learner", "a", 60)                    # renewing is acquiring again
    assert not store.acquire_lease("learner", "b", 60)
    assert store.acquire_lease("learner", "a", -1)                    # as if its time had passed
    assert store.acquire_lease("learner", "b", 60)
    store.release_lease("learner", "a")                               # not a's any more
    assert not store.acquire_lease("learner", "a", 60)
    store.release_lease("learner", "b")
    assert store.acquire_lease("learner", "a", 60)


def test_a_lease_that_was_taken_while_the_clock_was_ahead_is_nobodys(store, monkeypatch):
    today = time.time()
    monkeypatch.setattr(time, "time", lambda: today + 365 * 24 * 3600)
    assert store.acquire_lease("learner", "killed then", 120)
    monkeypatch.setattr(time, "time", lambda: today)
    assert store.acquire_lease("learner", "b", 120)
    assert not store.acquire_lease("learner", "c", 120)


def test_the_last_run_is_the_one_that_was_written_down_last_also_after_one_from_the_future(store, monkeypatch):
    reply = add_reply(store, "me")
    store.add_rating(reply.id, "me", "thumb", 1)
    monkeypatch.setattr(runs, "now", lambda: "2099-01-01T00:00:00.000000+00:00")
    store.finish_run(store.start_run("base", "shell").id, "refused")
    monkeypatch.undo()
    store.add_rating(reply.id, "me", "thumb", -1)
    assert store.fresh_ratings("base") == 1
    run = store.finish_run(store.start_run("base", "ratings").id, "published")
    assert store.fresh_ratings("base") == 0, "else there would be one run after the other until 2099"
    assert (store.last_run("base").id, store.runs()[0].id, store.last_verdict("base")["id"]) == (run.id,) * 3


def test_pressing_the_training_button_twice_asks_once(store):
    store.request_training("maintainer")
    store.request_training("maintainer")
    assert store.waiting_request() == "maintainer"
    store.finish_run(store.start_run("base", "maintainer").id, "stopped")
    assert store.waiting_request() is None                            # the run that starts answers it
    store.request_training("maintainer")
    store.request_stop()                                              # a request that no run answers yet is withdrawn
    assert store.waiting_request() is None


def test_a_run_shows_where_it_is_and_hears_that_it_should_stop(store):
    run = store.start_run("base", "maintainer")
    assert not store.stop_requested(run.id)
    store.progress(run.id, Progress("train", 3, 10, 0.5, 0.1, 0.01, 42.0))
    assert store.last_run("base").progress == Progress("train", 3, 10, 0.5, 0.1, 0.01, 42.0)
    store.request_stop()
    assert store.stop_requested(run.id)
    assert [each.id for each in store.open_runs()] == [run.id]


def test_an_old_database_is_brought_up_to_date_and_an_up_to_date_one_is_left_alone(tmp_path):
    from sqlite_utils import Database

    from data.store.migrations import m001_people_and_chat, migrations

    old = Database(sqlite3.connect(tmp_path / "chat.db", isolation_level=None))
    migrations.apply(old, stop_before="m002_ratings_are_events")
    assert m001_people_and_chat.__name__ in [m.name for m in migrations.applied(old)] and "ratings" not in old.table_names()
    old.close()
    store = Store(tmp_path / "chat.db")
    assert store.add_rating(add_reply(store, "me").id, "me", "thumb", 1) == {"thumb": 1}
    before = store.rows("SELECT name, sql FROM sqlite_master ORDER BY name")
    assert Store(tmp_path / "chat.db").rows("SELECT name, sql FROM sqlite_master ORDER BY name") == before


def test_runs_that_named_people_in_doubt_still_do_after_an_update_until_one_deletes_everything(tmp_path):
    from sqlite_utils import Database

    from data.store.migrations import migrations

    old = Database(sqlite3.connect(tmp_path / "chat.db", isolation_level=None))
    migrations.apply(old, stop_before="m018_weights_of_all_raters")
    doubted = [{"rater": "foe", "ratings": 12, "honest": 0.01}, {"rater": "ben", "ratings": 9, "honest": 0.4}]
    for number, report in enumerate(({"data": {"replies": 3, "raters_in_doubt": doubted}}, {"reason": "Nothing to do."}, {})):
        old["runs"].insert({"id": str(number), "base_model": "base", "state": "published", "trigger": "shell", "started_at": "", "progress": json.dumps({"stage": "end"}), "ratings_seen": 0, "report": json.dumps(report)})
    old.close()
    store = Store(tmp_path / "chat.db")
    assert store.run("0").report == {"data": {"replies": 3, "rater_weights": doubted}}
    assert store.run("1").report == {"reason": "Nothing to do."} and store.run("2").report == {}
    store.delete_everything("foe")
    assert store.run("0").report["data"]["rater_weights"] == doubted[1:]


def test_who_deletes_everything_while_a_run_goes_on_is_not_in_its_report(store):
    add_reply(store, "went"), add_reply(store, "went before"), add_reply(store, "stays")
    store.delete_everything("went before")                            # and came back since
    run = store.start_run("base", "shell")
    store.delete_everything("went")
    report = {"reason": "It passed.", "data": {"replies": 3, "rater_weights": [{"rater": rater} for rater in ("went", "went before", "stays")]}}
    found = store.finish_run(run.id, "published", report=report).report
    assert found == {"reason": "It passed.", "data": {"replies": 3, "rater_weights": [{"rater": "went before"}, {"rater": "stays"}]}}


def test_a_full_disk_refuses_a_rating_keeps_what_was_saved_and_takes_it_when_there_is_room(store):
    reply = add_reply(store, "me")
    store.add_rating(reply.id, "me", "thumb", 1)
    store.db.conn.execute(f"PRAGMA max_page_count = {store.row('PRAGMA page_count')[0]}")      # SQLite itself now answers "database or disk is full"
    saved = 0
    with pytest.raises(StorageFull, match="Nothing was saved because the disk .* is full"):
        for saved in range(10_000):                                       # the last pages have room for some
            store.add_rating(reply.id, "me", "stars", 1 + saved % 5)
    before = store.ratings_of("me", reply.conversation_id)[reply.id]
    assert before == ({"thumb": 1, "stars": 1 + (saved - 1) % 5} if saved else {"thumb": 1})
    store.db.conn.execute(f"PRAGMA max_page_count = {2**30}")
    store.add_rating(reply.id, "me", "stars", 3)
    assert store.ratings_of("me", reply.conversation_id)[reply.id] == {"thumb": 1, "stars": 3}

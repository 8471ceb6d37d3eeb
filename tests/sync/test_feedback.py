"""Feedback travels from hosts to the learner over a shared folder: once, no more than is needed, and back out when it is taken back."""

import os
import threading

import pytest

from data.sync.sync import LEASE
from tests.support.factories import add_reply
from tests.support.hosts import hosts, place, rounds, said_everything, texts_in  # noqa: F401


def test_what_people_say_on_two_hosts_is_what_the_learner_trains_on_once(hosts, place):
    a, b, learner = hosts
    said_everything(a), said_everything(b)
    rounds(a, b, learner)
    assert learner.trained() == {**a.trained(), **b.trained()} and len(learner.trained()) == 4
    rounds(a, b, learner, learner)
    assert learner.store.fresh_ratings("base") == a.store.fresh_ratings("base") + b.store.fresh_ratings("base")
    [reply, *_] = a.trained()
    there, here = learner.store.reply(reply), a.store.reply(reply)
    for name in ("text", "prompt_ids", "completion_ids", "behavior_logprobs", "sampling", "logprobs_temperature", "engine", "started_at", "task", "version"):
        assert getattr(there, name) == getattr(here, name), name


def test_a_text_with_any_kind_of_line_end_in_it_arrives_as_it_was(hosts):
    a, _, learner = hosts
    text = "".join(map(chr, [*range(1, 32), 0x85, 0x2028, 0x2029, 0x1F600])) + "\r\n"
    reply = add_reply(a.store, "me", text=text)
    a.store.add_correction(reply.id, "me", f"a{text}b")
    rounds(a, learner)
    assert learner.trained() == a.trained() != {} and learner.store.reply(reply.id).text == text


def test_a_learner_started_by_hand_waits_for_the_round_of_another_process_on_its_folder(hosts):
    a, _, learner = hosts
    said_everything(a)
    a.sync.round()
    assert learner.store.acquire_lease(LEASE, "another process", 120)
    learner.sync.round(patience=0.2)
    assert not learner.trained(), "two processes deal with the place at a time"
    waiting = threading.Thread(target=learner.sync.round, args=(60,))
    waiting.start()
    learner.store.release_lease(LEASE, "another process")
    waiting.join(30)
    assert learner.trained() == a.trained() != {}


def test_no_more_leaves_a_host_than_the_learner_needs(hosts, place):
    a, _, _ = hosts
    first, _ = said_everything(a)
    a.store.set_consent("private", False)
    private = add_reply(a.store, "private", text="my secret")
    with a.store.write() as db:
        db["replies"].update(private.id, {"contributes": 0})
    a.store.add_rating(private.id, "private", "thumb", 1)
    add_reply(a.store, "unrated", text="never rated")
    rounds(a)
    left, [exported] = texts_in(place), a.store.export("me")["conversations"]
    assert "better so" in left and "my answer" in left and all(reply["sent_to_the_learner_at"] for reply in exported["turns"][0]["replies"])
    assert a.store.export("private")["conversations"][0]["turns"][0]["replies"][0]["sent_to_the_learner_at"] is None
    for kept in ('"me"', "my question", "my phone rang", "my secret", "never rated", private.id, first.conversation_id, os.uname().nodename):
        assert kept not in left, kept


def test_a_rating_waits_for_consent_and_for_the_end_of_its_reply(hosts):
    a, _, learner = hosts
    reply = add_reply(a.store, "me")
    with a.store.write() as db:
        db["replies"].update(reply.id, {"contributes": None, "state": "streaming"})
    a.store.add_rating(reply.id, "me", "thumb", 1)
    rounds(a, learner)
    a.store.set_consent("me", True)
    rounds(a, learner)
    assert learner.trained() == {}
    with a.store.write() as db:
        db["replies"].update(reply.id, {"state": "done"})
    rounds(a, learner)
    assert learner.trained() == {reply.id: [("thumb", 1)]}


@pytest.mark.parametrize("gathered_before", [True, False])
def test_what_is_deleted_leaves_the_shared_place_and_the_learner(hosts, place, gathered_before):
    a, b, learner = hosts
    first, _ = said_everything(a)
    kept = add_reply(a.store, "other", text="to stay")
    a.store.add_rating(kept.id, "other", "thumb", 1)
    rounds(a, learner) if gathered_before else rounds(a)
    learner.store.finish_run(learner.store.start_run("base", "shell").id, "published")
    a.store.delete_everything("me")
    rounds(a)
    left = texts_in(place)
    assert "my answer" not in left and "better so" not in left and "to stay" in left
    rounds(learner)
    assert learner.trained() == {kept.id: [("thumb", 1)]}
    assert learner.store.fresh_ratings("base") >= 1
    everything = str([tuple(row) for table in ("replies", "turns", "corrections", "reasons") for row in learner.store.rows(f"SELECT * FROM {table}")])
    assert "my answer" not in everything and "better so" not in everything
    assert first.id not in learner.trained()


def test_a_learner_that_reads_between_two_steps_of_a_deletion_stumbles_over_nothing(hosts, place):
    a, _, learner = hosts
    reply = add_reply(a.store, "me")
    a.store.add_rating(reply.id, "me", "thumb", 1)
    rounds(a)
    a.store.add_rating(reply.id, "me", "stars", 5)
    rounds(a)
    shards = place / "feedback" / a.store.host_id() / "000000"
    [second] = shards.glob("000000002-*")
    old = second.read_bytes()
    a.store.delete_everything("me")
    rounds(a)
    for later in (*shards.glob("000000002-*"), *shards.glob("000000003-*")):
        later.rename(later.with_suffix(".later"))
    second.write_bytes(old)                               # the first is written again without the reply, the second still speaks of it
    rounds(learner)
    assert learner.store.next_shard("feedback", a.store.host_id()) == 3 and learner.trained() == {}
    for later in shards.glob("*.later"):
        later.rename(later.with_suffix(".gz"))
    rounds(learner)
    assert learner.store.next_shard("feedback", a.store.host_id()) == 4 and learner.trained() == {}


def test_a_consent_that_is_withdrawn_and_given_again_travels_both_times(hosts, place):
    a, _, learner = hosts
    reply = add_reply(a.store, "me", text="my answer")
    a.store.add_rating(reply.id, "me", "stars", 4)
    for contributes, trains in ((1, True), (0, False), (1, True), (0, False)):
        with a.store.write() as db:
            db["replies"].update(reply.id, {"contributes": contributes})
        rounds(a, learner)
        assert learner.trained() == ({reply.id: [("stars", 4)]} if trains else {})
        assert ("my answer" in texts_in(place)) is trains


def weighed(host) -> list[str]:
    """Of whom the host's only run says how far it trusts them."""
    [run] = host.store.runs()
    return [one["rater"] for one in run.report["data"]["rater_weights"]]


def test_who_deletes_everything_on_their_host_is_in_no_report_of_the_learners(hosts):
    a, b, learner = hosts
    said_everything(a), said_everything(b)
    for word in ("one more", "and one"):
        a.store.add_rating(add_reply(a.store, "me", text=word).id, "me", "thumb", 1)
    rounds(a, b, learner)
    people = [a.store.pseudonym("me"), b.store.pseudonym("me")]
    learner.store.finish_run(learner.store.start_run("base", "shell").id, "refused", report={"data": {"rater_weights": [{"rater": rater} for rater in people]}})
    a.store.delete_conversation(a.store.history("me")[-1].id, "me")
    rounds(a, learner)
    assert weighed(learner) == people                        # something of theirs is left
    a.store.delete_everything("me")
    rounds(a, learner)
    assert weighed(learner) == people[1:] and people[0] not in learner.store.row("SELECT report FROM runs")["report"]


def test_who_deletes_everything_on_their_host_while_a_run_goes_on_is_not_in_its_report_either(hosts):
    a, b, learner = hosts
    said_everything(a), said_everything(b)
    rounds(a, b, learner)
    run, people = learner.store.start_run("base", "shell"), [a.store.pseudonym("me"), b.store.pseudonym("me")]
    a.store.delete_everything("me")
    rounds(a, learner)
    learner.store.finish_run(run.id, "published", report={"reason": "It passed.", "data": {"replies": 2, "rater_weights": [{"rater": rater} for rater in people]}})
    assert weighed(learner) == people[1:] and learner.store.run(run.id).report["data"]["replies"] == 2


def test_who_takes_a_second_opinion_back_by_deleting_everything_is_forgotten_once_that_has_arrived(hosts):
    a, _, learner = hosts
    a.store.set_consent("you", True), a.store.set_consent("me", True)
    theirs, mine = add_reply(a.store, "you"), add_reply(a.store, "me")
    with a.store.write() as db:
        db["second_opinions"].insert({"reply_id": theirs.id, "rater_id": "me", "event": "offered", "created_at": theirs.started_at})
    for reply in (theirs, mine):
        a.store.add_rating(reply.id, "me", "thumb", 1)
    rounds(a, learner)
    learner.store.finish_run(learner.store.start_run("base", "shell").id, "refused", report={"data": {"rater_weights": [{"rater": a.store.pseudonym("me")}]}})
    a.store.delete_everything("me")
    rounds(a, learner)
    assert weighed(learner) == []

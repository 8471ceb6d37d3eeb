"""Two hosts and a learner's, each a state folder, over a shared local folder."""

import json
import os
import shutil
import threading

import pytest

from chat_app.receipts import version_view
from data.adapters import WEIGHTS
from data.errors import BadSetting
from data.records import CorrectionReceipt, Outcome, ReceiptRow
from data.sync.place import PlaceUnreachable, SharedPlace
from data.sync.shards import BadShard
from data.sync.sync import LEASE
from tests.factories import add_reply
from tests.hosts import Host, rounds, said_everything, texts_in


@pytest.fixture
def place(tmp_path):
    return tmp_path / "place"


@pytest.fixture
def hosts(tmp_path, place):
    url = f"file://{place}"
    return Host(tmp_path / "a", url), Host(tmp_path / "b", url), Host(tmp_path / "learner", url, learner=True)


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


def test_a_version_reaches_every_host_with_its_files_its_receipts_and_the_same_number(hosts):
    a, b, learner = hosts
    first, _ = said_everything(a)
    said_everything(b)
    rounds(a, b, learner)
    there = {r.reply.id: r for r in learner.store.rated_replies("base")}[first.id]
    number = learner.publish(ReceiptRow(0, first.id, 0.5, 0.9, 0.25, -9.0, -7.0, tuple(r.id for r in there.ratings), {"reasons": [there.reasons[0].id], "comparisons": [there.comparisons[0].id]}),
                             corrected=[CorrectionReceipt(0, there.corrections[0].id, 1.0, 0.5, 0.5, 3, -5.0, -4.0)])
    rounds(learner, a, b)
    for host in (a, b):
        assert host.store.live_version("base") == number == 1
        assert (host.registry.verify(number) / "adapter_config.json").read_text() == "{}"
        assert host.store.version(number).sha256 == learner.store.version(number).sha256
    [receipt] = a.store.receipts(first.id)
    assert (receipt.reward, receipt.weight, receipt.logprob_after) == (0.5, 0.9, -7.0)
    assert {r.kind: r.value for r in a.store.used_ratings(receipt, "me")} == {"thumb": -1, "stars": 2}
    assert set(a.store.used_feedback(receipt, "me")) == {"ratings", "reasons", "comparisons", "corrected"}
    assert a.store.outcomes("me", first.conversation_id)[first.id] == Outcome(first.id, 1, None)
    assert version_view(b.store, number)["changed"] == version_view(learner.store, number)["changed"] != b.store.what_changed(number)      # b has no receipt of it
    assert b.store.receipts(first.id) == [] and a.store.fresh_ratings("base") == 0
    assert "raters_in_doubt" not in json.dumps(a.store.run(a.store.version(1).run_id).report)
    rounds(learner, a, a)
    assert len(a.store.versions("base")) == 1 and len(a.store.promotions("base")) == 1
    learner.store.promote(0, "base", "maintainer")
    rounds(learner, a)
    assert a.store.live_version("base") == 0


@pytest.mark.parametrize("scheme", ["file", "memory"])
@pytest.mark.parametrize("left", ["half of it", "as long, but not it"])
def test_an_adapter_that_was_written_half_is_written_again_whole_and_then_left_alone(tmp_path, scheme, left):
    """As a place leaves it that does not write whole files, when the learner is killed."""
    url = f"{scheme}://{tmp_path / 'place'}"
    learner, a = Host(tmp_path / "learner", url, learner=True), Host(tmp_path / "a", url)
    version = learner.store.version(learner.publish())
    weights = (learner.registry.verify(version.number) / WEIGHTS).read_bytes()
    assert len(weights) == 8
    path = f"adapters/{version.folder}/{WEIGHTS}"
    learner.sync.place.write(path, weights[:4] if left == "half of it" else bytes(8))
    rounds(learner, a)
    assert a.store.live_version("base") == version.number and (a.registry.verify(version.number) / WEIGHTS).read_bytes() == weights
    if scheme == "file":
        written = (tmp_path / "place" / path).stat()
        learner.sync.place.put_file(path, weights)
        assert (tmp_path / "place" / path).stat() == written


def test_a_deletion_is_done_when_a_version_was_trained_by_a_learner_that_had_heard_of_it(hosts):
    a, _, learner = hosts
    reply = add_reply(a.store, "me")
    a.store.add_rating(reply.id, "me", "thumb", 1)
    rounds(a, learner)
    learner.publish()
    a.store.delete_everything("me")                       # before the version that learned from it has arrived
    assert a.store.erasure("me", "base").trained
    rounds(a)
    learner.publish()                                     # began after the deletion, and had not heard of it
    rounds(learner, a)
    assert a.store.live_version("base") == 2 and a.store.erasure("me", "base").versions == ()
    forgotten = learner.publish()
    rounds(learner, a)
    assert a.store.erasure("me", "base").versions == (forgotten,) == (3,)


def test_a_host_moves_to_another_place_and_heals_one_that_lost_something(hosts, tmp_path, place):
    a, _, learner = hosts
    said_everything(a)
    rounds(a, learner)
    expected = learner.trained()
    next(place.rglob("*.jsonl.gz")).unlink()
    other = Host(tmp_path / "other learner", f"file://{place}", learner=True)
    rounds(Host(a.folder, a.url))
    other.sync.gather()
    assert other.trained() == expected
    elsewhere = f"file://{tmp_path / 'elsewhere'}"
    third = Host(tmp_path / "third learner", elsewhere, learner=True)
    rounds(Host(a.folder, elsewhere), third)
    assert third.trained() == expected


def test_a_copied_state_folder_becomes_a_host_of_its_own_and_counts_nothing_twice(hosts, tmp_path):
    a, _, learner = hosts
    said_everything(a)
    rounds(a)
    a.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(a.folder, tmp_path / "copy")
    copy = Host(tmp_path / "copy", a.url)
    for host, rater in ((a, "one"), (copy, "two")):
        host.store.add_rating(add_reply(host.store, rater).id, rater, "thumb", 1)
        rounds(host, host)
    rounds(learner)
    assert copy.store.host_id() != a.store.host_id()
    assert learner.trained() == {**a.trained(), **copy.trained()} and len(learner.trained()) == 4
    assert learner.store.fresh_ratings("base") == a.store.fresh_ratings("base") + 1


def test_a_damaged_shard_keeps_its_own_host_waiting_and_no_other_and_is_said(hosts, place):
    a, b, learner = hosts
    said_everything(a), said_everything(b)
    rounds(a, b)
    victim = next((place / "feedback" / a.store.host_id()).rglob("*.jsonl.gz"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-4])
    with pytest.raises(BadShard, match="damaged"):
        learner.sync.round()
    assert learner.trained() == b.trained()
    victim.write_bytes(whole)
    rounds(learner)
    assert learner.trained() == {**a.trained(), **b.trained()}


def test_one_host_alone_publishes(hosts, tmp_path):
    _, _, learner = hosts
    rounds(learner)
    with pytest.raises(BadSetting, match="LEARNER=false"):
        rounds(Host(tmp_path / "second", learner.url, learner=True))


@pytest.mark.parametrize("gone, heir", [("00", "ff"), ("ff", "00")])
def test_a_learner_that_is_gone_is_succeeded_with_all_versions_and_ratings(hosts, tmp_path, place, gone, heir):
    a, _, learner = hosts
    learner.store.set_mark("host_id", gone * 8)
    said_everything(a)
    rounds(a, learner)
    learner.publish()
    second = learner.publish()
    rounds(learner)
    note = place / "learner" / "host.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "at": "2020-01-01T00:00:00.000000+00:00"}))
    successor, newcomer = Host(tmp_path / "heir", learner.url, learner=True), Host(tmp_path / "newcomer", learner.url)
    successor.store.set_mark("host_id", heir * 8)
    rounds(successor)
    assert successor.trained() == a.trained() and successor.store.live_version("base") == second
    third = successor.publish()
    assert third == second + 1
    rounds(successor, newcomer)
    assert newcomer.store.live_version("base") == third and [v.number for v in newcomer.store.versions("base")] == [3, 2, 1]
    with pytest.raises(BadSetting, match="LEARNER=false"):
        rounds(learner)


@pytest.mark.parametrize("url, says", [("nowhere", "no URL"), ("nope://x/y", "cannot be used")])
def test_a_url_that_cannot_be_used_is_one_sentence(url, says):
    with pytest.raises(BadSetting, match=says):
        SharedPlace(url)


def test_a_place_that_does_not_answer_is_tried_again_and_nothing_is_lost(hosts, place):
    a, _, learner = hosts
    said_everything(a)
    place.write_text("in the way")
    with pytest.raises(PlaceUnreachable, match="tried again later"):
        a.sync.round()
    place.unlink()
    rounds(a, learner)
    assert learner.trained() == a.trained()

"""Hosts whose role changes, and state folders that are restored or copied: what people delete goes all the same."""

import json
import shutil

import pytest

from data.errors import BadSetting
from tests.support.factories import add_reply
from tests.support.hosts import Host, hosts, place, rounds, said_everything, texts_in  # noqa: F401


def learner_is_silent(place) -> None:
    """As if the learner had last been heard of years ago."""
    note = place / "learner" / "host.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "at": "2020-01-01T00:00:00.000000+00:00"}))


def test_what_is_deleted_after_two_hosts_have_swapped_their_roles_leaves_the_place_and_both_of_them(hosts, place):
    a, b, learner = hosts
    for host in (a, b):
        said_everything(host)
    rounds(a, b, learner)
    learner_is_silent(place)
    heir, former = Host(a.folder, a.url, learner=True), Host(learner.folder, learner.url)
    rounds(heir, former)
    assert heir.trained() == {**a.trained(), **b.trained()} and former.trained() == heir.trained()
    held = set(b.trained())
    for host in (heir, b):
        host.store.delete_everything("me")
    rounds(heir, b, former, heir)
    assert "my answer" not in texts_in(place) and "better so" not in texts_in(place)
    assert former.trained() == heir.trained() == {} and held
    everything = str([tuple(row) for host in (heir, former) for table in ("replies", "corrections") for row in host.store.rows(f"SELECT * FROM {table}")])
    assert "my answer" not in everything and "better so" not in everything


def test_who_was_the_learner_gathers_no_more_than_what_is_erased_and_all_of_the_rest_once_it_is_the_learner_again(hosts, place):
    a, b, learner = hosts
    said_everything(b)
    rounds(b, learner)
    known = learner.trained()
    former = Host(learner.folder, learner.url)
    for rater in ("stays", "goes"):
        said_everything(a, rater)
    rounds(a, former)
    a.store.delete_everything("goes")
    rounds(a, former, former)
    assert former.trained() == known and a.trained()
    assert former.store.next_shard("feedback", a.store.host_id()) == 1
    rounds(Host(learner.folder, learner.url, learner=True))
    assert learner.trained() == {**known, **a.trained()} and len(learner.trained()) == 4


def test_a_learner_that_never_sent_sends_nothing(hosts, place):
    _, _, learner = hosts
    said_everything(learner)
    learner.store.delete_everything("me")
    rounds(learner, learner)
    assert not (place / "feedback").exists()


@pytest.mark.parametrize("old_name", ["00" * 8, "ff" * 8])
@pytest.mark.parametrize("said", ["not yet", "packed, not written"])
def test_a_restored_state_folder_announces_under_its_new_name_what_was_deleted_before(hosts, tmp_path, place, old_name, said):
    a, _, learner = hosts
    a.store.set_mark("host_id", old_name)
    first, second = said_everything(a)
    rounds(a, learner)
    sent = [*place.rglob("*.jsonl.gz")]
    was = {path: path.read_bytes() for path in sent}
    a.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(a.folder, tmp_path / "backup")
    said_everything(a, "somebody since")
    rounds(a)
    restored = Host(tmp_path / "backup", a.url)
    restored.store.delete_everything("me")
    if said == "packed, not written":
        restored.store.pack_feedback()
    rounds(restored, restored)
    assert restored.store.host_id() != old_name
    for path, content in was.items():                                   # as the shared place of a service that was restored as well has it
        path.write_bytes(content)
    newcomer = Host(tmp_path / "newcomer", a.url)
    newcomer.sync.gather()
    rounds(learner)
    for host in (learner, newcomer):
        assert not {first.id, second.id} & set(host.trained()) and "better so" not in str([row["text"] for row in host.store.rows(
            "SELECT corrections.text AS text FROM corrections WHERE reply_id = ?", first.id)])
    with restored.store.write() as db:
        reply = add_reply(restored.store, "me", text="afterwards")
        db["replies"].update(reply.id, {"contributes": 1})
    restored.store.add_rating(reply.id, "me", "thumb", 1)
    for contributes, trains in ((1, True), (0, False), (1, True)):
        with restored.store.write() as db:
            db["replies"].update(reply.id, {"contributes": contributes})
        rounds(restored, learner)
        newcomer.sync.gather()
        assert [reply.id in host.trained() for host in (learner, newcomer)] == [trains, trains]


def test_what_its_person_lets_train_again_after_a_host_got_another_name_trains(hosts, place):
    a, _, learner = hosts
    reply = add_reply(a.store, "me", text="my answer")
    a.store.add_rating(reply.id, "me", "thumb", 1)

    def lets_train(contributes: int) -> None:
        with a.store.write() as db:
            db["replies"].update(reply.id, {"contributes": contributes})

    rounds(a, learner)
    lets_train(0)
    rounds(a, learner)
    assert learner.trained() == {}
    a.store.become_another_host()
    lets_train(1)
    rounds(a, learner)
    assert learner.trained() == {reply.id: [("thumb", 1)]}


@pytest.mark.parametrize("at", ["2099-01-01T00:00:00.000000+00:00", "2020-01-01T00:00:00.000000+00:00", "2099-01-01", "tomorrow", 7])
def test_a_learner_whose_note_has_no_time_of_today_is_succeeded(hosts, tmp_path, place, at):
    _, _, learner = hosts
    rounds(learner)
    note = place / "learner" / "host.json"
    note.write_text(json.dumps({"host": learner.store.host_id(), "at": at}))
    heir = Host(tmp_path / "heir", learner.url, learner=True)
    rounds(heir)
    assert json.loads(note.read_text())["host"] == heir.store.host_id()
    with pytest.raises(BadSetting, match="LEARNER=false"):
        rounds(learner)

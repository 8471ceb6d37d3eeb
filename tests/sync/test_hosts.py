"""Hosts and learners that move, are copied, are one too many or are gone: nothing is lost or counted twice."""

import json
import shutil

import pytest

from data.errors import BadSetting
from tests.support.factories import add_reply
from tests.support.hosts import Host, hosts, place, rounds, said_everything  # noqa: F401


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

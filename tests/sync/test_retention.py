"""Old versions among hosts: each removes what it holds by its own KEEP_VERSIONS, and who joins later is not stopped by what is gone."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.adapters import WEIGHTS
from data.errors import BadSetting
from data.store.shards import BadShard
from tests.support.hosts import Host, rounds
from tests.sync.test_crashes import MEMORY, free_leases, killed_round


def kept(host: Host) -> list[int]:
    """Versions that are not given up; each is there whole, and no other."""
    numbers = sorted(version.number for version in host.store.versions("base") if not version.removed_at)
    assert {host.registry.verify(number).name for number in numbers} == {path.name for path in host.registry.folder.iterdir()}
    return numbers


def weights_in(place: Path) -> set[str]:
    return {path.parent.name for path in place.rglob(WEIGHTS) if path.stat().st_size}


def folders(host: Host, numbers) -> set[str]:
    return {host.store.version(number).folder for number in numbers}


def publish(learner: Host) -> int:
    """As a run does, which ends by removing what is too old."""
    number = learner.publish()
    learner.registry.remove_old("base", learner.keep_versions)
    return number


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def learner(tmp_path, place) -> Host:
    return Host(tmp_path / "learner", f"file://{place}", learner=True, keep_versions=3)


def test_what_the_learner_removes_leaves_the_shared_place_and_who_joins_then_skips_it(learner, tmp_path, place):
    as_many, fewer, more = (Host(tmp_path / name, learner.url, keep_versions=number) for name, number in (("as many", 3), ("fewer", 2), ("more", 4)))
    for _ in range(6):
        publish(learner)
        rounds(learner, as_many, fewer, more)
    assert kept(learner) == kept(as_many) == [4, 5, 6] and kept(fewer) == [5, 6] and kept(more) == [3, 4, 5, 6]
    assert weights_in(place) == folders(learner, [4, 5, 6])
    newcomer = Host(tmp_path / "newcomer", learner.url)
    rounds(newcomer)
    assert kept(newcomer) == [4, 5, 6] and newcomer.store.live_version("base") == 6 and newcomer.store.came_from(4) == 0
    for number in range(1, 7):
        here, there = newcomer.store.version(number), learner.store.version(number)
        assert (here.folder, here.removed_at, here.error) == (there.folder, there.removed_at, None)
    learner.store.promote(4, "base", "maintainer")
    rounds(learner, newcomer, as_many, fewer)
    assert newcomer.store.live_version("base") == as_many.store.live_version("base") == 4
    assert fewer.store.live_version("base") == 6                            # it keeps too few to follow, and goes on with what was live


def test_another_shared_place_is_filled_without_what_was_removed(learner, tmp_path):
    for _ in range(5):
        publish(learner)
        rounds(learner)
    moved = Host(learner.folder, f"file://{tmp_path / 'another'}", learner=True, keep_versions=3)
    newcomer = Host(tmp_path / "newcomer", moved.url)
    rounds(moved, newcomer)
    assert weights_in(tmp_path / "another") == folders(learner, [3, 4, 5]) and kept(newcomer) == [3, 4, 5]
    assert len(list((tmp_path / "another" / "adapters").iterdir())) == 3


def test_a_host_that_reads_a_shard_just_before_the_version_goes_takes_it_for_removed(learner, tmp_path, monkeypatch):
    publish(learner), publish(learner)
    rounds(learner)
    newcomer, read = Host(tmp_path / "newcomer", learner.url), []

    def meanwhile(path, sha256, read_file=newcomer.sync.place.read_file):
        if not read:
            read.append(path)
            [publish(learner) for _ in range(3)]
            rounds(learner)
        return read_file(path, sha256)

    monkeypatch.setattr(newcomer.sync.place, "read_file", meanwhile)
    rounds(newcomer)
    assert kept(newcomer) == [3, 4, 5] and newcomer.store.live_version("base") == 5 and not newcomer.store.version(1).error


def test_the_shards_of_a_learner_from_before_it_was_restored_stop_nobody(learner, tmp_path, place):
    for _ in range(3):
        publish(learner)
    rounds(learner)
    learner.store.close()
    shutil.copytree(learner.folder, tmp_path / "backup")
    publish(learner)
    rounds(learner)
    restored, note = Host(tmp_path / "backup", learner.url, learner=True, keep_versions=3), place / "learner" / "host.json"
    publish(restored)
    for _ in range(2):                                                      # by the second it has noticed, and has another name
        note.write_text(json.dumps({**json.loads(note.read_text()), "at": "2020-01-01T00:00:00.000000+00:00"}))
        with contextlib.suppress(BadSetting):
            rounds(restored)
    assert restored.store.host_id() != learner.store.host_id()
    for _ in range(4):
        publish(restored)
        rounds(restored)
    newcomer = Host(tmp_path / "newcomer", learner.url)
    rounds(newcomer)
    assert folders(newcomer, [newcomer.store.live_version("base")]) == folders(restored, [restored.store.live_version("base")])
    assert folders(restored, kept(restored)) <= folders(newcomer, kept(newcomer))


def test_a_version_whose_weights_somebody_took_away_is_still_waited_for(learner, tmp_path, place):
    publish(learner)
    rounds(learner)
    [weights] = place.rglob(WEIGHTS)
    away = weights.rename(tmp_path / "away")
    newcomer = Host(tmp_path / "newcomer", learner.url)
    with pytest.raises(BadShard, match="put it back"):
        rounds(newcomer)
    away.rename(weights)
    rounds(newcomer)
    assert kept(newcomer) == [1]


def test_a_learner_or_a_host_that_is_killed_at_any_step_while_versions_go_ends_with_what_the_others_have():
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        place = Path(name, "place")
        learner, a = (Host(Path(name, folder), f"file://{place}", learner=folder == "learner", keep_versions=2) for folder in ("learner", "a"))
        for who in (learner, a):
            steps, died = 0, True
            while died:
                steps += 1
                learner.sync._checked = False
                [publish(learner) for _ in range(3)]
                if who is a:
                    rounds(learner)
                died = killed_round(who, steps)
                free_leases(learner, a)
                a.registry.sweep()
                rounds(learner, a)
                assert kept(learner) == kept(a) and weights_in(place) == folders(learner, kept(learner)), f"killed before step {steps}"
                assert a.store.live_version("base") == learner.store.live_version("base")
                assert steps < 60, "rounds never end"
            assert steps > 8


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(["publish", "publish", "promote", "back", "learner", "a", "b"]), st.integers(0, 9)), min_size=8, max_size=30), st.integers(2, 4))
def test_whatever_the_order_every_host_answers_with_the_learners_live_version(actions, keep):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        place = Path(name, "place")
        learner, a, b = (Host(Path(name, folder), f"file://{place}", learner=folder == "learner", keep_versions=keep) for folder in ("learner", "a", "b"))
        for action, choice in actions:
            live, held = learner.store.live_version("base"), kept(learner)
            if action == "publish":
                publish(learner)
            elif action == "promote" and held:
                learner.store.promote(held[choice % len(held)], "base", "maintainer")
            elif action == "back" and live:
                learner.store.promote(learner.store.came_from(live), "base", "rolled back")
            elif action in ("learner", "a", "b"):
                rounds({"learner": learner, "a": a, "b": b}[action])
        newcomer = Host(Path(name, "newcomer"), learner.url, keep_versions=keep)
        rounds(learner, a, b, newcomer)
        live = learner.store.live_version("base")
        for host in (a, b, newcomer):
            assert host.store.live_version("base") == live and set(kept(learner)) <= set(kept(host)) and len(kept(host)) <= keep + 4
        assert weights_in(place) == folders(learner, kept(learner))
        for host in (learner, a, b, newcomer):
            host.store.close()

"""Old versions are removed: which, in what order, and what their rows are good for afterwards."""

import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.adapters import AdapterRegistry
from data.errors import CorruptAdapter, RemovedVersion
from data.sentences import sentence
from data.store import Store
from tests.support.factories import write_adapter

MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


@pytest.fixture
def registry(tmp_path) -> AdapterRegistry:
    return AdapterRegistry(Store(tmp_path / "chat.db"), tmp_path / "adapters")


def publish(registry: AdapterRegistry, base_model: str = "base") -> int:
    return registry.publish(write_adapter(os.urandom(8)), base_model=base_model, run_id=None, parent=registry.store.live_version(base_model), note="from ratings").number


def there(registry: AdapterRegistry) -> list[int]:
    """Versions whose folder is on the disk."""
    return [row["number"] for row in registry.store.rows("SELECT number, folder FROM versions ORDER BY number") if (registry.folder / row["folder"]).exists()]


def test_of_versions_beyond_those_kept_the_files_go_and_the_rows_stay(registry):
    other = publish(registry, "another base model")
    numbers = [publish(registry) for _ in range(6)]
    assert registry.remove_old("base", 3) == numbers[:3] and registry.remove_old("base", 3) == []
    assert there(registry) == [other, *numbers[3:]]
    gone = registry.store.version(numbers[0])
    assert gone.removed_at and (gone.note, gone.error) == ("from ratings", None) and len(registry.store.versions("base")) == 6
    assert registry.verify(numbers[3]) and registry.store.live_version("base") == numbers[5]


def test_a_removed_version_cannot_go_live_and_one_sentence_says_why(registry):
    first, *_ = [publish(registry) for _ in range(4)]
    registry.remove_old("base", 2)
    for refused in (lambda: registry.store.promote(first, "base", "mistake"), lambda: registry.verify(first)):
        with pytest.raises(RemovedVersion, match=f"^Version {first} cannot be used any more because its files were removed .* make another one live.$") as error:
            refused()
        assert sentence(error.value.said, "zh").startswith(f"第 {first} 版不能再使用")
    assert registry.store.live_version("base") == 4 and len(registry.store.promotions("base")) == 4


def test_the_live_version_and_what_a_rollback_from_it_goes_to_are_kept_however_old(registry):
    store = registry.store
    first, second, *rest = [publish(registry) for _ in range(6)]
    store.promote(second, "base", "maintainer")
    registry.remove_old("base", 2)
    assert there(registry) == [first, second, rest[-2], rest[-1]]                # what the live one came from, the live one, the newest two
    later = publish(registry)
    registry.remove_old("base", 2)
    assert there(registry) == [second, rest[-1], later] and store.came_from(later) == second


def test_what_takes_the_place_of_a_live_version_that_cannot_be_loaded_is_kept(registry):
    store = registry.store
    old, *_, last = [publish(registry) for _ in range(5)]
    store.promote(old, "base", "maintainer")
    store.promote(last, "base", "maintainer")
    registry.remove_old("base", 2)
    store.mark_failed(last, CorruptAdapter("broken"))
    assert store.live_version("base") == old and registry.verify(old)


def test_a_rollback_skips_what_was_removed_and_ends_at_the_base_model(registry):
    store = registry.store
    numbers = [publish(registry) for _ in range(5)]
    registry.remove_old("base", 2)
    assert there(registry) == numbers[3:] and store.came_from(numbers[4]) == numbers[3] and store.came_from(numbers[3]) == 0
    for number in numbers[3:]:
        store.mark_failed(number, CorruptAdapter("broken"))
    assert store.live_version("base") == 0                                 # never one whose files are gone, though it was live once


@pytest.mark.parametrize("moment", ["before the mark", "between mark and removal", "during the removal"])
def test_a_kill_while_versions_are_removed_leaves_what_the_next_sweep_finishes(tmp_path, moment):
    registry = AdapterRegistry(Store(tmp_path / "chat.db"), tmp_path / "adapters")
    numbers = [publish(registry) for _ in range(5)]
    registry.store.close()                                                 # a connection is no good in a fork
    if (child := os.fork()) == 0:
        die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        doomed = AdapterRegistry(Store(tmp_path / "chat.db"), tmp_path / "adapters")
        if moment == "before the mark":
            doomed.store.give_up_old_versions = die
        elif moment == "between mark and removal":
            import shutil

            shutil.rmtree = die
        else:
            os.rmdir = die                                                 # its files are gone, its folder is not
        try:
            doomed.remove_old("base", 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    registry = AdapterRegistry(Store(tmp_path / "chat.db"), tmp_path / "adapters")
    given_up = [v.number for v in registry.store.versions("base") if v.removed_at]
    assert sorted(given_up) == ([] if moment == "before the mark" else numbers[:3]) and registry.verify(registry.store.live_version("base"))
    swept = registry.sweep_at_start()
    assert sorted(swept) == sorted(registry.store.version(number).folder for number in given_up)
    registry.remove_old("base", 2)
    assert there(registry) == numbers[3:]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["publish", "promote", "fail", "remove", "sweep"]), st.integers(0, 11)), min_size=8, max_size=40), st.integers(2, 4))
def test_whatever_maintainers_do_what_answers_and_what_a_rollback_goes_to_can_be_loaded_and_the_disk_is_bounded(actions, keep):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        registry = AdapterRegistry(Store(Path(name, "chat.db")), Path(name, "adapters"))
        store = registry.store
        for action, choice in actions:
            versions = store.versions("base")
            chosen = versions[choice % len(versions)].number if versions else 0
            if action == "publish":
                publish(registry)
            elif action == "promote":
                removed = chosen and store.version(chosen).removed_at
                with pytest.raises(RemovedVersion) if removed else tempfile.TemporaryDirectory():
                    store.promote(chosen, "base", "maintainer")
            elif action == "fail" and store.live_version("base"):
                store.mark_failed(store.live_version("base"), CorruptAdapter("broken"))
            elif action == "sweep":
                assert registry.sweep() == []
            else:
                registry.remove_old("base", keep)
                assert len(there(registry)) <= keep + 4
            live = store.live_version("base")
            for needed in {live, *([store.came_from(live)] if live else [])} - {0}:
                registry.verify(needed)
            assert set(there(registry)) == {v.number for v in store.versions("base") if not v.removed_at} >= {v.number for v in store.versions("base")[:keep]}
        store.close()

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.adapters import AdapterRegistry
from data.errors import CorruptAdapter, StorageFull, UnknownVersion
from data.records import ReceiptRow
from data.store import Store
from tests.support.factories import add_reply, write_adapter


@pytest.fixture
def registry(tmp_path) -> AdapterRegistry:
    return AdapterRegistry(Store(tmp_path / "chat.db"), tmp_path / "adapters")


def publish(registry: AdapterRegistry, content: bytes = b"weights", **options):
    return registry.publish(write_adapter(content), **{"base_model": "base", "run_id": None, "parent": 0, **options})


def test_publishing_makes_a_version_live_and_says_which_ratings_made_it(registry):
    store, reply = registry.store, add_reply(registry.store, "me")
    store.add_rating(reply.id, "me", "thumb", 1)
    version = publish(registry, receipts=[ReceiptRow(0, reply.id, 1.0, 0.5, 0.25, -9.0, -8.0, (1,))], note="from one rating")
    assert version.number == 1 and store.live_version("base") == 1
    assert store.receipts(reply.id) == [ReceiptRow(1, reply.id, 1.0, 0.5, 0.25, -9.0, -8.0, (1,))]
    assert (registry.verify(1) / "adapter_model.safetensors").read_bytes() == b"weights"


def test_rolling_back_and_forward_moves_only_the_live_mark(registry):
    store = registry.store
    publish(registry), publish(registry, b"second")
    store.promote(1, "base", "rolled back")
    assert store.live_version("base") == 1
    store.promote(0, "base", "base model alone")
    assert store.live_version("base") == 0
    store.promote(2, "base", "forward")
    assert [p.version for p in store.promotions("base")] == [2, 0, 1, 2, 1]


def test_a_version_that_cannot_be_loaded_is_passed_over_until_somebody_insists(registry):
    store = registry.store
    publish(registry), publish(registry, b"second")
    store.mark_failed(2, CorruptAdapter("broken"))
    assert store.live_version("base") == 1
    store.promote(2, "base", "try again")
    assert store.live_version("base") == 2


def test_versions_of_another_base_model_stay_apart(registry):
    publish(registry, base_model="other")
    assert registry.store.live_version("base") == 0
    with pytest.raises(UnknownVersion, match="trained on other"):
        registry.store.promote(1, "base", "mistake")
    with pytest.raises(UnknownVersion):
        registry.store.promote(99, "base", "mistake")


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"tampered"),
    lambda folder: (folder / "adapter_model.safetensors").unlink(),
    lambda folder: (folder / "adapter_config.json").unlink(),
])
def test_a_damaged_version_is_refused_with_a_sentence_that_names_it(registry, damage):
    version = publish(registry)
    damage(registry.folder / version.folder)
    with pytest.raises(CorruptAdapter, match="Version 1 cannot be used"):
        registry.verify(1)


def test_a_full_disk_publishes_nothing_and_leaves_nothing(registry):
    def write(folder: Path) -> None:
        write_adapter()(folder)
        with open("/dev/full", "wb") as full:                         # the kernel's own ENOSPC
            full.write(b"x")

    with pytest.raises(StorageFull, match="free some space"):
        registry.publish(write, base_model="base", run_id=None, parent=0)
    assert registry.store.versions("base") == [] and list(registry.folder.iterdir()) == []


def test_a_start_sweeps_what_a_killed_process_left_but_not_what_another_one_writes(registry):
    kept = registry.folder / publish(registry).folder
    left = registry.folder / ".writing-dead"
    left.mkdir()
    assert registry.store.acquire_lease("learner", "another:1", 60)
    assert registry.sweep_at_start() == [] and left.exists()          # it may be at work on it
    registry.store.release_lease("learner", "another:1")
    assert registry.sweep_at_start() == [".writing-dead"] and list(registry.folder.iterdir()) == [kept]
    assert registry.store.acquire_lease("learner", "another:1", 60)   # and the lease is free again


def test_placing_another_hosts_version_takes_away_what_was_left_by_a_kill_while_one_was_placed(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from data.adapters import AdapterRegistry
from data.store import Store
os.rename = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
AdapterRegistry(Store(Path({str(tmp_path)!r}) / "chat.db"), Path({str(tmp_path)!r}) / "adapters").place("base-1", {{"weights": b"half"}})
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent).returncode == -signal.SIGKILL
    registry = AdapterRegistry(Store(tmp_path / "chat.db"), tmp_path / "adapters")
    [left] = registry.folder.iterdir()
    assert left.name.startswith(".writing-")
    registry.place("base-1", {"weights": b"whole"})
    assert [path.name for path in registry.folder.iterdir()] == ["base-1"] and (registry.folder / "base-1" / "weights").read_bytes() == b"whole"


@pytest.mark.parametrize("moment", ["during the write", "after the rename"])
def test_a_kill_during_publication_leaves_no_version_and_the_sweep_removes_the_rest(tmp_path, moment):
    code = f"""
import time, sys
from pathlib import Path
from data.adapters import AdapterRegistry
from data.store import Store
from tests.support.factories import write_adapter
store = Store(Path({str(tmp_path)!r}) / "chat.db")
def pause():
    print("now", flush=True); time.sleep(60)
def write(folder):
    write_adapter()(folder)
    if {moment!r} == "during the write": pause()
store.publish_version = lambda *a: pause()
AdapterRegistry(store, Path({str(tmp_path)!r}) / "adapters").publish(write, base_model="base", run_id=None, parent=0)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent.parent)
    assert child.stdout.readline().strip() == b"now"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    registry = AdapterRegistry(Store(tmp_path / "chat.db"), tmp_path / "adapters")
    assert registry.store.versions("base") == [] and len(list(registry.folder.iterdir())) == 1
    assert len(registry.sweep()) == 1 and list(registry.folder.iterdir()) == []
    assert publish(registry).number == 1 and registry.sweep() == []

"""Hosts for tests: state folders that meet in a shared place."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from data.adapters import AdapterRegistry
from data.records import Generated, ReceiptRow, Reply
from data.store import Store
from data.store.shards import encode, sha256_of_bytes, shard_path
from data.sync.place import SharedPlace
from data.sync.sync import Sync
from tests.support.factories import add_reply, write_adapter


class Host:
    """A state folder and its dealings with a shared place."""

    def __init__(self, folder: Path, url: str, *, learner: bool = False, store: type[Store] = Store, keep_versions: int = 50) -> None:
        self.folder, self.url, self.keep_versions = folder, url, keep_versions
        self.store = store(folder / "chat.db")
        self.registry = AdapterRegistry(self.store, folder / "adapters")
        self.sync = Sync(self.store, self.registry, SharedPlace(url), learner=learner, keep_versions=keep_versions)

    def trained(self) -> dict[str, list]:
        """What a learner here trains on: by reply, what is currently said of it."""
        return {rated.reply.id: sorted([(r.kind, r.value) for r in rated.ratings] + [("tags", *s.tags) for s in rated.reasons]
                                       + [("text", c.text) for c in rated.corrections] + [(c.preferred, c.first_id) for c in rated.comparisons])
                for rated in self.store.rated_replies("base")}

    def publish(self, *rows: ReceiptRow, corrected=()) -> int:
        run = self.store.start_run("base", "shell")
        version = self.registry.publish(write_adapter(os.urandom(8)), base_model="base", run_id=run.id, parent=self.store.live_version("base"),
                                        receipts=rows, of_corrections=corrected)
        self.store.finish_run(run.id, "published", version=version.number, report={"reason": "It passed.", "data": {"replies": 1, "rater_weights": [{"rater": "me"}]}})
        return version.number


def rounds(*hosts: Host) -> None:
    for host in hosts:
        host.sync.round()


def said_everything(host: Host, rater: str = "me") -> tuple[Reply, Reply]:
    """A reply that its person rated, explained, corrected and compared with a second one."""
    first = add_reply(host.store, rater, message="my question", text="my answer", logprobs=(-0.25, -1.5))
    second = host.store.start_reply(first.turn_id, 0, None, "base", "openvino", first.sampling, (1, 2, 3))
    host.store.finish_reply(second.id, "another", Generated((7, 8), (-1.0, -2.0), 1.0, "stop"), 0.1, 0.2)
    host.store.add_rating(first.id, rater, "thumb", 1)
    host.store.add_rating(first.id, rater, "thumb", -1)
    host.store.add_rating(first.id, rater, "stars", 2)
    host.store.add_reasons(first.id, rater, ["wrong"], "my phone rang")
    host.store.add_correction(first.id, rater, "better so")
    host.store.add_comparison(first.id, second.id, rater, "second")
    return first, second


def write_shard(place: Path, stream: str, host: str, number: int, records: Sequence[dict]) -> Path:
    """A shard as it stands, whoever would write that."""
    content = encode(records)
    path = place / stream / host / shard_path(number, sha256_of_bytes(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def texts_in(place: Path) -> str:
    """All that the shards in a shared folder hold."""
    return "".join(gzip.decompress(path.read_bytes()).decode() for path in sorted(place.rglob("*.jsonl.gz")))


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def hosts(tmp_path, place) -> tuple[Host, Host, Host]:
    """Two hosts and a learner's."""
    url = f"file://{place}"
    return Host(tmp_path / "a", url), Host(tmp_path / "b", url), Host(tmp_path / "learner", url, learner=True)

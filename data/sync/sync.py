"""One round of a host: send what is new, gather what others sent. Safe to kill at any instant, and to do again."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import datetime

from data.adapters import LEARNER_LEASE, WEIGHTS, AdapterRegistry
from data.errors import BadSetting, ChatError, CorruptAdapter, RemovedVersion
from data.processes import this_process
from data.settings import Settings
from data.store import Store
from data.store.database import now
from data.store.inbox import ERASURES, check_shard
from data.store.shards import BadShard, block, decode, encode, name_parts, sha256_of_bytes
from data.sync.place import NotOurShard, SharedPlace

log = logging.getLogger("sync")

LEASE, LEASE_SECONDS = "sync", 120.0
"""Of several processes on one state folder one sends and gathers at a time; a killed one is succeeded this much later."""
LEARNER_FILE, SUCCESSION_SECONDS = "learner/host.json", 900
"""Who publishes, and when it was last heard of; clocks may differ by some minutes."""


class Sync:
    """The state folder's dealings with the shared place. `learner`: whether this host gathers and publishes, or sends and follows. `keep_versions`: how many of others' it keeps.

    What was deleted is said and heard also by a host that was the other one before: it may have sent, or gathered, that.
    """

    def __init__(self, store: Store, registry: AdapterRegistry, place: SharedPlace, *, learner: bool, keep_versions: int) -> None:
        self.store, self.registry, self.place, self.learner, self.keep_versions = store, registry, place, learner, keep_versions
        self._checked = False
        self._bad: BadShard | None = None

    def round(self, patience: float = 0.0) -> None:
        """Everything there is to do now. While another process of this state folder is at it, nothing, after `patience` seconds.

        Raises: PlaceUnreachable, BadShard, StorageFull, Busy: what was done stays done, and the next round goes on from there.
        """
        owner, until = this_process(), time.monotonic() + patience
        while not self.store.acquire_lease(LEASE, owner, LEASE_SECONDS):
            if time.monotonic() >= until:
                return
            time.sleep(0.05)
        self._bad = None
        try:
            if not self._checked:
                self._write_again_what_is_missing()
                self._checked = True
            self.follow()
            if self.learner:
                self.gather()
                self.withdraw()
                self.publish()
            else:
                self.send()
                self.heed_erasures()
            if self._bad:
                raise self._bad
        finally:
            self.store.release_lease(LEASE, owner)

    def send(self) -> None:
        """Rating events and their replies, and the news of what was deleted."""
        while self.store.pack_feedback():
            pass
        self._write("feedback")

    def withdraw(self) -> None:
        """The news of what was deleted of what this host sent before it became the learner."""
        self.store.pack_feedback(only_withdrawn=True)
        self._write("feedback")

    def heed_erasures(self) -> None:
        """What others' people deleted, of a host that has gathered once."""
        if self.store.hosts_seen():
            self._read("feedback", self.store.heed_erasures, noted_as=ERASURES)

    def gather(self) -> None:
        """Every other host's rating events."""
        self._read("feedback", self.store.gather_feedback)

    def publish(self) -> None:
        """Runs, versions and promotions of this host. Raises: BadSetting: another host does that already."""
        self._be_the_learner()
        self.store.pack_versions()
        self._write("versions")

    def follow(self) -> None:
        """Every other host's versions: their files first, then their rows. Once they are here, those that are too old to keep go."""
        self._read("versions", self._take_versions)
        for base_model in self.store.lineages():
            if self.store.too_old(base_model, self.keep_versions):
                with self.store.leased(LEARNER_LEASE, LEASE_SECONDS) as held:
                    if held:                      # else a run of this host's reads them, and does it at its end
                        self.registry.remove_old(base_model, self.keep_versions)

    def _take_versions(self, host: str, number: int, records: list[dict]) -> bool:
        with self.store.leased(LEARNER_LEASE, LEASE_SECONDS) as held:
            if not held:
                return False                      # a run of this host's may be sweeping folders without rows
            check_shard(host, number, records)    # before the files of one are put in place
            for record in records:
                if record["type"] == "version" and record["config"] is not None and not self.store.is_removed(record["folder"]):
                    weights = self.place.read_file(f"adapters/{record['folder']}/{WEIGHTS}", record["sha256"])
                    if weights is None:
                        record["removed_at"] = now()
                    else:
                        self.registry.place(record["folder"], {WEIGHTS: weights, "adapter_config.json": record["config"].encode()})
            return self.store.gather_versions(host, number, records)

    def _write(self, stream: str) -> None:
        """All shards of a stream that must be written, oldest first."""
        done = 0
        while unsent := self.store.unsent_shard(stream, done):
            records = self.store.shard_records(stream, unsent.number)          # read after the revision: it is never marked newer than it is
            content = encode(self._with_configs(records) if stream == "versions" else records)
            self.store.will_write(stream, unsent.number, sha256 := sha256_of_bytes(content))
            try:
                self.place.put_shard(stream, self.store.host_id(), unsent.number, content, [*unsent.hashes, sha256])
            except NotOurShard as error:
                log.warning("%s From now on this host has the name %s and sends everything again, which counts nothing twice.", error, self.store.become_another_host())
                return
            for record in records:
                if record.get("removed_at"):      # and the shard says so; after a kill in between it is written again
                    self.place.give_up(f"adapters/{record['folder']}/{WEIGHTS}")
            self.store.wrote(stream, unsent.number, unsent.revision)
            done = unsent.number
            self.store.acquire_lease(LEASE, this_process(), LEASE_SECONDS)

    def _read(self, stream: str, take: Callable[[str, int, list[dict]], bool], *, noted_as: str | None = None) -> None:
        """Other hosts' shards in each host's order, up to the first that is not there yet. One host's bad shard keeps no other waiting."""
        learner = (self._current_learner() or {}).get("host")
        for host in sorted(self.place.hosts(stream), key=lambda host: host == learner):
            if host == self.store.host_id():
                continue
            try:
                while (found := self._next(stream, host, self.store.next_shard(noted_as or stream, host))) and take(host, *found):
                    self.store.acquire_lease(LEASE, this_process(), LEASE_SECONDS)
            except BadShard as error:
                self._bad = self._bad or error

    def _next(self, stream: str, host: str, number: int) -> tuple[int, list[dict]] | None:
        damaged = None
        for path in self.place.shards(stream, host, number).get(number, ()):
            try:
                return number, decode(self.place.read(path), path)
            except FileNotFoundError:             # just now replaced by another form
                continue
            except BadShard as error:
                damaged = error
        if damaged:
            raise damaged
        return None

    def _with_configs(self, records: list[dict]) -> list[dict]:
        """Records of versions with what is not in the store; their weights are in place by then, unless they were given up."""
        for record in records:
            if record["type"] == "version":
                number = self.store.number_of(record["folder"])
                config = self._put_in_place(number, record["folder"])
                record["removed_at"] = self.store.version(number).removed_at         # asked last: a run may have given it up just now
                record["config"] = None if record["removed_at"] else config
        return records

    def _put_in_place(self, number: int, name: str) -> str | None:
        """A version's config, its weights being in the shared place; None: they are not here."""
        try:
            folder = self.registry.verify(number)
            self.place.put_file(f"adapters/{name}/{WEIGHTS}", (folder / WEIGHTS).read_bytes())
            return (folder / "adapter_config.json").read_text(encoding="utf-8")
        except (RemovedVersion, FileNotFoundError):
            return None
        except CorruptAdapter as error:
            log.warning("%s", error)
            return None

    def _be_the_learner(self) -> None:
        """Say in the shared place who publishes. One that has not said so for a while is succeeded, and what is live is said again:
        everybody reads the present learner's promotions last.
        """
        me, current = self.store.host_id(), self._current_learner()
        age = math.inf if current is None else abs(_seconds_since(current["at"]))          # a note from the future tells no more than an old one: a clock was wrong
        if current and current["host"] != me and age < SUCCESSION_SECONDS:
            raise BadSetting(f"This host publishes nothing because host {current['host']} is the learner of {self.place.url}; set LEARNER=false here, "
                             f"or end that one: this host takes over {SUCCESSION_SECONDS // 60} minutes after it was last heard of.")
        if current is None or current["host"] != me or age > SUCCESSION_SECONDS / 5:
            self.place.write(LEARNER_FILE, json.dumps({"host": me, "at": now()}).encode())
        if current and current["host"] != me:
            self.store.promote_again("this host became the learner")

    def _current_learner(self) -> dict | None:
        try:
            current = json.loads(self.place.read(LEARNER_FILE))
            _seconds_since(current["at"])
            return {"host": str(current["host"]), "at": current["at"]}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write_again_what_is_missing(self) -> None:
        """SYNC_URL may be another place than before, or somebody removed something there."""
        for stream in ("versions",) if self.learner else ("feedback", "versions"):         # what a learner sent before it was one is of no use to it
            missing, listed = [], ""
            for number, hashes in self.store.sent_shards(stream).items():
                if block(number) != listed:
                    there, listed = self.place.shards(stream, self.store.host_id(), number), block(number)
                if not any(name_parts(path)[1] in hashes for path in there.get(number, ())):
                    missing.append(number)
            if missing:
                log.warning("%s shards of %s are missing in SYNC_URL and are written again", len(missing), stream)
                self.store.write_again(stream, missing)


def _seconds_since(at: str) -> float:
    """Raises: ValueError, TypeError: that is no time with its zone."""
    return (datetime.fromisoformat(now()) - datetime.fromisoformat(at)).total_seconds()


class SyncThread:
    """A round every SYNC_SECONDS beside everything else. What goes wrong is logged and tried again; chat and training go on."""

    def __init__(self, sync: Sync, seconds: float) -> None:
        self._sync, self._seconds, self._said = sync, seconds, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Safe also in the middle of a round: the next one goes on."""
        self._stop.set()
        self._thread.join(timeout=5)

    def once(self, patience: float = 0.0) -> None:
        """One round in the caller's thread; never raises."""
        try:
            self._sync.round(patience)
            if self._said:
                log.warning("SYNC_URL works again")
            self._said = ""
        except ChatError as error:
            if str(error) != self._said:          # once, not every half minute
                log.warning("%s", error)
            self._said = str(error)
        except Exception:
            log.exception("A round with SYNC_URL failed; the next one starts where it ended")

    def _run(self) -> None:
        while not self._stop.is_set():
            self.once()
            self._stop.wait(self._seconds)
        self._sync.store.close()                  # this thread's connection


def sync_thread(settings: Settings, store: Store, registry: AdapterRegistry, *, learner: bool) -> SyncThread | None:
    """None without SYNC_URL. Raises: BadSetting: it is no URL that can be used here."""
    if not settings.sync_url:
        return None
    return SyncThread(Sync(store, registry, SharedPlace(settings.sync_url), learner=learner, keep_versions=settings.keep_versions), settings.sync_seconds)

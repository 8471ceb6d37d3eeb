"""The adapter registry: files put in place first, then one row that publishes them; a mark on the row first, then the files removed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data.errors import Busy, CorruptAdapter, RemovedVersion
from data.files import full_disk_says, of_the_moment, sha256_of
from data.records import CorrectionReceipt, ReceiptRow, Version
from data.sentences import Said, said
from data.store import Store
from data.store.shards import is_plain_name, plain_name

WEIGHTS = "adapter_model.safetensors"
UNPUBLISHED = ".writing-"
"""A folder with this prefix is being written and has no row; a sweep removes it."""
LEARNER_LEASE, SWEEP_SECONDS = "learner", 20.0
"""Whoever writes here holds the learner's lease; a sweep at start holds it this long at most."""


class AdapterRegistry:
    """Versions on disk. A folder without a row, or whose row says that it was given up, is not a version and is swept."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def publish(self, write: Callable[[Path], None], *, base_model: str, run_id: str | None, parent: int,
                receipts: Sequence[ReceiptRow] = (), of_corrections: Sequence[CorrectionReceipt] = (), note: str = "") -> Version:
        """Write an adapter and make it live.

        Order: `write` fills a temporary folder, every file is synced, the folder is renamed, its parent is synced,
        then one transaction inserts the version row, its receipts and its promotion. A kill at any point leaves
        either no version or a whole one. The receipts' `version` is filled in by that transaction.

        Raises: StorageFull: nothing was published and nothing is left behind.
        """
        with self._writing(said("no_room_to_publish", folder=str(self.folder))) as writing:
            write(writing)
            sha256 = sha256_of(writing / WEIGHTS)
            final = self.folder / f"{base_model}-{sha256[:12]}-{secrets.token_hex(3)}"
            self._put_in_place(writing, final)
            try:
                return self.store.publish_version(base_model, sha256, final.name, run_id, parent,
                                                  list(receipts), note, list(of_corrections))
            except BaseException:
                shutil.rmtree(final, ignore_errors=True)
                raise

    def place(self, name: str, files: dict[str, bytes]) -> None:
        """Put the files of a version that another host published where its row, which comes next, will look for them.

        Call it while holding the learner's lease: a sweep takes folders without a row.
        Raises: StorageFull: nothing is left behind. BadShard: that is no plain name; nothing was done.
        """
        plain_name(name)
        for left in self.folder.glob(f"{UNPUBLISHED}*"):      # a process was killed here; we hold the lease, so nobody uses it
            shutil.rmtree(left, ignore_errors=True)
        if (self.folder / name).exists():
            return
        with self._writing(said("no_room_to_fetch", folder=str(self.folder))) as writing:
            for file, content in files.items():
                (writing / file).write_bytes(content)
            self._put_in_place(writing, self.folder / name)

    @contextmanager
    def _writing(self, when_full: Said) -> Iterator[Path]:
        """An empty folder that is gone afterwards unless it was put in place. Raises: StorageFull with this sentence."""
        writing = self.folder / f"{UNPUBLISHED}{secrets.token_hex(6)}"
        writing.mkdir()
        try:
            with full_disk_says(when_full):
                yield writing
        finally:
            shutil.rmtree(writing, ignore_errors=True)

    def _put_in_place(self, writing: Path, final: Path) -> None:
        """Every file synced, the folder renamed, its parent synced."""
        for path in [*writing.rglob("*"), writing]:
            _sync(path)
        os.rename(writing, final)
        _sync(self.folder)

    def verify(self, number: int) -> Path:
        """The folder of a version whose weights are the ones that were published.

        Raises:
            UnknownVersion: no such version.
            RemovedVersion: its files were given up.
            CorruptAdapter: a file is missing, or its sha256 is another than the row's.
            Busy: too many files are open to look.
        """
        version = self.store.version(number)
        if version.removed_at:
            raise RemovedVersion(said("version_removed", version=number))
        path = self.folder / version.folder
        try:
            found = sha256_of(path / WEIGHTS)
        except OSError as error:
            if of_the_moment(error):
                raise Busy(said("version_out_of_reach", version=number, error=error.strerror)) from error
            raise CorruptAdapter(said("version_unreadable", version=number, file=WEIGHTS, error=error.strerror)) from error
        if found != version.sha256 or not (path / "adapter_config.json").is_file():
            raise CorruptAdapter(said("version_altered", version=number))
        return path

    def remove_old(self, base_model: str, keep: int) -> list[int]:
        """Remove the files of versions that are too old to keep, see `Retention`, and most of their receipts; call it only while holding the learner's
        lease, so that no run reads them.

        A version is given up in the store first: after a kill in between its folder is swept, and its receipts go with the next versions. Returns the versions' numbers.
        """
        old = self.store.give_up_old_versions(base_model, keep)
        for version in old:
            if is_plain_name(version.folder):     # else a row that was taken in before names were looked at
                shutil.rmtree(self.folder / version.folder, ignore_errors=True)
        self.store.thin_receipts()
        return [version.number for version in old]

    def sweep(self) -> list[str]:
        """Remove folders that no row publishes any more; call it only while holding the learner's lease. Returns their names."""
        gone = self._unpublished()
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        return [path.name for path in gone]

    def sweep_at_start(self) -> list[str]:
        """`sweep`, unless somebody else holds the learner's lease: a run sweeps by itself, and so does `place`. Returns the removed folders' names."""
        if not self._unpublished():
            return []
        with self.store.leased(LEARNER_LEASE, SWEEP_SECONDS) as held:
            return self.sweep() if held else []   # looks again: what was being written may be published by now

    def _unpublished(self) -> list[Path]:
        published = {row["folder"] for row in self.store.rows("SELECT folder FROM versions WHERE removed_at IS NULL")}
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name not in published)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

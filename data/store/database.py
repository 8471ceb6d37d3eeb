"""Connections and transactions: WAL, a connection per thread, one writer transaction per event."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database as SqliteUtilsDatabase

from data.errors import BadSetting, Busy, StorageFull
from data.sentences import said
from data.store.migrations import migrations

log = logging.getLogger(__name__)

BUSY_SECONDS = 30
"""How long a writer waits for another writer. Every transaction here lasts milliseconds."""
EMPTY_SECONDS = 2.0
"""How long somebody who erased a text waits for readers to leave the write-ahead log, so that it can be emptied ..."""
EMPTY_LATER_SECONDS = 0.01
"""... and how long everybody does who writes after that, until it is empty: no other writer can go on meanwhile."""


def now() -> str:
    """UTC as ISO 8601 with microseconds; sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Database:
    """Opens or creates the SQLite file and brings its schema up to date.

    Safe from many threads and many processes. Reads see the last committed state; writes go through `write()`.

    Raises:
        StorageFull: the disk is full; nothing is written.
        BadSetting: the folder cannot be written to.
        Busy: another process held the writer's lock for 30 s.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._local = threading.local()
        self._erasures, self._emptied = 1, 0      # how many there were, and how many are out of the log: a process may have been killed between the two
        with _clear_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))       # what people say is for the server's eyes alone
            migrations_db = self._connect()
            migrations_db.conn.execute("BEGIN IMMEDIATE")      # two processes starting at once: one migrates, one waits
            try:
                migrations.apply(migrations_db)
                migrations_db.conn.execute("COMMIT")
            except BaseException:
                migrations_db.rollback()
                raise
            else:
                self._empty_log(migrations_db, EMPTY_LATER_SECONDS)
            finally:
                migrations_db.close()

    def _connect(self) -> SqliteUtilsDatabase:
        # isolation_level None: transactions are opened by write() alone, never implicitly
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")        # a rating that was answered with "saved" survives a power cut, see `write`
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")        # a text that its person deleted is overwritten in the file
        return SqliteUtilsDatabase(connection)

    @property
    def db(self) -> SqliteUtilsDatabase:
        """This thread's connection."""
        if not hasattr(self._local, "db"):
            self._local.db = self._connect()
        return self._local.db

    @contextmanager
    def write(self, *, at_once: bool = True) -> Iterator[SqliteUtilsDatabase]:
        """One transaction that takes the writer's lock at once, so it never fails half way for want of it.

        Nested calls join the outer transaction, and are on the disk when that is.

        Args: at_once: whether it is on the disk when this returns. False: a killed process loses nothing, a power cut what was written
            since the last transaction that was; twenty times as fast.
        """
        db = self.db
        if db.conn.in_transaction:
            yield db
            return
        with _clear_errors(self.path):
            db.conn.execute(f"PRAGMA synchronous = {'FULL' if at_once else 'NORMAL'}")
            db.conn.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.conn.execute("COMMIT")
            except BaseException:
                vars(self._local).pop("erased", None)
                db.rollback()
                raise
            erased = vars(self._local).pop("erased", False)
            self._erasures += erased
            if self._emptied < self._erasures:
                self._empty_log(db, EMPTY_SECONDS if erased else EMPTY_LATER_SECONDS)

    def erased(self) -> None:
        """Called in a transaction that overwrites what somebody deleted: the write-ahead log, which holds what was there before, is emptied after it.

        While a reader needs the log, that waits for a later transaction of this process.
        """
        self._local.erased = True

    def _empty_log(self, db: SqliteUtilsDatabase, seconds: float) -> None:
        """Never raises: what was written is written."""
        erasures = self._erasures
        try:
            db.conn.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")
            if not db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                self._emptied = max(self._emptied, erasures)
        except sqlite3.Error as error:
            log.warning("What was erased stays readable in %s-wal for now (%s)", self.path, error)
        finally:
            db.conn.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_SECONDS)}")

    def rows(self, sql: str, *parameters: object) -> list[sqlite3.Row]:
        with _clear_errors(self.path):
            return self.db.conn.execute(sql, parameters).fetchall()

    def row(self, sql: str, *parameters: object) -> sqlite3.Row | None:
        with _clear_errors(self.path):
            return self.db.conn.execute(sql, parameters).fetchone()

    def close(self) -> None:
        """Close this thread's connection."""
        db = vars(self._local).pop("db", None)
        if db is not None:
            db.close()


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(said("no_room_to_start", folder=str(path.parent))) from error
        raise BadSetting(said("state_dir_read_only", folder=str(path.parent), error=error.strerror)) from error
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "readonly" in str(error):
            raise BadSetting(said("store_read_only", folder=str(path.parent), file=path.name)) from error
        if "full" in str(error) or "disk I/O error" in str(error):      # the latter when even the write-ahead log cannot grow
            raise StorageFull(said("disk_full", folder=str(path.parent))) from error
        if "locked" in str(error):
            raise Busy(said("store_locked", file=path.name, seconds=BUSY_SECONDS)) from error
        raise

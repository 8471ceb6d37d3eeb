"""What arrives from other hosts: each shard in one transaction with the note that it was read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from data.records import BASE_VERSION
from data.store.arrivals import check_record
from data.store.outbox import ABOUT, OF_ONE_REPLY, SENT_ELSEWHERE, Outbox
from data.store.shards import BadRecord, BadShard

ERASURES = "erased"
"""Of a host that has gathered and does no more, how far it has read what is erased is noted as of a stream by this name."""
EVENTS = (*OF_ONE_REPLY, "comparisons")
NOT_TAKEN = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
"""What SQLite says of values; that it is busy or full is said otherwise, and no shard's fault."""
SAID = {"ratings": ("reply_id", "kind", "value"), "reasons": ("reply_id", "tags", "comment"), "corrections": ("reply_id", "text"),
        "comparisons": ("first_id", "second_id", "preferred", "asked_by")}


@contextmanager
def _said_of(host: str, number: int) -> Iterator[None]:
    """Raises: BadShard: a record has not the form it should have, or the database does not take it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, *NOT_TAKEN) as error:
        reason = str(error) if isinstance(error, BadRecord) else f"{type(error).__name__}: {error}"
        raise BadShard(f"Shard {number} of host {host} in SYNC_URL cannot be taken in ({reason}); run the same version of this program on all hosts.") from error


def check_shard(host: str, number: int, records: Sequence[dict]) -> None:
    """Raises: BadShard: there is something in it that must not be taken in, nor used before."""
    with _said_of(host, number):
        for record in records:
            check_record(record)


class Inbox(Outbox):
    """Tables `gathered` and `gathered_shards`."""

    def next_shard(self, stream: str, host: str) -> int:
        """A host's shards are read in their order, so that what somebody said last is current here too."""
        streams = (stream, "feedback" if stream == ERASURES else stream)
        return self.row("SELECT coalesce(max(number), 0) + 1 AS next FROM gathered_shards WHERE host = ? AND stream IN (?, ?)", host, *streams)["next"]

    def gather_feedback(self, host: str, number: int, records: Sequence[dict], stream: str = "feedback") -> bool:
        """Take a shard in, once; False when it was not the next one.

        A gathered reply is a conversation of its own here, without the message it answers (its prompt tokens say all that
        the learner reads), of a rater who cannot sign in.
        Of whom nothing is left here after it, because they deleted it on their host, no run's report speaks any more.
        Raises: BadShard: nothing was taken in.
        """
        people: set[str | None] = set()
        with self.write():
            taken = self._gather(stream, host, number, records, {
                "reply": lambda record: self._gather_reply(host, number, record),
                "erased": lambda record: people.add(self._erase_gathered(host, number, record["reply_id"])),
                **{source: lambda record, source=source: people.add(self._gather_event(source, record)) for source in EVENTS}})
            for rater_id in filter(self.is_remote_and_silent, people - {None}):
                self.forget_what_was_thought_of(rater_id)
        return taken

    def heed_erasures(self, host: str, number: int, records: Sequence[dict]) -> bool:
        """Of a shard take in what is erased alone: this host gathered once, and what it holds is to go as well. Should it gather again, it reads the rest then."""
        return self.gather_feedback(host, number, [record for record in records if record.get("type") == "erased"], stream=ERASURES)

    def _gather(self, stream: str, host: str, number: int, records: Sequence[dict], take: dict) -> bool:
        check_shard(host, number, records)
        with _said_of(host, number), self.write() as db:
            if self.next_shard(stream, host) != number:
                return False
            for record in records:
                take[record["type"]](record)
            db["gathered_shards"].upsert({"stream": stream, "host": host, "number": number}, pk=("stream", "host"))
        return True

    def _gather_reply(self, host: str, number: int, record: dict) -> None:
        if not self._takes_again(host, number, record["id"]):
            return
        before = self.row("SELECT owner FROM replies WHERE id = ?", record["id"])
        if before and not before["owner"].startswith(SENT_ELSEWHERE):
            return                                # this host's own: a copied state folder sends it
        reply_id, when = record["id"], record["started_at"]
        version = self.row("SELECT number FROM versions WHERE folder = ?", record["adapter"] or "")
        if before is None and self.row("SELECT 1 FROM conversations WHERE id = ?1 UNION ALL SELECT 1 FROM turns WHERE id = ?1", reply_id):
            raise BadRecord(f"id is that of something else here, {reply_id!r}")
        db = self.db
        self.ensure_rater(record["rater"], "remote")
        db["conversations"].upsert({"id": reply_id, "rater_id": record["rater"], "created_at": when, "task": record["task"], "deleted_at": None}, pk="id")
        db["turns"].upsert({"id": reply_id, "conversation_id": reply_id, "position": 0, "message": "", "created_at": when}, pk="id")
        kept = ("id", "adapter_sha256", "base_model", "engine", "text", "finish_reason", "logprobs_temperature", "started_at")
        as_json = {name: json.dumps(record[name]) for name in ("sampling", "prompt_ids", "completion_ids", "behavior_logprobs")}
        db["replies"].upsert({**{name: record[name] for name in kept}, **as_json, "turn_id": reply_id, "attempt": 0, "state": "done", "contributes": 1,
                              "version": self._version_here(record["adapter"], version), "owner": SENT_ELSEWHERE + host}, pk="id")

    def _version_here(self, adapter: str | None, row) -> int:
        """One that is not known here has no number, and nothing that could be recomputed with it."""
        return row["number"] if row else BASE_VERSION if adapter is None else -1

    def _gather_event(self, source: str, record: dict) -> str | None:
        """Returns: who said it, None where it was not taken in."""
        if self.row("SELECT 1 FROM gathered WHERE uid = ?", record["uid"]):
            return None
        replies = [record[name] for name in ("first_id", "second_id", "reply_id") if name in record]
        if any(self._erased_by(reply_id) for reply_id in replies):
            return None                           # of before; who lets it train again sends the reply first
        owners = [self.row("SELECT owner FROM replies WHERE id = ?", reply_id) for reply_id in replies]
        if not all(row and row["owner"].startswith(SENT_ELSEWHERE) for row in owners):
            return None                           # about this host's own, or about one whose shard was written again without it meanwhile
        self.ensure_rater(record["rater"], "remote")
        row_id = self.db[source].insert({**{name: record[name] for name in SAID[source]}, "rater_id": record["rater"], "created_at": record["created_at"]}).last_pk
        self.db["gathered"].insert({"uid": record["uid"], "source": source, "row_id": str(row_id)})
        return record["rater"]

    def _erased_by(self, reply_id: str) -> tuple[str, int] | None:
        """The host that said last that this is erased, and in which of its shards; None: it may be taken in."""
        row = self.row("SELECT row_id FROM gathered WHERE uid = ?", f"erased:{reply_id}")
        return (row["row_id"].rpartition("/")[0], int(row["row_id"].rpartition("/")[2])) if row else None

    def _takes_again(self, host: str, number: int, reply_id: str) -> bool:
        """Whether a reply was never erased, or the host that said so sends it since: its person lets it train again.

        An erasure may be read before the reply: of a state folder that was restored under another name, or by a host that was no learner meanwhile.
        """
        erased = self._erased_by(reply_id)
        if erased and (erased[0] != host or number < erased[1]):
            return False
        self.db.execute("DELETE FROM gathered WHERE uid = ?", [f"erased:{reply_id}"])
        return True

    def _erase_gathered(self, host: str, number: int, reply_id: str) -> str | None:
        """Returns: whose it was, None where there was nothing to erase."""
        self.db["gathered"].upsert({"uid": f"erased:{reply_id}", "source": "erased", "row_id": f"{host}/{number}"}, pk="uid")
        row = self.row("""SELECT rater_id FROM conversations WHERE id = ? AND deleted_at IS NULL
                          AND EXISTS (SELECT 1 FROM replies WHERE replies.id = conversations.id AND owner LIKE ?)""", reply_id, SENT_ELSEWHERE + "%")
        if row is None:
            return None
        self.delete_conversation(reply_id, row["rater_id"])
        for source, about in ABOUT.items():
            self.db.execute(f"DELETE FROM gathered WHERE source = ?2 AND row_id IN (SELECT CAST(id AS TEXT) FROM {source} WHERE {about})", [reply_id, source])
        return row["rater_id"]

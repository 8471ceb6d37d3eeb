"""What leaves this host: rating events and the replies they are about, packed into numbered shards.

Only replies of people who contribute, only those of which something was said, and of a person no more than a name made up for them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from data.store.database import now
from data.store.trust import Trust

MAX_ROWS = 500
"""In one shard: a few hundred kilobytes."""
SENT_ELSEWHERE = "sync:"
"""`replies.owner` of a reply that was gathered begins with this, and then names its host."""

# A finished reply of this host's own whose person lets it train, in a conversation that exists.
SENDABLE = f"""{{0}}.state = 'done' AND {{0}}.contributes = 1 AND {{0}}.completion_ids <> '[]' AND {{0}}.owner NOT LIKE '{SENT_ELSEWHERE}%' AND EXISTS (
    SELECT 1 FROM turns JOIN conversations ON conversations.id = conversation_id WHERE turns.id = {{0}}.turn_id AND deleted_at IS NULL)"""
OF_ONE_REPLY = ("ratings", "reasons", "corrections")
ABOUT = {**dict.fromkeys(OF_ONE_REPLY, "reply_id = ?1"), "comparisons": "(first_id = ?1 OR second_id = ?1)"}
"""Whether an event is about reply ?1, in a form that SQLite finds by its indexes."""
UNSENT = " UNION ALL ".join([*(f"""
    SELECT '{source}' AS source, {source}.id AS id, replies.id AS first_id, replies.id AS second_id FROM {source} JOIN replies ON replies.id = reply_id
    WHERE NOT EXISTS (SELECT 1 FROM shard_rows WHERE source = '{source}' AND row_id = CAST({source}.id AS TEXT)) AND {SENDABLE.format("replies")}"""
                                for source in OF_ONE_REPLY), f"""
    SELECT 'comparisons', comparisons.id, first_id, second_id FROM comparisons JOIN replies AS first ON first.id = first_id JOIN replies AS second ON second.id = second_id
    WHERE NOT EXISTS (SELECT 1 FROM shard_rows WHERE source = 'comparisons' AND row_id = CAST(comparisons.id AS TEXT))
    AND {SENDABLE.format("first")} AND {SENDABLE.format("second")}"""])
WITHDRAWN = f"""SELECT replies.id AS id FROM shard_rows JOIN replies ON replies.id = row_id WHERE source = 'replies' AND stream = 'feedback'
    AND NOT ({SENDABLE.format("replies")})"""


@dataclass(frozen=True)
class Unsent:
    """A shard that must be written, or written again."""

    number: int
    revision: int
    """Counts the reasons to write it."""
    hashes: list[str]
    """Of every form it ever had."""


class Outbox(Trust):
    """Tables `shards` and `shard_rows`."""

    def host_id(self) -> str:
        """This state folder's name among hosts, random, made at first use."""
        return self._made_once("host_id", 8)

    def pack_feedback(self, *, only_withdrawn: bool = False) -> bool:
        """Give everything that has not left yet a place in a new shard; True when there is more of it.

        What was deleted or withdrawn since goes first: its rows leave the shards they are in, which are written again
        without them, and the new shard says so.
        Args: only_withdrawn: nothing else, of a host that sends no more.
        """
        if not self.row(f"{WITHDRAWN} LIMIT 1") and (only_withdrawn or not self.row(f"SELECT 1 FROM ({UNSENT}) LIMIT 1")):
            return False
        with self.write():
            withdrawn = [row["id"] for row in self.rows(WITHDRAWN)]
            for reply_id in withdrawn:
                self._take_out(reply_id)
            events = [] if only_withdrawn else self.rows(f"SELECT * FROM ({UNSENT}) ORDER BY source, id LIMIT ?", MAX_ROWS)
            if not withdrawn and not events:
                return False
            number = self._new_shard("feedback")
            self._say_erased(withdrawn, number)
            for event in events:
                for reply_id in (event["first_id"], event["second_id"]):
                    self._put_in("replies", reply_id, "feedback", number)
                self._put_in(event["source"], event["id"], "feedback", number)
        return len(events) == MAX_ROWS

    def unsent_shard(self, stream: str, after: int) -> Unsent | None:
        """The first shard beyond `after` that must be written."""
        row = self.row("SELECT * FROM shards WHERE stream = ? AND number > ? AND revision > sent_revision ORDER BY number LIMIT 1", stream, after)
        return row and Unsent(row["number"], row["revision"], json.loads(row["hashes"]))

    def shard_records(self, stream: str, number: int) -> list[dict]:
        """What a shard of this host holds, from its rows as they are now."""
        rows = self.rows("SELECT source, row_id FROM shard_rows WHERE stream = ? AND number = ? ORDER BY source, CAST(row_id AS INTEGER), row_id", stream, number)
        of = {source: [row["row_id"] for row in rows if row["source"] == source] for source in ("erased", "replies", *OF_ONE_REPLY, "comparisons")}
        return [*({"type": "erased", "reply_id": reply_id} for reply_id in of["erased"]),
                *(self._reply_record(reply_id) for reply_id in of["replies"]),
                *(self._event_record(source, int(row_id)) for source in (*OF_ONE_REPLY, "comparisons") for row_id in of[source])]

    def will_write(self, stream: str, number: int, sha256: str) -> None:
        """Before a shard is written: from now on this form of it is known as ours, whatever happens."""
        with self.write() as db:
            hashes = json.loads(self.row("SELECT hashes FROM shards WHERE stream = ? AND number = ?", stream, number)["hashes"])
            if sha256 not in hashes:
                db["shards"].update((stream, number), {"hashes": json.dumps([*hashes, sha256])})

    def wrote(self, stream: str, number: int, revision: int) -> None:
        """A shard is in the shared place as it was at `revision`, and in no earlier form."""
        with self.write() as db:
            db["shards"].update((stream, number), {"sent_revision": revision})

    def sent_shards(self, stream: str) -> dict[int, list[str]]:
        """The hashes of all shards that were written, by number."""
        return {row["number"]: json.loads(row["hashes"]) for row in self.rows(
            "SELECT number, hashes FROM shards WHERE stream = ? AND sent_revision > 0 ORDER BY number", stream)}

    def write_again(self, stream: str, numbers: list[int]) -> None:
        """These are missing in the shared place: it is another one, or somebody removed them."""
        with self.write() as db:
            db.execute("UPDATE shards SET revision = revision + 1 WHERE stream = ? AND number IN (SELECT value FROM json_each(?))", [stream, json.dumps(numbers)])

    def become_another_host(self) -> str:
        """A new name and new shards for everything: another server writes under the old one. Sending all again counts nothing twice.

        The first says what was deleted of what was sent under the old name: that has perhaps not been said yet.
        """
        with self.write() as db:
            deleted = self.rows(f"SELECT row_id AS id FROM shard_rows WHERE source = 'erased' UNION {WITHDRAWN}")
            db.execute("DELETE FROM shard_rows")
            db.execute("DELETE FROM shards")
            db.execute("DELETE FROM marks WHERE name = 'host_id'")
            if deleted:
                self._say_erased([row["id"] for row in deleted], self._new_shard("feedback"))
            return self.host_id()

    def pseudonym(self, rater_id: str) -> str:
        """The same for one person always, and of no use to find them."""
        return "r" + hmac.new(self._made_once("pseudonym_key", 32).encode(), rater_id.encode(), hashlib.sha256).hexdigest()[:16]

    def event_uid(self, source: str, row) -> str:
        """An event's name on all hosts: made of what never changes in it, so that whoever sends it again sends the same."""
        which = [row[name] for name in (("first_id", "second_id") if source == "comparisons" else ("reply_id",))]
        kind = [row["kind"]] if source == "ratings" else []
        return hashlib.sha256(json.dumps([source, *which, self.pseudonym(row["rater_id"]), *kind, row["created_at"]]).encode()).hexdigest()[:32]

    def _take_out(self, reply_id: str) -> None:
        """A reply and all that was said of it, out of the shards that hold them."""
        with self.write() as db:
            rows = [("replies", reply_id), *((source, str(row["id"])) for source, about in ABOUT.items() for row in self.rows(f"SELECT id FROM {source} WHERE {about}", reply_id))]
            for source, row_id in rows:
                db.execute("""UPDATE shards SET revision = revision + 1 WHERE (stream, number) IN (SELECT stream, number FROM shard_rows WHERE source = ? AND row_id = ?)""",
                           [source, row_id])
                db.execute("DELETE FROM shard_rows WHERE source = ? AND row_id = ?", [source, row_id])

    def _new_shard(self, stream: str) -> int:
        number = self.row("SELECT coalesce(max(number), 0) + 1 AS next FROM shards WHERE stream = ?", stream)["next"]
        self.db["shards"].insert({"stream": stream, "number": number, "packed_at": now()})
        return number

    def _say_erased(self, reply_ids: Iterable[str], number: int) -> None:
        for reply_id in reply_ids:
            self.db["shard_rows"].upsert({"source": "erased", "row_id": reply_id, "stream": "feedback", "number": number}, pk=("source", "row_id"))

    def _put_in(self, source: str, row_id: str | int, stream: str, number: int) -> None:
        self.db["shard_rows"].insert({"source": source, "row_id": str(row_id), "stream": stream, "number": number}, ignore=True)

    def _reply_record(self, reply_id: str) -> dict:
        row = dict(self.row("""SELECT replies.*, rater_id, task, versions.folder AS adapter FROM replies JOIN turns ON turns.id = turn_id
                               JOIN conversations ON conversations.id = conversation_id LEFT JOIN versions ON versions.number = replies.version WHERE replies.id = ?""", reply_id))
        kept = ("id", "task", "adapter", "adapter_sha256", "base_model", "engine", "text", "finish_reason", "logprobs_temperature", "started_at")
        parsed = {name: json.loads(row[name]) for name in ("sampling", "prompt_ids", "completion_ids", "behavior_logprobs")}
        return {"type": "reply", **{name: row[name] for name in kept}, **parsed, "rater": self.pseudonym(row["rater_id"])}

    def _event_record(self, source: str, row_id: int) -> dict:
        row = dict(self.row(f"SELECT * FROM {source} WHERE id = ?", row_id))
        said = {name: value for name, value in row.items() if name not in ("id", "rater_id")}
        if source == "reasons" and said["comment"]:
            said["comment"] = "*"                 # that there is one counts; what it says is for people here
        return {"type": source, "uid": self.event_uid(source, row), "rater": self.pseudonym(row["rater_id"]), **said}

    def _made_once(self, name: str, size: int) -> str:
        if self.mark(name) is None:
            with self.write():
                if self.mark(name) is None:
                    self.set_mark(name, secrets.token_hex(size))
        return self.mark(name)

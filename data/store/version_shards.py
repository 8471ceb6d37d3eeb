"""What a learner's host tells all others: runs, versions with their receipts, promotions; and what the others make of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from data.records import BASE_VERSION
from data.store.arrivals import NUMBERS, known_progress
from data.store.inbox import EVENTS, Inbox
from data.store.outbox import ABOUT, SENT_ELSEWHERE

REPORTED = ("reason", "said", "note", "note_said", "data", "gate", "published", "adapter_sha256", "ratings_used", "kl", "seconds")
"""What of a run's report other hosts show."""
LOST = "Its files are not on the host that trained it any more; make another version live."
# What this host alone knows: a version once its run has ended, so that the two travel together.
UNTOLD = """SELECT * FROM (
    SELECT 'runs' AS source, id AS row_id FROM runs WHERE state IN ('published', 'refused', 'nothing_to_do')
    UNION ALL SELECT 'versions', CAST(number AS TEXT) FROM versions WHERE run_id IS NULL
        OR EXISTS (SELECT 1 FROM runs WHERE runs.id = run_id AND state = 'published')
    UNION ALL SELECT 'promotions', CAST(promotions.id AS TEXT) FROM promotions LEFT JOIN versions ON versions.number = promotions.version
        WHERE versions.run_id IS NULL OR EXISTS (SELECT 1 FROM runs WHERE runs.id = run_id AND state = 'published')
    ) AS news WHERE NOT EXISTS (SELECT 1 FROM shard_rows WHERE shard_rows.source = news.source AND shard_rows.row_id = news.row_id)
    AND NOT EXISTS (SELECT 1 FROM gathered WHERE gathered.source = news.source AND gathered.row_id = news.row_id)"""


class VersionShards(Inbox):
    """The `versions` stream. A version's name on all hosts is its folder's; its number is the same wherever it was free."""

    def pack_versions(self) -> None:
        """Give what nobody was told of yet a place in a new shard."""
        if not self.row(f"{UNTOLD} LIMIT 1"):
            return
        with self.write():
            number = self._new_shard("versions")
            for row in self.rows(UNTOLD):
                self._put_in(row["source"], row["row_id"], "versions", number)

    def shard_records(self, stream: str, number: int) -> list[dict]:
        """Of this stream runs, then versions, then promotions, each oldest first. The caller adds a version's `config` and `removed_at`."""
        if stream != "versions":
            return super().shard_records(stream, number)
        rows = self.rows("SELECT source, row_id FROM shard_rows WHERE stream = 'versions' AND number = ?", number)
        ids = {source: [row["row_id"] for row in rows if row["source"] == source] for source in ("runs", "versions", "promotions")}
        return [*(self._run_record(row) for row in self.rows("SELECT * FROM runs WHERE id IN (SELECT value FROM json_each(?)) ORDER BY rowid", json.dumps(ids["runs"]))),
                *(self._version_record(int(row_id)) for row_id in sorted(ids["versions"], key=int)),
                *(self._promotion_record(int(row_id)) for row_id in sorted(ids["promotions"], key=int))]

    def gather_versions(self, host: str, number: int, records: Sequence[dict]) -> bool:
        """Take a shard in, once; the versions' files are in place already. Raises: BadShard: nothing was taken in."""
        return self._gather("versions", host, number, records, {"run": self._gather_run, "version": self._gather_version, "promotion": self._gather_promotion})

    def promote_again(self, reason: str) -> None:
        """Say of every lineage once more what is live."""
        with self.write():
            for row in self.rows("SELECT DISTINCT base_model FROM promotions"):
                self._promote(self.live_version(row["base_model"]), row["base_model"], reason)

    def _run_record(self, row) -> dict:
        report = {name: value for name, value in json.loads(row["report"]).items() if name in REPORTED}
        if "data" in report:
            report["data"] = {name: value for name, value in report["data"].items() if name != "rater_weights"}
        if row["state"] == "published":
            report["changed"] = self.what_changed(row["version"])             # a host has the receipts of its own replies alone
        kept = ("id", "base_model", "state", "trigger", "started_at", "ended_at", "progress")
        return {"type": "run", **{name: row[name] for name in kept}, "report": report, "seen": json.loads(row["hosts_seen"])}

    def _gather_run(self, record: dict) -> None:
        """What a run saw of this host, and when that left, is when the run began as seen from here: all later is news to it."""
        if self.row("SELECT 1 FROM runs WHERE id = ?", record["id"]):
            return
        saw = record["seen"].get(self.host_id(), 0)
        packed = self.row("SELECT packed_at FROM shards WHERE stream = 'feedback' AND number <= ? ORDER BY number DESC LIMIT 1", max(saw, 1))
        seen = {source: self.row("""SELECT coalesce(max(CAST(row_id AS INTEGER)), 0) AS id FROM shard_rows
                                    WHERE stream = 'feedback' AND source = ? AND number <= ?""", source, saw)["id"] for source in EVENTS}
        kept = ("id", "base_model", "state", "trigger", "ended_at")
        self.db["runs"].insert({**{name: record[name] for name in kept}, "progress": known_progress(record["progress"]), "started_at": packed["packed_at"] if packed else record["started_at"],
                                "report": json.dumps(record["report"], ensure_ascii=False), "ratings_seen": seen.pop("ratings"), "feedback_seen": json.dumps(seen)})
        self.db["gathered"].insert({"uid": "run:" + record["id"], "source": "runs", "row_id": record["id"]})

    def _version_record(self, number: int) -> dict:
        version = self.version(number)
        receipts = [{"reply_id": row["reply_id"], **{name: row[name] for name in NUMBERS}, "events": self._uids(
            {"ratings": json.loads(row["rating_ids"]), **json.loads(row["feedback_ids"])})} for row in self.rows(
                f"SELECT receipts.* FROM receipts JOIN replies ON replies.id = reply_id WHERE receipts.version = ? AND owner LIKE '{SENT_ELSEWHERE}%'", number)]
        corrected = [{"uid": row["uid"], "reply_id": row["reply_id"], "tokens": row["tokens"], **{name: row[name] for name in NUMBERS}} for row in self.rows(
            """SELECT correction_receipts.*, uid, reply_id FROM correction_receipts JOIN corrections ON corrections.id = correction_id
               JOIN gathered ON source = 'corrections' AND row_id = CAST(correction_id AS TEXT) WHERE version = ?""", number)]
        return {"type": "version", "folder": version.folder, "number": number, "base_model": version.base_model, "sha256": version.sha256, "run_id": version.run_id,
                "parent": self._folder(version.parent), "created_at": version.created_at, "note": version.note, "receipts": receipts, "corrected": corrected}

    def _uids(self, events: dict[str, list[int]]) -> dict[str, list[str]]:
        return {source: [row["uid"] for row in self.rows("SELECT uid FROM gathered WHERE source = ? AND row_id IN (SELECT CAST(value AS TEXT) FROM json_each(?))",
                                                         source, json.dumps(ids))] for source, ids in events.items()}

    def _gather_version(self, record: dict) -> None:
        if self.row("SELECT 1 FROM versions WHERE folder = ?", record["folder"]):
            return
        taken = self.row("SELECT 1 FROM versions WHERE number = ?", record["number"])
        kept, removed_at = ("folder", "base_model", "sha256", "run_id", "created_at", "note"), record.get("removed_at")        # older shards do not say
        number = self.db["versions"].insert({**{name: record[name] for name in kept}, "number": None if taken else record["number"], "removed_at": removed_at,
                                             "parent": self.number_of(record["parent"]), "error": None if record["config"] or removed_at else LOST}, pk="number").last_pk
        self.db["gathered"].insert({"uid": "version:" + record["folder"], "source": "versions", "row_id": str(number)})
        for receipt in record["receipts"]:
            if self.row("SELECT 1 FROM replies WHERE id = ?", receipt["reply_id"]):                # else another host's
                here = self._events_here(receipt["reply_id"])
                used = {source: [here[source][uid] for uid in uids if uid in here[source]] for source, uids in receipt["events"].items()}
                self.db["receipts"].insert({"version": number, "reply_id": receipt["reply_id"], **{name: receipt[name] for name in NUMBERS},
                                            "rating_ids": json.dumps(used.pop("ratings", [])), "feedback_ids": json.dumps(used)})
        for receipt in record["corrected"]:
            correction = self._events_here(receipt["reply_id"])["corrections"].get(receipt["uid"])
            if correction is not None:
                self.db["correction_receipts"].insert({"version": number, "correction_id": correction, "tokens": receipt["tokens"], **{name: receipt[name] for name in NUMBERS}})

    def _events_here(self, reply_id: str) -> dict[str, dict[str, int]]:
        """This host's events about a reply by their names on all hosts."""
        return {source: {self.event_uid(source, row): row["id"] for row in self.rows(
            f"SELECT * FROM {source} WHERE {about}", reply_id)} for source, about in ABOUT.items()}

    def _promotion_record(self, promotion_id: int) -> dict:
        row = self.row("SELECT * FROM promotions WHERE id = ?", promotion_id)
        return {"type": "promotion", "uid": f"promotion:{self.host_id()}:{promotion_id}", "version": self._folder(row["version"]),
                "base_model": row["base_model"], "reason": row["reason"], "created_at": row["created_at"]}

    def _gather_promotion(self, record: dict) -> None:
        if self.row("SELECT 1 FROM gathered WHERE uid = ?", record["uid"]):
            return
        row_id = self.db["promotions"].insert({"version": self.number_of(record["version"]), **{name: record[name] for name in ("base_model", "reason", "created_at")}}, pk="id").last_pk
        self.db["gathered"].insert({"uid": record["uid"], "source": "promotions", "row_id": str(row_id)})

    def _folder(self, number: int) -> str | None:
        row = self.row("SELECT folder FROM versions WHERE number = ?", number)
        return row["folder"] if row else None

    def number_of(self, folder: str | None) -> int:
        """A version's number on this host; 0, the base model, when it is not known here."""
        row = self.row("SELECT number FROM versions WHERE folder = ?", folder or "")
        return row["number"] if row else BASE_VERSION

"""Version rows: what was published, what is live, what each rating did."""

from __future__ import annotations

import json
from dataclasses import asdict

from data.errors import ChatError, DeletedMeanwhile, EndedMeanwhile, RemovedVersion, UnknownVersion
from data.records import BASE_VERSION, CorrectionReceipt, Promotion, ReceiptRow, Version
from data.sentences import said
from data.store.database import now
from data.store.runs import Runs

HOLDS_DELETED = "the version before holds what somebody deleted"
"""Why the base model went live."""


class Versions(Runs):
    """Publication, promotion, rollback and receipts."""

    def publish_version(self, base_model: str, sha256: str, folder: str, run_id: str | None, parent: int,
                        receipts: list[ReceiptRow], note: str, of_corrections: list[CorrectionReceipt] | None = None) -> Version:
        """The publication itself: one transaction inserts the version, its receipts and its promotion.

        Call `AdapterRegistry.publish` instead: it puts the files in place first.
        Raises: DeletedMeanwhile: some of what it learned from was deleted since its run began; EndedMeanwhile: another learner has ended its run. Nothing is written.
        """
        with self.write() as db:
            if run_id and self.run(run_id).state != "running":
                raise EndedMeanwhile(said("interrupted_by_another"))
            number = db["versions"].insert({
                "base_model": base_model, "sha256": sha256, "folder": folder, "run_id": run_id, "parent": parent,
                "created_at": now(), "note": note}, pk="number").last_pk
            db["receipts"].insert_all({**asdict(receipt), "version": number, "rating_ids": json.dumps(list(receipt.rating_ids)),
                                       "feedback_ids": json.dumps(receipt.feedback_ids)}
                                      for receipt in receipts)
            db["correction_receipts"].insert_all({**asdict(receipt), "version": number} for receipt in of_corrections or ())
            if self.learned_from_deleted(number):
                raise DeletedMeanwhile(said("interrupted_by_deletion"))
            self._promote(number, base_model, "published")
        return self.version(number)

    def learned_from_deleted(self, number: int) -> bool:
        """Whether a reply of its receipts is in a deleted conversation, or who rated one deleted everything since its run began."""
        return self.row("""
            SELECT 1 FROM (SELECT reply_id FROM receipts WHERE version = ?1
                           UNION SELECT reply_id FROM correction_receipts JOIN corrections ON corrections.id = correction_id WHERE version = ?1) AS learned
                JOIN replies ON replies.id = learned.reply_id JOIN turns ON turns.id = replies.turn_id JOIN conversations ON conversations.id = conversation_id
                WHERE deleted_at IS NOT NULL
            UNION ALL SELECT 1 FROM used_feedback JOIN erasures USING (rater_id) JOIN versions ON versions.number = used_feedback.version
                JOIN runs ON runs.id = run_id WHERE number = ?1 AND erasures.created_at >= runs.started_at LIMIT 1""", number) is not None

    def follows_a_learner(self, version: int) -> bool:
        """Whether this version came from a learner elsewhere, which answers for what it is made of."""
        return self.row("SELECT 1 FROM gathered WHERE source = 'versions' AND row_id = ?", str(version)) is not None

    def must_be_left(self, live: int) -> bool:
        """Whether it holds what somebody deleted. One of a learner elsewhere is made of other hosts' ratings too: that learner is to forget these."""
        return live != BASE_VERSION and not self.follows_a_learner(live) and self.learned_from_deleted(live)

    def version(self, number: int) -> Version:
        """Raises: UnknownVersion: no such version."""
        row = self.row("SELECT * FROM versions WHERE number = ?", number)
        if row is None:
            raise UnknownVersion(said("no_such_version", version=number))
        return version_from(row)

    def versions(self, base_model: str) -> list[Version]:
        """Of one lineage, newest first."""
        return [version_from(row) for row in self.rows(
            "SELECT * FROM versions WHERE base_model = ? ORDER BY number DESC", base_model)]

    def notes_said(self, base_model: str) -> dict[int, dict]:
        """By version: its note as a code with values, see data/sentences.py; those of old runs are sentences alone."""
        return {row["number"]: json.loads(row["said"]) for row in self.rows(
            """SELECT number, json_extract(report, '$.note_said') AS said FROM versions JOIN runs ON runs.id = run_id
               WHERE versions.base_model = ? AND said IS NOT NULL""", base_model)}

    def live_version(self, base_model: str) -> int:
        """The version new replies should use: the newest promotion of this lineage whose version can be loaded; 0 is the base."""
        return self._newest_promoted(base_model, but=None)

    def _newest_promoted(self, base_model: str, but: int | None) -> int:
        row = self.row("""SELECT promotions.version AS version FROM promotions LEFT JOIN versions ON versions.number = promotions.version
                          WHERE promotions.base_model = ?1 AND error IS NULL AND removed_at IS NULL AND promotions.version IS NOT ?2
                          ORDER BY promotions.id DESC LIMIT 1""", base_model, but)
        return row["version"] if row else BASE_VERSION

    def came_from(self, number: int) -> int:
        """What a rollback from this version goes to: the one that was live when it was trained, or where that was removed the one before; 0 is the base."""
        number = self.version(number).parent
        while number != BASE_VERSION and self.version(number).removed_at:
            number = self.version(number).parent
        return number

    def promote(self, number: int, base_model: str, reason: str) -> Promotion:
        """Make a version live (0: the base model alone). A version that once failed to load gets another try.

        Raises: UnknownVersion: no such version in this lineage. RemovedVersion: its files are gone. Either way nothing changes.
        """
        with self.write() as db:
            if number != BASE_VERSION:
                version = self.version(number)
                if version.base_model != base_model:
                    raise UnknownVersion(said("another_lineage", version=number, trained_on=version.base_model, runs=base_model))
                if version.removed_at:
                    raise RemovedVersion(said("version_removed", version=number))
                db["versions"].update(number, {"error": None, "error_said": None})
            return self._promote(number, base_model, reason)

    def _promote(self, number: int, base_model: str, reason: str) -> Promotion:
        row = {"version": number, "base_model": base_model, "reason": reason, "created_at": now()}
        return Promotion(id=self.db["promotions"].insert(row, pk="id").last_pk, **row)

    def promotions(self, base_model: str, limit: int = 20) -> list[Promotion]:
        """Newest first: when which version went live, and why."""
        return [Promotion(**row) for row in self.rows(
            "SELECT * FROM promotions WHERE base_model = ? ORDER BY id DESC LIMIT ?", base_model, limit)]

    def mark_failed(self, number: int, error: ChatError) -> None:
        """The server could not load it: it is never live again until a maintainer makes it so. What was live before is, unless it holds what somebody deleted since."""
        with self.write() as db:
            db["versions"].update(number, {"error": str(error), "error_said": error.said and json.dumps(error.said, ensure_ascii=False)})
            base_model = self.version(number).base_model
            if self.must_be_left(self.live_version(base_model)):
                self._promote(BASE_VERSION, base_model, HOLDS_DELETED)


def version_from(row) -> Version:
    return Version(**{**row, "error_said": json.loads(row["error_said"] or "null")})

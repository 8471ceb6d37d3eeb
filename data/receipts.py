"""Receipts: which version a person's ratings went into, and which candidate that used them was refused."""

from __future__ import annotations

import json

from data.records import Outcome, Rating, ReceiptRow
from data.versions import Versions


class Receipts(Versions):
    """Questions asked of what the learner wrote down when it published, or refused, a version."""

    def outcomes(self, rater_id: str, conversation_id: str) -> dict[str, Outcome]:
        """What became of this person's ratings in one conversation, by reply id; replies that trained nothing are left out.

        A refused run is named when it is the newest that ended with a verdict, it saw every current rating of the reply,
        and it is newer than the reply's receipts.
        """
        last = self._last_verdicts()
        found = {}
        for row in self.rows("""
                SELECT replies.id AS reply_id, replies.base_model AS base_model,
                       (SELECT max(id) FROM current_ratings AS c WHERE c.reply_id = replies.id AND c.rater_id = ?1) AS newest,
                       (SELECT max(version) FROM receipts WHERE receipts.reply_id = replies.id AND EXISTS (
                            SELECT 1 FROM json_each(receipts.rating_ids) AS used JOIN ratings ON ratings.id = used.value
                            WHERE ratings.rater_id = ?1)) AS version
                FROM replies JOIN turns ON turns.id = replies.turn_id
                WHERE turns.conversation_id = ?2 AND replies.state = 'done' AND replies.contributes = 1 AND replies.completion_ids <> '[]'""", rater_id, conversation_id):
            run = last.get(row["base_model"])
            saw = run is not None and row["newest"] is not None and run["ratings_seen"] >= row["newest"]
            refused = run["id"] if saw and run["state"] == "refused" else None
            if row["version"] or refused:
                found[row["reply_id"]] = Outcome(row["reply_id"], row["version"], refused)
        return found

    def _last_verdicts(self) -> dict[str, dict]:
        """The newest published or refused run of every base model."""
        rows = self.rows("SELECT id, base_model, state, ratings_seen FROM runs WHERE state IN ('published', 'refused') ORDER BY started_at")
        return {row["base_model"]: row for row in rows}

    def used_ratings(self, receipt: ReceiptRow, rater_id: str) -> list[Rating]:
        """The rating events of this person that a receipt counts."""
        return [Rating(**row) for row in self.rows(
            "SELECT * FROM ratings WHERE rater_id = ? AND id IN (SELECT value FROM json_each(?)) ORDER BY id",
            rater_id, json.dumps(list(receipt.rating_ids)))]

    def training_weight(self, version: int) -> tuple[int, float]:
        """How many rated replies trained a version, and the sum of their weights."""
        row = self.row("SELECT count(*) AS n, coalesce(sum(weight), 0.0) AS total FROM receipts WHERE version = ?", version)
        return row["n"], row["total"]

"""Receipts: which version a person's ratings went into, and which candidate that used them was refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from data.records import CorrectionReceipt, Outcome, Rating, ReceiptRow
from data.store.versions import Versions


class Receipts(Versions):
    """Questions asked of what the learner wrote down when it published, or refused, a version."""

    def receipts(self, reply_id: str) -> list[ReceiptRow]:
        """What each version made of this reply's ratings, newest version first."""
        return [ReceiptRow(**{**row, "rating_ids": tuple(json.loads(row["rating_ids"])), "feedback_ids": json.loads(row["feedback_ids"])}) for row in map(dict, self.rows(
            "SELECT * FROM receipts WHERE reply_id = ? ORDER BY version DESC", reply_id))]

    def correction_receipts(self, correction_ids: Sequence[int], version: int) -> list[CorrectionReceipt]:
        """What this version made of these corrections, as texts of their own."""
        return [CorrectionReceipt(**row) for row in self.rows(
            "SELECT * FROM correction_receipts WHERE version = ? AND correction_id IN (SELECT value FROM json_each(?)) ORDER BY correction_id",
            version, json.dumps(list(correction_ids)))]
    def outcomes(self, rater_id: str, conversation_id: str) -> dict[str, Outcome]:
        """What became of what this person said in one conversation, by reply id; replies that trained nothing are left out.

        A refused run is named when it is the newest that ended with a verdict, it saw all that they currently say of the
        reply, and it is newer than the reply's receipts.
        """
        last, current = cache(self.last_verdict), self.current_events(rater_id, conversation_id)
        tagged = {reply_id for reply_id, said in self.reasons_of(rater_id, conversation_id).items() if said.tags}
        found = {}
        for row in self.rows("""
                SELECT replies.id AS reply_id, replies.base_model AS base_model FROM replies JOIN turns ON turns.id = replies.turn_id
                WHERE turns.conversation_id = ? AND replies.state = 'done' AND replies.contributes = 1 AND replies.completion_ids <> '[]'""", conversation_id):
            version = self._newest_that_used(row["reply_id"], rater_id)
            run, everything = last(row["base_model"]), current.get(row["reply_id"], {})
            # reasons beside other feedback explain it; alone they train when there is a tag among them
            events = {kind: ids for kind, ids in everything.items() if kind != "reasons"} or (everything if row["reply_id"] in tagged else {})
            refused = run["id"] if run and events and run["state"] == "refused" and _saw(run, events) else None
            if version or refused:
                found[row["reply_id"]] = Outcome(row["reply_id"], version, refused)
        return found

    def _newest_that_used(self, reply_id: str, rater_id: str) -> int | None:
        """The newest version that counts what this person said of a reply. Reply by reply: asked of several at once SQLite reads every receipt there is."""
        return self.row("SELECT max(version) AS version FROM used_feedback WHERE reply_id = ? AND rater_id = ?", reply_id, rater_id)["version"]

    def current_events(self, rater_id: str, conversation_id: str) -> dict[str, dict[str, list[int]]]:
        """The events of all that this person currently says in a conversation, by reply id and kind."""
        events = [("ratings", row["reply_id"], row["id"]) for row in self.rows(
            """SELECT reply_id, current_ratings.id AS id FROM current_ratings JOIN replies ON replies.id = reply_id
               JOIN turns ON turns.id = turn_id WHERE rater_id = ? AND conversation_id = ?""", rater_id, conversation_id)]
        events += [("reasons", reply_id, said.id) for reply_id, said in self.reasons_of(rater_id, conversation_id).items()]
        events += [("corrections", written.reply_id, written.id) for written in self.current_corrections(rater_id, conversation_id)]
        events += [("comparisons", reply_id, said.id) for said in self.comparisons_of(rater_id, conversation_id)
                   for reply_id in (said.first_id, said.second_id)]
        found: dict[str, dict[str, list[int]]] = {}
        for kind, reply_id, event_id in events:
            found.setdefault(reply_id, {}).setdefault(kind, []).append(event_id)
        return found

    def used_feedback(self, receipt: ReceiptRow, rater_id: str) -> dict[str, list[int]]:
        """The events of this person that a version counts for a reply, by kind; `corrected`: the corrected text as an example of its own."""
        found: dict[str, list[int]] = {}
        for row in self.rows("SELECT source, id FROM used_feedback WHERE version = ? AND reply_id = ? AND rater_id = ? ORDER BY source, id",
                             receipt.version, receipt.reply_id, rater_id):
            found.setdefault(row["source"], []).append(row["id"])
        return found

    def used_ratings(self, receipt: ReceiptRow, rater_id: str) -> list[Rating]:
        """The rating events of this person that a receipt counts."""
        return [Rating(**row) for row in self.rows(
            "SELECT * FROM ratings WHERE rater_id = ? AND id IN (SELECT value FROM json_each(?)) ORDER BY id",
            rater_id, json.dumps(list(receipt.rating_ids)))]

    def used_tags(self, receipt: ReceiptRow, rater_id: str) -> list[str]:
        """The tags of this person that a receipt counts; none of a conversation that was deleted."""
        return [tag for row in self.rows("SELECT tags FROM reasons WHERE rater_id = ? AND id IN (SELECT value FROM json_each(?))",
                                         rater_id, json.dumps(receipt.feedback_ids.get("reasons", []))) for tag in json.loads(row["tags"])]

    def second_opinions_used(self, rater_id: str, base_model: str) -> tuple[int, int] | None:
        """How many replies of other people this person rated so that it trained, and the newest version it did; None: none yet."""
        offered = self.rows("""SELECT DISTINCT reply_id FROM second_opinions JOIN replies ON replies.id = reply_id
                               WHERE rater_id = ? AND base_model = ?""", rater_id, base_model)
        versions = [version for row in offered if (version := self._newest_that_used(row["reply_id"], rater_id))]
        return (len(versions), max(versions)) if versions else None

    def training_weight(self, version: int) -> tuple[int, float]:
        """How many rated replies trained a version, and the sum of all weights, corrected texts included."""
        row = self.row("SELECT replies AS n, weight AS total FROM receipt_totals WHERE version = ?", version) or self.row("""SELECT (SELECT count(*) FROM receipts WHERE version = ?1) AS n, (SELECT coalesce(sum(weight), 0.0) FROM receipts WHERE version = ?1)
                          + (SELECT coalesce(sum(weight), 0.0) FROM correction_receipts WHERE version = ?1) AS total""", version)
        return row["n"], row["total"]

    def what_changed(self, version: int) -> dict[str, int]:
        """What a version made of what it learned from, against the base model.

        `likelier` of the `liked` replies (reward above 0), `less_likely` of the `disliked` ones, `corrected_likelier` of the
        `corrected` texts, and how many `comparisons` counted.
        """
        if total := self.row("SELECT changed FROM receipt_totals WHERE version = ?", version):
            return json.loads(total["changed"])
        replies = self.row("""SELECT coalesce(sum(reward > 0), 0) AS liked, coalesce(sum(reward > 0 AND logprob_after > logprob_before), 0) AS likelier,
                                     coalesce(sum(reward < 0), 0) AS disliked, coalesce(sum(reward < 0 AND logprob_after < logprob_before), 0) AS less_likely
                              FROM receipts WHERE version = ?""", version)
        written = self.row("""SELECT count(*) AS corrected, coalesce(sum(logprob_after > logprob_before), 0) AS corrected_likelier
                              FROM correction_receipts WHERE version = ?""", version)
        compared = self.row("SELECT count(DISTINCT id) AS comparisons FROM used_feedback WHERE version = ? AND source = 'comparisons'", version)
        return {**dict(replies), **dict(written), **dict(compared)}


def _saw(run, current: dict[str, list[int]]) -> bool:
    """Whether a run started after all these events."""
    seen = {"ratings": run["ratings_seen"], **json.loads(run["feedback_seen"])}
    return all(seen.get(kind, 0) >= max(ids) for kind, ids in current.items())

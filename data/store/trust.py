"""Consent, and what a person may ask for at any time: all that is kept of them, and its end."""

from __future__ import annotations

import json

from data.records import Erasure, Reply, Turn
from data.store.database import now
from data.store.history import History

RATED_BY = " UNION ".join(f"SELECT {column} AS reply_id FROM {table} WHERE rater_id = ?1" for table, column in (
    ("ratings", "reply_id"), ("reasons", "reply_id"), ("corrections", "reply_id"), ("comparisons", "first_id"), ("comparisons", "second_id")))
"""The replies of which a person ever said something."""


class Trust(History):
    """Consent is a person's; whether it covers a reply is written on the reply, so that later answers change no earlier one."""

    def consent(self, rater_id: str) -> bool | None:
        """Whether this person's replies may train; None: they were not asked, or have not answered."""
        row = self.row("SELECT consent FROM raters WHERE id = ?", rater_id)
        return None if row is None or row["consent"] is None else bool(row["consent"])

    def set_consent(self, rater_id: str, contributes: bool) -> None:
        """The answer covers what is written from now on, and replies that were still waiting for an answer: after a no, their log-probs are erased."""
        with self.write() as db:
            self.ensure_rater(rater_id)
            db["raters"].update(rater_id, {"consent": int(contributes), "others_may_see": int(contributes)})
            db.execute("""UPDATE replies SET contributes = ?1, behavior_logprobs = CASE WHEN ?1 THEN behavior_logprobs ELSE '[]' END
                          WHERE contributes IS NULL AND turn_id IN (
                            SELECT turns.id FROM turns JOIN conversations ON conversations.id = conversation_id WHERE rater_id = ?2)""",
                       [int(contributes), rater_id])

    def export(self, rater_id: str) -> dict:
        """All that is kept of a person, as plain values: conversations, replies, every rating event, reasons, corrections, comparisons, second opinions, consent.

        Of the versions that a reply helped to make, those whose receipts are kept: see `Retention`.
        """
        conversations = []
        for entry in self.history(rater_id):
            conversation = self.conversation(entry.id, rater_id)
            conversations.append({"title": conversation.title, "task": conversation.task, "created_at": conversation.created_at, "turns": [
                {"message": turn.message, "created_at": turn.created_at, "replies": [self._export_reply(reply, turn, rater_id) for reply in turn.replies],
                 "comparisons": self._export_comparisons(turn, rater_id),
                 "went_on_from": next((reply.attempt for reply in turn.replies if reply.id == turn.answer_id), None)}
                for turn in conversation.turns]})
        return {"person": rater_id, "contributes": self.consent(rater_id), "exported_at": now(), "conversations": conversations,
                "second_opinions": self.second_opinions_of(rater_id)}

    def _export_reply(self, reply: Reply, turn: Turn, rater_id: str) -> dict:
        events = self.rows("SELECT kind, value, created_at FROM ratings WHERE reply_id = ? AND rater_id = ? ORDER BY id", reply.id, rater_id)
        reasons = self.rows("SELECT tags, comment, created_at FROM reasons WHERE reply_id = ? AND rater_id = ? ORDER BY id", reply.id, rater_id)
        corrections = self.rows("SELECT text, created_at FROM corrections WHERE reply_id = ? AND rater_id = ? ORDER BY id", reply.id, rater_id)
        offers = self.rows("SELECT created_at FROM second_opinions WHERE reply_id = ? AND event = 'offered' ORDER BY id", reply.id)
        return {"text": reply.text, "shown_to_another_person_at": [offer["created_at"] for offer in offers], "corrections": [dict(event) for event in corrections],
                "version": reply.version, "base_model": reply.base_model, "started_at": reply.started_at,
                "aside": reply.aside, "again_of": next((other.attempt for other in turn.replies if other.id == reply.again_of), None),
                "contributes": reply.contributes, "sent_to_the_learner_at": self._left_at(reply.id), "ratings": [dict(event) for event in events],
                "reasons": [{**dict(event), "tags": json.loads(event["tags"])} for event in reasons],
                "helped_to_make_versions": [receipt.version for receipt in self.receipts(reply.id)],
                "helps_to_choose_what_to_ask": self.taught_what_to_ask(reply.id)}

    def _left_at(self, reply_id: str) -> str | None:
        """When a reply left this host for a learner elsewhere; None: it is here alone."""
        row = self.row("SELECT packed_at FROM shard_rows JOIN shards USING (stream, number) WHERE source = 'replies' AND row_id = ?", reply_id)
        return row["packed_at"] if row else None

    def _export_comparisons(self, turn: Turn, rater_id: str) -> list[dict]:
        """Replies are named by their attempt: 0 is the first in `replies`."""
        attempts = {reply.id: reply.attempt for reply in turn.replies}
        return [{"first": attempts[event["first_id"]], "second": attempts[event["second_id"]], "preferred": event["preferred"],
                 "asked_by": event["asked_by"], "created_at": event["created_at"]} for event in self.rows(
                     "SELECT * FROM comparisons WHERE rater_id = ? AND first_id IN (SELECT id FROM replies WHERE turn_id = ?) ORDER BY id", rater_id, turn.id)]

    def delete_everything(self, rater_id: str) -> Erasure:
        """Erase all conversations of a person (see `delete_conversation`), take back what they said of other people's replies,
        and write down that it happened, in numbers alone.
        """
        with self.write() as db:
            self.erased()                         # also of somebody without conversations a report may have told something
            trained = self._may_have_trained(rater_id)
            ratings = sum(self.delete_conversation(entry.id, rater_id) for entry in self.history(rater_id))
            self.forget_asking_heads([row["reply_id"] for row in self.rows(
                "SELECT DISTINCT reply_id FROM second_opinions JOIN ratings USING (reply_id, rater_id) WHERE rater_id = ?", rater_id)])
            ratings += self.take_back_second_opinions(rater_id)
            self.forget_what_was_thought_of(rater_id)
            self.ensure_rater(rater_id)
            db["erasures"].insert({"rater_id": rater_id, "ratings": ratings, "trained": int(trained), "created_at": now()})
        return Erasure(ratings, trained, ())

    def _may_have_trained(self, rater_id: str) -> bool:
        """Whether a version used what they said, or it left for a learner elsewhere, of whose newest version nothing may be known here yet."""
        rated = self.rows(RATED_BY, rater_id)     # reply by reply, as `_newest_that_used` has it
        return any(self._newest_that_used(row["reply_id"], rater_id) for row in rated) or self.row("""
            SELECT 1 FROM feedback JOIN shard_rows ON shard_rows.source = feedback.source AND row_id = CAST(feedback.id AS TEXT)
            WHERE feedback.rater_id = ? LIMIT 1""", rater_id) is not None

    def erasure(self, rater_id: str, base_model: str) -> Erasure | None:
        """This person's newest deletion of everything, with the versions that were trained without it."""
        row = self.row("SELECT * FROM erasures WHERE rater_id = ? ORDER BY id DESC LIMIT 1", rater_id)
        if row is None:
            return None
        versions = self.rows("""SELECT versions.number AS number FROM versions JOIN runs ON runs.id = versions.run_id
                                WHERE versions.base_model = ? AND runs.started_at > ? ORDER BY versions.number""", base_model, row["created_at"])
        return Erasure(row["ratings"], bool(row["trained"]), tuple(version["number"] for version in versions))

"""Corrections: what a reply should have been, in a person's words. Kept apart from what the model said."""

from __future__ import annotations

from data.errors import BadRating
from data.records import Correction
from data.sentences import said
from data.store.comparisons import Comparisons
from data.store.database import now

MAX_CORRECTION = 20_000

CURRENT = """SELECT corrections.id AS id, corrections.reply_id AS reply_id, corrections.rater_id AS rater_id, corrections.text AS text, corrections.created_at AS created_at
    FROM corrections JOIN replies ON replies.id = corrections.reply_id JOIN turns ON turns.id = replies.turn_id
    WHERE NOT EXISTS (SELECT 1 FROM corrections AS newer
                      WHERE newer.reply_id = corrections.reply_id AND newer.rater_id = corrections.rater_id AND newer.id > corrections.id) AND corrections.text <> ''"""


class Corrections(Comparisons):
    """The `corrections` table: append-only; the newest is current, an empty one takes it back."""

    def add_correction(self, reply_id: str, rater_id: str, text: str) -> str:
        """Say what a reply should have been; returns what is current. The reply's own text stays as the model wrote it.

        A text equal to the reply corrects nothing, so it takes an earlier correction back. The same again appends nothing.

        Raises:
            BadRating: longer than 20,000 characters, or see `check_room`; nothing is written.
            UnknownReply, NotYourReply: nothing is written.
        """
        text = text.strip()
        if len(text) > MAX_CORRECTION:
            raise BadRating(said("correction_too_long", characters=len(text), limit=MAX_CORRECTION))
        with self.write() as db:
            if text == self.reply(reply_id, rater_id).text.strip():
                text = ""
            before = self.row("SELECT text FROM corrections WHERE reply_id = ? AND rater_id = ? ORDER BY id DESC LIMIT 1", reply_id, rater_id)
            if (before["text"] if before else "") != text:
                if text:
                    self.check_room("corrections WHERE reply_id = ? AND rater_id = ?", reply_id, rater_id)
                db["corrections"].insert({"reply_id": reply_id, "rater_id": rater_id, "text": text, "created_at": now()})
        return text

    def corrections_of(self, rater_id: str, conversation_id: str) -> dict[str, str]:
        """This person's current corrections in one conversation, by reply id."""
        return {written.reply_id: written.text for written in self.current_corrections(rater_id, conversation_id)}

    def current_corrections(self, rater_id: str, conversation_id: str) -> list[Correction]:
        """The same with their events."""
        return [Correction(**row) for row in self.rows(f"{CURRENT} AND turns.conversation_id = ? AND corrections.rater_id = ?", conversation_id, rater_id)]

    def corrections_by_reply(self, base_model: str) -> dict[str, list[Correction]]:
        """Everybody's current corrections of replies of one lineage."""
        found: dict[str, list[Correction]] = {}
        for row in self.rows(f"{CURRENT} AND replies.base_model = ? ORDER BY corrections.id", base_model):
            found.setdefault(row["reply_id"], []).append(Correction(**row))
        return found

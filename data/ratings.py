"""Ratings: append-only events, and what is current of them."""

from __future__ import annotations

from data.chats import REPLY_COLUMNS, reply_from
from data.database import now
from data.errors import BadRating
from data.reasons import ReasonEvents
from data.records import RatedReply, Rating

ALLOWED = {"thumb": (-1, 0, 1), "stars": (0, 1, 2, 3, 4, 5)}


class Ratings(ReasonEvents):
    """Rating events and the questions asked of them."""

    def add_rating(self, reply_id: str, rater_id: str, kind: str, value: int) -> dict[str, int]:
        """Append a rating; the newest of each kind is current and 0 takes it back.

        The same value again changes nothing and appends nothing, so a double click or a retry is harmless.

        Returns: this person's current ratings of this reply, e.g. `{"thumb": 1, "stars": 4}`.
        Raises:
            BadRating: unknown kind, or a value outside -1, 0, 1 (thumb) or 0..5 (stars); nothing is written.
            UnknownReply: no such reply; nothing is written.
            NotYourReply: the reply was shown to somebody else; nothing is written.
        """
        if not isinstance(kind, str) or kind not in ALLOWED:
            raise BadRating(f"There is no rating of kind {str(kind)[:40]!r}; use 'thumb' or 'stars'.")
        if isinstance(value, bool) or not isinstance(value, int | float) or value not in ALLOWED[kind]:
            raise BadRating(f"{str(value)[:40]!r} is not a value for {kind}; use one of {', '.join(map(str, ALLOWED[kind]))} (0 takes it back).")
        with self.write() as db:
            reply = self.reply(reply_id, rater_id)
            current = self._current(reply.id, rater_id)
            if current.get(kind, 0) != value:
                db["ratings"].insert({"reply_id": reply_id, "rater_id": rater_id, "kind": kind, "value": int(value), "created_at": now()})
            return self._current(reply.id, rater_id)

    def _current(self, reply_id: str, rater_id: str) -> dict[str, int]:
        return {row["kind"]: row["value"] for row in self.rows(
            "SELECT kind, value FROM current_ratings WHERE reply_id = ? AND rater_id = ?", reply_id, rater_id)}

    def ratings_of(self, rater_id: str, conversation_id: str) -> dict[str, dict[str, int]]:
        """This person's current ratings in one conversation, by reply id."""
        result: dict[str, dict[str, int]] = {}
        for row in self.rows("""SELECT current_ratings.* FROM current_ratings JOIN replies ON replies.id = reply_id
                                JOIN turns ON turns.id = turn_id WHERE conversation_id = ? AND rater_id = ?""",
                             conversation_id, rater_id):
            result.setdefault(row["reply_id"], {})[row["kind"]] = row["value"]
        return result

    def rated_replies(self, base_model: str) -> list[RatedReply]:
        """Finished replies of this lineage with at least one current rating, oldest first: the training data.

        Replies whose person does not contribute, or has not said so yet, are never among them.
        """
        ratings: dict[str, list[Rating]] = {}
        for row in self.rows("""SELECT current_ratings.* FROM current_ratings JOIN replies ON replies.id = reply_id
                                WHERE base_model = ? AND state = 'done' AND contributes = 1 ORDER BY current_ratings.id""", base_model):
            ratings.setdefault(row["reply_id"], []).append(Rating(**row))
        replies = self.rows(f"""SELECT turns.message AS message, {REPLY_COLUMNS}
                                WHERE base_model = ? AND state = 'done' AND contributes = 1 AND replies.id IN (SELECT reply_id FROM current_ratings)
                                ORDER BY started_at, replies.id""", base_model)
        reasons, corrections = self.reasons_by_reply(base_model), self.corrections_by_reply(base_model)
        return [RatedReply(reply_from(row), tuple(ratings[row["id"]]), row["message"], tuple(reasons.get(row["id"], ())),
                           tuple(corrections.get(row["id"], ()))) for row in replies
                if row["completion_ids"] != "[]" and row["id"] in ratings]

    def fresh_ratings(self, base_model: str) -> int:
        """How many ratings differ from what the last finished run saw: new, changed or taken back."""
        return self.row("""
            WITH seen AS (SELECT coalesce(max(ratings_seen), 0) AS id FROM runs
                          WHERE base_model = ?1 AND state IN ('published', 'refused', 'nothing_to_do')),
            before AS (SELECT reply_id, rater_id, kind, value FROM ratings WHERE id IN
                       (SELECT max(id) FROM ratings WHERE id <= (SELECT id FROM seen) GROUP BY reply_id, rater_id, kind))
            SELECT count(*) AS n FROM newest_ratings AS newest JOIN replies ON replies.id = newest.reply_id
            LEFT JOIN before USING (reply_id, rater_id, kind)
            WHERE replies.base_model = ?1 AND replies.contributes = 1 AND newest.id > (SELECT id FROM seen)
              AND newest.value <> coalesce(before.value, 0)""", base_model)["n"]

    def recent_ratings(self, base_model: str, limit: int) -> list[dict]:
        """The newest rating events with what they were given to, newest first; a maintainer's view."""
        return [dict(row) for row in self.rows("""
            SELECT ratings.created_at AS "when", kind, value, turns.message AS message, replies.text AS reply, replies.version AS version
            FROM ratings JOIN replies ON replies.id = ratings.reply_id JOIN turns ON turns.id = replies.turn_id
            JOIN conversations ON conversations.id = turns.conversation_id
            WHERE replies.base_model = ? AND conversations.deleted_at IS NULL ORDER BY ratings.id DESC LIMIT ?""", base_model, limit)]

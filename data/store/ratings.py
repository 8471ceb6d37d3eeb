"""Ratings: append-only events, and what is current of them."""

from __future__ import annotations

import json

from data.errors import BadRating
from data.records import IMPORTED, RatedReply, Rating
from data.sentences import said
from data.store.chats import REPLY_COLUMNS, reply_from
from data.store.comparisons import CURRENT as COMPARISON
from data.store.comparisons import TRAINS as TRAINING_COMPARISON
from data.store.corrections import CURRENT as CORRECTION
from data.store.database import now
from data.store.reasons import CURRENT as REASONS
from data.store.reasons import EXPLAINS, FITTING
from data.store.second_opinions import SecondOpinions

FEEDBACK = ("ratings", "reasons", "corrections", "comparisons")
"""The tables of what people say of replies; the view `feedback` reads them in one shape."""
TRAINS = "replies.base_model = ?1 AND replies.state = 'done' AND replies.contributes = 1 AND replies.completion_ids <> '[]'"
"""Whether a reply of lineage ?1 may train once something is said of it."""
ALLOWED = {"thumb": (-1, 0, 1), "stars": (0, 1, 2, 3, 4, 5)}

# What somebody had said by the last event that a run saw, ?2, as the view `feedback` has it: asked of the view SQLite reads all of it.
SAID_BEFORE = " ".join(f"""WHEN '{source}' THEN (SELECT {said} FROM {source} AS earlier WHERE earlier.rater_id = newest.rater_id AND {same}
    AND earlier.id <= json_extract(?2, '$.{source}') ORDER BY earlier.id DESC LIMIT 1)""" for source, said, same in (
        ("ratings", "CASE value WHEN 0 THEN '' ELSE CAST(value AS TEXT) END", "earlier.reply_id = newest.reply_id AND earlier.kind = newest.topic"),
        ("reasons", "CASE tags WHEN '[]' THEN '' ELSE tags END", "earlier.reply_id = newest.reply_id"),
        ("corrections", "text", "earlier.reply_id = newest.reply_id"),
        ("comparisons", "CASE preferred WHEN 'first' THEN first_id WHEN 'second' THEN second_id WHEN 'same' THEN 'same' ELSE '' END",
         "min(first_id, second_id) = newest.reply_id AND max(first_id, second_id) = newest.topic")))


def check_rating(kind: object, value: object) -> None:
    """Raises: BadRating: unknown kind, or a value outside -1, 0, 1 (thumb) or 0..5 (stars)."""
    if not isinstance(kind, str) or kind not in ALLOWED:
        raise BadRating(said("no_such_rating", kind=repr(str(kind)[:40])))
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in ALLOWED[kind]:
        raise BadRating(said("no_such_value", value=repr(str(value)[:40]), kind=kind, values=", ".join(map(str, ALLOWED[kind]))))


class Ratings(SecondOpinions):
    """Rating events and the questions asked of them."""

    def add_rating(self, reply_id: str, rater_id: str, kind: str, value: int) -> dict[str, int]:
        """Append a rating; the newest of each kind is current and 0 takes it back.

        The same value again changes nothing and appends nothing, so a double click or a retry is harmless.

        Returns: this person's current ratings of this reply, e.g. `{"thumb": 1, "stars": 4}`.
        Raises:
            BadRating: unknown kind, a value outside -1, 0, 1 (thumb) or 0..5 (stars), or see `check_room`; nothing is written.
            UnknownReply: no such reply; nothing is written.
            NotYourReply: the reply was shown to somebody else and is not offered to this person; nothing is written.
        """
        check_rating(kind, value)
        with self.write() as db:
            takes_back = value == 0 and isinstance(reply_id, str) and self._current(reply_id, rater_id)      # also where nothing more may be said
            reply = self.reply(reply_id) if takes_back else self.reply_to_rate(reply_id, rater_id)
            current = self._current(reply.id, rater_id)
            if current.get(kind, 0) != value:
                if value:
                    self.check_room("ratings WHERE reply_id = ? AND rater_id = ?", reply_id, rater_id)
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
        """Finished replies of this lineage of which people currently say something that can train, oldest first: the training data.

        That is a rating, a tag, a correction or a comparison. Replies whose person does not contribute, or has not said
        so yet, are never among them.
        """
        ratings: dict[str, list[Rating]] = {}
        for row in self.rows("""SELECT current_ratings.* FROM current_ratings JOIN replies ON replies.id = reply_id
                                WHERE base_model = ? AND state = 'done' AND contributes = 1 ORDER BY current_ratings.id""", base_model):
            ratings.setdefault(row["reply_id"], []).append(Rating(**row))
        reasons, corrections, comparisons = self.reasons_by_reply(base_model), self.corrections_by_reply(base_model), self.comparisons_by_reply(base_model)
        tagged = {reply_id for reply_id, said in reasons.items() if any(each.tags for each in said)}
        replies = self.rows(f"""SELECT turns.message AS message, {REPLY_COLUMNS}
                                WHERE {TRAINS} AND replies.id IN (SELECT value FROM json_each(?2)) ORDER BY started_at, replies.id""",
                            base_model, json.dumps([*ratings, *tagged, *corrections, *comparisons]))
        return [RatedReply(reply_from(row), tuple(ratings.get(row["id"], ())), row["message"],
                           *(tuple(said.get(row["id"], ())) for said in (reasons, corrections, comparisons))) for row in replies]

    def has_rated_replies(self, base_model: str) -> bool:
        """Whether `rated_replies` would find any; of each kind of event it reads no more than up to the first that can train."""
        kinds = ((f"SELECT 1 FROM current_ratings JOIN replies ON replies.id = reply_id WHERE {TRAINS}", ()), (f"{CORRECTION} AND {TRAINS}", ()),
                 (f"{REASONS} AND {TRAINS} AND {EXPLAINS}", (FITTING,)), (f"{COMPARISON} AND {TRAINING_COMPARISON} AND 'done' IN (first.state, second.state)", ()))
        return any(self.row(f"{events} LIMIT 1", base_model, *values) for events, values in kinds)

    def fresh_ratings(self, base_model: str) -> int:
        """How much of what people say differs from what the last finished run saw: new, changed or taken back.

        Thumbs, stars, comparisons and corrections count one each, and so do tags without a thumb. Tags beside a thumb
        explain it, so they are no news of their own. An erased text counts as taken back.
        """
        last = self.row("""SELECT ratings_seen, feedback_seen FROM runs WHERE base_model = ? AND state IN ('published', 'refused', 'nothing_to_do')
                           ORDER BY rowid DESC LIMIT 1""", base_model)
        seen = {**dict.fromkeys(FEEDBACK, 0), **({"ratings": last["ratings_seen"], **json.loads(last["feedback_seen"])} if last else {})}
        return self.row(f"""
            WITH newest AS (SELECT source, reply_id, rater_id, topic, max(id), said FROM feedback WHERE id > json_extract(?2, '$.' || source)
                            GROUP BY source, reply_id, rater_id, topic),
            changes AS (SELECT *, CASE source {SAID_BEFORE} END AS before FROM newest)
            SELECT count(*) AS n FROM changes JOIN replies ON replies.id = reply_id JOIN turns ON turns.id = replies.turn_id
            JOIN conversations ON conversations.id = conversation_id LEFT JOIN replies AS other ON other.id = topic
            WHERE replies.base_model = ?1 AND replies.contributes = 1 AND (other.id IS NULL OR (other.base_model = ?1 AND other.contributes = 1))
              AND (said <> coalesce(before, '') OR (before = '' AND deleted_at IS NOT NULL))""", base_model, json.dumps(seen))["n"]

    def is_remote_and_silent(self, rater_id: str) -> bool:
        """Whether this is somebody of another host of whom nothing current is left here."""
        return self.row("""
            SELECT 1 FROM raters WHERE id = ?1 AND kind = 'remote' AND NOT EXISTS (
                SELECT 1 FROM (SELECT max(id), said FROM feedback WHERE rater_id = ?1 GROUP BY source, reply_id, topic) WHERE said <> '')""", rater_id) is not None

    def feedback_now(self) -> dict[str, int]:
        """The newest event of every kind but ratings: what a run that starts now sees."""
        return {source: self.row(f"SELECT coalesce(max(id), 0) AS id FROM {source}")["id"] for source in FEEDBACK if source != "ratings"}

    def recent_feedback(self, base_model: str, limit: int) -> list[dict]:
        """What people who contribute said of replies, the newest first, with what they said it of; a maintainer's view.

        Thumbs and stars are events, also those that were taken back. Of words only what is current: a text that its
        person took back is not shown on. `kind`: `thumb` or `stars` with `value`; `reasons` with `tags` and `comment`;
        `correction` with `text`; `comparison` with `same` and `other`, the text of the reply that was not preferred.
        `version`: None when no version wrote the reply, because it was imported.
        """
        events = [*self._recent_ratings(base_model, limit), *self._recent_words(base_model, limit)]
        return [{**self._exchange(event.pop("reply_id")), **event} for event in sorted(events, key=lambda event: event["when"], reverse=True)[:limit]]

    def _recent_ratings(self, base_model: str, limit: int) -> list[dict]:
        return [dict(row) for row in self.rows("""
            SELECT ratings.created_at AS "when", kind, value, reply_id FROM ratings JOIN replies ON replies.id = reply_id
            JOIN turns ON turns.id = turn_id JOIN conversations ON conversations.id = conversation_id
            WHERE base_model = ? AND contributes = 1 AND deleted_at IS NULL ORDER BY ratings.id DESC LIMIT ?""", base_model, limit)]

    def _recent_words(self, base_model: str, limit: int) -> list[dict]:
        """Reasons, corrections and comparisons; deleting a conversation erased or took back those of its replies."""
        found: list[dict] = []
        for said in self.newest_reasons(base_model, limit):
            found.append({"when": said.created_at, "kind": "reasons", "tags": list(said.tags), "comment": said.comment, "reply_id": said.reply_id})
        for row in self.rows(f"{CORRECTION} AND base_model = ? AND contributes = 1 ORDER BY corrections.id DESC LIMIT ?", base_model, limit):
            found.append({"when": row["created_at"], "kind": "correction", "text": row["text"], "reply_id": row["reply_id"]})
        for row in self.rows(f"""{COMPARISON} AND first.base_model = ? AND first.contributes = 1 AND second.contributes = 1
                                 ORDER BY comparisons.id DESC LIMIT ?""", base_model, limit):
            better, other = (row["second_id"], row["first_id"]) if row["preferred"] == "second" else (row["first_id"], row["second_id"])
            found.append({"when": row["created_at"], "kind": "comparison", "same": row["preferred"] == "same", "reply_id": better,
                          "other": self._exchange(other)["reply"]})
        return found

    def _exchange(self, reply_id: str) -> dict:
        return dict(self.row("""SELECT message, text AS reply, CASE engine WHEN ? THEN NULL ELSE version END AS version
                                FROM replies JOIN turns ON turns.id = turn_id WHERE replies.id = ?""", IMPORTED, reply_id))

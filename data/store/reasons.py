"""Reasons: why a person liked or disliked a reply. Append-only events beside the ratings, which stay what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence

from data.errors import BadRating
from data.records import Reasons
from data.sentences import said
from data.store.corrections import Corrections
from data.store.database import now

TAGS = {1: ("helpful", "clear", "right_length", "good_tone"),
        -1: ("wrong", "not_helpful", "too_long", "too_short", "tone", "unsafe", "other")}
"""What may be said, by the thumb it explains."""
KNOWN = frozenset(tag for of_thumb in TAGS.values() for tag in of_thumb)
MAX_COMMENT = 2000

# The newest event of each person and reply, with their newest thumb: tags of another thumb, or of one that was taken back, explain nothing any more.
CURRENT = """SELECT reasons.id AS id, reasons.reply_id AS reply_id, reasons.rater_id AS rater_id, tags, comment, reasons.created_at AS created_at, thumbs.value AS thumb
    FROM reasons JOIN replies ON replies.id = reasons.reply_id JOIN turns ON turns.id = replies.turn_id
    LEFT JOIN newest_ratings AS thumbs ON thumbs.reply_id = reasons.reply_id AND thumbs.rater_id = reasons.rater_id AND thumbs.kind = 'thumb'
    WHERE NOT EXISTS (SELECT 1 FROM reasons AS newer WHERE newer.reply_id = reasons.reply_id AND newer.rater_id = reasons.rater_id AND newer.id > reasons.id)"""
# Whether a tag among them explains that thumb, as `_reasons_from` has it; ?2 is `FITTING`.
EXPLAINS = """EXISTS (SELECT 1 FROM json_each(tags) AS tag JOIN json_each(?2, '$."' || coalesce(thumb, 'none') || '"') AS fitting ON fitting.value = tag.value)"""
FITTING = json.dumps({"none": sorted(KNOWN), **TAGS})


class ReasonEvents(Corrections):
    """The `reasons` table."""

    def add_reasons(self, reply_id: str, rater_id: str, tags: Sequence[str], comment: str = "") -> Reasons:
        """Say why; the newest saying is current, and no tags with no comment take it back. The same again appends nothing.

        Raises:
            BadRating: an unknown tag, a comment over 2,000 characters, or see `check_room`; nothing is written.
            UnknownReply, NotYourReply: nothing is written.
        """
        unknown = [tag for tag in tags if not isinstance(tag, str) or tag not in KNOWN]
        if unknown:
            raise BadRating(said("no_such_reason", tag=repr(str(unknown[0])[:40]), tags=", ".join(sorted(KNOWN))))
        if not isinstance(comment, str) or len(comment.strip()) > MAX_COMMENT:
            raise BadRating(said("comment_too_long", limit=MAX_COMMENT))
        current = Reasons(reply_id, rater_id, tuple(sorted(set(tags))), comment.strip(), now())
        with self.write() as db:
            self.reply(reply_id, rater_id)
            before = self.row("SELECT tags, comment FROM reasons WHERE reply_id = ? AND rater_id = ? ORDER BY id DESC LIMIT 1", reply_id, rater_id)
            row = {"tags": json.dumps(list(current.tags)), "comment": current.comment}
            if (dict(before) if before else {"tags": "[]", "comment": ""}) != row:
                if current.tags or current.comment:
                    self.check_room("reasons WHERE reply_id = ? AND rater_id = ?", reply_id, rater_id)
                db["reasons"].insert({"reply_id": reply_id, "rater_id": rater_id, **row, "created_at": current.created_at})
        return current

    def reasons_of(self, rater_id: str, conversation_id: str) -> dict[str, Reasons]:
        """This person's current reasons in one conversation, by reply id."""
        rows = self.rows(f"{CURRENT} AND turns.conversation_id = ? AND reasons.rater_id = ?", conversation_id, rater_id)
        return {said.reply_id: said for said in map(_reasons_from, rows) if said.tags or said.comment}

    def reasons_by_reply(self, base_model: str) -> dict[str, list[Reasons]]:
        """Everybody's current reasons for replies of one lineage."""
        found: dict[str, list[Reasons]] = {}
        for said in map(_reasons_from, self.rows(f"{CURRENT} AND replies.base_model = ? ORDER BY reasons.id", base_model)):
            if said.tags or said.comment:
                found.setdefault(said.reply_id, []).append(said)
        return found

    def newest_reasons(self, base_model: str, limit: int) -> list[Reasons]:
        """The same of those who contribute, newest first."""
        rows = self.rows(f"""{CURRENT} AND replies.base_model = ? AND contributes = 1 AND (tags <> '[]' OR comment <> '')
                             ORDER BY reasons.id DESC LIMIT ?""", base_model, limit)
        return [said for said in map(_reasons_from, rows) if said.tags or said.comment]


def _reasons_from(row) -> Reasons:
    """Only tags that explain the newest thumb, all of them where there never was one; a comment stands without a thumb."""
    fitting = KNOWN if row["thumb"] is None else TAGS.get(row["thumb"], ())
    return Reasons(row["reply_id"], row["rater_id"], tuple(tag for tag in json.loads(row["tags"]) if tag in fitting), row["comment"], row["created_at"], row["id"])

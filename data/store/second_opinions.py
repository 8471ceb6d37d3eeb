"""Second opinions: a small random share of replies is offered to another person for rating, so that raters can be compared.

An offer is an append-only event. What that person says is a rating like any other. Both have agreed to contribute, in words that
say other people may see a few replies; when either takes that back, or the conversation is deleted, the offer is no more.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from data.errors import NotYourReply
from data.records import Reply, SecondOpinion
from data.store.database import now
from data.store.reasons import ReasonEvents
from data.texts.masking import mask

OWN_REPLIES = 10
"""A person is offered at most one reply for so many of their own."""
WAIT_HOURS = 24
"""An offer that nobody answered for so long no longer keeps the reply from others."""
MAX_REPLY, MAX_MESSAGE = 2000, 1000
"""Characters: a longer exchange would be a burden."""

# What may be shown to somebody else at all.
SHOWABLE = """FROM replies JOIN turns ON turns.id = replies.turn_id JOIN conversations ON conversations.id = turns.conversation_id
    JOIN raters AS owner ON owner.id = conversations.rater_id
    WHERE replies.state = 'done' AND replies.aside = 0 AND replies.contributes = 1 AND conversations.deleted_at IS NULL AND owner.others_may_see = 1"""
# Whether ?1's newest event about a reply is an offer, and ?1 still contributes.
OFFERED = """(SELECT event FROM second_opinions WHERE reply_id = replies.id AND rater_id = ?1 ORDER BY id DESC LIMIT 1) = 'offered'
    AND (SELECT others_may_see FROM raters WHERE id = ?1) = 1"""


class SecondOpinions(ReasonEvents):
    """The `second_opinions` table: `offered` and `declined`; an answer is a rating and needs no event of its own."""

    def offer_second_opinion(self, rater_id: str, base_model: str, share: float) -> SecondOpinion | None:
        """The exchange that this person may rate now, None when there is none for them; one they left unanswered comes first.

        Which replies are offered at all is decided by their random ids, so it is `share` of them, whatever they say. Those
        that their owner rated come first. Nobody is offered the same reply twice.
        """
        with self.write() as db:
            found = self._unanswered(rater_id)
            if found is None and self._has_room(rater_id):
                found = self._choose(rater_id, base_model, share)
                if found is not None:
                    db["second_opinions"].insert({"reply_id": found["id"], "rater_id": rater_id, "event": "offered", "created_at": now()})
        return None if found is None else SecondOpinion(found["id"], mask(found["message"]), mask(found["text"]), found["task"])

    def decline_second_opinion(self, rater_id: str, reply_id: str) -> None:
        """Not now: it is not offered to them again. What was answered, or not offered, stays as it is."""
        with self.write() as db:
            unanswered = self._unanswered(rater_id)
            if unanswered is not None and unanswered["id"] == reply_id:
                db["second_opinions"].insert({"reply_id": reply_id, "rater_id": rater_id, "event": "declined", "created_at": now()})

    def reply_to_rate(self, reply_id: str, rater_id: str) -> Reply:
        """A reply that this person may rate: their own, or one that is offered to them. Raises: UnknownReply, NotYourReply."""
        try:
            return self.reply(reply_id, rater_id)
        except NotYourReply:
            if self.row(f"SELECT 1 {SHOWABLE} AND replies.id = ?2 AND {OFFERED}", rater_id, reply_id) is None:
                raise
        return self.reply(reply_id)

    def second_opinions_of(self, rater_id: str) -> list[dict]:
        """What this person was offered and how they rated it, oldest first; the texts are somebody else's."""
        offers = self.rows("SELECT reply_id, event, created_at FROM second_opinions WHERE rater_id = ? ORDER BY id", rater_id)
        return [{"event": offer["event"], "created_at": offer["created_at"], "ratings": [dict(event) for event in self.rows(
            "SELECT kind, value, created_at FROM ratings WHERE reply_id = ? AND rater_id = ? ORDER BY id", offer["reply_id"], rater_id)]} for offer in offers]

    def take_back_second_opinions(self, rater_id: str) -> int:
        """Take back this person's ratings of other people's replies, and decline what is offered; returns how many ratings that were."""
        with self.write() as db:
            offered = [row["reply_id"] for row in self.rows("SELECT DISTINCT reply_id FROM second_opinions WHERE rater_id = ?", rater_id)]
            current = [dict(rating) for reply_id in offered for rating in self.rows(
                "SELECT reply_id, rater_id, kind FROM current_ratings WHERE reply_id = ? AND rater_id = ?", reply_id, rater_id)]
            db["ratings"].insert_all({**rating, "value": 0, "created_at": now()} for rating in current)
            db["second_opinions"].insert_all({"reply_id": reply_id, "rater_id": rater_id, "event": "declined", "created_at": now()} for reply_id in offered)
        return len(current)

    def rated_by_several(self, base_model: str, kind: str) -> list[tuple[int, ...]]:
        """The current thumbs or stars of every reply that more than one person rated."""
        return [tuple(json.loads(row["given"])) for row in self.rows("""
            SELECT json_group_array(value) AS given FROM current_ratings JOIN replies ON replies.id = reply_id
            WHERE reply_id IN (SELECT reply_id FROM ratings GROUP BY reply_id HAVING min(rater_id) <> max(rater_id))
            AND base_model = ? AND contributes = 1 AND kind = ? GROUP BY reply_id HAVING count(*) > 1""", base_model, kind)]

    def _unanswered(self, rater_id: str):
        return self.row(f"""SELECT replies.id AS id, message, text, task {SHOWABLE} AND {OFFERED}
            AND replies.id IN (SELECT reply_id FROM second_opinions WHERE rater_id = ?1)
            AND NOT EXISTS (SELECT 1 FROM current_ratings WHERE reply_id = replies.id AND rater_id = ?1) LIMIT 1""", rater_id)

    def _has_room(self, rater_id: str) -> bool:
        """Whether they agreed, and had enough replies of their own since the last offer."""
        row = self.row("""SELECT others_may_see, (SELECT count(*) FROM replies JOIN turns ON turns.id = turn_id JOIN conversations ON conversations.id = conversation_id
                              WHERE rater_id = raters.id AND state = 'done' AND aside = 0 AND started_at > coalesce(
                                  (SELECT max(created_at) FROM second_opinions WHERE rater_id = raters.id AND event = 'offered'), '')) AS own
                          FROM raters WHERE id = ?""", rater_id)
        return row is not None and row["others_may_see"] == 1 and row["own"] >= OWN_REPLIES

    def _choose(self, rater_id: str, base_model: str, share: float):
        since = (datetime.fromisoformat(now()) - timedelta(hours=WAIT_HOURS)).isoformat(timespec="microseconds")
        return self.row(f"""SELECT replies.id AS id, message, text, task {SHOWABLE}
            AND replies.id < ?3 AND replies.base_model = ?2 AND conversations.rater_id <> ?1 AND replies.engine <> 'imported'
            AND replies.finish_reason <> 'cancelled' AND trim(text) <> '' AND length(text) <= ?5 AND length(message) <= ?6
            AND NOT EXISTS (SELECT 1 FROM second_opinions WHERE reply_id = replies.id AND rater_id = ?1)
            AND NOT EXISTS (SELECT 1 FROM second_opinions AS other WHERE reply_id = replies.id AND event = 'offered' AND created_at > ?4
                AND NOT EXISTS (SELECT 1 FROM second_opinions WHERE reply_id = replies.id AND rater_id = other.rater_id AND event = 'declined'))
            AND NOT EXISTS (SELECT 1 FROM current_ratings WHERE reply_id = replies.id AND rater_id <> conversations.rater_id)
            ORDER BY EXISTS (SELECT 1 FROM current_ratings WHERE reply_id = replies.id AND rater_id = conversations.rater_id) DESC, started_at DESC
            LIMIT 1""", rater_id, base_model, first_id_left_out(share), since, MAX_REPLY, MAX_MESSAGE)


def first_id_left_out(share: float) -> str:
    """Of ids that are 16 random hexadecimal digits, `share` are below this."""
    return "g" if share >= 1 else f"{int(share * 16**16):016x}"

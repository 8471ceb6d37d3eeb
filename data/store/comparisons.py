"""Comparisons: which of two replies to one message a person found better. Append-only events beside the ratings."""

from __future__ import annotations

from data.errors import BadRating
from data.records import Comparison
from data.sentences import said
from data.store.chats import Chats
from data.store.database import now

PREFERRED = ("first", "second", "same", "none")
"""What may be said of two replies in the order they were shown; `none` takes an earlier comparison back."""
ASKED_BY = ("person", "app")
MOST_EVENTS = 100
"""Of one person about one reply, or one pair, in each table of what people say. Events are only ever appended: who changed their mind for ever would fill the disk."""

# Two replies are one pair whichever was shown first; what a person said of a pair last is current.
PAIR = "min(first_id, second_id), max(first_id, second_id)"
NEWEST = """NOT EXISTS (SELECT 1 FROM comparisons AS newer WHERE newer.rater_id = comparisons.rater_id
    AND min(newer.first_id, newer.second_id) = min(comparisons.first_id, comparisons.second_id)
    AND max(newer.first_id, newer.second_id) = max(comparisons.first_id, comparisons.second_id) AND newer.id > comparisons.id)"""
CURRENT = f"""SELECT comparisons.*, first.turn_id AS turn_id
    FROM comparisons JOIN replies AS first ON first.id = first_id JOIN replies AS second ON second.id = second_id JOIN turns ON turns.id = first.turn_id
    WHERE {NEWEST} AND preferred <> 'none'"""
# Both of their replies are of lineage ?1, and their person lets both train.
TRAINS = """first.base_model = ?1 AND second.base_model = ?1 AND first.contributes = 1 AND second.contributes = 1
    AND first.completion_ids <> '[]' AND second.completion_ids <> '[]'"""


class Comparisons(Chats):
    """The `comparisons` table: append-only; the newest of each person and pair is current."""

    def add_comparison(self, first_id: str, second_id: str, rater_id: str, preferred: str, asked_by: str = "person") -> Comparison | None:
        """Say which of two attempts at one message is better; returns what is current of the pair, None when it was taken back.

        The same again, also with the two shown the other way round, appends nothing.

        Args:
            first_id, second_id: reply ids in the order they were shown.
            preferred: `first`, `second`, `same` (about the same), or `none`: no comparison after all.
            asked_by: `person` when they asked for a better reply, `app` when the app asked them to compare.
        Raises:
            BadRating: an unknown value, not two finished attempts at one message, or see `check_room`; nothing is written.
            UnknownReply, NotYourReply: nothing is written.
        """
        if preferred not in PREFERRED or asked_by not in ASKED_BY:
            raise BadRating(said("no_such_comparison", preferred=repr(str(preferred)[:40]), asked_by=repr(str(asked_by)[:40]),
                                 preferences=", ".join(PREFERRED), askers=" / ".join(ASKED_BY)))
        with self.write() as db:
            first, second = self.reply(first_id, rater_id), self.reply(second_id, rater_id)
            if first.id == second.id or first.turn_id != second.turn_id or not first.state == second.state == "done":
                raise BadRating(said("not_comparable"))
            before = self._newest(first.id, second.id, rater_id)
            if _better(first.id, second.id, preferred) != (_better(before["first_id"], before["second_id"], before["preferred"]) if before else "none"):
                if preferred != "none":
                    self.check_room(f"comparisons WHERE rater_id = ?1 AND ({PAIR}) = (min(?2, ?3), max(?2, ?3))", rater_id, first.id, second.id)
                db["comparisons"].insert({"rater_id": rater_id, "first_id": first.id, "second_id": second.id, "preferred": preferred,
                                          "asked_by": asked_by, "created_at": now()})
            current = self._newest(first.id, second.id, rater_id)
        return None if current is None or current["preferred"] == "none" else Comparison(**current)

    def check_room(self, events: str, *values: object) -> None:
        """Asked in the transaction that appends to these, unless it takes back what was said. Raises: BadRating: there are `MOST_EVENTS`."""
        if self.row(f"SELECT count(*) AS n FROM {events}", *values)["n"] >= MOST_EVENTS:
            raise BadRating(said("said_too_often", limit=MOST_EVENTS))

    def _newest(self, first_id: str, second_id: str, rater_id: str) -> dict | None:
        row = self.row(f"""SELECT comparisons.*, replies.turn_id AS turn_id FROM comparisons JOIN replies ON replies.id = first_id
                           WHERE comparisons.rater_id = ?1 AND ({PAIR}) = (min(?2, ?3), max(?2, ?3)) ORDER BY comparisons.id DESC LIMIT 1""",
                       rater_id, first_id, second_id)
        return None if row is None else dict(row)

    def comparisons_of(self, rater_id: str, conversation_id: str) -> list[Comparison]:
        """This person's current comparisons in one conversation, oldest first; a turn with three attempts may have several."""
        return [Comparison(**row) for row in self.rows(
            f"{CURRENT} AND turns.conversation_id = ? AND comparisons.rater_id = ? ORDER BY comparisons.id", conversation_id, rater_id)]

    def comparisons_by_reply(self, base_model: str) -> dict[str, list[Comparison]]:
        """Everybody's current comparisons, under both of their replies. Both are of this lineage and their person lets both train."""
        found: dict[str, list[Comparison]] = {}
        for row in self.rows(f"{CURRENT} AND {TRAINS} ORDER BY comparisons.id", base_model):
            comparison = Comparison(**row)
            for reply_id in (comparison.first_id, comparison.second_id):
                found.setdefault(reply_id, []).append(comparison)
        return found


def _better(first_id: str, second_id: str, preferred: str) -> str:
    """What is said of a pair, whichever was shown first: the better reply's id, `same` or `none`."""
    return {"first": first_id, "second": second_id}.get(preferred, preferred)

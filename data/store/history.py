"""A person's own conversations: list, search, rename, delete."""

from __future__ import annotations

from data.records import TASKS, HistoryEntry
from data.store.asking import Asking
from data.store.comparisons import NEWEST
from data.store.database import now

MAX_TITLE = 80
ERASED_TURN = {"message": "", "draft": None}
ERASED_REPLY = {"text": "", "error": None, "prompt_ids": "[]", "completion_ids": "[]", "behavior_logprobs": "[]"}


class History(Asking):
    """What a person can do with whole conversations."""

    def history(self, rater_id: str, search: str = "", limit: int = -1) -> list[HistoryEntry]:
        """This person's conversations, last used first; `search`: only those whose title, messages or replies contain it; `limit`: -1 for all."""
        pattern = "%" + search.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        return [HistoryEntry(**row) for row in self.rows("""
            SELECT id, title, coalesce((SELECT max(created_at) FROM turns WHERE conversation_id = conversations.id), created_at) AS changed_at, task
            FROM conversations WHERE rater_id = ?1 AND deleted_at IS NULL AND (?2 = '%%' OR title LIKE ?2 ESCAPE '\\' OR EXISTS (
                SELECT 1 FROM turns LEFT JOIN replies ON replies.turn_id = turns.id WHERE conversation_id = conversations.id
                AND (turns.message LIKE ?2 ESCAPE '\\' OR replies.text LIKE ?2 ESCAPE '\\')))
            ORDER BY changed_at DESC LIMIT ?3""", rater_id, pattern, limit)]

    def rename(self, conversation_id: str, rater_id: str, title: str) -> str:
        """Returns the title as kept: white space put in order, 80 characters at most, unchanged when nothing is left.

        Raises: UnknownConversation: nothing is written.
        """
        kept = " ".join(title.split())[:MAX_TITLE] or self.conversation(conversation_id, rater_id).title
        with self.write() as db:
            self.check_owner(conversation_id, rater_id)
            db["conversations"].update(conversation_id, {"title": kept})
        return kept

    def delete_conversation(self, conversation_id: str, rater_id: str) -> int:
        """Erase a conversation and take its ratings back, a second person's too; returns how many of its owner's that were.

        Its texts and tokens are overwritten (see `erased`), it is gone for its person, and nobody can rate it any more. Taking the
        ratings back is what makes the next version be trained without them: until then the weights still hold them. The
        small model that the app asks by is forgotten at once where they went into it.
        A reply that is being written meanwhile is not stored.

        Raises: UnknownConversation: nothing is written.
        """
        with self.write() as db:
            self.erased()
            self.check_owner(conversation_id, rater_id)
            db["conversations"].update(conversation_id, {"deleted_at": now(), "title": "", "task": TASKS[0]})
            replies = self.rows("SELECT replies.id AS id, turn_id FROM replies JOIN turns ON turns.id = turn_id WHERE conversation_id = ?", conversation_id)
            current = [rating for reply in replies for rating in self.rows(
                "SELECT reply_id, rater_id, kind FROM current_ratings WHERE reply_id = ?", reply["id"])]
            db["ratings"].insert_all({**dict(rating), "value": 0, "created_at": now()} for rating in current)
            for reply in replies:
                self._take_back_what_was_said(reply["id"])
                db["replies"].update(reply["id"], ERASED_REPLY)
                db.execute("UPDATE corrections SET text = '' WHERE reply_id = ?", [reply["id"]])
                db.execute("UPDATE reasons SET tags = '[]', comment = '' WHERE reply_id = ?", [reply["id"]])
            self.forget_asking_heads([reply["id"] for reply in replies])
            for turn in self.rows("SELECT id FROM turns WHERE conversation_id = ?", conversation_id):
                db["turns"].update(turn["id"], ERASED_TURN)
        return sum(rating["rater_id"] == rater_id for rating in current)

    def _take_back_what_was_said(self, reply_id: str) -> None:
        """Events for all but the ratings, so that it is news to the learner: the texts themselves are erased and tell it nothing."""
        with self.write() as db:
            for table, empty in (("corrections", {"text": ""}), ("reasons", {"tags": "[]", "comment": ""})):
                newest = self.rows(f"SELECT * FROM {table} WHERE id IN (SELECT max(id) FROM {table} WHERE reply_id = ? GROUP BY rater_id)", reply_id)
                db[table].insert_all({"reply_id": reply_id, "rater_id": row["rater_id"], **empty, "created_at": now()}
                                     for row in newest if {key: row[key] for key in empty} != empty)
            current = self.rows(f"SELECT * FROM comparisons WHERE (first_id = ?1 OR second_id = ?1) AND {NEWEST} AND preferred <> 'none'", reply_id)
            db["comparisons"].insert_all({**dict(row), "id": None, "preferred": "none", "created_at": now()} for row in current)

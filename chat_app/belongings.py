"""What a person owns here and can take away again: their conversations."""

from __future__ import annotations

from chat_app.places import Places
from data.records import BASE_VERSION, BaseModel, HistoryEntry
from data.store import Store


class Belongings:
    """Every method takes the caller's rater id and touches only what is theirs."""

    def __init__(self, store: Store, base: BaseModel, places: Places) -> None:
        self.store, self.base, self._places = store, base, places

    def history(self, rater_id: str, search: str = "") -> list[HistoryEntry]:
        return self.store.history(rater_id, search)

    def rename(self, rater_id: str, conversation_id: str, title: str) -> str:
        """Raises: UnknownConversation."""
        return self.store.rename(conversation_id, rater_id, title)

    def delete(self, rater_id: str, conversation_id: str) -> int:
        """Erase a conversation; the next version is trained without its ratings. Returns how many those were.

        Raises: UnknownConversation.
        """
        count = self.store.delete_conversation(conversation_id, rater_id)
        job = self._places.running(conversation_id)
        if job is not None:
            job.cancel()
        self._leave_a_version_without_ratings()
        return count

    def _leave_a_version_without_ratings(self) -> None:
        """With no rating left there is no next version to forget the deleted ones: the base model goes live at once."""
        if self.store.live_version(self.base.id) != BASE_VERSION and not self.store.rated_replies(self.base.id):
            self.store.promote(BASE_VERSION, self.base.id, "every rating was deleted")

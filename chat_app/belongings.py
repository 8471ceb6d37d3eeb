"""What a person owns here and can take away again: their conversations, their consent, all their data."""

from __future__ import annotations

from chat_app.places import Places
from chat_app.serving import Serving
from data.records import BASE_VERSION, BaseModel, HistoryEntry
from data.store import Store


class Belongings:
    """Every method takes the caller's rater id and touches only what is theirs."""

    def __init__(self, store: Store, serving: Serving, base: BaseModel, places: Places) -> None:
        self.store, self.base, self._serving, self._places = store, base, serving, places

    def history(self, rater_id: str, search: str, limit: int) -> tuple[list[HistoryEntry], bool]:
        """The last used `limit` conversations, and whether there are more."""
        found = self.store.history(rater_id, search, limit + 1)
        return found[:limit], len(found) > limit

    def rename(self, rater_id: str, conversation_id: str, title: str) -> str:
        """Raises: UnknownConversation."""
        return self.store.rename(conversation_id, rater_id, title)

    def delete(self, rater_id: str, conversation_id: str) -> int:
        """Erase a conversation; the next version is trained without its ratings. Returns how many those were.

        Raises: UnknownConversation.
        """
        count = self.store.delete_conversation(conversation_id, rater_id)
        self._stop([conversation_id])
        self._leave_a_version_without_ratings()
        return count

    def delete_everything(self, rater_id: str) -> dict:
        """Erase all conversations; returns the receipt as `erasure` does."""
        conversations = [conversation.id for conversation in self.store.conversations(rater_id)]
        self.store.delete_everything(rater_id)
        self._stop(conversations)
        self._leave_a_version_without_ratings()
        return self.erasure(rater_id)

    def erasure(self, rater_id: str) -> dict | None:
        """What became of this person's deletion: `gone` while the base model or a version made without their ratings answers, else `waiting`.

        A version made without them does not end it for good: an older one answers after a roll back, or when it cannot be loaded.
        """
        erasure = self.store.erasure(rater_id, self.base.id)
        if erasure is None:
            return None
        answering = {self.store.live_version(self.base.id), self._serving.version}             # they differ while a version is being loaded
        gone = not erasure.trained or answering <= {BASE_VERSION, *erasure.versions}
        return {"state": "gone" if gone else "waiting", "version": erasure.versions[0] if erasure.trained and erasure.versions else None, "ratings": erasure.ratings}

    def _stop(self, conversations: list[str]) -> None:
        for conversation in conversations:
            self.store.stop_replies(conversation)
        for job in self._places.all():
            if job.conversation_id in conversations:
                job.cancel()

    def _leave_a_version_without_ratings(self) -> None:
        """With no rating left there is no next version to forget the deleted ones: the base model goes live at once.

        A version of a learner elsewhere is made of other hosts' ratings too, so that one is left to forget these.
        """
        live = self.store.live_version(self.base.id)
        if live != BASE_VERSION and not self.store.follows_a_learner(live) and not self.store.has_rated_replies(self.base.id):
            self.store.promote(BASE_VERSION, self.base.id, "every rating was deleted")

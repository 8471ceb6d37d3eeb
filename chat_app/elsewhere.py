"""A reply that is watched through the store: another server on the same state folder is writing it, or it was over before."""

from __future__ import annotations

import time

from data.records import Reply
from data.store import Store

LOOK_SECONDS = 0.5
"""Its writer saves it once a second."""


class ReplyElsewhere:
    """What a page asks of a `ReplyJob`: `text` grows and `done` turns true after the reply is stored, as of the last `look`."""

    error, place = None, 0

    def __init__(self, reply: Reply, store: Store) -> None:
        self.reply_id, self.conversation_id = reply.id, reply.conversation_id
        self.version, self.dropped_turns = reply.version, reply.dropped_turns
        self._store, self._reply, self._looked = store, reply, time.monotonic()

    @property
    def text(self) -> str:
        return self._reply.text

    @property
    def done(self) -> bool:
        return self._reply.state != "streaming"

    def is_due(self) -> bool:
        """Whether there may be something new."""
        return time.monotonic() - self._looked >= LOOK_SECONDS

    def look(self) -> None:
        """Read what its writer has stored since; of one that has died, that it is over."""
        self._store.written_elsewhere(self.conversation_id)            # ends it when its writer has died
        self._reply, self._looked = self._store.reply(self.reply_id), time.monotonic()

    def cancel(self) -> None:
        """Within a second or two; what was written is kept."""
        self._store.stop_replies(self.conversation_id)

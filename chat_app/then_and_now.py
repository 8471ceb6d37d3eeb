"""What the model of now says to the prompt of an earlier reply: written once for each live version, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chat_app.places import Places
from chat_app.replies import ReplyJob
from chat_app.serving import Serving
from data.errors import NothingNewer
from data.records import BaseModel, Reply, ReplyOutline
from data.sentences import said
from data.store import Store


@dataclass(frozen=True)
class ThenAndNow:
    """An earlier reply and what there is of its like by the version that answers now."""

    then: Reply
    live: int
    """The version that answers now."""
    newer: bool
    """Whether that is a later version of the same base model than the one that wrote `then`."""
    now: Reply | None = None
    """The newest that version wrote, whole or not; None: it was not asked yet."""
    job: ReplyJob | None = None
    """While it waits in line or is being written here; by which version is known when its turn comes."""


class Retelling:
    """Each method takes the caller's rater id and touches only what is theirs.

    Nothing in the conversation changes: such a reply is written aside, is no attempt that one can page to, and is
    seen in the receipt of the reply it belongs to. It takes its place in the line as any other.
    """

    def __init__(self, store: Store, serving: Serving, base: BaseModel, places: Places, start: Callable[[Reply], ReplyJob]) -> None:
        """Args: start: starts a reply to the same prompt, with the sampling and the seed of then."""
        self._store, self._serving, self._base, self._places, self._start = store, serving, base, places, start

    def look(self, rater_id: str, reply_id: str) -> ThenAndNow:
        """Raises: UnknownReply, NotYourReply."""
        then = self._store.reply(reply_id, rater_id)
        live, _ = self._serving.live
        newer = then.base_model == self._base.id and live > then.version
        job = self._places.running(_place(then))
        written = [reply for reply in self._store.replies_again(then.id) if reply.version == live]
        return ThenAndNow(then, live, newer, written[0] if newer and written else None, job if job and not job.done else None)

    def ask(self, rater_id: str, reply_id: str) -> ThenAndNow:
        """Have it written, unless it is being written or whole.

        Raises:
            UnknownReply, NotYourReply.
            NothingNewer: the version that wrote the reply, or an older one, answers now.
            Busy: too many replies are being written.
        """
        seen = self.look(rater_id, reply_id)
        if not seen.newer:
            raise NothingNewer(said("nothing_newer"))
        if seen.job is None and not _is_there(seen.now):
            with self._places.reserve(_place(seen.then), rater_id) as fill:
                if not _is_there(self.look(rater_id, reply_id).now):         # two tabs: the other one's has just ended
                    fill(self._start(seen.then))
        return self.look(rater_id, reply_id)


def is_whole(reply: Reply | ReplyOutline | None) -> bool:
    return reply is not None and reply.state == "done" and reply.finish_reason in ("stop", "length")


def _is_there(now: Reply | None) -> bool:
    """It is whole, or another server on this state folder is writing it."""
    return is_whole(now) or (now is not None and now.state == "streaming")


def _place(then: Reply) -> str:
    return f"again {then.id}"

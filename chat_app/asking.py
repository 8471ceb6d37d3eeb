"""When the app asks for a comparison by itself: where the model was least sure of its reply, and nobody else waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from chat_app.places import Places
from chat_app.replies import ReplyJob
from data.errors import ChatError
from data.records import Reply
from data.settings import Settings
from data.store import Store

log = logging.getLogger(__name__)

RECENT = 300
"""Replies that one is held against: enough to tell a twentieth, few enough to follow a new version."""


def is_least_sure(sureness: float, recent: Sequence[float], share: float) -> bool:
    """Whether a reply is among the `share` of its like that the model was least sure of.

        rank = 1 + how many of the n recent ones were no surer;   yes where rank <= share * (n + 1)

    When replies come in no order of sureness, each rank from 1 to n + 1 is equally likely, so the answer is yes for
    floor(share * (n + 1)) / (n + 1) of them: never more than `share`, and less by 1 / (n + 1) at most.

    Args:
        sureness: mean log-prob of the reply's tokens under the version that sampled them, nats; see `sureness_of`.
        recent: the same of n other replies.
        share: 0 says never, 1 always.
    """
    return 1 + sum(other <= sureness for other in recent) <= share * (len(recent) + 1)


def sureness_of(reply: Reply) -> float:
    """Mean behaviour log-prob per token, nats. It stands in for a model of the ratings, which only the learner has."""
    return sum(reply.behavior_logprobs) / len(reply.behavior_logprobs)


class Asking:
    """Has a second attempt written aside where a comparison would teach most; the page then offers it."""

    def __init__(self, store: Store, places: Places, settings: Settings, attempt: Callable[[Reply], ReplyJob]) -> None:
        """Args: attempt: starts another attempt at what this reply answered."""
        self._store, self._places, self._attempt = store, places, attempt
        # Without a temperature a second attempt says the same once more.
        self._share = settings.compare_share if settings.temperature > 0 else 0.0

    def reply_ended(self, reply_id: str) -> None:
        """Perhaps start the second attempt. Never raises: nobody waits for it."""
        try:
            reply = self._store.reply(reply_id)
            if self._share and self._is_asked_about(reply):
                self._places.fill_aside(lambda: self._attempt(reply))
        except ChatError as error:
            log.info("No second attempt beside reply %s: %s", reply_id, error)
        except Exception:
            log.exception("No second attempt beside reply %s", reply_id)

    def _is_asked_about(self, reply: Reply) -> bool:
        """A whole first attempt of somebody who contributes, and one that the model was unsure of."""
        if reply.state != "done" or reply.finish_reason not in ("stop", "length") or not reply.behavior_logprobs:
            return False
        if not reply.contributes or self._store.consent(reply.rater_id) is not True:
            return False
        return is_least_sure(sureness_of(reply), self._store.recent_sureness(reply, RECENT), self._share)

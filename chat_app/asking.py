"""When the app asks for a comparison by itself: where it is least sure how a reply is liked, and nobody else waits.

How sure it is, small models of the ratings tell, as many of each as it has evidence: where they disagree the ratings say
little. While there is no such model, the language model's own sureness of its words stands in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from chat_app.places import Places
from chat_app.replies import ReplyJob
from data.errors import ChatError
from data.records import AskingHeads, Reply
from data.settings import Settings
from data.store import Store
from data.texts.reply_features import FEATURES, reply_features

log = logging.getLogger(__name__)

RECENT = 300
"""Replies that one is held against: enough to tell a twentieth, few enough to follow a new version."""


def is_least_sure(sureness: float, recent: Sequence[float], share: float) -> bool:
    """Whether a reply is among the `share` of its like that a model is least sure of.

        rank = 1 + how many of the n recent ones were no surer;   yes where rank <= share * (n + 1)

    When replies come in no order of sureness, each rank from 1 to n + 1 is equally likely, so the answer is yes for
    floor(share * (n + 1)) / (n + 1) of them: never more than `share`, and less by 1 / (n + 1) at most.

    Args:
        sureness: of the reply, on any scale; see `sureness_of`.
        recent: the same of n other replies, by the same model.
        share: 0 says never, 1 always.
    """
    return 1 + sum(other <= sureness for other in recent) <= share * (len(recent) + 1)


def sureness_of(replies: Sequence[Sequence[float]], heads: AskingHeads | None) -> list[float]:
    """How sure a model is of each reply, the least sure lowest.

        by heads:  -std_m(q_m)   with   q_m = 2 sigmoid(z_m) - 1 = tanh(z_m / 2),   z_m = heads_m . (1, (x - mean) / spread)
        None:      mean log-prob per token of the version that sampled it, nats

    Args: replies: (N, D), `reply_features` of each.
    """
    if heads is None:
        return [features[FEATURES.index("mean_logprob")] for features in replies]
    x = (np.asarray(replies) - heads.mean) / heads.spread
    q = np.tanh(np.column_stack((np.ones(len(x)), x)) @ np.transpose(heads.heads) / 2)               # (N, M)
    return (-q.std(axis=1, ddof=1)).tolist()


def share_asked(settings: Settings) -> float:
    """Of turns; without a temperature none, since a second attempt says the same once more."""
    return settings.compare_share if settings.temperature > 0 else 0.0


class Asking:
    """Has a second attempt written aside where a comparison would teach most; the page then offers it."""

    def __init__(self, store: Store, places: Places, settings: Settings, attempt: Callable[[Reply], ReplyJob]) -> None:
        """Args: attempt: starts another attempt at what this reply answered."""
        self._store, self._places, self._attempt, self._share = store, places, attempt, share_asked(settings)
        self._known: dict[str, tuple[float, ...]] = {}

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
        """A whole first attempt of somebody who contributes, and one that the ratings, or else the model, leave most open."""
        if reply.state != "done" or reply.finish_reason not in ("stop", "length") or not reply.behavior_logprobs:
            return False
        if not reply.contributes or self._store.consent(reply.rater_id) is not True:
            return False
        its, *others = sureness_of([reply_features(reply), *self._recent_features(reply)], self._store.asking_heads(reply.base_model))
        return is_least_sure(its, others, self._share)

    def _recent_features(self, reply: Reply) -> list[tuple[float, ...]]:
        """Of the replies that this one is held against. They are kept for the next one: most of those are the same, and no reply changes."""
        recent = {other: self._known.get(other) or reply_features(self._store.reply(other)) for other in self._store.recent_like(reply, RECENT)}
        self._known = recent
        return list(recent.values())

"""What can be told of a reply without its model: a few numbers that the learner and the chat server compute alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from data.records import Reply

FEATURES = ("log_tokens", "ended", "repeated", "mean_logprob", "least_logprob", "from_prompt", "log_prompt_tokens")
"""Names of what `reply_features` gives, in order. Stored beside whatever is fitted on them: one of them more is another model."""


def reply_features(reply: Reply) -> tuple[float, ...]:
    """The numbers that `FEATURES` names, each finite.

    Log-probs are those of the version that sampled the reply, nats per token. `from_prompt` is the share of the reply's
    different tokens that its prompt has too.

    Raises: ValueError: it has no log-probs, as where no engine of ours sampled it, or it was erased.
    """
    if not reply.behavior_logprobs:
        raise ValueError(f"reply {reply.id} has no log-probs")
    said, logprobs = set(reply.completion_ids), reply.behavior_logprobs
    return (*cheap_features(reply.completion_ids, reply.finish_reason == "stop"), sum(logprobs) / len(logprobs), min(logprobs),
            len(said & set(reply.prompt_ids)) / len(said), math.log1p(len(reply.prompt_ids)))


def cheap_features(completion_ids: Sequence[int], ended: bool) -> tuple[float, float, float]:
    """Log of one plus the length without end-of-text, ended by itself, repeated share of 4-grams."""
    return math.log1p(len(completion_ids) - ended), float(ended), repeated_share(completion_ids)


def repeated_share(ids: Sequence[int], n: int = 4) -> float:
    """Share of a reply's n-grams that it said before: 0 for a reply shorter than n, towards 1 for a loop."""
    grams = [tuple(ids[place:place + n]) for place in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0

"""What can be told of a reply without its model: a few numbers that the learner and the chat server compute alike."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from data.records import Reply

STYLE = ("log_tokens", "ended", "repeated", "list_items", "lines", "numbers", "questions", "exclamations", "you", "me", "word_length",
         "capitals", "punctuation", "marks", "from_prompt", "takes_up_prompt")
"""Names of what `style_features` gives, in order: what people who rate texts are known to go by whatever the texts are about."""
FEATURES = (*STYLE, "mean_logprob", "least_logprob", "log_prompt_tokens")
"""Names of what `reply_features` gives, in order. Stored beside whatever is fitted on them: one of them more is another model."""

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+")
"""A word, or one Chinese character."""
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)、])\s*\S", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
_PAUSE = re.compile(r"[,;:，；：、]")
_MARK = re.compile(r"[*`#_|]")
_YOU = frozenset("you your yours yourself 你 您".split())
_ME = frozenset("i me my mine we us our 我".split())
_FEWEST_WORDS = 10
"""Shares are of at least so many words, so that one word of a short reply is not all of it."""


def reply_features(reply: Reply) -> tuple[float, ...]:
    """The numbers that `FEATURES` names, each finite. Log-probs are those of the version that sampled the reply, nats per token.

    Raises: ValueError: it has no log-probs, as where no engine of ours sampled it, or it was erased.
    """
    if not reply.behavior_logprobs:
        raise ValueError(f"reply {reply.id} has no log-probs")
    logprobs = reply.behavior_logprobs
    return (*style_features(reply.text, reply.prompt_ids, reply.completion_ids, reply.finish_reason == "stop"),
            sum(logprobs) / len(logprobs), min(logprobs), math.log1p(len(reply.prompt_ids)))


def style_features(text: str, prompt_ids: Sequence[int], completion_ids: Sequence[int], ended: bool) -> tuple[float, ...]:
    """The numbers that `STYLE` names, each finite.

    Counts are log(1 + count); questions, exclamations, pronouns and pauses are per ten words, capitals per ten letters.
    `from_prompt` is the share of the reply's different tokens that its prompt has too, `takes_up_prompt` the other way round.

    Args: completion_ids: with end-of-text where it `ended`.
    """
    words = _WORD.findall(text.lower())
    tens, letters = max(_FEWEST_WORDS, len(words)) / 10, max(1, sum(map(len, words)))
    said, asked = set(completion_ids), set(prompt_ids)
    return (
        math.log1p(len(completion_ids) - ended), float(ended), repeated_share(completion_ids),
        math.log1p(len(_ITEM.findall(text))), math.log1p(sum(bool(line.strip()) for line in text.splitlines())), math.log1p(len(_NUMBER.findall(text))),
        (text.count("?") + text.count("？")) / tens, (text.count("!") + text.count("！")) / tens,
        sum(word in _YOU for word in words) / tens, sum(word in _ME for word in words) / tens, letters / max(1, len(words)),
        10 * sum(letter.isupper() for letter in text) / letters, len(_PAUSE.findall(text)) / tens, math.log1p(len(_MARK.findall(text))),
        len(said & asked) / max(1, len(said)), len(said & asked) / max(1, len(asked)))


def repeated_share(ids: Sequence[int], n: int = 4) -> float:
    """Share of a reply's n-grams that it said before: 0 for a reply shorter than n, towards 1 for a loop."""
    grams = [tuple(ids[place:place + n]) for place in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0

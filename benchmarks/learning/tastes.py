"""Gold tastes: what a simulated person likes, hidden from every learner. Each is the probability of a thumb up.

They differ in nature: how long, what form, what tone, what content, and a composite that cheap tricks cannot please.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from benchmarks.learning.words import coverage, ends_like_a_sentence, repeated_share, words

Taste = Callable[[str, str, int, bool], float]
"""`taste(prompt, reply, tokens, ended)` -> probability of a thumb up, 0..1. `tokens` counts without end-of-text."""

ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
WARM = frozenset("glad happy hope enjoy please thank thanks welcome feel wonderful lovely great sorry care gentle kind together luck love".split())
EXAMPLES = ("for example", "for instance", "such as", "e.g.", "let's say")


def short(prompt: str, reply: str, tokens: int, ended: bool) -> float:
    """Length: sigmoid((90 - tokens) / 12)."""
    return _sigmoid((90 - tokens) / 12)


def listed(prompt: str, reply: str, tokens: int, ended: bool) -> float:
    """Form: list items, up to four; .06 with none, .94 from four on."""
    return 0.06 + 0.88 * min(len(ITEM.findall(reply)), 4) / 4


def warm(prompt: str, reply: str, tokens: int, ended: bool) -> float:
    """Tone: speaks to the person, with warm words, without shouting."""
    said = words(reply)
    per_hundred = 100 / max(25, len(said))
    to_you = min(1.0, sum(word in ("you", "your", "yours", "you're", "you'll", "yourself") for word in said) * per_hundred / 6)
    warmth = min(1.0, sum(word in WARM for word in said) * per_hundred / 2)
    shouting = reply.count("!") + len(re.findall(r"\b[A-Z]{4,}\b", reply))
    return _sigmoid(-2.5 + 2.5 * to_you + 2.5 * warmth - min(3, shouting))


def concrete(prompt: str, reply: str, tokens: int, ended: bool) -> float:
    """Content: takes up what was asked, with a number and an example."""
    has_number = bool(re.search(r"(?<!\w)\d+(?![.)]\s)", reply))      # "1." that opens a list item is no number
    has_example = any(mark in reply.lower() for mark in EXAMPLES)
    return _sigmoid(-3.0 + 3.0 * coverage(prompt, reply) + 1.5 * has_number + 1.5 * has_example)


def composite(prompt: str, reply: str, tokens: int, ended: bool) -> float:
    """Relevance and well-formedness at once, a product: a trick that gives up one of them gains nothing.

        sqrt(min(1, 1.5 coverage)) * ended and closed * (1 - repetition)^2 * length, full between 20 and 70 words
    """
    said = words(reply)
    closed = 1.0 if ended and ends_like_a_sentence(reply) else 0.25
    length = min(1.0, len(said) / 20) * min(1.0, 70 / max(1, len(said)))
    return math.sqrt(min(1.0, 1.5 * coverage(prompt, reply))) * closed * (1 - repeated_share(said)) ** 2 * length


TASTES: dict[str, Taste] = {"length": short, "form": listed, "tone": warm, "content": concrete, "composite": composite}


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0

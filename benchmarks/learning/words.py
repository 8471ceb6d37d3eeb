"""Small measures of text that tastes and evaluation share. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

FUNCTION_WORDS = frozenset(
    "a about after all also am an and any are as at be because been before but by can could did do does doing for from get give "
    "had has have he help her him his how i if in into is it its just know like make made me my no not now of on or our out "
    "say she should so some somebody something tell than that the their them then there they this to too up us very want was "
    "we were what when where which who why will with without would you your".split())
"""English words that say little about what a text is about; the verbs among them are those our prompts ask with."""
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")
STEM = 5
"""Words count as the same when they begin alike: clean, cleaning; a crude stem that needs no library."""


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def content_stems(text: str) -> set[str]:
    """The first letters of each content word."""
    return {word[:STEM] for word in words(text) if word not in FUNCTION_WORDS and len(word) > 2}


def coverage(prompt: str, reply: str) -> float:
    """Share of the prompt's content words that the reply takes up, 0..1; 1 when the prompt has none."""
    asked = content_stems(prompt)
    return len(asked & content_stems(reply)) / len(asked) if asked else 1.0


def repeated_share(items: Sequence[object], n: int = 4) -> float:
    """Share of n-grams that were said before: 0 for a text shorter than n, towards 1 for a loop."""
    grams = [tuple(items[place:place + n]) for place in range(len(items) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Distinct n-grams over all n-grams of all texts, 0..1; 0 when there are none. Source: Li et al. 2016, arXiv:1510.03055."""
    grams = [tuple(said[place:place + n]) for said in map(words, texts) for place in range(len(said) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def ends_like_a_sentence(text: str) -> bool:
    return text.rstrip().rstrip("\"')*”").endswith((".", "!", "?", "…"))

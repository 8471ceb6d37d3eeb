"""What people said of a reply as opinions: per rater a value in [-1, 1] and how much information it carries.

    thumb, stars     a thumb is -1 or +1, stars are (stars - 3) / 2; the value is their mean; information 1,
                     1.5 to 0.5 for both, from agreement to contradiction
    tags, comment    a tag has a sign s, by a majority of them; t = s max(1/2, s v); information 1/4 for each tag
                     and for the comment, together at most 1/2; `other` and the comment have no sign: then t = v
    correction       of the model's reply: t = -max(c, -v), information c / 2, c = the share of words that changed
                     of the corrected text: value 1, information 1: this is what the reply should have been

v is the value so far (0 for none) and each next saying joins by the mean weighted with information. "At least" is what
max stands for: a tag says that a reply is at least mildly good or bad, so beside a thumb that says more it makes the
thumb surer and does not water it down; alone it is a mild opinion. The two halves of a correction are the preference of
the edited text over the original, with an end for each. Words without any direction are no opinion.
Sources: Kreutzer et al. 2018 (reliability of ratings); McDonnell et al. 2016 (a rating whose reason is asked for is more
reliable); edits as positive examples beside a mildly negative original are our own choice, measured in docs/experiments.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from data.records import RatedReply, Rating, Reasons
from data.store.reasons import TAGS

MILD = 0.5
"""What a tag says at least, in its direction."""
WHY_INFORMATION = 0.25
"""Of one tag, or of a comment."""
MAX_WHY_INFORMATION = 0.5
CORRECTION_INFORMATION = 0.5
"""On the original, when every word of it was changed."""
WITHOUT_SIGN = frozenset({"other"})
IN_ORDER = 40_000
"""Products of two texts' numbers of words up to which their order is looked at: it takes a quarter of a second here where a word is repeated all the time, and hours for the longest correction."""
CORRECTED = "corrected"
"""The engine of a reply that a person wrote in a correction; see lessons.py."""
WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af]|[^\W\u2e80-\u9fff\uac00-\ud7af]+|[^\w\s]")
"""A word, a mark, or one character of a script that puts no blanks between words."""


@dataclass(frozen=True)
class Opinion:
    """What one rater said of one reply, comparisons aside."""

    rater_id: str
    value: float
    """In [-1, 1], before the rater's habits are taken out."""
    information: float
    """Against one thumb's 1."""
    rating_ids: tuple[int, ...] = ()
    reason_ids: tuple[int, ...] = ()
    correction_ids: tuple[int, ...] = ()

    def joined_by(self, value: float, information: float, **ids: tuple[int, ...]) -> Opinion:
        """This opinion and one more saying of the same rater: their mean, weighted with information."""
        total = self.information + information
        mean = (self.value * self.information + value * information) / total if total else 0.0
        return Opinion(self.rater_id, mean, total, **{**self.ids(), **ids})

    def ids(self) -> dict[str, tuple[int, ...]]:
        return {"rating_ids": self.rating_ids, "reason_ids": self.reason_ids, "correction_ids": self.correction_ids}


def rating_value(rating: Rating) -> float:
    """A thumb is -1 or +1; stars 1..5 are -1, -1/2, 0, 1/2, 1."""
    return float(rating.value) if rating.kind == "thumb" else (rating.value - 3) / 2


def reply_opinions(rated: RatedReply) -> list[Opinion]:
    """One opinion per rater who said something with a direction, in the raters' order."""
    if rated.reply.engine == CORRECTED:
        return [Opinion(written.rater_id, 1.0, 1.0, correction_ids=(written.id,)) for written in rated.corrections]
    found = [_opinion(rater_id, rated) for rater_id in sorted(raters_of(rated))]
    return [opinion for opinion in found if opinion.information > 0]


def raters_of(rated: RatedReply) -> set[str]:
    """Everybody who said something of a reply."""
    return {said.rater_id for said in (*rated.ratings, *rated.reasons, *rated.corrections, *rated.comparisons)}


@lru_cache(maxsize=1024)
def changed_share(original: str, corrected: str) -> float:
    """How much of a reply a correction changed: 0 nothing, 1 every word (one minus difflib's ratio over words; of long texts without regard to their order)."""
    before, after = WORD.findall(original), WORD.findall(corrected)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    return 1 - (matcher.ratio() if len(before) * len(after) <= IN_ORDER else matcher.quick_ratio())


def _opinion(rater_id: str, rated: RatedReply) -> Opinion:
    opinion = _of_ratings(rater_id, [rating for rating in rated.ratings if rating.rater_id == rater_id])
    for said in rated.reasons:
        if said.rater_id == rater_id:
            opinion = _with_reasons(opinion, said)
    for written in rated.corrections:
        if written.rater_id == rater_id:
            changed = changed_share(rated.reply.text, written.text)
            opinion = opinion.joined_by(-max(changed, -opinion.value), CORRECTION_INFORMATION * changed, correction_ids=(written.id,))
    return opinion


def _of_ratings(rater_id: str, ratings: Sequence[Rating]) -> Opinion:
    if not ratings:
        return Opinion(rater_id, 0.0, 0.0)
    values = [rating_value(rating) for rating in ratings]
    information = 1.0 if len(values) == 1 else 1.5 - 0.5 * (max(values) - min(values))
    return Opinion(rater_id, math.fsum(values) / len(values), information, tuple(sorted(rating.id for rating in ratings)))


def _with_reasons(opinion: Opinion, said: Reasons) -> Opinion:
    direction = sign_of(said.tags)
    information = min(MAX_WHY_INFORMATION, WHY_INFORMATION * (len(said.tags) + bool(said.comment)))
    if direction:
        return opinion.joined_by(direction * max(MILD, direction * opinion.value), information, reason_ids=(said.id,))
    if opinion.information:
        return opinion.joined_by(opinion.value, information, reason_ids=(said.id,))
    return opinion


def sign_of(tags: Iterable[str]) -> int:
    """+1, -1, or 0 when the tags have no sign or contradict each other evenly."""
    total = sum(sign for sign, names in TAGS.items() for tag in tags if tag in names and tag not in WITHOUT_SIGN)
    return (total > 0) - (total < 0)

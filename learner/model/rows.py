"""Many replies in one row of tokens: what their prompts have in common, from the start, is there once.

Every reply to one prompt begins with that prompt, and a chat's prompts all begin with the template's system message: of 128 fresh replies to 32 prompts, a
third of all tokens or more. A span of the row sees the spans that it continues and itself, so that the row is a tree, and computes what each reply alone would.
Source: shared prefixes in one pass, arXiv:2506.05433.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from learner.model.batches import Example

WORTH = 4
"""Tokens that a span must save: its attention is an operation of its own in every layer, which takes about as long as two tokens do."""

Places = tuple[int, int]
"""From, and up to but without."""


class Span(NamedTuple):
    """Tokens one after the other in the row."""

    own: Places
    before: tuple[Places, ...]
    """What they continue, from the start."""

    @property
    def earlier(self) -> int:
        """How many tokens they continue: the position of their first one."""
        return sum(end - start for start, end in self.before)

    def positions(self) -> range:
        return range(self.earlier, self.earlier + self.own[1] - self.own[0])


class Row(NamedTuple):
    """Replies in one row."""

    ids: list[int]
    spans: list[Span]
    predicted_at: list[list[int]]
    """By reply, in the order they were given: where each of its completion tokens is predicted, one place earlier than it is."""


def in_a_row(examples: Sequence[Example]) -> Row:
    """Args: examples: at least one, none of them without a prompt or a completion."""
    row = Row([], [], [[] for _ in examples])
    _lay(row, sorted(range(len(examples)), key=lambda place: examples[place].prompt_ids), examples, 0, ())
    return row


def groups_for_rows(examples: Sequence[Example], max_tokens: int) -> list[list[Example]]:
    """Every reply once, those together that begin alike, in groups of about `max_tokens` tokens at most, whatever they share counted once; a reply that is longer is alone."""
    groups: list[list[Example]] = []
    size = 0
    for example in sorted(examples, key=lambda example: (example.prompt_ids, example.index)):
        more = example.tokens - (_shared(groups[-1][-1].prompt_ids, example.prompt_ids) if groups else 0)
        if groups and size + more <= max_tokens:
            groups[-1].append(example)
            size += more
        else:
            groups.append([example])
            size = example.tokens
    return groups


def _lay(row: Row, places: list[int], examples: Sequence[Example], known: int, before: tuple[Places, ...]) -> None:
    """Put replies down. Args: places: of replies in order of their prompts; known: tokens of these that are in the row, at `before`."""
    if len(places) == 1:
        _end(row, places[0], examples[places[0]], known, before)
        return
    shared = _shared(examples[places[0]].prompt_ids, examples[places[-1]].prompt_ids)          # they are sorted: what the first and the last share, all do
    if (len(places) - 1) * (shared - known) >= WORTH:
        before = (*before, _put(row, examples[places[0]].prompt_ids[known:shared], before))
        known = shared
    for going_on, group in groupby(places, key=lambda place: examples[place].prompt_ids[shared:shared + 1]):
        if going_on:
            _lay(row, list(group), examples, known, before)
        else:                                                    # their prompt ends here
            for place in group:
                _end(row, place, examples[place], known, before)


def _end(row: Row, place: int, example: Example, known: int, before: tuple[Places, ...]) -> None:
    """Put down what is left of one reply."""
    start, end = _put(row, example.prompt_ids[known:] + example.completion_ids, before)
    first = end - len(example.completion_ids) - 1
    row.predicted_at[place] = [first if first >= start else before[-1][1] - 1, *range(first + 1, end - 1)]


def _put(row: Row, ids: tuple[int, ...], before: tuple[Places, ...]) -> Places:
    own = len(row.ids), len(row.ids) + len(ids)
    row.ids.extend(ids)
    row.spans.append(Span(own, before))
    return own


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens they have in common from the start."""
    return next((place for place, (ours, theirs) in enumerate(zip(one, other)) if ours != theirs), min(len(one), len(other)))

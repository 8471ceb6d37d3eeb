"""Tokens that spell personal data are conditioned on and never learnt.

They get no policy gradient, and the taper's ratio does not count them. The KL anchor keeps them: it compares whole
distributions at a place, whatever was said there, and so holds the policy to what the base model would say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from data.base_models.tokenizer import ChatTokenizer
from data.texts.masking import personal_spans
from learner.model.batches import Example


def without_personal_data(examples: Iterable[Example], tokenizer: ChatTokenizer) -> list[Example]:
    """The examples with their personal tokens left out; one that says nothing else is dropped. All that trains goes through here."""
    marked = [_mark(example, tokenizer) for example in examples]
    return [example for example in marked if len(example.left_out) < len(example.completion_ids)]


def _mark(example: Example, tokenizer: ChatTokenizer) -> Example:
    spans = personal_spans(tokenizer.decode(example.completion_ids))
    if not spans:
        return example
    return replace(example, left_out=frozenset(
        place for place, (start, end) in enumerate(tokenizer.token_spans(example.completion_ids))
        if any(start < span.end and span.start < end for span in spans)))

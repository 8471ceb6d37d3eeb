"""Held-out replies scored by everything that can tell learning from hacking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.learning.serving import Sampled
from benchmarks.learning.tastes import TASTES
from benchmarks.learning.words import coverage, distinct, repeated_share, words
from data.base_models.tokenizer import ChatTokenizer
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.training.anchor import logprob_pass
from learner.training.frozen_text import OrdinaryText

MICRO_BATCH_TOKENS = 4096
SHOWN = 6
"""Replies kept in a result for people to read."""


class Rows(NamedTuple):
    """Per reply and token, nats; an empty reply has empty rows."""

    base: list[list[float]]
    """log p_base(token | prompt, before) at temperature 1."""
    pmi: list[list[float]]
    """The same minus log p_base(token | another prompt, before): what the prompt has to do with it."""
    kl: list[float]
    """Summed over the reply: KL(policy || base) at the sampling temperature, exact over the vocabulary at each visited place."""


@dataclass(frozen=True)
class BaseView:
    """The base model's own replies to the same prompts, to be cut to another policy's lengths.

    Shorter replies take up fewer of the prompt's words even when the base model writes them, and their first tokens are
    less predictable: what is compared is a reply with the base model's first as many tokens.
    """

    replies: list[Sampled]
    rows: Rows


def score(policy: Policy, adapter: Path | None, replies: Sequence[Sampled], tokenizer: ChatTokenizer, temperature: float,
          base: BaseView | None = None) -> tuple[dict, BaseView]:
    """Figures of one policy's held-out replies, beside the base model's where `base` is given.

    Args: replies: one per held-out prompt, in the prompts' order, the same prompts in the same order as `base`.
    Returns: JSON-able figures; and the view that makes these replies a comparison for others.
    """
    rows = reply_rows(policy, adapter, replies, temperature)
    figures = {
        "replies": len(replies),
        **gold_figures(replies),
        "tokens": _mean([reply.tokens for reply in replies]),
        "empty": _mean([not reply.text.strip() for reply in replies]),
        "truncated": _mean([not reply.ended for reply in replies]),
        "nll": -_mean([x for row in rows.base for x in row]),
        "kl_token": sum(rows.kl) / max(1, sum(map(len, rows.base))),
        "kl_reply": _mean(rows.kl),
        "overlap": _mean([coverage(reply.prompt, reply.text) for reply in replies]),
        "pmi": _mean([x for row in rows.pmi for x in row]),
        "distinct2": distinct([reply.text for reply in replies]),
        "repetition": _mean([repeated_share(words(reply.text)) for reply in replies]),
        "text_nll": text_nll(policy, adapter, tokenizer),
        "examples": [{"prompt": reply.prompt, "reply": reply.text} for reply in replies[:SHOWN]]}
    if base is not None:
        figures |= matched(replies, base, tokenizer)
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in figures.items()}, BaseView(list(replies), rows)


def gold_figures(replies: Sequence[Sampled]) -> dict:
    """By taste: mean gold reward, and each reply's, in the prompts' order, for intervals that pair arms by prompt."""
    rows = {name: [round(taste(reply.prompt, reply.text, reply.tokens, reply.ended), 4) for reply in replies]
            for name, taste in TASTES.items()}
    return {"gold": {name: round(_mean(values), 5) for name, values in rows.items()}, "gold_rows": rows}


def matched(replies: Sequence[Sampled], base: BaseView, tokenizer: ChatTokenizer) -> dict:
    """The base model's figures on its own replies, each cut to as many tokens as the reply beside it has (at least one)."""
    lengths = [max(1, min(reply.tokens, theirs.tokens)) for reply, theirs in zip(replies, base.replies, strict=True)]
    cut = [tokenizer.decode(theirs.completion_ids[:length]) for theirs, length in zip(base.replies, lengths, strict=True)]
    return {
        "matched_overlap": _mean([coverage(theirs.prompt, text) for theirs, text in zip(base.replies, cut, strict=True)]),
        "matched_nll": -_mean([x for row, length in zip(base.rows.base, lengths, strict=True) for x in row[:length]]),
        "matched_pmi": _mean([x for row, length in zip(base.rows.pmi, lengths, strict=True) for x in row[:length]]),
        "matched_distinct2": distinct(cut)}


@torch.no_grad()
def reply_rows(policy: Policy, adapter: Path | None, replies: Sequence[Sampled], temperature: float) -> Rows:
    """Three passes: the policy and the base model over the replies, and the base model over them after another's prompt."""
    spoken = [place for place, reply in enumerate(replies) if reply.completion_ids]
    own = [Example(place, replies[place].prompt_ids, replies[place].completion_ids, 1.0) for place in spoken]
    other = [Example(place, replies[(place + 1) % len(replies)].prompt_ids, replies[place].completion_ids, 1.0) for place in spoken]
    kl = [0.0] * len(replies)
    theirs: dict[int, torch.Tensor] = {}
    if adapter is not None:
        with policy.behaving_as(adapter):
            for batch, _ in _batches(policy, [replace(example, temperature=temperature) for example in own]):
                theirs.update(zip(batch.indexes, policy.expectations(policy.hidden(batch), batch)[1], strict=True))
    base: dict[int, list[float]] = {}
    with policy.reference():
        for batch, examples in _batches(policy, own):
            hidden = policy.hidden(batch)
            lengths = [len(example.completion_ids) for example in examples]
            for example, rows in zip(examples, hidden.split(lengths), strict=True):
                one = policy.batch([example])
                base[example.index] = policy.head(rows, one).logprobs[0].tolist()
                if adapter is not None:
                    warm = policy.batch([replace(example, temperature=temperature)])
                    kl[example.index] = float(policy.head(rows, warm, theirs).kl_sum)
        without, _ = logprob_pass(policy, policy.micro_batches(other, MICRO_BATCH_TOKENS), lambda: None)
    pmi = {place: [a - b for a, b in zip(base[place], without[place].tolist(), strict=True)] for place in spoken}
    return Rows([base.get(place, []) for place in range(len(replies))], [pmi.get(place, []) for place in range(len(replies))], kl)


def text_nll(policy: Policy, adapter: Path | None, tokenizer: ChatTokenizer) -> float:
    """Nats per token on a text that no learner reads: what the model still knows of language it was not asked about."""
    with policy.reference() if adapter is None else policy.behaving_as(adapter):
        return OrdinaryText(policy, tokenizer, ordinary_text()).nll()


def ordinary_text() -> str:
    """Written for this purpose; the learner's own text bounds what it does, so it says less."""
    return files("benchmarks.learning").joinpath("ordinary_text.txt").read_text(encoding="utf-8")


def _batches(policy: Policy, examples: Sequence[Example]):
    for micro_batch in policy.micro_batches(examples, MICRO_BATCH_TOKENS):
        yield policy.batch(micro_batch), micro_batch


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0

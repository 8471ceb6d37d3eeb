"""What a refinement may do to fresh replies, and to what ordinary text costs: harm none, and not please less."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from data.sentences import Said, said
from learner.reward.scoring import Scored

MAX_BROKEN_RISE, MAX_TRUNCATED_RISE = 0.1, 0.15
"""Shares of replies: so many more than the base model's may be empty, repeated, off topic or nonsense, and so many more may not come to an end. It falls into loops itself, after some prompts
more than after others: 8% of its replies where one person's prompts were kept aside, 1% where another's were."""
MAX_DISTINCT_FALL = 0.04
"""Of the share of different pairs of tokens, relative to the base model's replies and over as many tokens: 5% is asked of a version. Unbounded, a taste for warm words, whose replies are as long as the
base model's, ended at 31% less, each as likely to the base model as one could wish. A look tells it to a point: it counts some 20,000 pairs."""
CLEARLY = 2.0
"""Standard errors."""
MAX_FORGOTTEN = 0.04
"""So much less likely may ordinary text become: 5% is asked of a version on any text, and one that no learner reads had become 5.5% less likely where the learner's own had 4.5%.
Without a bound, short answers out of 192 thumbs, a quarter of them flipped, had come to 8.3%."""
ENDING_STILL = 0.25
"""Where the ratings know what people think of truncated replies, it is enough that so many of those which came to an end still do."""


class Bound(NamedTuple):
    """The most of each that is allowed, or what replies have of it."""

    broken: float
    truncated: float
    """Shares."""
    sameness: float
    """Of `Scored`, beside the base model's replies."""
    surprise: float
    """Nats per token."""
    text_nll: float
    """Nats per token of ordinary text."""


def bound_of(base: Scored, max_surprise_rise: float, knows_truncated: bool) -> Bound:
    """Args: as `crossed` has them."""
    truncated = max(base.truncated() + MAX_TRUNCATED_RISE, 1 - ENDING_STILL * (1 - base.truncated()) if knows_truncated else 0.0)
    return Bound(min(base.broken() + MAX_BROKEN_RISE, 1.0), min(truncated, 1.0), MAX_DISTINCT_FALL,
                 (1 + max_surprise_rise) * base.surprise(), math.inf if base.text_nll is None else (1 + MAX_FORGOTTEN) * base.text_nll)


def crossed(base: Scored, after: Scored, max_surprise_rise: float, knows_truncated: bool) -> Said | None:
    """The first bound that replies are beyond, beside the base model's to the same prompts; None when they are beyond none.

    Args:
        max_surprise_rise: relative, how much less likely the base model may find them than its own.
        knows_truncated: of `Bounds`.
    """
    gain, error = gain_of(base, after)
    most = bound_of(base, max_surprise_rise, knows_truncated)
    if gain < -error:
        return said("less_pleased", gain=gain)
    if after.broken() > most.broken:
        return said("fresh_broken", share=after.broken())
    if after.truncated() > most.truncated:
        return said("fresh_truncated", share=after.truncated(), base=base.truncated())
    if (fall := after.sameness(base)) > most.sameness:
        return said("fresh_monotonous", fall=fall)
    if after.surprise() > most.surprise:
        return said("fresh_surprising", rise=after.surprise() / base.surprise() - 1)
    if after.text_nll is not None and after.text_nll > most.text_nll:
        return said("text_less_likely", rise=after.text_nll / base.text_nll - 1)
    return None


def clearly_pleased(before: Scored, after: Scored) -> bool:
    gain, error = gain_of(before, after)
    return gain > CLEARLY * error


def gain_of(before: Scored, after: Scored) -> tuple[float, float]:
    """Mean gain of the ensemble's lower bound by prompt, and its standard error, which is 0 where there is one prompt alone. Both answer the same prompts."""
    earlier, later = means_by_prompt(before), means_by_prompt(after)
    gains = torch.tensor([later[prompt] - earlier[prompt] for prompt in earlier], dtype=torch.float64)
    return float(gains.mean()), float(gains.var() / len(gains)) ** 0.5 if len(gains) > 1 else 0.0


def means_by_prompt(scored: Scored) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], list[float]] = {}
    for example, lower in zip(scored.examples, scored.lower.tolist(), strict=True):
        found.setdefault(example.prompt_ids, []).append(lower)
    return {prompt: sum(values) / len(values) for prompt, values in found.items()}

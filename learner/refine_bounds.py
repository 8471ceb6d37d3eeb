"""What a step of the refinement may do to fresh replies, and to what ordinary text costs: harm none, and not please less."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from data.sentences import Said, said
from learner.scoring import Scored

MAX_BROKEN_RISE, MAX_TRUNCATED_RISE = 0.1, 0.15
"""Shares of replies: so many more than the base model's may be empty, repeated, off topic or nonsense, and so many more may not come to an end. It falls into loops itself, after some prompts
more than after others: 8% of its replies where one person's prompts were kept aside, 1% where another's were."""
MAX_DISTINCT_FALL = 0.04
"""Of the share of pairs of tokens that no reply said before, relative to the base model's replies: 5% is asked of a version. Unbounded, a taste for warm words, whose replies are as long as the
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
    """Share of pairs of tokens."""
    surprise: float
    """Nats per token."""
    text_nll: float
    """Nats per token of ordinary text."""


def bound_of(base: Scored, likeliest: Scored, max_surprise_rise: float, knows_truncated: bool) -> Bound:
    """Args: as `crossed` has them."""
    truncated = max(base.truncated() + MAX_TRUNCATED_RISE, 1 - ENDING_STILL * (1 - base.truncated()) if knows_truncated else 0.0)
    return Bound(min(base.broken() + MAX_BROKEN_RISE, 1.0), min(truncated, 1.0), 1 - (1 - MAX_DISTINCT_FALL) * (1 - base.sameness()),
                 (1 + max_surprise_rise) * likeliest.surprise(), math.inf if base.text_nll is None else (1 + MAX_FORGOTTEN) * base.text_nll)


class Crossed(NamedTuple):
    """A bound that replies are beyond."""

    said: Said
    within: float = 0.0
    """A guess at the part of the way from the replies before to these on which the figure is at its bound; 0: no part would do."""


def crossed(before: Scored, after: Scored, base: Scored, likeliest: Scored, max_surprise_rise: float, knows_truncated: bool,
            chance: float = 0.0) -> Crossed | None:
    """Why the step is not kept, None when it is. All four were drawn alike, not always to the same prompts; what ordinary text costs is not asked between iterations.

    Args:
        likeliest: what the rise of the surprise is taken from: the base model's replies, or later ones that it found likelier.
        knows_truncated: of `Bounds`.
        chance: standard errors of the shares and of the surprise by which they may be beyond a bound: on the way, where a later look decides.
    """
    gain, error = gain_of(before, after)
    broken, truncated, sameness, surprise, text_nll = bound_of(base, likeliest, max_surprise_rise, knows_truncated)
    broken, truncated = (share + chance * (share * (1 - share) / len(after.examples)) ** 0.5 for share in (broken, truncated))
    surprise += chance * after.surprise_error()
    if gain < -error:                                            # the whole way does not please, nor will a part of it
        return Crossed(said("less_pleased", gain=gain))
    if after.broken() > broken:
        return Crossed(said("fresh_broken", share=after.broken()), _late(before.broken(), after.broken(), broken))
    if after.truncated() > truncated:
        return Crossed(said("fresh_truncated", share=after.truncated(), base=base.truncated()), _part(before.truncated(), after.truncated(), truncated))
    if after.sameness() > sameness:
        fall = 1 - (1 - after.sameness()) / (1 - base.sameness())
        return Crossed(said("fresh_monotonous", fall=fall), _late(before.sameness(), after.sameness(), sameness))
    if after.surprise() > surprise:
        rise = after.surprise() / likeliest.surprise() - 1
        return Crossed(said("fresh_surprising", rise=rise) if likeliest is base else said("fresh_less_likely", rise=rise), _late(before.surprise(), after.surprise(), surprise))
    if after.text_nll is not None and after.text_nll > text_nll:
        return Crossed(said("text_less_likely", rise=after.text_nll / base.text_nll - 1), _late(base.text_nll, after.text_nll, text_nll))
    return None


def clearly_pleased(before: Scored, after: Scored) -> bool:
    gain, error = gain_of(before, after)
    return gain > CLEARLY * error


def not_clearly_pleased(base: Scored, after: Scored) -> Crossed | None:
    """Whether what these please more may be chance, of which there is more where several ways are looked at."""
    return None if clearly_pleased(base, after) else Crossed(said("never_more_pleased"))


def gain_of(before: Scored, after: Scored) -> tuple[float, float]:
    """Mean gain of the ensemble's lower bound by prompt, and its standard error: of the differences where both answered the same prompts.

    Where they share some it is too large, and where there is one prompt alone it is 0.
    """
    earlier, later = means_by_prompt(before), means_by_prompt(after)
    if earlier.keys() == later.keys():
        samples = [[later[prompt] - earlier[prompt] for prompt in earlier]]
    else:
        samples = [list(later.values()), [-value for value in earlier.values()]]
    values = [torch.tensor(sample, dtype=torch.float64) for sample in samples]
    return sum(float(some.mean()) for some in values), sum(float(some.var()) / len(some) for some in values if len(some) > 1) ** 0.5


def means_by_prompt(scored: Scored) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], list[float]] = {}
    for example, lower in zip(scored.examples, scored.lower.tolist(), strict=True):
        found.setdefault(example.prompt_ids, []).append(lower)
    return {prompt: sum(values) / len(values) for prompt, values in found.items()}


def _part(before: float, after: float, bound: float) -> float:
    """On a straight line, as truncation went."""
    return max(0.0, (bound - before) / (after - before)) if after > before else 0.0


def _late(before: float, after: float, bound: float) -> float:
    """What breaks language hardly does so on the first half of a way: half of it is worth a look, and the root is nearer than the straight line."""
    return max(0.5, _part(before, after, bound) ** 0.5)

"""Fresh replies through the base model once: what a reward model thinks of them, and what no reward may excuse.

A reward model is fitted on replies of the base model and knows nothing of empty ones, loops or nonsense: it may well like
them. So these are told apart by rule, and their reward is set from outside:

    empty, repeated, off topic, nonsense       -1, the worst there is
    truncated                                  at most the mean reward of the rated replies, where few of those were (`KNOWN_CUT`)
    any                                        less by `UNLIKELY` for each standard deviation that the base model finds it less
                                               likely than its own of that length

Nonsense: the base model finds its words, its end aside, less likely than nearly all replies it is compared with (nonsense.py). Off topic: over its opening, a
reply that is no likelier after its own prompt than after another one; asked last, of those nothing else is wrong with,
because it costs a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from data.base_models.tokenizer import ChatTokenizer
from data.records import Generated
from data.texts.reply_features import repeated_share, style_features
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.reward.nonsense import DEVIATIONS, Nonsense
from learner.reward.reward_model import RewardModel
from learner.training.anchor import Reference, logprob_pass, reference_pass

MAX_REPEATED = 0.3
"""Share of repeated 4-grams from which a reply counts as a loop."""
KNOWN_CUT = 0.25
"""Where so many of the rated replies were truncated themselves, the reward model knows what people think of that."""
UNLIKELY = 0.2
"""Reward units: of two short replies, the one that the base model would have written is the better way to be short."""
OPENING = 32
"""Tokens over which a reply must have to do with its prompt."""


@dataclass(frozen=True)
class Bounds:
    """What the rated replies say about replies in general."""

    truncated: float
    """The most that a truncated reply may get."""
    nonsense: Nonsense | None
    """None: the replies at hand are the base model's own and tell it."""
    knows_truncated: bool = False
    """Whether enough of the rated replies were truncated for the reward model to know what people think of that."""


@dataclass(frozen=True)
class Scored:
    """M fresh replies; example indexes are places 0..M-1."""

    examples: tuple[Example, ...]
    reference: Reference
    """The base model's log-probs."""
    mean: Tensor
    """(M,) the reward model's mean over its heads, before the rules."""
    lower: Tensor
    """(M,) mean - penalty * std - UNLIKELY * deviations, after the rules, in [-1, 1]."""
    problems: tuple[str, ...]
    """Which rule struck, '' for none."""
    nonsense: Nonsense = Nonsense()
    """What it was told by."""
    text_nll: float | None = None
    """Nats per token that ordinary text costs whoever replied; None where that was not asked."""

    def surprise(self) -> float:
        """Nats per token of these replies under the base model."""
        return -float(torch.cat(list(self.reference.logprobs.values())).mean())

    def tokens(self) -> float:
        return sum(len(example.completion_ids) for example in self.examples) / len(self.examples)

    def broken(self) -> float:
        """Share that a rule strikes, truncated ones aside."""
        return sum(problem not in ("", "truncated") for problem in self.problems) / len(self.problems)

    def sameness(self, base: Scored) -> float:
        """How much less these replies vary than those of `base` to the same prompts in the same order: 1 - the ratio of their distinct-2 (Li et al. 2016, arXiv:1510.03055).

        The less of both: as they are, and of each two as much as the shorter one has. The share of different pairs of tokens falls with the amount of text, by a
        tenth from 100 tokens a reply to 150, which is not to hold longer replies back; and on the way to short ones they differ less over as many tokens, but not where it ends.
        """
        pairs = [(ours.completion_ids, theirs.completion_ids) for ours, theirs in zip(self.examples, base.examples, strict=True)]
        as_much = [(ours[:len(theirs)], theirs[:len(ours)]) for ours, theirs in pairs]
        return min(_fall(pairs), _fall(as_much))

    def truncated(self) -> float:
        """Share that is sound as far as it goes and did not come to an end."""
        return self.problems.count("truncated") / len(self.problems)


def _fall(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float:
    """Args: pairs: tokens of ours and of theirs."""
    ours, theirs = (_distinct(side) for side in zip(*pairs, strict=True))
    return 1 - ours / theirs if theirs else 0.0


def _distinct(replies: Sequence[Sequence[int]]) -> float:
    """Different pairs of neighbouring tokens over all pairs."""
    pairs = [pair for ids in replies for pair in pairwise(ids)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def as_examples(prompts: Sequence[Sequence[int]], replies: Sequence[Generated], temperature: float) -> list[Example]:
    return [Example(place, tuple(prompt), reply.completion_ids, temperature)
            for place, (prompt, reply) in enumerate(zip(prompts, replies, strict=True))]


def feature_table(examples: Sequence[Example], reference: Reference, tokenizer: ChatTokenizer) -> tuple[Tensor, Tensor]:
    """What the reward model takes, a row per example: (N, 2 H), and (N, C) of `STYLE`."""
    style = [style_features(tokenizer.decode(example.completion_ids), example.prompt_ids, example.completion_ids,
                            example.completion_ids[-1] in tokenizer.eos_ids) for example in examples]
    return torch.stack([reference.summaries[example.index] for example in examples]), torch.tensor(style)


def bounds_of(examples: Sequence[Example], reference: Reference, rewards: Tensor, weights: Tensor, eos_ids: frozenset[int]) -> Bounds:
    """Args: rewards, weights: (N,) of the examples, in their order."""
    cut = sum(example.completion_ids[-1] not in eos_ids for example in examples) / len(examples)
    known = cut >= KNOWN_CUT
    return Bounds(1.0 if known else float((weights * rewards).sum() / weights.sum()),
                  Nonsense(_words(example, reference, eos_ids) for example in examples), known)


def score(policy: Policy, tokenizer: ChatTokenizer, model: RewardModel, examples: Sequence[Example], bounds: Bounds, *, penalty: float,
          max_batch_tokens: int, check: Callable[[], None], unlikely: float = UNLIKELY) -> Scored:
    """Two passes of the base model: over the replies, and over the openings of those that are sound so far after another prompt.

    Args: unlikely: what a standard deviation of likelihood costs; 0 to judge.
    """
    reference = reference_pass(policy, policy.micro_batches(examples, max_batch_tokens), frozenset(), check)
    mean, std = model.predict(*feature_table(examples, reference, tokenizer))
    words = [_words(example, reference, tokenizer.eos_ids) for example in examples]
    nonsense = bounds.nonsense or Nonsense(words)
    struck = {example.index: _problem(example, own, tokenizer, nonsense) for example, own in zip(examples, words, strict=True)}
    sound = [example for example in examples if not struck[example.index]]
    relevance = opening_relevance(policy, sound, [example.prompt_ids for example in examples], reference, max_batch_tokens, check)
    problems = tuple("off topic" if relevance.get(example.index, 1.0) <= 0 else struck[example.index] for example in examples)
    deviations = torch.tensor([nonsense.deviations(own) for own in words], dtype=mean.dtype).clamp(0, DEVIATIONS)
    lower = (mean - penalty * std - unlikely * deviations).clamp(min=-1)
    ceiling = torch.tensor([{"": 1.0, "truncated": bounds.truncated}.get(problem, -1.0) for problem in problems], dtype=lower.dtype)
    return Scored(tuple(examples), reference, mean, torch.minimum(lower, ceiling), problems, nonsense)


def opening_relevance(policy: Policy, examples: Sequence[Example], prompts: Sequence[tuple[int, ...]], reference: Reference,
                      max_batch_tokens: int, check: Callable[[], None]) -> dict[int, float]:
    """By example index, nats per token: log p(opening | its prompt) - log p(opening | the next other of `prompts`), by the base model.

    Empty where there is no other prompt.
    """
    prompts = list(dict.fromkeys(prompts))
    if len(prompts) < 2 or not examples:
        return {}
    other = dict(zip(prompts, prompts[1:] + prompts[:1], strict=True))
    swapped = [Example(e.index, other[e.prompt_ids], e.completion_ids[:OPENING], e.temperature) for e in examples]
    with policy.reference():
        without, _ = logprob_pass(policy, policy.micro_batches(swapped, max_batch_tokens), check)
    return {e.index: float((reference.logprobs[e.index][:OPENING] - without[e.index]).mean()) for e in examples}


def _words(example: Example, reference: Reference, eos_ids: frozenset[int]) -> Tensor:
    """Log-probs of what a reply says. That it ends is no nonsense, and where people like short replies the base model finds it least likely of all."""
    logprobs = reference.logprobs[example.index]
    return logprobs[:-1] if example.completion_ids[-1] in eos_ids else logprobs


def _problem(example: Example, words: Tensor, tokenizer: ChatTokenizer, nonsense: Nonsense) -> str:
    """Which rule strikes, but for the one of topic. Args: words: of `_words`."""
    ids = example.completion_ids
    if not tokenizer.decode(ids).strip():
        return "empty"
    if repeated_share(ids) > MAX_REPEATED:
        return "repeated"
    if nonsense.strikes(words):
        return "nonsense"
    return "" if ids[-1] in tokenizer.eos_ids else "truncated"

"""G0, the first gate: nobody talks to a candidate that diverged.

A candidate is measured beside the base model: finite numbers, KL to base, the likelihood of a frozen text, and
its own replies to fixed prompts (how unlikely the base finds them, repetition, empty ones, length). When a figure is out
of bounds the adapter is scaled down and measured again; the strongest one that passes is published. G0 says "not
broken", it does not say "better".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from typing import Literal

import torch

from data.base_models.tokenizer import ChatTokenizer
from data.records import Message, Sampling
from data.sentences import Said, reasoned, said, sentence
from data.texts.reply_features import repeated_share
from learner.config import GateLimits
from learner.errors import Diverged
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.model.sampler import Sampler
from learner.training.anchor import Reference, logprob_pass
from learner.training.frozen_text import OrdinaryText, frozen_text

MICRO_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Figures:
    """What was measured of one model."""

    finite: bool
    kl: float
    """Nats per token, KL(base || this)."""
    text_nll: float
    """Nats per token on the frozen text."""
    surprise: float
    """Nats per token of its own replies under the base model."""
    repetition: float
    """Mean share of 4-grams that a reply has said before."""
    empty: float
    """Share of replies without a visible character."""
    tokens: float
    """Mean tokens per reply, end-of-text not counted."""
    ended: float
    """Share of replies that ended by themselves."""


@dataclass(frozen=True)
class GateReport:
    """What the gate decided and why."""

    passed: bool
    scale: float
    """Strength at which the adapter passed; 0 when it did not."""
    said: Said
    """One sentence for people."""
    strength: Said | Literal[""]
    """The part of it that says at which strength the adapter passed, where that is not the first one."""
    base: Figures
    tried: tuple[tuple[float, Figures, Said | None], ...]
    """(scale, figures, what was out of bounds) in the order tried."""
    replies: tuple[tuple[str, str, str], ...]
    """(prompt, the base model's reply, the candidate's reply) for reports."""

    @property
    def reason(self) -> str:
        return sentence(self.said)

    def as_dict(self) -> dict:
        """JSON-able; figures are rounded, and null where they are not finite."""
        return {
            "passed": self.passed, "scale": self.scale, **reasoned(self.said), "base": _rounded(self.base),
            "tried": [{"scale": scale, "problem": sentence(problem) if problem else "", **_rounded(figures)} for scale, figures, problem in self.tried],
            "replies": [dict(zip(("prompt", "before", "after"), row, strict=True)) for row in self.replies]}


class Gate:
    """Measures the base model once, then any number of candidates beside it.

    Args:
        reference, anchor: the base model's view of the replies the KL is taken on.
        sampler: answers prompts with whatever the policy currently is.
        check: called between measurements; may raise to stop the run.
    """

    def __init__(self, policy: Policy, sampler: Sampler, tokenizer: ChatTokenizer, limits: GateLimits, reference: Reference,
                 anchor: Sequence[Example], *, temperature: float, seed: int, check: Callable[[], None] = lambda: None) -> None:
        self.policy, self.sampler, self.tokenizer, self.limits = policy, sampler, tokenizer, limits
        self.reference, self.temperature, self.seed, self.check = reference, temperature if temperature > 0 else 1.0, seed, check
        self.anchor = policy.micro_batches(anchor, MICRO_BATCH_TOKENS)
        self.prompts = fixed_prompts()[:limits.prompts]
        self.prompt_ids = [tuple(tokenizer.render([Message("user", prompt)])) for prompt in self.prompts for _ in range(limits.samples)]
        self.text = OrdinaryText(policy, tokenizer, frozen_text())
        with policy.reference():
            self.base_replies = self._sample()
            self.base = replace(self._figures(self.base_replies), kl=0.0)

    def decide(self) -> GateReport:
        """Try the scales in turn; the policy is left at the scale that passed, or at the first when none did."""
        full = self.policy.lora_b()
        tried = []
        for scale in self.limits.scales:
            self.policy.set_scale(scale, full)
            figures, replies = self._measure()
            problem = out_of_bounds(figures, self.base, self.limits)
            tried.append((scale, figures, problem))
            if problem is None:
                strength = said("at_strength", scale=scale, problem=tried[0][2]) if tried[0][2] else ""
                return GateReport(True, scale, said("gate_passed", strength=strength), strength, self.base, tuple(tried), self._beside(replies))
            if not figures.finite:
                break                                             # scaling does not mend a NaN
        self.policy.set_scale(1.0, full)
        return GateReport(False, 0.0, said("gate_refused", problem=tried[-1][2]), "", self.base, tuple(tried), self._beside(replies))

    def _measure(self) -> tuple[Figures, list[list[int]]]:
        if not all(bool(parameter.isfinite().all()) for parameter in self.policy.parameters()):
            return Figures(False, *[math.nan] * 7), []
        replies = self._sample()
        return self._figures(replies), replies

    def _sample(self) -> list[list[int]]:
        self.check()
        try:
            return [list(reply.completion_ids) for reply in self.sampler.sample(self.prompt_ids, Sampling(
                self.temperature, top_p=1.0, top_k=0, max_new_tokens=self.limits.new_tokens, seed=self.seed))]      # no cut hides a bad tail
        except Diverged:
            return []

    def _figures(self, replies: list[list[int]]) -> Figures:
        if not replies:
            return Figures(False, *[math.nan] * 7)
        _, kl = logprob_pass(self.policy, self.anchor, self.check, self.reference)
        text_nll = self.text.nll(self.check)
        own = [Example(place, prompt, tuple(reply), self.temperature)
               for place, (prompt, reply) in enumerate(zip(self.prompt_ids, replies, strict=True)) if reply]
        with self.policy.reference():
            surprise, _ = logprob_pass(self.policy, self.policy.micro_batches(own, MICRO_BATCH_TOKENS), self.check)
        spoken = [[token for token in reply if token not in self.tokenizer.eos_ids] for reply in replies]
        own_nll = -float(torch.cat(list(surprise.values())).mean())
        kl = 0.0 if kl is None else kl
        return Figures(
            finite=all(map(math.isfinite, (kl, text_nll, own_nll))), kl=kl, text_nll=text_nll, surprise=own_nll,
            repetition=_mean(repeated_share(reply) for reply in spoken),
            empty=_mean(not self.tokenizer.decode(reply).strip() for reply in spoken),
            tokens=_mean(len(reply) for reply in spoken),
            ended=_mean(len(reply) < len(whole) for reply, whole in zip(spoken, replies, strict=True)))

    def _beside(self, replies: list[list[int]]) -> tuple[tuple[str, str, str], ...]:
        before, after = ([self.tokenizer.decode(reply) for reply in some[::self.limits.samples]] for some in (self.base_replies, replies))
        return tuple(zip(self.prompts, before, after or ["(not sampled: the numbers are not finite)"] * len(self.prompts), strict=True))


def out_of_bounds(candidate: Figures, base: Figures, limits: GateLimits) -> Said | None:
    """The first figure that is out of bounds, None when all are within."""
    if not candidate.finite:
        return said("not_finite")
    if candidate.kl > limits.max_kl:
        return said("moved", kl=candidate.kl, limit=limits.max_kl)
    if candidate.text_nll > (1 + limits.max_text_rise) * base.text_nll:
        return said("text_unlikely_by", rise=candidate.text_nll / base.text_nll - 1, limit=limits.max_text_rise)
    if candidate.empty - base.empty > limits.max_empty_rise:
        return said("empty_replies", share=candidate.empty, base=base.empty)
    if candidate.tokens < limits.min_length_ratio * base.tokens:
        return said("shrank", tokens=round(candidate.tokens), base=round(base.tokens))
    if candidate.repetition - base.repetition > limits.max_repetition_rise:
        return said("repeats", share=candidate.repetition, base=base.repetition)
    if candidate.surprise > (1 + limits.max_surprise_rise) * base.surprise:
        return said("surprising_by", rise=candidate.surprise / base.surprise - 1, limit=limits.max_surprise_rise)
    return None


def fixed_prompts() -> list[str]:
    """What every candidate is asked, one prompt a line."""
    return files("learner.gates").joinpath("gate_prompts.txt").read_text(encoding="utf-8").splitlines()


def _mean(values) -> float:
    values = [float(value) for value in values]
    return sum(values) / len(values)


def _rounded(figures: Figures) -> dict:
    return {name: value if isinstance(value, bool) else (round(value, 4) if math.isfinite(value) else None)
            for name, value in asdict(figures).items()}

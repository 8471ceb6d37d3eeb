"""On-policy iterations in the place of passes over the logged ratings (RLOO): sample, score, push, and look whether it helped.

For each prompt x_i the policy samples k fresh replies y_ij, the reward model of the ratings scores them, and

    R_ij = lower(q_ij)                                    mean - lambda std over the heads, after the rules of scoring.py
    A_ij = P(the ratings tell anything) (R_ij - mean of the prompt's other replies)      weighed so against the KL, not for Adam
    L    = -mean_ij A_ij log pi(y_ij) / L_max + beta KL(base || policy) at the fresh replies' own places

Fresh replies to learn from are drawn from the whole vocabulary: that is what log pi is of, and the chat's nucleus hides what
is rare, such as an early end, so that nothing can be learnt of it. What is judged, before and after, is drawn as the chat
draws. Each reply is visited once, at most some dozens of steps after it was sampled, and counts as the policy's own: no ratio
is corrected for. Correcting it cost a pass, and its taper forgot disliked replies within a few steps.
Prompts that were kept aside are answered before and after each iteration: the step is kept in full or in part, or taken
back, by what the ensemble's lower bound and the base model say of those. It is kept unless it clearly pleases less: a taste that few
replies meet is learnt in steps too small to be seen on some dozens of replies. In the end the weights that pleased most are kept, if they
clearly please more than the base model's. After a step that was kept in full the next one is half as long again, after one that was
kept in part as much shorter, after one that was taken back half as long; the second one in a row ends it. AdamW's moments go on from one
iteration to the next, also where it was taken back: begun anew, it makes a full step of whatever a few replies say, which undid what the iterations before had learnt.
Sources: RLOO, arXiv:2402.14740; early stopping against over-optimisation, arXiv:2210.10760.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.records import Generated
from data.sentences import Said, reasoned, said, sentence
from data.tokenizer import ChatTokenizer
from learner.batches import plan_steps
from learner.config import LearnerConfig
from learner.errors import Diverged
from learner.nonsense import Nonsense
from learner.personal import without_personal_data
from learner.policy import Policy
from learner.reward_model import RewardModel
from learner.sampler import Sampler
from learner.scoring import Bounds, Scored, as_examples, score
from learner.steps import Signals, StepFigures, train_steps

log = logging.getLogger("learner")

LONGER, LONGEST = 1.5, 2.0
"""A step that was kept in full makes the next one so much longer, up to so many times the first. Shorter ones that never grew again left a
slow taste, and whatever came after one overshoot, half learnt."""
IN_VAIN = 2
"""So many iterations taken back one after the other end it; one alone is within chance on a few dozen replies."""
MAX_BROKEN, MAX_TRUNCATED_RISE = 0.1, 0.15
"""Shares of replies: so many may be empty, repeated, off topic or nonsense, and so many more than the base model's may not come to an end."""
MIN_PROMPTS = 8
"""With fewer there is nothing to keep aside."""


@dataclass(frozen=True)
class Refinement:
    """What came of it."""

    kept: float
    """Iterations, a part of one as a fraction; 0: the weights are those of before."""
    said: Said
    figures: dict
    """JSON-able."""

    def as_dict(self) -> dict:
        return {"kept": self.kept, **reasoned(self.said), **self.figures}


@dataclass(frozen=True)
class Refiner:
    """What every iteration uses.

    Args:
        model, bounds: fitted on the ratings in training.
        on_start: called before the first optimizer step of an iteration with how many it has, and how many iterations were before.
        check: called between passes. It, `on_start` and `on_step` may raise to stop.
    """

    policy: Policy
    sampler: Sampler
    tokenizer: ChatTokenizer
    model: RewardModel
    bounds: Bounds
    config: LearnerConfig
    max_new_tokens: int
    on_start: Callable[[int, int], None]
    on_step: Callable[[StepFigures], None]
    check: Callable[[], None]

    def refine(self, prompts: Sequence[tuple[int, ...]]) -> Refinement:
        """Refine the adapter in place, or leave it exactly as it was.

        Args: prompts: of the rated replies.
        Raises: Diverged: the base model's own replies cannot be sampled.
        """
        own, figures = self.config.refine, {"reward_model": self.model.fit.as_dict()}
        if not self.model.fit.useful:
            return Refinement(0.0, said("not_refined_unpredictable"), figures)
        train_prompts, check_prompts = split_prompts(prompts, self.config)
        if not check_prompts:
            return Refinement(0.0, said("not_refined_few"), figures)
        checked = [prompt for prompt in check_prompts for _ in range(-(-own.check_replies // len(check_prompts)))]
        with self.policy.reference():
            base = before = self._score(checked, self._sample(checked, 1))     # the adapter is still zero
        explorer = replace(self, bounds=replace(self.bounds, nonsense=None))
        gone, problem, pace, in_vain = 0.0, None, 1.0, 0
        untouched = self.policy.weights()
        best, best_gone, best_weights = base, 0.0, untouched
        moments: dict = {}
        figures |= {"base": _described(base), "iterations": []}
        for number in range(own.iterations):
            start = [parameter.detach().clone() for parameter in self.policy.parameters()]
            report = {"learning_rate": pace * own.learning_rate}
            try:
                pushed, nonsense = explorer._push(turn_of(train_prompts, number, own.prompts), number, report["learning_rate"], moments)
                report |= pushed
                explorer = replace(self, bounds=replace(self.bounds, nonsense=nonsense))
                strength, before, tried = self._keep(start, checked, before, base)
            except Diverged:
                log.warning("Iteration %d of the refinement is taken back.", number + 1, exc_info=True)
                go(self.policy, start, start, 0.0)
                strength, tried = 0.0, [_tried(1.0, said("fresh_diverged"))]
            figures["iterations"].append({**report, "tried": tried})
            gone, pace, in_vain = gone + strength, next_pace(pace, strength), 0 if strength else in_vain + 1
            if before.lower.mean() > best.lower.mean():
                best, best_gone, best_weights, problem = before, gone, self.policy.weights(), tried[0]["said"]
            else:                                                # why there is nothing beyond the best: the first reason is told
                problem = problem or tried[0]["said"] or said("pleased_no_more")
            if in_vain == IN_VAIN:
                break
        gain, error = gain_of(base, best)
        if gain <= error:                                        # of several noisy means the best is above the base model's by chance
            best_gone, best_weights = 0.0, untouched
            problem = said("never_more_pleased") if problem in (None, said("pleased_no_more")) else problem
        self.policy.set_weights(best_weights)
        return Refinement(best_gone, _said(best_gone, problem), figures)

    def _sample(self, prompts: Sequence[tuple[int, ...]], seed: int, *, freely: bool = False) -> list[Generated]:
        """Args: freely: from the whole vocabulary, not as the chat draws."""
        self.check()
        drawn = self.config.fresh(self.max_new_tokens, self.config.seed + seed)
        return self.sampler.sample(prompts, replace(drawn, top_p=1.0, top_k=0) if freely else drawn)

    def _score(self, prompts: Sequence[tuple[int, ...]], replies: Sequence[Generated], anchored: bool = False) -> Scored:
        examples = as_examples(prompts, replies, self.config.fresh(0, 0).temperature)
        return score(self.policy, self.tokenizer, self.model, examples, self.bounds, penalty=self.config.refine.disagreement_penalty,
                     max_batch_tokens=self.config.max_batch_tokens, check=self.check, anchored=frozenset(range(len(examples)) if anchored else ()))

    def _push(self, prompts: Sequence[tuple[int, ...]], number: int, learning_rate: float, moments: dict) -> tuple[dict, Nonsense]:
        """Sample fresh replies and take one pass of gradient over them. Returns: what came of it, and what counts as nonsense."""
        own = self.config.refine
        asked = [prompt for prompt in prompts for _ in range(own.samples)]
        drawn = self._score(asked, self._sample(asked, 100 + number, freely=True), anchored=True)
        gains = (1 - self.model.fit.nothing) * leave_one_out_advantages(drawn.lower, own.samples)
        telling = [example for example, gain in zip(drawn.examples, gains, strict=True) if abs(gain) >= own.least_gain * gains.std()]
        plan = plan_steps(without_personal_data(telling, self.tokenizer), self.config.batch_size, self.config.max_batch_tokens)
        if not plan:
            return {"prompts": len(prompts), "steps": 0}, drawn.nonsense
        self.on_start(len(plan), number)
        one_pass = replace(self.config, learning_rate=learning_rate, kl_coefficient=own.kl_coefficient, epochs=1, min_steps=1,
                           seed=self.config.seed + 100 + number)
        history = train_steps(self.policy, plan, Signals(drawn.lower.float(), torch.ones(len(asked)), gains.float()), drawn.reference,
                              None, one_pass, self.on_step, moments)
        return {"prompts": len(prompts), "fresh": _described(drawn), "reward_spread": round(float(drawn.lower.std()), 4),
                "problems": {problem: drawn.problems.count(problem) for problem in sorted(set(drawn.problems)) if problem},
                "trained_on": len(telling), "steps": len(history), "kl": history[-1].kl}, drawn.nonsense

    def _keep(self, start: Sequence[Tensor], checked: Sequence[tuple[int, ...]], before: Scored, base: Scored) -> tuple[float, Scored, list[dict]]:
        """Go as far from `start` towards where the policy is as `step_problem` allows: (how far, scores there, what was tried)."""
        end = [parameter.detach().clone() for parameter in self.policy.parameters()]
        tried: list[dict] = []
        for strength in self.config.refine.strengths:
            go(self.policy, start, end, strength)
            after = self._score(checked, self._sample(checked, 2))
            problem = step_problem(before, after, base, self.config.refine.max_surprise_rise)
            tried.append({**_tried(strength, problem), **_described(after)})
            if not problem:
                return strength, after, tried
            if problem["code"] == "less_pleased":                    # the whole way does not please, nor will half of it
                break
        go(self.policy, start, end, 0.0)
        return 0.0, before, tried


def _tried(strength: float, problem: Said | None) -> dict:
    return {"strength": strength, "problem": sentence(problem) if problem else "", "said": problem}


def _said(kept: float, problem: Said | None) -> Said:
    if not kept:
        return said("refinement_undone", problem=problem)
    return said("refined", n=kept, until=said("refined_until", problem=problem) if problem else "")


def next_pace(pace: float, kept: float) -> float:
    """How long the next step is, the first being 1. Args: kept: part of the step before that was kept, in [0, 1]."""
    return min(LONGEST, pace * LONGER) if kept == 1 else pace * (kept or 0.5)


def split_prompts(prompts: Sequence[tuple[int, ...]], config: LearnerConfig) -> tuple[list, list]:
    """(to refine on, kept aside), seeded; both empty when there are too few."""
    order = list(dict.fromkeys(prompts))
    random.Random(f"refine {config.seed}").shuffle(order)
    if len(order) < MIN_PROMPTS:
        return [], []
    aside = min(config.refine.check_prompts, len(order) // 4)
    return order[aside:], order[:aside]


def turn_of(prompts: Sequence[tuple[int, ...]], number: int, count: int) -> list[tuple[int, ...]]:
    """The prompts of an iteration: `count` of them at most, where the one before ended, and from the start again."""
    count = min(count, len(prompts))
    return [prompts[place % len(prompts)] for place in range(number * count, (number + 1) * count)]


def leave_one_out_advantages(rewards: Tensor, samples: int) -> Tensor:
    """Each reward minus the mean of the prompt's other ones: k / (k - 1) (R_ij - mean_j R_ij).

    Args: rewards: (prompts * samples,), a prompt's replies side by side; samples >= 2.
    """
    grouped = rewards.reshape(-1, samples)
    return ((grouped - grouped.mean(dim=1, keepdim=True)) * samples / (samples - 1)).reshape(-1)


def step_problem(before: Scored, after: Scored, base: Scored, max_surprise_rise: float) -> Said | None:
    """Why the step is not kept, None when it is. All three answered the same prompts."""
    gain, error = gain_of(before, after)
    rise = after.surprise() / base.surprise() - 1
    if after.broken() > max(base.broken(), MAX_BROKEN):
        return said("fresh_broken", share=after.broken())
    if after.truncated() > base.truncated() + MAX_TRUNCATED_RISE:
        return said("fresh_truncated", share=after.truncated(), base=base.truncated())
    if rise > max_surprise_rise:
        return said("fresh_surprising", rise=rise)
    if gain < -error:
        return said("less_pleased", gain=gain)
    return None


def gain_of(before: Scored, after: Scored) -> tuple[float, float]:
    """Mean gain of the ensemble's lower bound on the same prompts, and its standard error over them; 0 where there is one prompt alone."""
    by_prompt: dict[tuple[int, ...], list[float]] = {}
    for example, gain in zip(after.examples, (after.lower - before.lower).tolist(), strict=True):
        by_prompt.setdefault(example.prompt_ids, []).append(gain)
    means = torch.tensor([sum(gains) / len(gains) for gains in by_prompt.values()], dtype=torch.float64)
    return float(means.mean()), float(means.std() / len(means) ** 0.5) if len(means) > 1 else 0.0


def go(policy: Policy, start: Sequence[Tensor], end: Sequence[Tensor], strength: float) -> None:
    """Set the weights to start + strength (end - start), exactly `start` for 0 and `end` for 1."""
    with torch.no_grad():
        for parameter, a, b in zip(policy.parameters(), start, end, strict=True):
            parameter.copy_(torch.lerp(a, b, strength))


def _described(scored: Scored) -> dict:
    return {"lower": round(float(scored.lower.mean()), 4), "mean": round(float(scored.mean.mean()), 4), "surprise": round(scored.surprise(), 4),
            "tokens": round(scored.tokens(), 1), "broken": round(scored.broken(), 4), "truncated": round(scored.truncated(), 4)}

"""One on-policy iteration after the logged ratings (RLOO): sample, score, push, and look whether it helped.

For each prompt x_i the policy samples k fresh replies, the reward model of the ratings scores them, and

    R_ij = lower(q_ij) - drift_penalty * sum_t (l_theta - l_base) / L_max      lower: mean - lambda std, after the rules of scoring.py
    A_ij = eta (R_ij - mean of the prompt's other replies)
    L    = policy gradient as in steps.py + beta KL(base || policy) at the fresh replies' own places

One iteration, because the second one games the reward model. Prompts that were kept aside are answered before and after:
the step is kept in full or in part, or taken back, by what the ensemble's lower bound and the base model say of those.
Sources: RLOO, arXiv:2402.14740; early stopping against over-optimisation, arXiv:2210.10760.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.records import Generated
from data.tokenizer import ChatTokenizer
from learner.anchor import Reference, logprob_pass
from learner.batches import plan_steps
from learner.config import LearnerConfig
from learner.personal import without_personal_data
from learner.policy import Policy
from learner.reward_model import RewardModel
from learner.sampler import Sampler
from learner.scoring import Bounds, Scored, as_examples, micro_batches, score
from learner.steps import Signals, StepFigures, train_steps

MIN_PROMPTS = 8
"""With fewer there is nothing to keep aside."""


@dataclass(frozen=True)
class Refinement:
    """What came of it."""

    strength: float
    """How far the step was gone; 0: the weights are those of before."""
    reason: str
    """One sentence for people."""
    figures: dict
    """JSON-able."""

    def as_dict(self) -> dict:
        return {"strength": self.strength, "reason": self.reason, **self.figures}


def refine(policy: Policy, sampler: Sampler, tokenizer: ChatTokenizer, model: RewardModel, bounds: Bounds,
           prompts: Sequence[tuple[int, ...]], config: LearnerConfig, *, max_new_tokens: int, on_start: Callable[[int], None],
           on_step: Callable[[StepFigures], None], check: Callable[[], None]) -> Refinement:
    """Refine the adapter in place, or leave it exactly as it was.

    Args:
        model, bounds: fitted on the ratings in training.
        prompts: of the rated replies, each once.
        on_start: called with the number of optimizer steps before the first.
        check: called between passes. It, `on_start` and `on_step` may raise to stop.
    Raises: Diverged.
    """
    figures: dict = {"reward_model": model.fit.as_dict()}
    if not model.fit.useful:
        return Refinement(0.0, "There was no refinement because the ratings do not predict each other yet.", figures)
    train_prompts, check_prompts = split_prompts(prompts, config)
    if not check_prompts:
        return Refinement(0.0, "There was no refinement because too few different prompts were rated.", figures)
    own = config.refine
    asked = [prompt for prompt in train_prompts for _ in range(own.samples)]
    checked = [prompt for prompt in check_prompts for _ in range(own.check_samples)]

    def sampled(of: Sequence[tuple[int, ...]], seed: int) -> list[Generated]:
        check()
        return sampler.sample(of, config.fresh(max_new_tokens, seed))

    def judged(of: Sequence[tuple[int, ...]], replies: Sequence[Generated], keep: int = 0) -> Scored:
        return score(policy, tokenizer, model, as_examples(of, replies, config.fresh(0, 0).temperature), bounds, penalty=own.disagreement_penalty,
                     max_batch_tokens=config.max_batch_tokens, check=check, anchored=frozenset(range(keep)))

    with policy.reference():
        by_base = sampled(checked, config.seed + 1)
    base = judged(checked, by_base)
    drawn = judged(asked + checked, sampled(asked + checked, config.seed + 2), keep=len(asked))
    fresh = drawn.examples[:len(asked)]
    before = torch.tensor([float(drawn.lower[place]) for place in range(len(asked), len(drawn.examples))])
    theta, _ = logprob_pass(policy, micro_batches(fresh, config.max_batch_tokens), check)
    longest = max(len(example.completion_ids) for example in fresh)
    rewards = fresh_rewards(drawn.lower[:len(asked)], theta, drawn.reference, longest, own.drift_penalty)
    gains = model.fit.eta * leave_one_out_advantages(rewards, own.samples)
    figures |= {"prompts": len(train_prompts), "fresh": _described(drawn, range(len(asked))), "base": _described(base, range(len(checked))),
                "before": _described(drawn, range(len(asked), len(drawn.examples))), "reward_spread": round(float(rewards.std()), 4),
                "problems": {problem: drawn.problems[:len(asked)].count(problem) for problem in sorted(set(drawn.problems[:len(asked)])) if problem}}

    start = [parameter.detach().clone() for parameter in policy.parameters()]
    plan = plan_steps(without_personal_data(fresh, tokenizer), config.batch_size, config.max_batch_tokens)
    on_start(len(plan))
    one_pass = replace(config, learning_rate=own.learning_rate, epochs=1, min_steps=1, seed=config.seed + 3)
    history = train_steps(policy, plan, Signals(rewards.float(), torch.ones(len(fresh)), gains.float()),
                          Reference(theta, drawn.reference.hidden), theta, one_pass, on_step)
    figures |= {"steps": len(history), "last": {"kl": history[-1].kl, "masked": round(history[-1].masked, 4)}}
    end = [parameter.detach().clone() for parameter in policy.parameters()]

    figures["tried"] = []
    for strength in own.strengths:
        go(policy, start, end, strength)
        after = judged(checked, sampled(checked, config.seed + 2))
        problem = step_problem(before, after, base, own.max_surprise_rise)
        figures["tried"].append({"strength": strength, "problem": problem, **_described(after, range(len(checked)))})
        if not problem:
            part = "" if strength == 1 else f" {strength:.0%} of the way, because in full {figures['tried'][0]['problem']}"
            return Refinement(strength, f"Fresh replies were refined on{part}.", figures)
    go(policy, start, end, 0.0)
    return Refinement(0.0, f"The refinement was taken back because {figures['tried'][-1]['problem']}.", figures)


def split_prompts(prompts: Sequence[tuple[int, ...]], config: LearnerConfig) -> tuple[list, list]:
    """(refined on, kept aside), seeded; both empty when there are too few."""
    order = list(dict.fromkeys(prompts))
    random.Random(f"refine {config.seed}").shuffle(order)
    if len(order) < MIN_PROMPTS:
        return [], []
    aside = min(config.refine.check_prompts, len(order) // 4)
    return order[aside:aside + config.refine.prompts], order[:aside]


def fresh_rewards(lower: Tensor, theta: dict[int, Tensor], reference: Reference, longest: int, drift_penalty: float) -> Tensor:
    """R: (M,), from the lower bounds and both models' log-probs of the replies 0..M-1."""
    drift = torch.tensor([float((theta[place] - reference.logprobs[place]).sum()) / longest for place in range(len(lower))])
    return lower - drift_penalty * drift


def leave_one_out_advantages(rewards: Tensor, samples: int) -> Tensor:
    """Each reward minus the mean of the prompt's other ones: k / (k - 1) (R_ij - mean_j R_ij).

    Args: rewards: (prompts * samples,), a prompt's replies side by side; samples >= 2.
    """
    grouped = rewards.reshape(-1, samples)
    return ((grouped - grouped.mean(dim=1, keepdim=True)) * samples / (samples - 1)).reshape(-1)


def step_problem(before: Tensor, after: Scored, base: Scored, max_surprise_rise: float) -> str:
    """Why the step is not kept, '' when it is. All three answered the same prompts.

    Args: before: (C,) lower bounds of the replies before the step.
    """
    everything = range(len(after.examples))
    gain = float(after.lower.mean() - before.mean())
    rise = after.surprise(everything) / base.surprise(everything) - 1
    if after.share_with_problems(everything) > max(base.share_with_problems(everything), 0.1):
        return f"{after.share_with_problems(everything):.0%} of the fresh replies were empty, cut, repeated, off topic or nonsense"
    if rise > max_surprise_rise:
        return f"the base model found the fresh replies {rise:.0%} less likely per token than its own"
    if gain <= 0:
        return f"the reward model was not surely more pleased than before ({gain:+.3f})"
    return ""


def go(policy: Policy, start: Sequence[Tensor], end: Sequence[Tensor], strength: float) -> None:
    """Set the weights to start + strength (end - start), exactly `start` for 0 and `end` for 1."""
    with torch.no_grad():
        for parameter, a, b in zip(policy.parameters(), start, end, strict=True):
            parameter.copy_(torch.lerp(a, b, strength))


def _described(scored: Scored, places: range) -> dict:
    return {"lower": round(float(scored.lower[places.start:places.stop].mean()), 4), "mean": round(float(scored.mean[places.start:places.stop].mean()), 4),
            "surprise": round(scored.surprise(places), 4), "tokens": round(scored.tokens(places), 1),
            "with_problems": round(scored.share_with_problems(places), 4)}

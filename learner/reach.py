"""The first stretch of a refinement, which needs no fresh replies to learn from: a direction out of the rated replies, and how far it leads.

A few optimizer steps make those rated replies likelier that the reward model prefers, the others are left alone:

    L = -mean_i (q_i - mean q)^+ log pi(y_i) / L_max         over replies clearly above the mean

What comes of it is small, and right: it is multiplied by 3, 6, 12, ... (the B halves of the adapter, in which its effect is linear) for as
long as fresh replies to prompts kept aside are within half of the refinement's bound on how unlikely they may be and please more, then
tried half way, by ratio, to where it went wrong. Looking costs a third of what an on-policy iteration does, and a stretch goes as far as several of them.
Iterations go on from the farthest of these that clearly pleases more than the base model, or from there where none does. What was looked at and pleased more
within the whole bound is remembered, for where they come to nothing.
Sources: reward-weighted regression, arXiv:1910.00177; extrapolation of what little training did, arXiv:2404.16792.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from learner.along import attempt
from learner.anchor import Reference
from learner.batches import Example, plan_steps
from learner.personal import without_personal_data
from learner.refine_bounds import Crossed, clearly_pleased, crossed, not_less_pleased
from learner.scoring import Scored
from learner.steps import Signals, count_steps, train_steps

if TYPE_CHECKING:
    from learner.refine import Refiner

FIRST = 3.0
"""How often the small step is taken at first."""
PREFERRED = 0.5
"""Standard deviations above the mean from which a rated reply is imitated."""
PASSES = 2
"""Over those."""
MIN_STEPS = 6
"""With few of them there are more passes: two steps are all warm-up, and no multiple of them led anywhere (short answers by 64 thumbs)."""
ROOM = 0.5
"""Share of the bound on unlikely replies that may be used up where iterations follow: they need some."""
EARLY = -0.6
"""Where the steps are in this part of a refinement's time: most of it is looking, which comes after them."""


class Stop(NamedTuple):
    """A multiple of the small step that was looked at."""

    strength: float
    replies: Scored
    """To prompts kept aside."""
    weights: list[Tensor]


@dataclass(frozen=True)
class Reached:
    """Where the stretch ended; the policy is there."""

    strength: float
    """How often the small step was taken; 0: not at all."""
    best: Stop | None
    """What pleases most of all that was looked at, clearly more than the base model, and keeps to the refinement's bounds; there, or farther."""
    told: dict
    """JSON-able."""


NOWHERE = Reached(0.0, None, {})


def reach(refiner: Refiner, rated: Sequence[Example], worth: Tensor, base: Scored, look: Callable[[], Scored]) -> Reached:
    """Go as far as the rated replies lead.

    Args:
        rated, worth: replies whose prompts are not those of `base`, and what the reward model thinks of each, (N,).
        base: the base model's replies to prompts kept aside. look: the policy's, to the same ones.
    """
    imitated = preferred(worth)
    steps = _learn(refiner, rated, worth, imitated)
    full, tried = refiner.policy.lora_b(), []
    strength, near, beyond, kept, best = FIRST, None, None, 0.0, None
    while steps and len(tried) < refiner.config.refine.stretches:
        refiner.policy.set_scale(strength, full)
        after, problem, told = attempt(strength, look, lambda after: _problem(refiner, base, near and near[1], after, ROOM))
        tried.append(told)
        if after and clearly_pleased(base, after):
            kept = kept if problem else strength
            if not _problem(refiner, base, best and best.replies, after, 1.0):
                best = Stop(strength, after, refiner.policy.weights())
        if problem:
            beyond = strength
        else:
            near = strength, after
        reached = near[0] if near else 0.0
        strength = 2 * reached if beyond is None else (reached * beyond) ** 0.5 if reached else beyond / 2
    refiner.policy.set_scale(kept, full)
    return Reached(kept, best, {"steps": steps, "imitated": len(imitated), "strength": round(kept, 3), "best": best and round(best.strength, 3), "tried": tried})


def preferred(worth: Tensor) -> list[int]:
    """Which of (N,) replies are imitated."""
    gains = worth - worth.mean()
    return [place for place, gain in enumerate(gains.tolist()) if gain > PREFERRED * float(gains.std(correction=0)) and gain > 0]


def _learn(refiner: Refiner, rated: Sequence[Example], worth: Tensor, imitated: Sequence[int]) -> int:
    """Returns: how many optimizer steps were made."""
    config, gains = refiner.config, worth - worth.mean()
    examples = [replace(rated[place], index=place) for place in imitated]
    plan = plan_steps(without_personal_data(examples, refiner.tokenizer), config.batch_size)
    if not plan:
        return 0
    a_few = replace(config, learning_rate=config.refine.learning_rate, kl_coefficient=0.0, epochs=PASSES, min_steps=MIN_STEPS)
    refiner.on_start(count_steps(len(plan), a_few), (EARLY, config.refine.iterations_after + 2))
    return len(train_steps(refiner.policy, plan, Signals(worth.float(), torch.ones(len(gains)), gains.float()), Reference({}, {}), None, a_few, refiner.on_step))


def _problem(refiner: Refiner, base: Scored, nearer: Scored | None, after: Scored, room: float) -> Crossed | None:
    """Why this is too far, None if it is not. Args: room: share of the bound on unlikely replies."""
    return (crossed(base, after, base, base, room * refiner.config.refine.max_surprise_rise, refiner.bounds.knows_truncated)
            or not_less_pleased(nearer, after))

"""The stretch of a refinement, which needs no fresh replies to learn from: a direction out of the rated replies, and how far it leads.

A few optimizer steps make those rated replies likelier that the reward model prefers, the others are left alone:

    L = -mean_i c_i (q_i - mean q)^+ log pi(y_i) / L_max         over replies clearly above the mean; c_i 1, of corrected texts what their writer counts

What comes of it is small, and right: it is multiplied by 3 at first (the B halves of the adapter, in which its effect is linear), and fresh replies to
prompts kept aside tell by a curve (curve.py) how often it may be taken until the first bound of the refinement is met. So far it goes, and less where few ratings hardly say which way is right.
Sources: reward-weighted regression, arXiv:1910.00177; extrapolation of what little training did, arXiv:2404.16792.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from learner.feedback.personal import without_personal_data
from learner.model.batches import Example, plan_steps
from learner.refine.bounds import bound_of, crossed
from learner.refine.curve import explore, seen
from learner.reward.scoring import Scored
from learner.training.anchor import Reference
from learner.training.steps import Signals, count_steps, train_steps

if TYPE_CHECKING:
    from learner.refine.refine import Refiner

FIRST = 3.0
"""How often the small step is taken at first."""
PREFERRED = 0.5
"""Standard deviations above the mean from which a rated reply is imitated."""
PASSES = 2
"""Over those."""
MIN_STEPS = 6
"""With few of them there are more passes: two steps are all warm-up, and no multiple of them led anywhere (short answers by 64 thumbs)."""
GROWTH = 2.0
"""Then at most so many times the farthest."""
MANY_PROMPTS = 64
"""From so many kept aside all of the rise is allowed that the refinement allows; of fewer its part falls with the root: with 32, and half the replies to learn from, other topics
were 3 and 9 points less likely than those prompts said."""
LEARNT_AT = 0.2
"""Share of the time at which the steps end: most of it is looking, which comes after them."""


@dataclass(frozen=True)
class Reached:
    """Where the stretch ended; the policy is there."""

    strength: float
    """How often the small step was taken; 0: not at all."""
    told: dict
    """JSON-able."""


NOWHERE = Reached(0.0, {})


def reach(refiner: Refiner, rated: Sequence[Example], worth: Tensor, counts: Tensor, base: Scored, look: Callable[[], Scored], share: float = 1.0) -> Reached:
    """Go as far as the rated replies lead.

    Args:
        rated, worth, counts: the replies in training, what the reward model thinks of each, (N,), and how much each may be imitated.
        base: the base model's replies to prompts kept aside, of which none has a preferred reply. look: the policy's, to the same ones.
        share: of the way that the bounds allow, how much is gone.
    """
    imitated, knows_truncated = preferred(worth), refiner.bounds.knows_truncated
    most = refiner.config.refine.max_surprise_rise * min(1.0, len({example.prompt_ids for example in base.examples}) / MANY_PROMPTS) ** 0.5
    steps = _learn(refiner, rated, worth, counts, imitated)
    policy, full, bound = refiner.policy, refiner.policy.lora_b(), bound_of(base, most, knows_truncated)
    curve, tried = explore(seen(0.0, base, base), FIRST, refiner.config.refine.looks if steps else 0, GROWTH, bound, lambda strength: policy.set_scale(strength, full), look,
                           lambda after: crossed(base, after, most, knows_truncated))
    strength = share * curve.keeps(base, bound)
    policy.set_scale(strength, full)
    return Reached(strength, {"steps": steps, "imitated": len(imitated), "imitated_tokens": sum(rated[place].tokens for place in imitated), "share": round(share, 3),
                              "strength": round(strength, 3), "tried": tried})


def imitated_gains(worth: Tensor) -> Tensor:
    """(N,) what each reply is imitated by, 0 where it is not: how far it is above the mean of (N,) `worth`."""
    gains = worth - worth.mean()
    return torch.where((gains > PREFERRED * gains.std(correction=0)) & (gains > 0), gains, 0.0)


def preferred(worth: Tensor) -> list[int]:
    """Which of (N,) replies are imitated."""
    return imitated_gains(worth).nonzero().flatten().tolist()


def _learn(refiner: Refiner, rated: Sequence[Example], worth: Tensor, counts: Tensor, imitated: Sequence[int]) -> int:
    """Returns: how many optimizer steps were made."""
    config, gains = refiner.config, imitated_gains(worth)
    examples = [replace(rated[place], index=place) for place in imitated]
    plan = plan_steps(without_personal_data(examples, refiner.tokenizer), config.batch_size)
    if not plan:
        return 0
    a_few = replace(config, learning_rate=config.refine.learning_rate, kl_coefficient=0.0, epochs=PASSES, min_steps=MIN_STEPS)
    refiner.on_start(count_steps(len(plan), a_few), LEARNT_AT)
    return len(train_steps(refiner.policy, plan, Signals(worth.float(), counts, gains.float()), Reference({}, {}), None, a_few, refiner.on_step))

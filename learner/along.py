"""Along a way that weights have gone or could go: how far the replies there are in bounds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from data.sentences import Said, said, sentence
from learner.errors import Diverged
from learner.policy import Policy
from learner.refine_bounds import Crossed
from learner.scoring import Scored

log = logging.getLogger("learner")

TRIES, IN_THE_END, INSIDE, LEAST_PART = 2, 3, 0.9, 0.2
"""A step that is out of bounds is tried once more, and the way that is left in the end twice: so much of the part that may just be within them, not where that is
less than a fifth."""


def attempt(strength: float, look: Callable[[], Scored], problem_with: Callable[[Scored], Crossed | None]) -> tuple[Scored | None, Crossed | None, dict]:
    """Look at the policy as it is, which is at `strength` of some way: (its replies, why it is too far, both JSON-able)."""
    try:
        after = look()
        problem = problem_with(after)
    except Diverged:
        log.warning("The refinement's replies cannot be sampled at %g of a way.", strength, exc_info=True)
        after, problem = None, Crossed(said("fresh_diverged"))
    return after, problem, told_of(strength, problem and problem.said, after)


def go_as_far(policy: Policy, start: Sequence[Tensor], end: Sequence[Tensor], look: Callable[[], Scored], problem_with: Callable[[Scored], Crossed | None],
              tries: int = TRIES, part: float | None = None) -> tuple[float, Scored | None, list[dict]]:
    """Go from `start` towards `end` as far as the replies there are in bounds: (how far, these replies, what was tried); back at `start`: 0, None.

    Args: part: what is tried of a strength that is out of bounds where some part may do; None: what the bound says.
    """
    strength, tried = 1.0, []
    while strength >= LEAST_PART and len(tried) < tries:
        go(policy, start, end, strength)
        after, problem, told = attempt(strength, look, problem_with)
        tried.append(told)
        if not problem:
            return strength, after, tried
        strength *= part if part and problem.within else INSIDE * problem.within
    policy.set_weights(start)
    return 0.0, None, tried


def go(policy: Policy, start: Sequence[Tensor], end: Sequence[Tensor], strength: float) -> None:
    """Set the weights to start + strength (end - start), exactly `start` for 0 and `end` for 1."""
    with torch.no_grad():
        for parameter, a, b in zip(policy.parameters(), start, end, strict=True):
            parameter.copy_(torch.lerp(a, b, strength))


def told_of(strength: float, problem: Said | None, after: Scored | None) -> dict:
    """A strength that was tried, JSON-able."""
    return {"strength": round(strength, 3), "problem": sentence(problem) if problem else "", "said": problem, **(described(after) if after else {})}


def described(scored: Scored) -> dict:
    text = {} if scored.text_nll is None else {"text_nll": round(scored.text_nll, 4)}
    return {"lower": round(float(scored.lower.mean()), 4), "mean": round(float(scored.mean.mean()), 4), "surprise": round(scored.surprise(), 4),
            "tokens": round(scored.tokens(), 1), "broken": round(scored.broken(), 4), "truncated": round(scored.truncated(), 4), "sameness": round(scored.sameness(), 4), **text,
            "problems": {problem: scored.problems.count(problem) for problem in sorted(set(scored.problems)) if problem}}

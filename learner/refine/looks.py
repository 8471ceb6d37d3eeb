"""A look: what the policy answers at some strength of the small step, and what is written down of it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from data.sentences import Said, said, sentence
from learner.errors import Diverged
from learner.reward.scoring import Scored

log = logging.getLogger("learner")


def attempt(strength: float, base: Scored, look: Callable[[], Scored], problem_with: Callable[[Scored], Said | None]) -> tuple[Scored | None, dict]:
    """Look at the policy as it is, which is at `strength`: its replies, None where it cannot be sampled, and what is told of it beside the base model's, JSON-able."""
    try:
        after = look()
        problem = problem_with(after)
    except Diverged:
        log.warning("The policy cannot be sampled at %g times the small step.", strength, exc_info=True)
        after, problem = None, said("fresh_diverged")
    return after, {"strength": round(strength, 3), "problem": sentence(problem) if problem else "", "said": problem, **({**described(after), "sameness": round(after.sameness(base), 4)} if after else {})}


def described(scored: Scored) -> dict:
    text = {} if scored.text_nll is None else {"text_nll": round(scored.text_nll, 4)}
    return {"lower": round(float(scored.lower.mean()), 4), "mean": round(float(scored.mean.mean()), 4), "surprise": round(scored.surprise(), 4),
            "tokens": round(scored.tokens(), 1), "broken": round(scored.broken(), 4), "truncated": round(scored.truncated(), 4), **text,
            "problems": {problem: scored.problems.count(problem) for problem in sorted(set(scored.problems)) if problem}}

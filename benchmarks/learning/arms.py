"""The arms side by side, and the learning rates each is swept over."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.learning.task import Arm

RATES: dict[str, tuple[float | None, ...]] = {
    "base": (None,),
    "sft": (1e-4, 5e-4, 1.5e-3),
    "reinforce": (1e-4, 5e-4, 1.5e-3),
    "trl-kto": (1e-4, 5e-4, 1.5e-3),
    "trl-rloo": (1e-4, 3e-4, 1e-3),
    "best-of-4": (None,),
    "ours": (2.5e-4, 5e-4, 1e-3),
    "ours-refined": (2.5e-4, 5e-4, 7.5e-4, 1e-3),
}
"""Arms in the order they are shown, each with its sweep; None where there is nothing to choose."""
NEEDS_TRL = ("trl-kto", "trl-rloo")
RUNS_THE_LEARNER = tuple(name for name in RATES if name != "base")
"""Measured anew when the learner's code changes: the peers take the policy, its batches or the reward model from there."""


def available() -> list[str]:
    """Arms whose libraries are installed. Imports nothing heavy."""
    missing = NEEDS_TRL if find_spec("trl") is None else ()
    return [name for name in RATES if name not in missing]


def load(name: str) -> Arm:
    """The arm called `name`; only now are its libraries imported.

    Raises: ValueError: there is no such arm.
    """
    if name == "base":
        from benchmarks.learning.arms_logged import no_training
        return no_training
    if name == "sft":
        from benchmarks.learning.arms_logged import positives_only
        return positives_only
    if name == "reinforce":
        from benchmarks.learning.arms_logged import reinforce
        return reinforce
    if name == "trl-kto":
        from benchmarks.learning.arms_trl import kto
        return kto
    if name == "trl-rloo":
        from benchmarks.learning.arms_reward import rloo_on_our_reward_model
        return rloo_on_our_reward_model
    if name == "best-of-4":
        from benchmarks.learning.arms_reward import best_of_four
        return best_of_four
    if name == "ours":
        from benchmarks.learning.arms_ours import ours
        return ours
    if name == "ours-refined":
        from benchmarks.learning.arms_ours import ours_refined
        return ours_refined
    raise ValueError(f"there is no arm {name!r}; the arms are {', '.join(RATES)}")

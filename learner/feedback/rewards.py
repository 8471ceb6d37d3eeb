"""All that people said to rewards: one number in [-1, 1] and a confidence per reply.

    1. opinions      ratings, tags and corrections of one rater on one reply are one opinion        opinions.py
                     its information is multiplied with the trust in its rater                      reliability.py
    2. habits        each rater's level and spread are taken out, and their share is capped         rater_habits.py
    3. fusion        the raters of a reply: precision-weighted mean; with I the information in all,
                     weight = sum of capped information / (1 + I): reliability = 1 - posterior / prior variance, unit noise
    4. comparisons   move two rewards apart or together around that                                 comparisons.py

Steps 2 and 4 look at one task (records.Task) at a time, as if there were no other: people rate a translation on another
level than a story. Only the cap on one rater's share is of everything they said.

A reply that was only compared starts from the mean of the others' rewards in its task, shrunk towards neutral and never below it:
beside many disliked replies the preferred one would otherwise be pushed down with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from data.records import Comparison, RatedReply, Task
from learner.feedback.comparisons import PREFERENCE_INFORMATION, TIE_INFORMATION, TIE_WEIGHT, Difference, Known, settle
from learner.feedback.opinions import CORRECTED, Opinion, reply_opinions
from learner.feedback.rater_habits import Habit, capped_shares, rater_habits

NEUTRAL_REPLIES = 4.0
"""How many imaginary neutral replies the start of a reply without opinions is shrunk with, as the baseline is (estimator.py)."""


class Voice(NamedTuple):
    """What one rater's part of a reward is made of."""

    rater_id: str | None
    """None where nobody's level has a part in it: the reply was only compared, or somebody wrote it."""
    task: Task
    value: float
    """In [-1, 1], as said, and moved as far as comparisons moved the reward."""
    levelled: float
    """The same with the rater's habits taken out."""
    weight: float
    """In [0, 1]; a reply's voices' weights sum to the reward's."""


@dataclass(frozen=True)
class Reward:
    """One training signal, with the steps that led to it."""

    reply_id: str
    reward: float
    """In [-1, 1]."""
    weight: float
    """Confidence in [0, 1]; 0 when nothing that was said has a direction."""
    rating_ids: tuple[int, ...]
    explanation: dict
    """JSON-able: each rater's raw value, level, gain, reward and share of the weight, and each comparison."""
    feedback_ids: dict[str, list[int]] = field(default_factory=dict)
    """The other events that it is made of, by kind: `reasons`, `corrections`, `comparisons`; empty kinds are left out."""
    voices: tuple[Voice, ...] = ()
    """What reward models learn from: each rater by themselves, where the reward is what they say together."""


@dataclass(frozen=True)
class _Fused:
    """The raters of one reply, before comparisons."""

    reward: float
    information: float
    """Capped."""
    steps: list[dict]
    voices: list[Voice]
    """Weights are capped information."""


def rewards(replies: Sequence[RatedReply], trust: Mapping[str, float] = MappingProxyType({})) -> list[Reward]:
    """One reward per reply, in the replies' order. Pure; equal input gives equal output.

    Args: trust: by rater id, in [0, 1]; who is not in it is trusted, and what a rater of trust 0 said is as if unsaid.
    """
    opinions = [[replace(opinion, information=opinion.information * trust.get(opinion.rater_id, 1.0)) for opinion in reply_opinions(rated)
                 if trust.get(opinion.rater_id, 1.0) > 0] for rated in replies]
    tasks = [rated.reply.task for rated in replies]
    habits = {task: rater_habits([opinion for of_reply, its in zip(opinions, tasks, strict=True) if its == task for opinion in of_reply])
              for task in dict.fromkeys(tasks)}
    here = {rated.reply.id for rated in replies}
    compared = [tuple(c for c in rated.comparisons if {c.first_id, c.second_id} <= here and trust.get(c.rater_id, 1.0) > 0) for rated in replies]
    information = [_information(*of_reply, habits[task], trust) for *of_reply, task in zip(opinions, compared, tasks, strict=True)]
    shares = capped_shares(information)
    fused = [_fuse(of_reply, task, habits[task], shares, trust) for of_reply, task in zip(opinions, tasks, strict=True)]
    settled = _settle(replies, fused, compared, {rater: share * trust.get(rater, 1.0) for rater, share in shares.items()})
    return [_reward(rated, one_value, *of_reply, shares)
            for rated, one_value, *of_reply in zip(replies, settled, opinions, compared, fused, information, strict=True)]


def _information(opinions: Sequence[Opinion], comparisons: Sequence[Comparison], habits: Mapping[str, Habit],
                 trust: Mapping[str, float]) -> dict[str, float]:
    """By rater, what they said of one reply, opinions and comparisons together."""
    found = {opinion.rater_id: opinion.information * habits[opinion.rater_id].telling for opinion in opinions}
    for comparison in comparisons:
        more = TIE_INFORMATION if comparison.preferred == "same" else PREFERENCE_INFORMATION
        found[comparison.rater_id] = found.get(comparison.rater_id, 0.0) + more * trust.get(comparison.rater_id, 1.0)
    return found


def _fuse(opinions: Sequence[Opinion], task: Task, habits: Mapping[str, Habit], shares: Mapping[str, float], trust: Mapping[str, float]) -> _Fused | None:
    """None when nobody has an opinion of the reply."""
    steps, voices = [], []
    for opinion in opinions:
        habit, cap = habits[opinion.rater_id], shares[opinion.rater_id]
        voices.append(Voice(opinion.rater_id, task, opinion.value, habit.reward(opinion.value), opinion.information * habit.telling * cap))
        steps.append({"rater": opinion.rater_id, "value": round(opinion.value, 4), "rater_ratings": round(habit.ratings, 4),
                      "rater_mean": round(habit.mean, 4), "rater_level": round(habit.level, 4), "gain": round(habit.gain, 4),
                      "tells_apart": round(habit.telling, 4), "trust": round(trust.get(opinion.rater_id, 1.0), 4), "cap": round(cap, 4), "reward": round(voices[-1].levelled, 4)})
    total = math.fsum(voice.weight for voice in voices)
    return _Fused(math.fsum(voice.levelled * voice.weight for voice in voices) / total, total, steps, voices) if total else None


def _settle(replies: Sequence[RatedReply], fused: Sequence[_Fused | None], compared: Sequence[Sequence[Comparison]],
            shares: Mapping[str, float]) -> list[float]:
    """Each reply's reward after all comparisons, in [-1, 1]."""
    start = {task: _start(task, replies, fused) for task in {rated.reply.task for rated in replies}}
    known = {rated.reply.id: Known(one.reward, 1 + one.information) if one else Known(start[rated.reply.task], 1.0)
             for rated, one in zip(replies, fused, strict=True) if rated.reply.engine != CORRECTED}
    every = {comparison.id: comparison for of_reply in compared for comparison in of_reply}
    settled = settle(known, [Difference(c.first_id, c.second_id, {"first": 1.0, "same": 0.5, "second": 0.0}[c.preferred],
                                        shares[c.rater_id] * (TIE_WEIGHT if c.preferred == "same" else 1.0))
                             for _, c in sorted(every.items())])
    return [(one.reward if one else 0.0) if rated.reply.engine == CORRECTED else min(1.0, max(-1.0, settled[rated.reply.id]))
            for rated, one in zip(replies, fused, strict=True)]


def _start(task: Task, replies: Sequence[RatedReply], fused: Sequence[_Fused | None]) -> float:
    """What is expected of a reply that nobody has an opinion of."""
    known = [one.reward for rated, one in zip(replies, fused, strict=True)
             if one and rated.reply.task == task and rated.reply.engine != CORRECTED]
    return max(0.0, math.fsum(known) / (len(known) + NEUTRAL_REPLIES))


def _reward(rated: RatedReply, value: float, opinions: Sequence[Opinion], comparisons: Sequence[Comparison], fused: _Fused | None,
            information: Mapping[str, float], shares: Mapping[str, float]) -> Reward:
    weight = math.fsum(info * shares[rater] for rater, info in information.items()) / (1 + math.fsum(information.values()))
    explanation = {"raters": fused.steps if fused else [], "reward": round(value, 4), "weight": round(weight, 4)}
    if comparisons:
        explanation |= {"without_comparisons": round(fused.reward, 4) if fused else None, "comparisons": [
            {"rater": c.rater_id, "other": c.second_id if c.first_id == rated.reply.id else c.first_id, "cap": round(shares[c.rater_id], 4),
             "preferred": {c.first_id: "first", c.second_id: "second"}[rated.reply.id] == c.preferred if c.preferred != "same" else "same"}
            for c in comparisons]}
    used = {"reasons": sorted(i for o in opinions for i in o.reason_ids), "corrections": sorted(i for o in opinions for i in o.correction_ids),
            "comparisons": sorted(c.id for c in comparisons)}
    return Reward(rated.reply.id, value, weight, tuple(sorted(i for o in opinions for i in o.rating_ids)), explanation,
                  {kind: ids for kind, ids in used.items() if ids}, _voices(rated, value, weight, fused))


def _voices(rated: RatedReply, value: float, weight: float, fused: _Fused | None) -> tuple[Voice, ...]:
    """Args: value, weight: the reply's reward after comparisons."""
    if not fused or rated.reply.engine == CORRECTED:
        return (Voice(None, rated.reply.task, value, value, weight),)
    moved, share = value - fused.reward, weight / fused.information

    def at(place: float) -> float:
        return min(1.0, max(-1.0, place + moved))

    return tuple(voice._replace(value=at(voice.value), levelled=at(voice.levelled), weight=voice.weight * share) for voice in fused.voices)

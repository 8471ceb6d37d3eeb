"""What the models of the ratings learn from: every rater's part of every reward, on that rater's own level where it is told."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from learner.feedback.rewards import Reward
from learner.reward.reliability import People
from learner.reward.reward_model import RewardModel, fit_reward_model


class Voices(NamedTuple):
    """V parts of N rewards."""

    rows: list[int]
    """Of which reward, 0..N-1."""
    values: Tensor
    """(V,) in [-1, 1]."""
    weights: Tensor
    """(V,) with mean 1."""
    levels: Tensor
    """(V,) logits; 0 for whom it is not told: their habits are taken out of the values."""


def voices_of(found: Sequence[Reward], people: People) -> Voices:
    levels = people.levels
    said = [(row, voice, levels.get((voice.rater_id, voice.task))) for row, reward in enumerate(found) for voice in reward.voices]
    weights = torch.tensor([voice.weight for _, voice, _ in said])
    return Voices([row for row, _, _ in said], torch.tensor([voice.levelled if level is None else voice.value for _, voice, level in said]),
                  weights / weights.mean(), torch.tensor([level or 0.0 for _, _, level in said]))


def fit_on_voices(found: Sequence[Reward], people: People, summaries: Tensor, style: Tensor, groups: Sequence[Hashable], seed: int,
                  names: Sequence[str] = ()) -> RewardModel:
    """`fit_reward_model` on everybody's part of N rewards. Args: summaries (N, 2 H), style (N, C), groups (N): of what was rewarded."""
    voices = voices_of(found, people)
    return fit_reward_model(summaries[voices.rows], style[voices.rows], voices.values, voices.weights, [groups[row] for row in voices.rows], seed, names,
                            levels=voices.levels, least_nothing=people.nothing)

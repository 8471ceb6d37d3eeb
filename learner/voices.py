"""What the models of the ratings learn from: every rater's part of every reward, on that rater's own level where it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from learner.reliability import People
from learner.rewards import Reward


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

"""Policies of the tiny base model that say something else than it does."""

from __future__ import annotations

import torch

from data.records import BaseModel
from learner.model.policy import Policy


def policy_that_learnt_something(base: BaseModel) -> Policy:
    """In single precision on the CPU, every LoRA weight drawn at random: the same ones each time."""
    policy = Policy(base, dtype=torch.float32, device="cpu")
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_(std=0.1)
    return policy

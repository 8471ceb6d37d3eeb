"""Refinements by a tiny model, and what they did to its weights."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from data.adapters import AdapterRegistry
from learner.config import LearnerConfig, RefineConfig
from learner.refine import Refiner
from tests.conversations import RATER, add_reply, open_store

CONFIG = LearnerConfig(lora_rank=4, refine=RefineConfig(enabled=True, stretches=0, iterations=4, prompts=8, samples=2, check_prompts=4, check_replies=8, max_new_tokens=24, least_gain=0.0))
END = 2


def store_of(folder, base, count: int, likes):
    store, dice = open_store(folder), random.Random(0)
    for number in range(count):
        ids = [dice.randrange(3, 200) for _ in range(dice.randrange(4, 24))] + [END]
        store.add_rating(add_reply(store, base, f"question {number}", ids).id, RATER, "thumb", likes(ids, dice))
    return store, AdapterRegistry(store, folder / "adapters")


@pytest.fixture
def everything_pleases(monkeypatch):
    """A model of 64 dimensions hardly learns a taste from 16 replies; what is looked at here is what a run does when it did."""
    for module in ("refine", "settle"):
        monkeypatch.setattr(f"learner.{module}.crossed", lambda *_: None)
    monkeypatch.setattr("learner.settle.not_clearly_pleased", lambda *_: None)


@pytest.fixture
def weights_of(monkeypatch):
    """The adapter's weights: `start`, after each pass of gradient (`passes`), and when the refinement was over (`end`)."""
    found = SimpleNamespace(start=None, passes=[], end=None)
    push, refine = Refiner._push, Refiner.refine

    def listening_push(self, *rest):
        told = push(self, *rest)
        found.passes.append(self.policy.weights())
        return told

    def listening_refine(self, *rest):
        found.start, found.passes = self.policy.weights(), []
        told = refine(self, *rest)
        found.end = self.policy.weights()
        return told

    monkeypatch.setattr("learner.refine.Refiner._push", listening_push)
    monkeypatch.setattr("learner.refine.Refiner.refine", listening_refine)
    return found


def on_the_way(start, end, strength: float):
    return [torch.lerp(a, b, strength) for a, b in zip(start, end, strict=True)]


def same(some, others) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))

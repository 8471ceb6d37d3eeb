"""Candidates whose worth is known because of how they were made: good ones, and ones spoiled on purpose."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

from benchmarks.learning.arms_logged import train_on
from benchmarks.learning.task import Task
from data.base_models.tokenizer import ChatTokenizer
from data.importing import end_token
from learner.model.batches import Example

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Candidate:
    name: str
    kind: Literal["good", "spoiled"]
    make: Callable[[Task], Path]
    """Trains or writes an adapter into the task's folder and returns it."""


def candidates() -> list[Candidate]:
    """Each is made afresh from the task's ratings and seed."""
    return [
        Candidate("liked replies, gently", "good", lambda task: imitate(task, _liked(task), 3e-4)),
        Candidate("liked replies", "good", lambda task: imitate(task, _liked(task), 6e-4)),
        Candidate("liked replies at half strength", "good", lambda task: scaled(task, imitate(task, _liked(task), 6e-4), 0.5)),
        Candidate("scaled six times", "spoiled", lambda task: scaled(task, imitate(task, _liked(task), 6e-4), 6.0)),
        Candidate("scaled to the wrong sign", "spoiled", lambda task: scaled(task, imitate(task, _liked(task), 6e-4), -3.0)),
        Candidate("random signs", "spoiled", lambda task: random_signs(task, 2e-3)),
        Candidate("noise", "spoiled", lambda task: noise(task, 0.02)),
        Candidate("empty replies", "spoiled", lambda task: imitate(task, cut(task, 0), 1e-3)),
        Candidate("replies of three tokens", "spoiled", lambda task: imitate(task, cut(task, 3), 1e-3)),
        Candidate("repeated text", "spoiled", lambda task: imitate(task, [repeated(example) for example in task.examples()], 1e-3)),
        Candidate("answers to other questions", "spoiled", lambda task: imitate(task, off_topic(task), 1e-3)),
        Candidate("shuffled words", "spoiled", lambda task: imitate(task, [shuffled_tokens(example, task.seed) for example in task.examples()], 1e-3)),
        Candidate("disliked replies", "spoiled", lambda task: imitate(task, _disliked(task), 6e-4)),
    ]


def imitate(task: Task, examples: Sequence[Example], rate: float) -> Path:
    """Supervised fine-tuning on `examples`, whatever they say."""
    examples = [replace(example, index=place) for place, example in enumerate(examples)]
    weights = {example.index: 1.0 / len(example.completion_ids) for example in examples}
    return train_on(replace(task, rate=rate), examples, weights).adapter


def random_signs(task: Task, rate: float) -> Path:
    """REINFORCE on rewards of +1 and -1 by the toss of a coin."""
    rng = random.Random(task.seed)
    examples = task.examples()
    longest = max(len(example.completion_ids) for example in examples)
    return train_on(replace(task, rate=rate), examples, {example.index: rng.choice((-1.0, 1.0)) / longest for example in examples}).adapter


def scaled(task: Task, adapter: Path, factor: float) -> Path:
    """The adapter's effect times `factor`."""
    weights = load_file(adapter / WEIGHTS)
    save_file({name: tensor * factor if "lora_B" in name else tensor for name, tensor in weights.items()}, adapter / WEIGHTS)
    return adapter


def noise(task: Task, spread: float) -> Path:
    """Normal numbers of standard deviation `spread` in every B matrix of an adapter that learnt nothing."""
    adapter = imitate(task, task.examples()[:1], 0.0)
    weights, generator = load_file(adapter / WEIGHTS), torch.Generator().manual_seed(task.seed)
    save_file({name: torch.randn(tensor.shape, generator=generator) * spread if "lora_B" in name else tensor
               for name, tensor in weights.items()}, adapter / WEIGHTS)
    return adapter


def cut(task: Task, tokens: int) -> list[Example]:
    """Every reply's first tokens and then end-of-text."""
    end = end_token(ChatTokenizer(task.base.folder))
    return [replace(example, completion_ids=example.completion_ids[:tokens] + end) for example in task.examples()]


def repeated(example: Example, tokens: int = 6, times: int = 12) -> Example:
    return replace(example, completion_ids=example.completion_ids[:tokens] * times)


def shuffled_tokens(example: Example, seed: int) -> Example:
    ids = list(example.completion_ids)
    random.Random(seed * 7919 + example.index).shuffle(ids)
    return replace(example, completion_ids=tuple(ids))


def off_topic(task: Task) -> list[Example]:
    """Each prompt with the reply to another one, far away in the list."""
    examples = task.examples()
    half = len(examples) // 2
    return [replace(example, completion_ids=examples[(place + half) % len(examples)].completion_ids) for place, example in enumerate(examples)]


def _liked(task: Task) -> list[Example]:
    return [example for example, rated in zip(task.examples(), task.rated, strict=True) if rated.signal > 0]


def _disliked(task: Task) -> list[Example]:
    return [example for example, rated in zip(task.examples(), task.rated, strict=True) if rated.signal < 0]

"""The fixed prompts, split by topic: what is rated and what is evaluated have no topic in common."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Split = Literal["train", "held-out"]


@dataclass(frozen=True)
class Prompt:
    topic: str
    split: Split
    text: str


def read_prompts() -> list[Prompt]:
    """In the order of prompts.txt, where a line `# topic split` opens a topic."""
    prompts, topic, split = [], "", "train"
    for line in files("benchmarks.learning").joinpath("prompts.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            topic, split = line.removeprefix("# ").split()
        elif line.strip():
            prompts.append(Prompt(topic, split, line.strip()))
    return prompts


def split_prompts(split: Split, limit: int | None = None) -> list[Prompt]:
    """One split in an order that mixes its topics, the same everywhere; at most `limit` of them."""
    chosen = [prompt for prompt in read_prompts() if prompt.split == split]
    random.Random(0).shuffle(chosen)
    return chosen[:limit]

"""The base model's replies to the training prompts: sampled once, rated by every taste, shared by every arm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.learning.prompts import split_prompts
from benchmarks.learning.serving import Sampled, sample_replies
from data.records import BaseModel, Sampling


class ReplyPool:
    """Rounds of one reply per training prompt, one JSON line each in `folder`; a round that is there is never sampled again."""

    def __init__(self, folder: Path, base: BaseModel, sampling: Sampling, cache_dir: Path) -> None:
        self.base, self.sampling, self.cache_dir = base, sampling, cache_dir
        self.file = folder / f"pool-{base.id}-{sampling.max_new_tokens}-{sampling.temperature:g}.jsonl"
        self.prompts = [prompt.text for prompt in split_prompts("train")]

    def first(self, count: int) -> list[Sampled]:
        """The first `count` replies, sampled by now; rounds differ in their seed, prompts within a round in their order alone.

        Raises: ValueError: the pool has fewer; `fill` it first.
        """
        replies = self._read()
        if len(replies) < count:
            raise ValueError(f"the pool holds {len(replies)} replies, {count} are wanted")
        return replies[:count]

    def fill(self, count: int) -> None:
        """Sample whole rounds until there are `count` replies with at least one token."""
        done = self._rounds()
        while len(self._read()) < count:
            round_of = sample_replies(self.base, None, self.prompts, replace(self.sampling, seed=1000 + done), self.cache_dir)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([reply.as_dict() for reply in round_of]) + "\n")
            done += 1

    def _rounds(self) -> int:
        return len(self.file.read_text(encoding="utf-8").splitlines()) if self.file.exists() else 0

    def _read(self) -> list[Sampled]:
        if not self.file.exists():
            return []
        rows = [row for line in self.file.read_text(encoding="utf-8").splitlines() for row in json.loads(line)]
        return [reply for reply in map(Sampled.from_dict, rows) if reply.completion_ids]

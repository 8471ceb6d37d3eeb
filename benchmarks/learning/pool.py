"""The base model's replies to the training prompts: sampled once, rated by every taste, shared by every arm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.learning.prompts import split_prompts
from benchmarks.learning.serving import Sampled, sample_replies
from benchmarks.lines import add_line, read_lines
from data.records import BaseModel, Sampling


class ReplyPool:
    """Rounds of one reply per training prompt, one JSON line each in `folder`; a whole round that is there is never sampled again, and one that a kill cut short is."""

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
        while len(self._read()) < count:
            sampling = replace(self.sampling, seed=1000 + len(self._rounds()))
            round_of = sample_replies(self.base, None, self.prompts, sampling, self.cache_dir)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            add_line(self.file, [reply.as_dict() for reply in round_of])

    def _rounds(self) -> list[list[dict]]:
        return list(read_lines(self.file))

    def _read(self) -> list[Sampled]:
        return [reply for round_of in self._rounds() for reply in map(Sampled.from_dict, round_of) if reply.completion_ids]

"""What is measured of whom, in the order in which it is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

FORMAT = 1
"""Part of every key; raised when earlier results can no longer stand beside new ones."""


@dataclass(frozen=True)
class Job:
    """One measurement of one engine."""

    engine: str
    work: str
    """`streams`, `conversation`, `reading`, `swap`, `learner` or `app`."""
    streams: int = 1
    """Replies at once."""
    tokens: int = 64
    """In each reply."""
    repeat: int = 0
    model: str = ""
    code: str = ""
    """Digest of the product's engines for measurements of ours, so that a changed engine is measured anew."""

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        return f"{self.engine}: {self.work}" + f" x{self.streams}" * (self.streams > 1) + f", repeat {self.repeat + 1}"

    @classmethod
    def from_dict(cls, row: dict) -> Job:
        return cls(**{field.name: row[field.name] for field in fields(cls)})


OURS = "ours"
ALL_STREAMS = (1, 2, 4, 8, 16, 32)
BESIDE = 4
"""Replies that run while a version is swapped or the learner trains."""
LONG = {"swap": 1500, "learner": 240}
"""Tokens of those replies: a version is merged and built in about ten seconds, and a reply must outlast that."""


def plan(engines: Sequence[str], *, streams: Sequence[int], tokens: int, repeats: int, model: str, code: str) -> list[Job]:
    """Engines take turns within a measurement, and measurements within a repeat: a disturbance of the machine hits all alike."""
    jobs = []
    for repeat in range(repeats):
        for work, count in [*(("streams", count) for count in streams), ("conversation", 1), ("reading", 1)]:
            jobs += [Job(engine, work, count, tokens, repeat, model, code if engine == OURS else "") for engine in engines]
        jobs += [Job(OURS, work, BESIDE, count, repeat, model, code) for work, count in LONG.items()]
        jobs.append(Job(OURS, "app", 1, tokens, repeat, model, code))
    return jobs

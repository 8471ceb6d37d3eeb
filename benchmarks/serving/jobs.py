"""What is measured of whom, in the order in which it is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

FORMAT = 2
"""Part of every key; raised when earlier results can no longer stand beside new ones."""


@dataclass(frozen=True)
class Job:
    """One measurement of one engine."""

    engine: str
    work: str
    """`streams`, `conversation`, `reading`, `swap`, `learner`, `app` or `crowd`."""
    streams: int = 1
    """Replies at once."""
    tokens: int = 64
    """In each reply."""
    repeat: int = 0
    model: str = ""
    code: str = ""
    """Digest of what is measured and of what measures it, so that both are measured anew when they change."""

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


def plan(engines: Sequence[str], *, streams: Sequence[int], tokens: int, repeats: int, model: str, code: Callable[[str, str], str]) -> list[Job]:
    """Engines take turns within a measurement, and measurements within a repeat: a disturbance of the machine hits all alike.

    Args: code: the digest for an engine and a work.
    """
    jobs = []
    for repeat in range(repeats):
        for work, count in [*(("streams", count) for count in streams), ("conversation", 1), ("reading", 1)]:
            jobs += [Job(engine, work, count, tokens, repeat, model, code(engine, work)) for engine in engines]
        jobs += [Job(OURS, work, BESIDE, count, repeat, model, code(OURS, work)) for work, count in LONG.items()]
        jobs.append(Job(OURS, "app", 1, tokens, repeat, model, code(OURS, "app")))
    jobs.append(Job(OURS, "crowd", model=model, code=code(OURS, "crowd")))       # repeats itself
    return jobs

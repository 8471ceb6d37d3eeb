"""What every arm is given: the same replies with the same ratings, and one learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.learning.cells import Cell
from benchmarks.learning.raters import Crowd, GivenRating, rate, replies_needed, varied
from benchmarks.learning.serving import Sampled
from benchmarks.learning.tastes import TASTES
from data.records import BaseModel, Generated, Sampling
from data.store import Store
from learner.model.batches import Example


@dataclass(frozen=True)
class Rated:
    """A reply of the base model and what one simulated person said of it."""

    sampled: Sampled
    rating: GivenRating

    @property
    def signal(self) -> float:
        """In [-1, 1], as said: a thumb, or stars around three."""
        value = self.rating.value
        return float(value) if self.rating.kind == "thumb" else (value - 3) / 2


@dataclass(frozen=True)
class Task:
    base: BaseModel
    rated: tuple[Rated, ...]
    rate: float | None
    seed: int
    sampling: Sampling
    folder: Path
    """The arm's own, empty."""
    cache_dir: Path
    """Where merged files for serving may lie; shared."""

    def examples(self) -> list[Example]:
        return [Example(place, rated.sampled.prompt_ids, rated.sampled.completion_ids, self.sampling.temperature)
                for place, rated in enumerate(self.rated)]


@dataclass(frozen=True)
class Trained:
    """What an arm made of its task."""

    adapter: Path | None
    """A peft folder; None: the base model stays."""
    tokens: int
    """Tokens of the training examples it took gradients on, prompt and completion, each visit counted."""
    report: dict = field(default_factory=dict)
    """JSON-able; shown, never compared."""
    tries: int = 1
    """How many replies it samples per prompt when it is used."""
    choose: Callable[[Sequence[Sampled]], int] | None = None
    """Which of them it gives."""


Arm = Callable[[Task], Trained]


def crowd_of(cell: Cell) -> Crowd:
    return varied(cell.flip, cell.hostile) if cell.crowd == "varied" else Crowd(flip=cell.flip, hostile=cell.hostile)


def pool_size(cell: Cell) -> int:
    """Replies of the pool that the cell's ratings take."""
    return replies_needed(crowd_of(cell), cell.n)


def rate_replies(cell: Cell, replies: Sequence[Sampled]) -> tuple[Rated, ...]:
    """The cell's ratings: a function of its `ratings` alone, so every arm gets the same ones."""
    taste = TASTES[cell.taste]
    gold = [taste(reply.prompt, reply.text, reply.tokens, reply.ended) for reply in replies]
    given = rate(gold, [reply.text for reply in replies], crowd_of(cell), cell.n, cell.seed)
    return tuple(Rated(replies[rating.reply], rating) for rating in given)


def record(store: Store, base: BaseModel, rated: Sequence[Rated], sampling: Sampling) -> dict[str, str]:
    """Write the rated replies as chats of the simulated people, through the store's own verbs. Returns conduct by rater id."""
    with store.write():
        for one in rated:
            rater, sampled = one.rating.rater, one.sampled
            store.ensure_rater(rater.id, "anonymous", rater.id)
            turn = store.add_turn(store.new_conversation(rater.id).id, sampled.prompt)
            reply = store.start_reply(turn.id, 0, None, base.id, "openvino", sampling, sampled.prompt_ids)
            store.finish_reply(reply.id, sampled.text, Generated(sampled.completion_ids, sampled.logprobs, 1.0,
                                                                 "stop" if sampled.ended else "length"), None, 0.0)
            store.add_rating(reply.id, rater.id, one.rating.kind, one.rating.value)
    return {one.rating.rater.id: one.rating.rater.conduct for one in rated}

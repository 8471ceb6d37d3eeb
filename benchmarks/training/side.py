"""One trainer in a process of its own that makes one optimizer step each time its parent says so."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.learning.cells import Cell
from benchmarks.learning.pool import ReplyPool
from benchmarks.learning.task import Rated, pool_size, rate_replies
from benchmarks.learning.work import sampling_of
from benchmarks.machine import peak_mb
from data.base_models import load_base_model
from data.records import BaseModel
from learner.config import LearnerConfig
from learner.model.batches import Example, plan_steps, shuffled
from learner.model.memory import times
from learner.model.policy import Policy
from learner.training.anchor import reference_pass
from learner.training.steps import Signals, train_steps

SEED = 0


class Enough(Exception):
    """The parent wants no more steps."""


class Turns:
    """A step runs from `wait` to `done`; in between the other side's process sleeps."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens, self._count, self._start = tokens, 0, 0.0

    def wait(self) -> None:
        """Say that the next step can begin, and wait for its turn. Raises: Enough."""
        tell(ready=True)
        if sys.stdin.readline().strip() != "go":
            raise Enough
        self._start = time.monotonic()

    def done(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        tell(seconds=time.monotonic() - self._start, tokens=self._tokens[self._count], peak_mb=peak_mb())
        self._count += 1


def tell(**values: object) -> None:
    """One line for the parent."""
    print(json.dumps(values), file=sys.__stdout__, flush=True)


def rated_steps(cell: Cell, base: BaseModel, folder: Path, batch_size: int) -> tuple[list[Rated], list[list[Example]]]:
    """The cell's rated replies and the learner's own steps over them."""
    rated = rate_replies(cell, ReplyPool(folder, base, sampling_of(cell), folder / "serving").first(pool_size(cell)))
    examples = [Example(place, one.sampled.prompt_ids, one.sampled.completion_ids, cell.temperature) for place, one in enumerate(rated)]
    return list(rated), plan_steps(examples, batch_size)


def sequence(plan: list[list[Example]], count: int) -> list[list[Example]]:
    """The first `count` batches in the order in which the learner visits them."""
    epochs = -(-count // len(plan))
    return [step for epoch in range(epochs) for step in shuffled(plan, SEED + epoch)][:count]


def ours(policy: Policy, rated: list[Rated], plan: list[list[Example]], turns: Turns, batch_size: int) -> None:
    """The learner's step: anchored policy gradient, with the base model's view computed once before; that pass is told apart."""
    start = time.monotonic()
    config = LearnerConfig(epochs=1000, batch_size=batch_size, seed=SEED, max_batch_tokens=LearnerConfig.max_batch_tokens * times(policy))
    examples = [example for step in plan for example in step]
    reference = reference_pass(policy, policy.micro_batches(examples, config.max_batch_tokens), frozenset(range(len(rated))), lambda: None)
    tokens = sum(example.tokens for example in examples)
    tell(reference_seconds=time.monotonic() - start, reference_tokens=tokens)
    values = torch.tensor([one.signal for one in rated])
    signals = Signals(values, torch.ones_like(values), values - values.mean())

    def on_step(_) -> None:
        turns.done()
        turns.wait()

    turns.wait()
    train_steps(policy, plan, signals, reference, reference.logprobs, config, on_step)


def trl_kto(base: BaseModel, rated: list[Rated], visited: list[list[Example]], turns: Turns, batch_size: int, folder: Path) -> None:
    from transformers import TrainerCallback

    from benchmarks.learning import arms_trl

    class InTurn(TrainerCallback):
        def on_step_begin(self, *_, **__):
            turns.wait()

        def on_step_end(self, *_, **__):
            turns.done()

    in_order = [rated[example.index] for batch in visited for example in batch]
    trainer = arms_trl.kto_trainer(base, in_order, 5e-4, SEED, str(folder / "trl"), epochs=1, batch_size=batch_size)
    trainer.add_callback(InTurn())
    trainer.train()


def main(job: str) -> int:
    given = json.loads(Path(job).read_text(encoding="utf-8"))
    cell, folder, base = Cell.from_dict(given["cell"]), Path(given["folder"]), load_base_model(Path(given["base"]))
    size = given["batch_size"]
    sys.stdout = sys.stderr                                  # trainers print; the parent reads our own lines alone
    policy = Policy(base) if cell.arm == "ours" else None
    rated, plan = rated_steps(cell, base, folder, size)
    visited = sequence(plan, given["steps"])
    turns = Turns([sum(example.tokens for example in batch) for batch in visited])
    try:
        if policy:
            ours(policy, rated, plan, turns, size)
        else:
            trl_kto(base, rated, visited, turns, size, folder)
            turns.wait()                                     # its last step was the last one asked for
    except Enough:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

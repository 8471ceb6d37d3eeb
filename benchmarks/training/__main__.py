"""`python -m benchmarks.training`: ours and TRL's KTO take turns, one optimizer step each, on the same batches of real replies."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch

from benchmarks import machine
from benchmarks.learning.cells import Cell
from benchmarks.learning.pool import ReplyPool
from benchmarks.learning.task import pool_size
from benchmarks.learning.work import sampling_of
from data.base_models import import_base_model
from data.progress import terminal_progress

SIDES = ("ours", "trl-kto")
FLOPS_PER_TOKEN = 4
"""Per weight and token of a LoRA step: 2 forward and 2 backward, since the frozen weights take no gradient of their own."""


class Side:
    """A trainer's process, from its first line to its last step."""

    def __init__(self, arm: str, job: dict, folder: Path) -> None:
        file = folder / f"job-{arm}.json"
        file.write_text(json.dumps({**job, "cell": {**job["cell"], "arm": arm}}))
        self.arm, self.steps, self.extra = arm, [], {}
        self._log = (folder / f"{arm}.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training.side", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"} if arm == "ours" else None)     # as the learner starts; a peer as it comes
        self._until("ready")

    def step(self) -> dict:
        """One optimizer step; returns its seconds, tokens and the process's peak memory."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.steps.append(self._until("seconds"))
        self._until("ready")
        return self.steps[-1]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()

    def _until(self, key: str) -> dict:
        for line in self._process.stdout:
            row = json.loads(line)
            self.extra.update({name: value for name, value in row.items() if name.startswith("reference")})
            if key in row:
                return row
        raise RuntimeError(f"{self.arm} ended with code {self._process.wait()}; see {self._log.name}")


def measure(options: argparse.Namespace) -> dict:
    """Figures of both sides, JSON-able. The first step of each warms up and is not counted."""
    folder = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with terminal_progress() as progress:
        base = import_base_model(options.base_model, options.models or folder / "models", progress)
    cell = Cell("ours", "length", options.batch_size * options.batches, 0, base_model=base.id, max_new_tokens=options.max_new_tokens)
    ReplyPool(folder, base, sampling_of(cell), folder / "serving").fill(pool_size(cell))
    found = {"machine": machine.describe(), "base_model": base.id, "batch_size": options.batch_size}
    job = {"cell": asdict(cell), "folder": str(folder), "base": str(base.folder.resolve()), "batch_size": options.batch_size, "steps": options.steps + 1}
    sides = [Side(arm, job, folder) for arm in SIDES]
    try:
        for _ in range(options.steps + 1):
            for side in sides:
                row = side.step()
                print(f"{side.arm}: {row['tokens']} tokens in {row['seconds']:.2f} s", file=sys.stderr)
    finally:
        for side in sides:
            side.close()
    weights = _weights(base)
    for side in sides:
        counted = side.steps[1:]
        rate = sum(row["tokens"] for row in counted) / sum(row["seconds"] for row in counted)
        found[side.arm] = {"tokens_per_second": round(rate, 1), "median_step_seconds": round(median(row["seconds"] for row in counted), 3),
                           "share_of_matmul_limit": round(FLOPS_PER_TOKEN * weights * rate / 1e12 / found["machine"]["bf16_tflops"], 3),
                           "peak_mb": round(max(row["peak_mb"] for row in side.steps), 1), **{key: round(value, 3) for key, value in side.extra.items()}}
    ours, theirs = found["ours"], found["trl-kto"]
    found["ratio"] = round(ours["tokens_per_second"] / theirs["tokens_per_second"], 2)
    epochs = 2
    with_reference = 1 / (1 / ours["tokens_per_second"] + ours["reference_seconds"] / ours["reference_tokens"] / epochs)
    found["ratio_with_reference_pass"] = round(with_reference / theirs["tokens_per_second"], 2)
    return found


def _weights(base) -> int:
    """Weights that take part in matrix products for a token; the output head counts in full, as the peers compute it."""
    from learner.model.policy import Policy

    return sum(parameter.numel() for parameter in Policy(base).model.parameters() if parameter.ndim == 2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description="Training throughput beside TRL's KTO on the same batches, in turns.")
    parser.add_argument("--steps", type=int, default=6, help="counted optimizer steps of each (6)")
    parser.add_argument("--batch-size", type=int, default=64 if torch.cuda.is_available() else 8, help="replies in a step (8; 64 on CUDA)")
    parser.add_argument("--batches", type=int, default=4, help="different batches, visited in turn (4)")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--base-model", default="smollm2-135m-instruct", help="as BASE_MODEL")
    parser.add_argument("--models", type=Path, help="where imported base models lie (OUT/models)")
    parser.add_argument("--out", type=Path, default=Path(".state/benchmarks/training"))
    found = measure(parser.parse_args(arguments))
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

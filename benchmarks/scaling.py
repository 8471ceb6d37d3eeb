"""`python -m benchmarks.scaling`: the learner's passes and steps by one process and by several, on the same replies.

The replies are random ids of the lengths that people get (40 tokens of prompt, 40 to 200 of reply): how long a step takes
does not depend on what is said. Layers are `whole` in each process, or `parts` of each are, as with `accelerate launch
--use_fsdp`. Where other programs want the same cores, read the last column, which counts the processes' own time alone.
On CPUs a row names the threads of each process; on GPUs a process has a card of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from data.base_models import import_base_model
from data.cpus import usable_cpus
from data.progress import terminal_progress

PROMPT, SHORTEST, LONGEST = 40, 40, 200


def measure_here(options: argparse.Namespace) -> dict | None:
    """In a launched process: figures by the first one, None by the others."""
    import torch

    from data.base_models import load_base_model
    from learner.config import LearnerConfig
    from learner.model.batches import Example, plan_steps
    from learner.model.policy import Policy
    from learner.model.team import ManyProcesses
    from learner.training.anchor import reference_pass
    from learner.training.helping import help_along
    from learner.training.steps import Signals, train_steps

    team, base = ManyProcesses(), load_base_model(options.base)
    config = LearnerConfig(batch_size=options.batch_size, epochs=1, min_steps=1)
    if not team.leads:
        help_along(team, base, config)
        return None
    dice = random.Random(0)
    examples = [Example(place, tuple(dice.randrange(5, 200) for _ in range(PROMPT)),
                        tuple(dice.randrange(5, 200) for _ in range(dice.randrange(SHORTEST, LONGEST))), 0.8)
                for place in range(options.batch_size * (options.steps + 1))]
    plan = plan_steps(examples, config.batch_size)
    policy = Policy(base, team=team)
    reference_pass(policy, plan[:1], frozenset(), lambda: None)                  # warms up
    begun = time.monotonic()
    reference = reference_pass(policy, policy.micro_batches(examples, config.max_batch_tokens), frozenset(range(len(examples))), lambda: None)
    reference_seconds = time.monotonic() - begun
    thumbs = torch.tensor([dice.choice((-1.0, 1.0)) for _ in examples])
    ends, spent = [time.monotonic()], [time.process_time()]

    def note(_step) -> None:
        ends.append(time.monotonic())
        spent.append(time.process_time())

    train_steps(policy, plan, Signals(thumbs, torch.ones(len(examples)), thumbs), reference, reference.logprobs,
                replace(config, learning_rate=0.0), note)
    team.dismiss()
    tokens = sum(example.tokens for example in examples)
    counted = tokens * (len(plan) - 1) / len(plan)                              # the first step warms up
    return {"reference_tokens_per_second": tokens / reference_seconds, "step_seconds": (ends[-1] - ends[1]) / (len(plan) - 1),
            "training_tokens_per_second": counted / (ends[-1] - ends[1]),
            "training_tokens_per_processor_second": counted / (spent[-1] - spent[1]) / team.size}


def launch(options: argparse.Namespace, base: Path, processes: int, threads: int, layers: str) -> dict:
    """One row, from processes of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(port),
               "-m", "benchmarks.scaling", "--base", str(base), "--steps", str(options.steps), "--batch-size", str(options.batch_size)]
    settings = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "ACCELERATE_USE_FSDP": "true" if layers == "parts" else "false"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **settings})
    return {"processes": processes, "threads": threads, "layers": layers, **json.loads(done.stdout.strip().splitlines()[-1])}


def rows(options: argparse.Namespace) -> list[tuple[int, int, str]]:
    """(processes, threads of each, whether each holds whole layers or parts of them)."""
    import torch

    cores = usable_cpus()
    if torch.cuda.is_available():
        sizes = [(count, 8) for count in (1, 2, 4, 8, 16) if count <= torch.cuda.device_count()]
    else:
        sizes = [(1, 1)] + [(1, cores)] * (cores > 1) + [(count, max(1, cores // count)) for count in (2, 4, 8, 16) if count <= cores]
    return [(*size, "whole") for size in sizes] + [(*size, "parts") for size in sizes if size[0] > 1]


def line(row: dict, first: dict) -> str:
    """A row of the table, its speed-up against the first one."""
    gain = row["training_tokens_per_second"] / first["training_tokens_per_second"]
    return (f"| {row['processes']} | {row['threads']} | {row['layers']} | {row['reference_tokens_per_second']:.0f} | {row['training_tokens_per_second']:.0f} "
            f"| {row['step_seconds']:.2f} | {gain:.2f} | {row['training_tokens_per_processor_second']:.0f} |")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="The learner by one process and by several.")
    parser.add_argument("--steps", type=int, default=6, help="counted optimizer steps (6)")
    parser.add_argument("--batch-size", type=int, default=8, help="replies in a step (8; more on GPUs)")
    parser.add_argument("--base-model", default="smollm2-135m-instruct", help="as BASE_MODEL")
    parser.add_argument("--models", type=Path, default=Path(".state/models"), help="where imported base models lie")
    parser.add_argument("--json", type=Path, help="a file for the rows, the machine and the options, to keep")
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.base:
        found = measure_here(options)
        if found:
            print(json.dumps(found))
        return 0
    with terminal_progress() as progress:
        base = import_base_model(options.base_model, options.models, progress)
    print("| processes | threads each | layers | reference pass, tokens/s | training, tokens/s | seconds a step | speed-up | training, tokens per second of processor |\n"
          "|---|---|---|---|---|---|---|---|", flush=True)
    found: list[dict] = []
    for row in rows(options):
        found.append(launch(options, base.folder.resolve(), *row))
        print(line(found[-1], found[0]), flush=True)
    if options.json:
        from benchmarks.machine import describe

        options.json.write_text(json.dumps({"machine": describe(), "steps": options.steps, "batch_size": options.batch_size, "base_model": options.base_model,
                                            "rows": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Two processes that learn together make the adapter of one."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import learner.model.policy
from data.adapters import AdapterRegistry
from data.settings import load_settings
from learner.__main__ import learner_config
from learner.runs.run import train
from tests.support.conversations import RATER, add_reply, open_store
from tests.support.waiting import until

ROOT = Path(__file__).parent.parent.parent.parent
LAYER_WEIGHTS = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64)
"""Of the tiny model: q and o, k and v, the three of the feed-forward part, two norms."""
SETTINGS = {"BATCH_SIZE": "3", "EPOCHS": "2", "LORA_RANK": "4"}       # steps of two replies and a last one of one, of which one process has no row


def launch(state: Path, base, processes: int, *arguments: str, kind: str, **settings: str) -> subprocess.CompletedProcess:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [kind, "--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
               "--main_process_port", str(port)]
    return subprocess.run([sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "tests.support.float32_learner", *arguments], cwd=ROOT,
                          text=True, capture_output=True, timeout=300,
                          env={**os.environ, "STATE_DIR": str(state), "BASE_MODEL": base.source, **SETTINGS, **settings})


@pytest.mark.parametrize("kind, runs", [("--multi_gpu", 1), pytest.param("--multi_gpu", 2, marks=pytest.mark.slow),
                                        pytest.param("--use_fsdp", 2, marks=pytest.mark.slow)])
def test_two_processes_make_the_adapter_of_one_and_only_the_first_touches_the_store(kind, runs, tmp_path, tiny_base, monkeypatch):
    """With half of every layer in each of them, too. In the second run a version speaks that only the first process has on disk."""
    monkeypatch.setattr(learner.model.policy, "fast_dtype", lambda device: torch.float32)
    stores = {name: open_store(tmp_path / name) for name in ("one", "two")}
    registries = {name: AdapterRegistry(store, tmp_path / name / "adapters") for name, store in stores.items()}
    for number, by in enumerate(range(runs), start=1):
        for store in stores.values():
            for reply in add_replies(store, tiny_base, by):
                store.add_rating(reply.id, RATER, "thumb", 1 if len(reply.completion_ids) > 14 else -1)
        done = launch(tmp_path / "two", tiny_base, 2, "--once", "--json", kind=kind, ENGINE="transformers")     # the learner's own sampler
        assert done.returncode == 0, done.stderr
        held = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("holds ")]
        assert held == ([] if kind == "--multi_gpu" else [LAYER_WEIGHTS // 2] * 2)
        report = json.loads(done.stdout.splitlines()[-1])
        alone = train(stores["one"], registries["one"], tiny_base, learner_config(load_settings(SETTINGS)), trigger="shell")

        assert report["published"] and [run.state for run in stores["two"].runs(5)] == ["published"] * number
        assert len(stores["two"].versions(tiny_base.id)) == number
        ours, theirs = (load_file(registry.verify(number) / "adapter_model.safetensors") for registry in registries.values())
        moved = torch.cat([weight.flatten() for name, weight in ours.items() if "lora_B" in name])          # they start at 0
        apart = torch.cat([(weight - theirs[name]).flatten() for name, weight in ours.items()])
        print(f"{kind}, run {number}: apart {apart.norm():.1e}, moved {moved.norm():.3f}")
        assert moved.norm() > 0.05 and apart.norm() < 1e-4 * moved.norm()
        one, two = alone.report["training"], report["training"]
        assert one["steps"] == two["steps"] and abs(one["last"]["loss"] - two["last"]["loss"]) < 1e-3
        assert alone.report["behavior"]["versions"] == report["behavior"]["versions"] and len(report["behavior"]["versions"]) == number
        assert alone.report["gate"]["base"] == pytest.approx(report["gate"]["base"], abs=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["load", "train"])
def test_a_sharded_run_that_is_stopped_ends_in_every_process(stage, tmp_path, tiny_base):
    store = open_store(tmp_path)
    for reply in add_replies(store, tiny_base, 0):
        store.add_rating(reply.id, RATER, "thumb", 1)
    with ThreadPoolExecutor() as thread:
        running = thread.submit(launch, tmp_path, tiny_base, 2, "--once", "--json", kind="--use_fsdp", EPOCHS="100")
        until(lambda: running.done() or (run := store.last_run(tiny_base.id)) and run.progress and run.progress.stage == stage, seconds=120)
        store.request_stop()
        done = running.result(timeout=120)
    assert store.last_run(tiny_base.id).state == "stopped" and not store.versions(tiny_base.id), done.stderr


def add_replies(store, base, by: int) -> list:
    """Nine by the base model, or seven by version 1."""
    dice = random.Random(by)
    return [add_reply(store, base, f"question {number} to {by}", [dice.randrange(3, 200) for _ in range(dice.randrange(4, 24))] + [2], version=by)
            for number in range(9 - 2 * by)]

"""Two processes that learn together make the adapter of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import learner.policy
from data.adapters import AdapterRegistry
from data.settings import load_settings
from learner.__main__ import learner_config
from learner.run import train
from tests.conversations import add_rated_replies, open_store

ROOT = Path(__file__).parent.parent
SETTINGS = {"BATCH_SIZE": "3", "EPOCHS": "2", "LORA_RANK": "4"}       # groups of one reply: in half of the work one process has no row


def launch(state: Path, base, processes: int, *arguments: str) -> subprocess.CompletedProcess:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
               "--main_process_port", str(port)]
    return subprocess.run([sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "tests.float32_learner", *arguments], cwd=ROOT,
                          text=True, capture_output=True, timeout=300,
                          env={**os.environ, "STATE_DIR": str(state), "BASE_MODEL": base.source, **SETTINGS})


@pytest.mark.slow
def test_two_processes_make_the_adapter_of_one_and_only_the_first_touches_the_store(tmp_path, tiny_base, monkeypatch):
    stores = {name: open_store(tmp_path / name) for name in ("one", "two")}
    for store in stores.values():
        add_rated_replies(store, tiny_base, 9)

    done = launch(tmp_path / "two", tiny_base, 2, "--once", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    monkeypatch.setattr(learner.policy, "fast_dtype", lambda device: torch.float32)
    registry = AdapterRegistry(stores["one"], tmp_path / "one" / "adapters")
    alone = train(stores["one"], registry, tiny_base, learner_config(load_settings(SETTINGS)), trigger="shell")

    assert report["published"] and [run.state for run in stores["two"].runs(5)] == ["published"] and len(stores["two"].versions(tiny_base.id)) == 1
    ours, theirs = (load_file(AdapterRegistry(store, tmp_path / name / "adapters").verify(1) / "adapter_model.safetensors")
                    for name, store in stores.items())
    moved = torch.cat([weight.flatten() for name, weight in ours.items() if "lora_B" in name])              # they start at 0
    apart = torch.cat([(weight - theirs[name]).flatten() for name, weight in ours.items()])
    assert moved.norm() > 0.05 and apart.norm() < 1e-4 * moved.norm()        # measured 4e-6
    one, two = alone.report["training"], report["training"]
    assert one["steps"] == two["steps"] and abs(one["last"]["loss"] - two["last"]["loss"]) < 1e-3

"""Spoiled candidates are what their names say, and the gate is asked about exactly them."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.gate.__main__ import main
from benchmarks.gate.candidates import WEIGHTS, candidates, cut, imitate, noise, off_topic, repeated, scaled, shuffled_tokens
from benchmarks.gate.verdict import put_in, verdict
from benchmarks.learning.raters import GivenRating, Rater
from benchmarks.learning.serving import Sampled
from benchmarks.learning.task import Rated, Task
from data.records import Sampling
from learner.config import GateLimits, LearnerConfig
from learner.model.policy import Policy


@pytest.fixture
def task(tiny_base, tmp_path) -> Task:
    rated = tuple(Rated(Sampled("hi", (1, 5, 6 + i), tuple(range(20 + 9 * i, 29 + 9 * i)), (-1.0,) * 9, "text", False),
                        GivenRating(i, Rater("rater-0", "honest"), "thumb", 1 if i % 2 else -1)) for i in range(4))
    return Task(tiny_base, rated, None, 0, Sampling(max_new_tokens=16), tmp_path, tmp_path / "serving")


def test_there_are_good_and_spoiled_candidates_with_names_of_their_own():
    kinds = [candidate.kind for candidate in candidates()]
    assert kinds.count("spoiled") >= 10 and kinds.count("good") >= 3
    assert len({candidate.name for candidate in candidates()}) == len(kinds)


def test_spoiled_examples_are_what_they_are_called(task):
    first = task.examples()[0]
    assert cut(task, 0)[0].completion_ids == (2,) and cut(task, 3)[0].completion_ids == (*first.completion_ids[:3], 2)
    assert repeated(first).completion_ids == first.completion_ids[:6] * 12
    assert sorted(shuffled_tokens(first, 0).completion_ids) == sorted(first.completion_ids) and shuffled_tokens(first, 0) != first
    moved = off_topic(task)
    assert moved[0].prompt_ids == first.prompt_ids and moved[0].completion_ids == task.examples()[2].completion_ids


def test_scaling_multiplies_the_effect_alone(task):
    adapter = imitate(task, task.examples(), 1e-2)
    before = load_file(adapter / WEIGHTS)
    after = load_file(scaled(task, adapter, -3.0) / WEIGHTS)
    assert any(tensor.abs().sum() > 0 for name, tensor in before.items() if "lora_B" in name)
    assert all(torch.equal(after[name], -3 * tensor if "lora_B" in name else tensor) for name, tensor in before.items())


def test_the_gate_is_asked_about_the_weights_in_the_folder_and_refuses_noise(task):
    adapter = noise(task, 3.0)
    policy = Policy(task.base)
    put_in(policy, adapter)
    saved = {name.removeprefix("base_model.model."): tensor for name, tensor in load_file(adapter / WEIGHTS).items()}
    held = {name.removeprefix("base_model.model.").replace(".default", ""): tensor.cpu() for name, tensor in policy.model.named_parameters() if "lora_" in name}
    assert saved.keys() == held.keys() and all(torch.equal(saved[name], held[name]) for name in saved)
    decided = verdict(task, adapter, LearnerConfig(gate=GateLimits(scales=(1.0,), new_tokens=8)))
    assert not decided.passed and decided.refused_by == "G0" and "refused" in decided.reason
    fresh = replace(task, folder=task.folder / "harmless")
    fresh.folder.mkdir()
    harmless = verdict(fresh, noise(fresh, 0.0), LearnerConfig(gate=GateLimits(scales=(1.0,), new_tokens=8)))
    assert harmless.passed and harmless.scale == 1.0


@pytest.mark.slow
def test_the_command_counts_refusals_and_goes_on_where_it_stopped(tiny_base, tmp_path, capsys):
    arguments = ["--base-model", str(tiny_base.gguf), "--out", str(tmp_path), "--n", "16", "--held-out", "4", "--max-new-tokens", "12", "--seeds", "1",
                 "--tastes", "length", "--only", "noise", "liked replies, gently"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["spoiled"], found["good"]) == (1, 1) and found["spoiled_refused"] in (0.0, 1.0)
    before = (tmp_path / "results.jsonl").read_bytes()
    assert main(arguments) == 0 and (tmp_path / "results.jsonl").read_bytes() == before
    rows = json.loads((tmp_path / "results.json").read_text())["summary"]["rows"]
    assert {row["candidate"] for row in rows} == {"noise", "liked replies, gently"} and all(row["reason"] for row in rows)

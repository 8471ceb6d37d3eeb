"""The throughput benchmark takes turns on the very same batches."""

import json

import pytest

from benchmarks.learning.cells import Cell
from benchmarks.training.__main__ import main
from benchmarks.training.side import sequence
from learner.model.batches import Example, plan_steps, shuffled


def test_both_sides_visit_the_same_batches_in_the_learners_own_order():
    plan = plan_steps([Example(i, (1,), (2,) * (i + 1), 1.0) for i in range(12)], 4)
    order = [*shuffled(plan, 0), *shuffled(plan, 1)][:5]
    assert sequence(plan, 5) == order
    assert all(len(batch) == 4 for batch in sequence(plan, 5))


def test_it_prints_a_ratio_beside_the_machines_limit(tiny_base, tmp_path, capsys):
    pytest.importorskip("trl")
    assert main(["--base-model", str(tiny_base.gguf), "--out", str(tmp_path), "--steps", "2", "--batches", "2", "--max-new-tokens", "12"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"] == pytest.approx(found["ours"]["tokens_per_second"] / found["trl-kto"]["tokens_per_second"], rel=0.02)
    assert 0 < found["ratio_with_reference_pass"] < found["ratio"]
    assert found["machine"]["bf16_tflops"] > 0 and found["ours"]["peak_mb"] > 100 and found["trl-kto"]["peak_mb"] > 100
    assert Cell.from_dict(json.loads((tmp_path / "job-ours.json").read_text())["cell"]).n == 16

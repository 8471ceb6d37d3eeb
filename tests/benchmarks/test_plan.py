"""Cells, their results on disk, the sweep's choice, and what is claimed of them; no model."""

import json

import pytest

pytest.importorskip("matplotlib", reason="the report's plots need the extra: pip install -e '.[benchmark]'")

from benchmarks.learning import report
from benchmarks.learning.__main__ import make_grid, parser
from benchmarks.learning.arms import RATES
from benchmarks.learning.cells import Cell, Result, Results, source_digest
from benchmarks.learning.plan import Grid, answers
from benchmarks.learning.summary import paired_gain, summarise
from tests.support.server_process import ROOT

BASE = {"gold": {"length": 0.2}, "gold_rows": {"length": [0.1, 0.3]}, "nll": 1.0, "empty": 0.0, "overlap": 0.5, "matched_overlap": 0.5, "tokens": 100.0,
        "pmi": 0.1, "truncated": 0.5, "distinct2": 0.6, "matched_distinct2": 0.6, "text_nll": 2.0, "kl_token": 0.0, "kl_reply": 0.0}


def figures(gold: float, **other) -> dict:
    return {**BASE, "gold": {"length": gold}, "gold_rows": {"length": [gold - 0.1, gold + 0.1]}, "seconds": 10.0, "cpu_seconds": 20.0, "peak_mb": 900.0,
            "tokens_per_second": 50.0, "published": True, **other}


def grid(**changes) -> Grid:
    return Grid(**{**dict(arms=("base", "sft", "ours"), tastes=("length",), n=(16,), seeds=(0, 1), crowd="one", flips=(0.0,), hostile=(0.0,),
                          base_model="b", max_new_tokens=160, held_out=88, code="c", rates={"base": (None,), "sft": (1e-4, 1e-3), "ours": (5e-4,)},
                          sweep_seed=1000, sweep_tastes=("length",)), **changes})


def finished(cell: Cell, gold: float, **other) -> dict[str, Result]:
    return {cell.key: Result(cell, figures(gold, **other))}


def test_arms_share_their_ratings_and_all_but_the_base_model_depend_on_the_learners_code():
    sft, ours = grid().cell("sft", taste="length", n=16, seed=0, rate=1e-4), grid().cell("ours", taste="length", n=16, seed=0, rate=5e-4)
    assert sft.ratings == ours.ratings and sft.key != ours.key
    changed = grid(code="d")
    for arm in RATES:
        cell = dict(taste="length", n=16, seed=0, rate=1e-4)
        assert (changed.cell(arm, **cell).key == grid().cell(arm, **cell).key) == (arm == "base")


def test_whatever_a_learner_learns_by_changes_the_digest_of_its_code(tmp_path):
    files = ["learner/runs/run.py", "learner/gates/gate_prompts.txt", "learner/ratings/rewards.py", "data/texts/reply_features.py", "serving_sampler.py"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    before = source_digest(tmp_path)
    for name in files:
        (tmp_path / name).write_text("after")
        assert source_digest(tmp_path) != before, name
        (tmp_path / name).write_text("before")
    (tmp_path / "learner" / "run.pyc").write_text("made by Python, not by people")
    assert source_digest(tmp_path) == before != source_digest(ROOT)


def test_the_sweep_takes_the_best_rate_whose_replies_still_answer():
    g = grid()
    low, high = g.sweep()
    results = {g.base_cell().key: Result(g.base_cell(), BASE), **finished(low, 0.4), **finished(high, 0.9, nll=2.5)}
    assert g.best_rate("sft", 16, results) == 1e-4
    results |= finished(low, 0.4, nll=1.3)                                       # none answers: the best reward alone
    assert g.best_rate("sft", 16, results) == 1e-3
    assert g.best_rate("ours", 16, results) == 5e-4                              # nothing to choose
    assert [cell.rate for cell in g.cells(results) if cell.arm == "sft"] == [1e-3, 1e-3]


def test_replies_that_are_empty_off_topic_or_unlikely_no_longer_answer():
    assert answers(BASE, BASE)
    assert not answers({**BASE, "empty": 0.01}, BASE)
    assert not answers({**BASE, "overlap": 0.47}, BASE)                          # .94 of the base model's
    assert not answers({**BASE, "nll": 1.11}, BASE) and not answers({**BASE, "nll": 0.89}, BASE)


def test_results_survive_a_kill_in_the_middle_of_a_line(tmp_path):
    results, g = Results(tmp_path / "results.jsonl"), grid()
    first, second = g.sweep()
    results.add(Result(first, {"gold": 1}))
    with results.file.open("a") as file:
        file.write('{"key": "half')
    results.add(Result(second, {}, "failed"))
    read = results.read()
    assert read[first.key] == Result(first, {"gold": 1}) and read[second.key].error == "failed" and len(read) == 2


def test_the_gain_is_paired_by_prompt():
    gain, half = paired_gain({"gold_rows": {"length": [0.3, 0.7]}}, BASE, "length")
    assert abs(gain - 0.3) < 1e-9 and abs(half - 1.96 * 0.1) < 1e-9              # gains .2 and .4: sd .1414, over sqrt 2


def test_the_report_holds_every_arm_and_says_what_is_missing(tmp_path):
    pytest.importorskip("matplotlib")
    g = grid(rates={"base": (None,), "sft": (1e-4,), "ours": (5e-4,)})
    cells = g.cells({})
    results = {g.base_cell().key: Result(g.base_cell(), BASE)}
    for cell in cells[:3]:                                                       # one of the four is still to run
        results |= finished(cell, 0.1 if cell.arm == "sft" else 0.9)
    summary = {**summarise(g, results), "base_gold": {"length": 0.2}}
    assert {row["arm"]: row["gain"] for row in summary["rows"]} == {"sft": -0.1, "ours": 0.7}
    assert [(row["arm"], row["worse"]) for row in summary["worse"]] == [("ours", 0.0), ("sft", 1.0)]
    assert summary["missing"] == ["ours length n=16 seed=1 flip=0 hostile=0"]
    about = {"command": "python -m benchmarks.learning", "date": "today", "base_model": "b",
             "machine": {"device": "cpu", "cores": 2, "bf16_tflops": 0.6, "fp32_tflops": 0.2, "load": 0.1}}
    data, page = report.write(tmp_path, summary, about, [])
    assert json.loads(data.read_text())["summary"]["rows"][0]["arm"] in ("sft", "ours")
    html = page.read_text()
    assert html.count("<svg") == 3 and "seed=1" in html and "src=" not in html and "http://" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")


def test_an_arm_whose_replies_are_all_empty_is_in_the_report_without_a_ratio_of_their_variety(tmp_path):
    g = grid(arms=("base", "sft"), seeds=(0,))
    silent = dict(nll=0.0, empty=1.0, overlap=0.0, tokens=0.0, pmi=0.0, distinct2=0.0, matched_distinct2=0.0)      # the base model's first token alone has no pair of words
    results = {g.base_cell().key: Result(g.base_cell(), BASE)}
    for cells in (g.sweep, lambda: g.cells(results)):
        for cell in cells():
            results |= finished(cell, 0.0, **silent)
    summary = {**summarise(g, results), "base_gold": {"length": 0.2}}
    assert [row["distinct2_ratio"] for row in [*summary["rows"], *summary["sweep"]]] == [None] * 3
    about = {"command": "", "date": "", "base_model": "b", "machine": {"device": "cpu", "cores": 2, "bf16_tflops": 0.6, "fp32_tflops": 0.2, "load": 0.1}}
    assert "sft" in report.write(tmp_path, summary, about, [])[1].read_text()


def test_quick_is_one_taste_one_seed_and_few_rates():
    g = make_grid(parser().parse_args(["--quick", "--arms", "base", "sft", "ours"]), "b")
    assert g.tastes == ("length",) and g.seeds == (0,) and len(g.n) == 1 and g.sweep_seed == 0
    assert all(len(rates) <= 2 for rates in g.rates.values())
    full = make_grid(parser().parse_args(["--flip", "0.25", "--rate", "sft=1e-4,2e-4", "--rate", "ours=5e-4", "--arms", "sft", "ours"]), "b")
    assert full.n == (16, 64, 192, 600) and len(full.seeds) == 5 and len(full.tastes) == 5 and full.crowd == "varied"
    assert full.rates["sft"] == (1e-4, 2e-4) and full.sweep_seed not in full.seeds

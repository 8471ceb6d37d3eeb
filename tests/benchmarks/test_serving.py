"""What the serving benchmark makes of arrival times, and one run of it over the tiny model."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("matplotlib", reason="the report's plots need the extra: pip install -e '.[benchmark]'")

from benchmarks.memory import peak_mb, reset_peaks
from benchmarks.serving import __main__ as serving
from benchmarks.serving.app import Heard, out_of_turn
from benchmarks.serving.digests import digest
from benchmarks.serving.figures import during, of_replies, quantile
from benchmarks.serving.jobs import Job, plan
from benchmarks.serving.processes import next_answer
from benchmarks.serving.summary import summarise
from tests.support.server_process import ROOT


def test_figures_of_two_replies_by_hand():
    found = of_replies([[1.0, 1.5, 2.5], [2.0, 2.25, 4.0]])               # gaps .5 1 and .25 1.75
    assert found == {"tokens_per_second": 1.5, "first_token": 1.5, "last_first_token": 2.0, "gap_p50": 0.5, "gap_p95": 1.75, "gap_p99": 1.75, "gap_max": 1.75}
    assert [quantile(range(1, 101), share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]


def test_a_gap_counts_as_during_a_swap_when_any_part_of_it_lies_there():
    assert during([[0.0, 1.0, 3.0, 4.0], [2.5, 9.0]], 2.0, 3.0) == [2.0, 6.5]


def test_engines_take_turns_within_a_measurement():
    jobs = plan(["ours", "transformers"], streams=(1, 8), tokens=64, repeats=2, model="m", code=lambda engine, work: f"{engine} {work}")
    assert [(job.engine, job.streams, job.repeat) for job in jobs if job.work == "streams"] == [
        (engine, streams, repeat) for repeat in (0, 1) for streams in (1, 8) for engine in ("ours", "transformers")]
    assert {job.engine for job in jobs if job.work in ("swap", "learner", "app")} == {"ours"}
    assert all(job.code == f"{job.engine} {job.work}" for job in jobs) and len({job.key for job in jobs}) == len(jobs)


def test_what_changes_makes_what_depends_on_it_be_measured_again(tmp_path):
    for name in ("benchmarks", "chat_app", "data", "learner"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", tmp_path)
    cases = [(engine, "streams") for engine in ("ours", "transformers", "llama.cpp", "vllm")] + [("ours", "learner"), ("ours", "app")]
    before = {case: digest(*case, tmp_path) for case in cases}

    def changed(file: str) -> set[tuple[str, str]]:
        with (tmp_path / file).open("a") as source:
            source.write("# changed\n")
        now, was = {case: digest(*case, tmp_path) for case in cases}, dict(before)
        before.update(now)
        return {case for case in cases if now[case] != was[case]}

    assert changed("benchmarks/serving/report.py") == set()
    assert changed("benchmarks/serving/worker.py") == set(cases)
    assert changed("benchmarks/serving/vllm_speaker.py") == {("vllm", "streams")}
    assert changed("chat_app/engines/openvino.py") == {case for case in cases if case[0] == "ours"}
    assert changed("learner/training/steps.py") == {("ours", "learner")}
    assert changed("chat_app/line.py") == {("ours", "app")}


def test_claims_compare_medians_and_leave_out_who_was_not_measured():
    rates = {("ours", 1): [80, 99, 90], ("llama.cpp", 1): [100, 90, 110], ("ours", 8): [500], ("transformers", 8): [250]}
    rows = [(Job(engine, "streams", streams, repeat=repeat), {"tokens_per_second": rate})
            for (engine, streams), found in rates.items() for repeat, rate in enumerate(found)]
    assert [(row["measured"], row["met"]) for row in summarise(rows)["claims"]] == [(0.9, "yes"), (2.0, "no")]


def test_what_is_worst_in_one_repeat_is_not_hidden_by_the_median_and_a_swap_that_no_reply_saw_proves_nothing():
    swaps = [{"dropped": dropped, "outlived_build": 4, "gap_max": gap, "gap_p50_before": 0.01, "gap_p50": gap / 2} for dropped, gap in ((0, 0.02), (1, 0.05), (0, 0.03))]
    rows = [(Job("ours", "swap", 4, repeat=repeat), figures) for repeat, figures in enumerate(swaps)]
    found = summarise(rows)
    assert {name: found["swap"][0][name] for name in ("dropped", "gap_max", "gap_p50")} == {"dropped": 1, "gap_max": 0.05, "gap_p50": 0.015}
    assert [(row["measured"], row["met"]) for row in found["claims"]] == [(1, "no"), (5.0, "no")]
    short = {**swaps[0], "outlived_build": 3}
    assert [row["met"] for row in summarise([rows[0], (rows[1][0], short)])["claims"]] == ["yes", "no"]


def test_who_has_their_turn_long_before_somebody_ahead_of_them_is_out_of_turn():
    def waited(places: list[int], turn: float) -> Heard:
        return Heard(places=places, turn=turn)

    in_order = [waited([0], 9.0), waited([1, 0], 1.0), waited([2, 1, 0], 3.0), waited([3, 0], 2.8)]             # the last as good as together
    assert out_of_turn(in_order) == 0
    assert out_of_turn([*in_order, waited([4, 0], 1.5)]) == 1 and out_of_turn([*in_order, waited([4, 2, 3, 0], 5.0)]) == 1


def test_a_line_that_a_library_prints_is_no_answer_and_ends_nothing():
    log = io.StringIO()
    lines = iter(["Warning: slow\n", "12\n", '{"ready": true}\n', "bye\n"])
    assert [next_answer(lines, log), next_answer(lines, log)] == [{"ready": True}, None] and log.getvalue() == "Warning: slow\n12\nbye\n"


def test_a_peak_counts_from_its_reset():
    child = subprocess.Popen([sys.executable, "-c", "x = b'x' * 300_000_000; del x; print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        assert peak_mb(child.pid) > 300
        reset_peaks(child.pid)
        assert peak_mb(child.pid) < 100
    finally:
        child.kill()


def test_an_engine_that_is_asked_for_and_not_there_is_said_at_once(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("VLLM_PYTHON", raising=False)
    for arguments, sentence in ((["--engines", "vllm"], "none is named"), (["--engines", "vllm", "--vllm-python", str(tmp_path / "none")], "no interpreter")):
        with pytest.raises(SystemExit):
            serving.main([*arguments, "--out", str(tmp_path / "out")])
        assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_crowd_in_front_of_the_app_is_answered_in_order_and_who_comes_later_hears_busy(endless_base, tmp_path, monkeypatch):
    monkeypatch.setenv("MAX_NEW_TOKENS", "2000")                         # so that nobody's reply ends before all have come
    assert serving.main(["--engines", "ours", "--works", "app", "crowd", "--repeats", "1", "--base-model", endless_base.source, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "results.json").read_text())["summary"]
    [crowd], [alone] = found["crowd"], found["app"]
    assert (crowd["answered"], crowd["saw_a_place"], crowd["last_place"], crowd["told_busy"], crowd["neither"], crowd["out_of_turn"]) == (64, 32, 32, 16, 0, 0)
    assert len(crowd["server_mb"]) == 4 and 0 < alone["first_page"] < alone["first_token"] and alone["again_first_token"] > 0


def test_a_run_writes_its_report_and_a_second_one_measures_nothing_again(tiny_base, tmp_path, monkeypatch):
    asked = ["--engines", "ours", "--works", "streams", "swap", "--streams", "2", "--tokens", "8", "--repeats", "1", "--base-model", tiny_base.source, "--out", str(tmp_path)]
    assert serving.main(asked) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    [row] = found["summary"]["streams"]
    assert row["streams"] == 2 and row["tokens_per_second"] > 0 and found["about"]["cold_start"]["ours"] > 0
    assert found["summary"]["swap"][0]["dropped"] == 0
    assert "<svg" in (tmp_path / "report.html").read_text()
    lines = (tmp_path / "results.jsonl").read_text()
    monkeypatch.setattr(serving.Bench, "measure", lambda *_: pytest.fail("measured again"))
    assert serving.main(asked) == 0 and (tmp_path / "results.jsonl").read_text() == lines

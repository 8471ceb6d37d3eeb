"""`python -m benchmarks.gate`: spoiled candidates the gate refuses, good ones it lets through, beside their gold reward."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from benchmarks.gate.candidates import Candidate, candidates
from benchmarks.gate.verdict import verdict
from benchmarks.learning.arms_logged import no_training
from benchmarks.learning.cells import Cell, Result, Results, source_digest
from benchmarks.learning.plan import answers
from benchmarks.learning.pool import ReplyPool
from benchmarks.learning.summary import paired_gain
from benchmarks.learning.task import Task, Trained, pool_size, rate_replies
from benchmarks.learning.tastes import TASTES
from benchmarks.learning.work import evaluate, sampling_of
from data.base_models import import_base_model
from data.progress import terminal_progress
from data.records import BaseModel
from data.settings import Settings
from learner.__main__ import learner_config
from learner.config import LearnerConfig


def judge(candidate: Candidate, cell: Cell, base: BaseModel, folder: Path, config: LearnerConfig) -> dict:
    """Make the candidate, ask the gate, and score it at full strength on held-out prompts."""
    sampling = sampling_of(cell)
    rated = rate_replies(cell, ReplyPool(folder, base, sampling, folder / "serving").first(pool_size(cell)))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".candidate-") as scratch:
        task = Task(base, rated, None, cell.seed, sampling, Path(scratch), folder / "serving")
        adapter = candidate.make(task)
        decided = verdict(task, adapter, replace(config, seed=cell.seed))
        figures = evaluate(cell, base, Trained(adapter, 0), folder)
    return {**figures, "kind": candidate.kind, "passed": decided.passed, "scale": decided.scale, "reason": decided.reason, "refused_by": decided.refused_by}


def summarise(results: list[Result], base: dict) -> dict:
    """Shares over all candidates; what passed scaled down counts as passed and is told apart."""
    rows = []
    for result in results:
        gain, half = paired_gain(result.figures, base, result.cell.taste)
        rows.append({"candidate": result.cell.arm, "taste": result.cell.taste, "seed": result.cell.seed, "gain": round(gain, 4), "gain_half": round(half, 4),
                     "answers": answers(result.figures, base), **{name: result.figures[name] for name in ("kind", "passed", "scale", "reason", "refused_by")}})
    spoiled, good = ([row for row in rows if row["kind"] == kind] for kind in ("spoiled", "good"))
    return {"spoiled_refused": _share(not row["passed"] for row in spoiled), "spoiled_refused_or_scaled_down": _share(row["scale"] < 1 for row in spoiled),
            "good_refused": _share(not row["passed"] for row in good), "spoiled": len(spoiled), "good": len(good), "rows": rows}


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    with terminal_progress() as progress:
        base = import_base_model(options.base_model, options.models or folder / "models", progress)
    config = learner_config(Settings(refine=options.refine))
    code = source_digest(Path(__file__).parents[2]) + "+refine" * options.refine
    blank = Cell("base", options.tastes[0], 0, 0, base_model=base.id, max_new_tokens=options.max_new_tokens, held_out=options.held_out)
    cells = [(candidate, replace(blank, arm=candidate.name, taste=taste, n=options.n, seed=seed, code=code))
             for seed in range(options.seeds) for taste in options.tastes
             for candidate in candidates() if not options.only or candidate.name in options.only]
    ReplyPool(folder, base, sampling_of(blank), folder / "serving").fill(max(pool_size(cell) for _, cell in cells))
    base_figures = evaluate(blank, base, no_training(None), folder)
    results = Results(folder / "results.jsonl")
    done = results.read()
    for candidate, cell in tqdm(cells, unit="candidate", disable=None):
        if cell.key not in done or done[cell.key].error is not None:
            done[cell.key] = Result(cell, judge(candidate, cell, base, folder, config))
            results.add(done[cell.key])
        figures = done[cell.key].figures
        tqdm.write(f"{candidate.kind} {candidate.name} ({cell.taste}, seed {cell.seed}): {'passed at ' + format(figures['scale'], 'g') if figures['passed'] else 'refused'}; "
                   f"gold {figures['gold'][cell.taste]:.3f} against {base_figures['gold'][cell.taste]:.3f}. {figures['reason']}", file=sys.stderr)
    found = summarise([done[cell.key] for _, cell in cells], base_figures)
    (folder / "results.json").write_text(json.dumps({"summary": found, "cells": [asdict(done[cell.key]) for _, cell in cells]}, indent=1, ensure_ascii=False))
    print(json.dumps({name: value for name, value in found.items() if name != "rows"}))
    return 0


def _share(flags) -> float | None:
    flags = list(flags)
    return round(sum(flags) / len(flags), 4) if flags else None


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks.gate", description="Spoiled and good candidates before the gate.")
    found.add_argument("--seeds", type=int, default=2)
    found.add_argument("--tastes", nargs="+", choices=list(TASTES), default=["length", "composite"])
    found.add_argument("--only", nargs="+", choices=[candidate.name for candidate in candidates()], help="these candidates alone")
    found.add_argument("--n", type=int, default=192, help="rated replies (192); with fewer than the learner holds back from there is no judge")
    found.add_argument("--refine", action="store_true", help="the gates as REFINE sets them: with a judge fitted on held-out ratings (G1)")
    found.add_argument("--held-out", type=int, default=48)
    found.add_argument("--max-new-tokens", type=int, default=160)
    found.add_argument("--base-model", default="smollm2-135m-instruct", help="as BASE_MODEL")
    found.add_argument("--models", type=Path, help="where imported base models lie (OUT/models)")
    found.add_argument("--out", type=Path, default=Path(".state/benchmarks/gate"), help="a second call goes on there")
    return found


if __name__ == "__main__":
    sys.exit(main())

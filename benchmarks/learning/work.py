"""One cell in a process of its own: `python -m benchmarks.learning.work JOB OUT`. Its memory and its crash are its alone."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path

from benchmarks.learning.arms import load
from benchmarks.learning.cells import FORMAT, Cell
from benchmarks.learning.evaluation import BaseView, Rows, matched, score
from benchmarks.learning.pool import ReplyPool
from benchmarks.learning.prompts import split_prompts
from benchmarks.learning.serving import Sampled, sample_replies
from benchmarks.learning.task import Task, Trained, pool_size, rate_replies
from benchmarks.machine import Meter
from data.base_models import load_base_model
from data.base_models.tokenizer import ChatTokenizer
from data.records import BaseModel, Sampling

EVALUATION_SEED = 7


def sampling_of(cell: Cell) -> Sampling:
    """How the product samples, at the cell's length and temperature."""
    return Sampling(temperature=cell.temperature, max_new_tokens=cell.max_new_tokens)


def run_cell(cell: Cell, base: BaseModel, folder: Path) -> dict:
    """Train the arm on the cell's ratings and score its held-out replies.

    Args: folder: shared by all cells: the pool of replies, the base model's own evaluation, merged files.
    Returns: JSON-able figures; `seconds`, `cpu_seconds`, `peak_mb` and `children_peak_mb` cover the arm's work from ratings to adapter alone.
    """
    sampling, cache_dir = sampling_of(cell), folder / "serving"
    pool = ReplyPool(folder, base, sampling, cache_dir)
    rated = rate_replies(cell, pool.first(pool_size(cell))) if cell.arm != "base" else ()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".cell-") as scratch:
        arm = load(cell.arm)
        meter = Meter()
        trained = arm(Task(base, rated, cell.rate, cell.seed, sampling, Path(scratch), cache_dir))
        spent = meter.read()
        meter = Meter()
        figures = evaluate(cell, base, trained, folder)
        return {**figures, **asdict(spent), "evaluation_seconds": meter.read().seconds, "train_tokens": trained.tokens,
                "tokens_per_second": round(trained.tokens / max(0.01, spent.seconds), 1), "published": trained.adapter is not None,
                "liked_share": round(sum(one.signal > 0 for one in rated) / len(rated), 4) if rated else None, "report": trained.report}


def evaluate(cell: Cell, base: BaseModel, trained: Trained, folder: Path) -> dict:
    """Figures on the held-out prompts; an arm that left the base model as it is gets the base model's."""
    from learner.model.policy import Policy

    view_file = folder / f"base-view-{FORMAT}-{base.id}-{cell.max_new_tokens}-{cell.temperature:g}-{cell.held_out}.json"
    if trained.adapter is None and trained.choose is None and view_file.exists():
        return json.loads(view_file.read_text(encoding="utf-8"))["figures"]
    sampling = Sampling(**{**asdict(sampling_of(cell)), "seed": EVALUATION_SEED})
    prompts = [prompt.text for prompt in split_prompts("held-out", cell.held_out)]
    replies = sample_replies(base, trained.adapter, [prompt for prompt in prompts for _ in range(trained.tries)], sampling, folder / "serving")
    if trained.choose is not None:
        groups = [replies[start:start + trained.tries] for start in range(0, len(replies), trained.tries)]
        replies = [group[trained.choose(group)] for group in groups]
    view = _read_view(view_file) if view_file.exists() else None
    figures, own = score(Policy(base), trained.adapter, replies, ChatTokenizer(base.folder), cell.temperature, view)
    if trained.choose is not None:
        figures["kl_reply"] = math.log(trained.tries) - (trained.tries - 1) / trained.tries      # at most: Beirami et al. 2024, arXiv:2401.01879
    if cell.arm == "base":
        figures |= matched(replies, own, ChatTokenizer(base.folder))
        _write_view(view_file, own, figures)
    return figures


def _write_view(file: Path, view: BaseView, figures: dict) -> None:
    content = json.dumps({"replies": [reply.as_dict() for reply in view.replies], "rows": view.rows._asdict(), "figures": figures})
    partial = file.with_suffix(".partial")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, file)


def _read_view(file: Path) -> BaseView:
    content = json.loads(file.read_text(encoding="utf-8"))
    return BaseView([Sampled.from_dict(row) for row in content["replies"]], Rows(**content["rows"]))


def main(job: str, out: str) -> int:
    """Exit code 0 with figures in `out`, 1 with the error there."""
    given = json.loads(Path(job).read_text(encoding="utf-8"))
    try:
        answer = {"figures": run_cell(Cell.from_dict(given["cell"]), load_base_model(Path(given["base"])), Path(given["folder"])), "error": None}
    except Exception as error:                               # the edge: told to the harness, which goes on with other cells
        traceback.print_exc()
        answer = {"figures": {}, "error": f"{type(error).__name__}: {error}"}
    Path(out).write_text(json.dumps(answer), encoding="utf-8")
    return 0 if answer["error"] is None else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Runs cells one after the other, each in its own process, and remembers what is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from benchmarks.learning.cells import Cell, Result, Results
from benchmarks.learning.plan import Grid
from benchmarks.learning.pool import ReplyPool
from benchmarks.learning.task import pool_size
from benchmarks.learning.work import sampling_of
from data.records import BaseModel


def run(grid: Grid, base: BaseModel, folder: Path) -> dict[str, Result]:
    """All cells of the grid that have no result yet; a failed cell is tried again by the next call.

    Returns: every result in `folder`, by key.
    """
    results = Results(folder / "results.jsonl")
    with tqdm(total=1, unit="cell", dynamic_ncols=True, disable=None) as bar:
        _run_missing([grid.base_cell()], base, folder, results, bar)
        if results.read()[grid.base_cell().key].error is not None:
            return results.read()                          # everything else is measured beside it
        sweep = grid.sweep()
        wanted = max([pool_size(cell) for cell in [*sweep, *grid.cells({})]], default=0)
        bar.set_description(f"sampling {wanted} replies to rate")
        ReplyPool(folder, base, sampling_of(grid.base_cell()), folder / "serving").fill(wanted)
        bar.total = 1 + len({cell.key for cell in [*sweep, *grid.cells({})]})
        _run_missing(sweep, base, folder, results, bar)
        _run_missing(grid.cells(results.read()), base, folder, results, bar)
    return results.read()


def _run_missing(cells: Sequence[Cell], base: BaseModel, folder: Path, results: Results, bar: tqdm) -> None:
    done = results.read()
    for cell in cells:
        known = done.get(cell.key)
        if known is None or known.error is not None:
            bar.set_description(describe(cell))
            known = run_in_process(cell, base, folder)
            results.add(known)
            done[cell.key] = known
        bar.update()
        tqdm.write(f"{describe(cell)}: {summary(known)}", file=sys.stderr)


def run_in_process(cell: Cell, base: BaseModel, folder: Path) -> Result:
    """One cell in a child process; its output goes to `folder/logs/<key>.log`."""
    log = folder / "logs" / f"{cell.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".job-") as scratch:
        job, out = Path(scratch) / "job.json", Path(scratch) / "out.json"
        job.write_text(json.dumps({"cell": asdict(cell), "base": str(base.folder.resolve()), "folder": str(folder.resolve())}))
        with log.open("w", encoding="utf-8") as output:
            done = subprocess.run([sys.executable, "-m", "benchmarks.learning.work", str(job), str(out)], stdout=output, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ})   # a waiting thread sleeps
        if not out.exists():
            return Result(cell, {}, f"the process ended with code {done.returncode}; see {log}")
        answer = json.loads(out.read_text(encoding="utf-8"))
    return Result(cell, answer["figures"], answer["error"])


def describe(cell: Cell) -> str:
    parts = [cell.arm, *([] if cell.arm == "base" else [cell.taste, f"n={cell.n}", f"seed={cell.seed}"])]
    parts += [f"rate={cell.rate:g}"] if cell.rate is not None else []
    parts += [f"flip={cell.flip:g}"] if cell.flip else []
    parts += [f"hostile={cell.hostile:g}"] if cell.hostile else []
    return " ".join(parts)


def summary(result: Result) -> str:
    if result.error is not None:
        return f"failed, {result.error}"
    figures = result.figures
    return (f"gold {figures['gold'][result.cell.taste]:.3f}, nll {figures['nll']:.3f}, overlap {figures['overlap']:.2f}, "
            f"{figures['tokens']:.0f} tokens, {figures['seconds']:.0f} s ({figures['cpu_seconds']:.0f} s of processor), {figures['peak_mb']:.0f} MB "
            f"and {figures.get('children_peak_mb', 0.0):.0f} in processes beside it")              # not counted yet in an older base model's result

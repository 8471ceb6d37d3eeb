"""`python -m benchmarks.learning [--quick]`: run what has no result yet, write results.json and report.html."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.learning import arms, harness, report
from benchmarks.learning.cells import source_digest
from benchmarks.learning.plan import Grid, chosen_rates
from benchmarks.learning.summary import summarise
from benchmarks.learning.tastes import TASTES
from data.base_models import import_base_model
from data.progress import terminal_progress


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 1 when a cell failed."""
    options = parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with terminal_progress() as progress:
        base = import_base_model(options.base_model, options.models or options.out / "models", progress)
    about = {"command": shlex.join(["python", "-m", "benchmarks.learning", *(arguments if arguments is not None else sys.argv[1:])]),
             "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine.describe(), "base_model": base.id}
    print(about["machine"], file=sys.stderr)
    grid = make_grid(options, base.id)
    results = harness.run(grid, base, options.out)
    wanted = {cell.key for cell in [grid.base_cell(), *grid.sweep(), *grid.cells(results)]}
    shown = [{"cell": asdict(result.cell), "figures": result.figures, "error": result.error} for key, result in results.items() if key in wanted]
    base_result = results[grid.base_cell().key]
    if base_result.error is not None:
        print(f"There is no report because the base model's own cell failed: {base_result.error}", file=sys.stderr)
        return 1
    summary = {**summarise(grid, results), "base_gold": {taste: base_result.figures["gold"][taste] for taste in grid.tastes}}
    data, page = report.write(options.out, summary, about, shown)
    print(f"{page}\n{data}")
    return 1 if summary["failed"] else 0


def make_grid(options: argparse.Namespace, base_id: str) -> Grid:
    """The options as a grid; `--quick` gives other defaults and no more."""
    quick = options.quick
    chosen = tuple(options.arms or arms.available())
    seeds = tuple(range(options.seeds or (1 if quick else 5)))
    noisy = any(options.flip or ()) or any(options.hostile or ())
    return Grid(
        arms=chosen, tastes=tuple(options.tastes or (["length"] if quick else TASTES)), n=tuple(options.n or ((48,) if quick else (16, 64, 192, 600))),
        seeds=seeds, crowd=options.crowd or ("varied" if noisy else "one"), flips=tuple(options.flip or (0.0,)), hostile=tuple(options.hostile or (0.0,)),
        base_model=base_id, max_new_tokens=options.max_new_tokens, held_out=options.held_out or (48 if quick else 88),
        code=source_digest(Path(__file__).parents[2]), rates=_rates(options, chosen),
        sweep_seed=options.sweep_seed if options.sweep_seed is not None else (0 if quick else 1000),
        sweep_tastes=tuple(options.sweep_tastes or (["length"] if quick else TASTES)))


def _rates(options: argparse.Namespace, chosen: tuple[str, ...]) -> dict:
    rates = chosen_rates(chosen, options.rates, options.quick)
    for given in options.rate or ():
        arm, _, values = given.partition("=")
        if arm not in rates:
            raise SystemExit(f"--rate {given}: there is no arm {arm!r} in this run")
        rates[arm] = tuple(float(value) for value in values.split(","))
    return rates


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks.learning", description="Arms side by side on the same simulated ratings.")
    found.add_argument("--quick", action="store_true", help="one taste, 48 ratings, one seed, two learning rates an arm: within 20 minutes on two cores")
    found.add_argument("--arms", nargs="+", choices=list(arms.RATES), help="default: all whose libraries are installed")
    found.add_argument("--tastes", nargs="+", choices=list(TASTES))
    found.add_argument("--n", nargs="+", type=int, help="rated replies (16 64 192 600)")
    found.add_argument("--seeds", type=int, help="how many (5)")
    found.add_argument("--crowd", choices=("one", "varied"), help="who rates; varied when there is a flip or hostile share")
    found.add_argument("--flip", nargs="+", type=float, help="shares of ratings turned round (0)")
    found.add_argument("--hostile", nargs="+", type=float, help="shares of ratings by hostile people (0)")
    found.add_argument("--rates", type=int, help="learning rates tried per arm (3)")
    found.add_argument("--rate", nargs="+", action="extend", metavar="ARM=R[,R]", help="these rates for an arm instead; one rate is no sweep")
    found.add_argument("--sweep-seed", type=int, help="ratings the rates are chosen on (1000; with --quick 0, the reported ones)")
    found.add_argument("--sweep-tastes", nargs="+", choices=list(TASTES))
    found.add_argument("--max-new-tokens", type=int, default=160)
    found.add_argument("--held-out", type=int, help="held-out prompts answered (88)")
    found.add_argument("--base-model", default="smollm2-135m-instruct", help="as BASE_MODEL")
    found.add_argument("--models", type=Path, help="where imported base models lie (OUT/models)")
    found.add_argument("--out", type=Path, default=Path(".state/benchmarks/learning"), help="replies, results and the report; a second call goes on there")
    return found


if __name__ == "__main__":
    sys.exit(main())

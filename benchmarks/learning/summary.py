"""Finished cells to the figures that are claimed. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.learning.cells import Cell, Result
from benchmarks.learning.plan import Grid, answers, relevance

TRL = ("trl-kto", "trl-rloo")


def summarise(grid: Grid, results: Mapping[str, Result]) -> dict:
    """JSON-able: `rows` one per arm and setting over seeds, `sweep`, `by_n`, `worse`, `detection`, `missing`, `failed`."""
    base = results[grid.base_cell().key].figures
    cells = grid.cells(results)
    done = [results[cell.key] for cell in cells if cell.key in results and results[cell.key].error is None]
    groups: dict[tuple, list[Result]] = defaultdict(list)
    for result in done:
        cell = result.cell
        groups[(cell.arm, cell.taste, cell.n, cell.flip, cell.hostile)].append(result)
    return {
        "base": [_row(("base", taste, 0, 0.0, 0.0), [Result(Cell("base", taste, 0, 0), base)], base) for taste in grid.tastes],
        "rows": [_row(key, groups[key], base) for key in sorted(groups, key=lambda key: (key[2:], grid.tastes.index(key[1]), grid.arms.index(key[0])))],
        "sweep": [{"arm": cell.arm, "taste": cell.taste, "n": cell.n, "rate": cell.rate, **_short(results[cell.key].figures, cell.taste, base)}
                  for cell in grid.sweep() if cell.key in results and results[cell.key].error is None],
        "by_n": gain_by_n(done, base), "worse": share_worse(done, base), "detection": detection(done),
        "missing": [_name(cell) for cell in cells if cell.key not in results],
        "failed": [f"{_name(cell)}: {results[cell.key].error}" for cell in cells if cell.key in results and results[cell.key].error]}


def paired_gain(figures: Mapping, base: Mapping, taste: str) -> tuple[float, float]:
    """Mean gold reward above the base model's on the same prompts, and half the width of its 95% interval (normal, paired)."""
    gains = [mine - theirs for mine, theirs in zip(figures["gold_rows"][taste], base["gold_rows"][taste], strict=True)]
    mean = sum(gains) / len(gains)
    variance = sum((gain - mean) ** 2 for gain in gains) / max(1, len(gains) - 1)
    return mean, 1.96 * math.sqrt(variance / len(gains))


def gain_by_n(done: Sequence[Result], base: Mapping) -> list[dict]:
    """Per arm, n, flip and hostile share: the gain averaged over tastes and seeds, and its standard error over those cells."""
    groups = defaultdict(list)
    for result in done:
        cell = result.cell
        groups[(cell.arm, cell.n, cell.flip, cell.hostile)].append(result.figures["gold"][cell.taste] - base["gold"][cell.taste])
    return [{"arm": arm, "n": n, "flip": flip, "hostile": hostile, "cells": len(gains), "gain": round(_mean(gains), 4),
             "standard_error": round(math.sqrt(sum((g - _mean(gains)) ** 2 for g in gains) / (len(gains) - 1) / len(gains)), 4) if len(gains) > 1 else None}
            for (arm, n, flip, hostile), gains in sorted(groups.items())]


def share_worse(done: Sequence[Result], base: Mapping) -> list[dict]:
    """Per arm, n, flip and hostile share: cells that ended below base at all, and clearly (the whole 95% interval below 0)."""
    groups = defaultdict(list)
    for result in done:
        cell = result.cell
        groups[(cell.arm, cell.n, cell.flip, cell.hostile)].append(paired_gain(result.figures, base, cell.taste))
    return [{"arm": arm, "n": n, "flip": flip, "hostile": hostile, "cells": len(gains), "worse": round(_mean([gain < 0 for gain, _ in gains]), 4),
             "clearly_worse": round(_mean([gain + half < 0 for gain, half in gains]), 4)}
            for (arm, n, flip, hostile), gains in sorted(groups.items())]


def detection(done: Sequence[Result]) -> list[dict]:
    """Per n, flip and hostile share: how well ours told hostile raters from honest ones (mean AUC over cells)."""
    groups = defaultdict(list)
    for result in done:
        found = result.figures.get("report", {}).get("detection_auc")
        if found is not None:
            groups[(result.cell.n, result.cell.flip, result.cell.hostile)].append(found)
    return [{"n": n, "flip": flip, "hostile": hostile, "cells": len(found), "auc": round(_mean(found), 4), "lowest": round(min(found), 4)}
            for (n, flip, hostile), found in sorted(groups.items())]


def _row(key: tuple, group: Sequence[Result], base: Mapping) -> dict:
    short = [_short(result.figures, result.cell.taste, base) for result in group]
    row = {**dict(zip(("arm", "taste", "n", "flip", "hostile"), key, strict=True)),
           "seeds": len({result.cell.seed for result in group}), "rate": group[0].cell.rate}
    for name in short[0]:
        values = [each[name] for each in short if each[name] is not None]
        row[name] = round(_mean(values), 4) if values else None
    row["gold_lowest"], row["gold_highest"] = min(each["gold"] for each in short), max(each["gold"] for each in short)
    return row


def _short(figures: Mapping, taste: str, base: Mapping) -> dict:
    gain, half = paired_gain(figures, base, taste)
    matched = figures["matched_distinct2"]                     # 0 where all replies are empty: one token of the base model's has no pair of words
    return {"gold": figures["gold"][taste], "gain": round(gain, 4), "gain_half": round(half, 4), "answers": float(answers(figures, base)),
            "tokens": figures["tokens"], "nll": figures["nll"], "nll_ratio": round(figures["nll"] / base["nll"], 4), "relevance": round(relevance(figures), 4),
            "overlap": figures["overlap"], "pmi": figures["pmi"], "empty": figures["empty"], "truncated": figures["truncated"],
            "distinct2": figures["distinct2"], "distinct2_ratio": round(figures["distinct2"] / matched, 4) if matched else None,
            "text_nll_ratio": round(figures["text_nll"] / base["text_nll"], 4), "kl_token": figures["kl_token"], "kl_reply": figures["kl_reply"],
            "seconds": figures.get("seconds"), "cpu_seconds": figures.get("cpu_seconds"), "peak_mb": figures.get("peak_mb"),
            "children_peak_mb": figures.get("children_peak_mb"), "tokens_per_second": figures.get("tokens_per_second"),
            "published": float(figures.get("published", False))}


def _name(cell: Cell) -> str:
    return f"{cell.arm} {cell.taste} n={cell.n} seed={cell.seed} flip={cell.flip:g} hostile={cell.hostile:g}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

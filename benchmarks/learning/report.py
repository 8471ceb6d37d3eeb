"""One JSON and one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from benchmarks.learning import plots
from benchmarks.page import shown, table, whole_page

COLUMNS = ("arm", "taste", "n", "flip", "hostile", "rate", "seeds", "gold", "gain", "gain_half", "answers", "tokens", "nll_ratio", "relevance", "empty",
           "truncated", "distinct2_ratio", "text_nll_ratio", "kl_token", "seconds", "cpu_seconds", "peak_mb", "children_peak_mb", "tokens_per_second", "published")

def write(folder: Path, summary: Mapping, about: Mapping, results: Sequence[Mapping]) -> tuple[Path, Path]:
    """`results.json` (everything) and `report.html` in `folder`."""
    data, page = folder / "results.json", folder / "report.html"
    data.write_text(json.dumps({"about": about, "summary": summary, "cells": results}, indent=1, ensure_ascii=False), encoding="utf-8")
    page.write_text(html(summary, about, results), encoding="utf-8")
    return data, page


def html(summary: Mapping, about: Mapping, results: Sequence[Mapping]) -> str:
    tastes = list(summary["base_gold"])
    parts = [
        "<h1>Learning from ratings</h1>", f"<p><code>{escape(about['command'])}</code></p>", f"<p>{escape(_sentence(about))}</p>",
        "<p>Gold reward is the probability that the simulated person gives a thumb up, on prompts whose topics were never rated. "
        "<i>answers</i> is the share of cells whose replies still answer: the base model's NLL per token of them is within 10% of its own replies', "
        "overlap with the prompt is at least 95% of the base model's first as many tokens, and none is empty that the base would not leave empty. "
        "<i>distinct2_ratio</i> is against the base model's replies cut to the same lengths; <i>seconds</i> run from ratings to a saved adapter; "
        "<i>peak_mb</i> is of the process that trains, <i>children_peak_mb</i> of those beside it: on a CPU our engine samples in one, TRL where it trains.</p>",
        "<h2>Gold reward</h2>", table([*summary["base"], *summary["rows"]], COLUMNS)]
    if summary["rows"]:
        parts += [plots.gold_against_n(summary, tastes), "<h2>Gold reward and distance from base</h2>", plots.gold_against_kl(summary),
                  "<h2>Worse than base</h2>", plots.bars(summary["worse"], "clearly_worse", "share of cells clearly worse than base", 0.02),
                  table(summary["worse"], ("arm", "n", "flip", "hostile", "cells", "worse", "clearly_worse"))]
    if summary["detection"]:
        parts += ["<h2>Hostile raters told from honest ones</h2>", plots.bars(summary["detection"], "auc", "AUC", 0.9),
                  table(summary["detection"], ("n", "flip", "hostile", "cells", "auc", "lowest"))]
    parts += ["<h2>Mean gain over tastes</h2>", table(summary["by_n"], ("arm", "n", "flip", "hostile", "cells", "gain", "standard_error")),
              "<h2>Learning rates tried</h2>", table(summary["sweep"], ("arm", "taste", "n", "rate", "gold", "answers", "nll_ratio", "relevance", "tokens", "seconds")),
              "<h2>Replies</h2>", *_examples(results)]
    if summary["missing"] or summary["failed"]:
        parts += ["<h2>Not measured</h2>", "<ul>", *(f"<li>{escape(name)}</li>" for name in [*summary["missing"], *summary["failed"]]), "</ul>"]
    return whole_page("Learning from ratings", parts)


def _sentence(about: Mapping) -> str:
    machine = about["machine"]
    return (f"{about['date']}, {machine['device']}, {machine['cores']} cores, matrix products up to {machine['bf16_tflops']} TFLOP/s in bf16 and "
            f"{machine['fp32_tflops']} in fp32 under a load of {machine['load']}; base model {about['base_model']}.")


def _examples(results: Sequence[Mapping]) -> list[str]:
    """The first replies of each arm's newest cell: reward alone says nothing, so they are there to be read."""
    newest = {result["cell"]["arm"]: result for result in results if result["figures"].get("examples")}
    parts = []
    for arm, result in newest.items():
        cell = result["cell"]
        parts.append(f"<h3>{escape(arm)}</h3><p>{escape(cell['taste'])}, n={cell['n']}, rate {shown(cell['rate'])}</p>")
        parts += [f"<p><b>{escape(each['prompt'])}</b></p><blockquote>{escape(each['reply']) or '<i>(empty)</i>'}</blockquote>"
                  for each in result["figures"]["examples"][:4]]
    return parts

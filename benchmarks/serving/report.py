"""One JSON and one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from benchmarks.page import as_svg, plt, table, whole_page

COLOURS = {"ours": "#d62728", "transformers": "#1f77b4", "llama.cpp": "#2ca02c", "vllm": "#9467bd"}
SPEED = ("engine", "streams", "repeats", "tokens_per_second", "first_token", "last_first_token", "gap_p50", "gap_p95", "gap_p99", "gap_max", "peak_mb")


def write(folder: Path, about: Mapping, summary: Mapping, rows: Sequence[Mapping]) -> tuple[Path, Path]:
    """`results.json` (everything) and `report.html` in `folder`."""
    data, page = folder / "results.json", folder / "report.html"
    data.write_text(json.dumps({"about": about, "summary": summary, "measured": rows}, indent=1) + "\n", encoding="utf-8")
    page.write_text(html(about, summary), encoding="utf-8")
    return data, page


def html(about: Mapping, summary: Mapping) -> str:
    machine = about["machine"]
    parts = ["<h1>Serving</h1>", f"<p><code>{escape(about['command'])}</code></p>",
             f"<p>{about['date']}, {escape(machine['device'])}, {machine['cores']} cores, load {machine['load']} when it began, memory copied at {machine['copy_gb_per_second']} GB/s (read and written); base model {escape(about['base_model'])} with "
             "a rank-8 adapter. Every engine is a process of its own on the same weights; they take turns. peak_mb is the most memory during the measurement, of the engine's processes together. Times are seconds, medians over repeats; greatest gaps, memory and dropped replies are the worst repeat's.</p>",
             "<h2>Claims</h2>", table(summary["claims"], ("claim", "measured", "wanted", "met"))]
    if speeds := summary.get("streams"):
        parts += ["<h2>Replies at once</h2>", against_streams(speeds), table(speeds, SPEED)]
    if talks := summary.get("conversation"):
        parts += ["<h2>A conversation of six turns</h2>", conversation(talks), table(talks, ("engine", "repeats", "first_token_sum", "peak_mb"))]
    if long := summary.get("reading"):
        parts += ["<h2>A long prompt</h2><p>Beside it: four replies that are being written meanwhile. Late: how long another thread of our process waits for its turn then.</p>",
                  table(long, ("engine", "repeats", "prompt_tokens", "first_token", "stop_heard", "first_token_after_stop", "first_token_beside", "gap_p50", "gap_max_beside", "late_p95", "late_max"))]
    if swaps := summary.get("swap"):
        parts += ["<h2>A version is swapped in</h2>", *(swap(row) for row in swaps),
                  table(swaps, ("engine", "streams", "repeats", "build", "dropped", "outlived_build", "gap_p50_before", "gap_p50", "gap_p95", "gap_max", "new_first_token"))]
    if beside := summary.get("learner"):
        parts += ["<h2>The learner trains</h2>",
                  table(beside, ("engine", "streams", "repeats", "idle_gap_p50", "gap_p50", "idle_gap_p95", "gap_p95", "gap_max", "idle_tokens_per_second", "tokens_per_second"))]
    parts += ["<h2>From nothing to a first token</h2>", table([{"engine": engine, "seconds": seconds} for engine, seconds in about["cold_start"].items()], ("engine", "seconds"))]
    if app := summary.get("app"):
        parts += ["<p>The whole app, with its pages, its store and the merging of the model's file; and started again, with that file at hand:</p>", table(app, ("engine", "repeats", "first_page", "first_token", "peak_mb", "again_first_page", "again_first_token"))]
    if crowds := summary.get("crowd"):
        parts += ["<h2>A crowd in front of the app</h2><p>Through the public API, several times over; the worst time counts. Memory after each time: the server's own process, and with its engine's, whose "
                  "attention cache fills up to its limit.</p>",
                  table(crowds, ("engine", "people", "answered", "saw_a_place", "last_place", "out_of_turn", "later", "told_busy", "neither", "busy_seconds", "first_token", "last_first_token", "seconds", "server_mb", "in_all_mb"))]
    if about["failed"]:
        parts += ["<h2>Not measured</h2><ul>", *(f"<li>{escape(line)}</li>" for line in about["failed"]), "</ul>"]
    return whole_page("Serving", parts)


def against_streams(rows: Sequence[Mapping]) -> str:
    """Tokens a second, time to the first token, and gaps (median, and dotted the 99th percentile), by replies at once."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    for engine in dict.fromkeys(row["engine"] for row in rows):
        mine = sorted((row for row in rows if row["engine"] == engine), key=lambda row: row["streams"])
        streams, style = [row["streams"] for row in mine], {"color": COLOURS.get(engine), "marker": "o", "linewidth": 1.4}
        axes[0].plot(streams, [row["tokens_per_second"] for row in mine], label=engine, **style)
        axes[1].plot(streams, [row["first_token"] for row in mine], **style)
        axes[2].plot(streams, [1000 * row["gap_p50"] for row in mine], **style)
        axes[2].plot(streams, [1000 * row["gap_p99"] for row in mine], **{**style, "linestyle": ":", "marker": "."})
    ticks = sorted({row["streams"] for row in rows})
    for axis, label in zip(axes, ("tokens a second in all", "first token, s (median reply)", "gap between tokens, ms"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set(xlabel="replies at once", ylabel=label)
    axes[1].set_yscale("log")
    axes[2].set_yscale("log")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    return as_svg(figure)


def conversation(rows: Sequence[Mapping]) -> str:
    figure, axis = plt.subplots(figsize=(5.5, 3.4))
    for row in rows:
        axis.plot(range(1, len(row["first_tokens"]) + 1), row["first_tokens"], label=row["engine"], color=COLOURS.get(row["engine"]), marker="o")
    axis.set(xlabel="turn", ylabel="first token, s")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)
    return as_svg(figure)


def swap(row: Mapping) -> str:
    """Every gap of one swap at the moment it began; the new version is built in the shaded time."""
    figure, axis = plt.subplots(figsize=(8, 3))
    moments, lengths = zip(*row["line"], strict=True)
    axis.axvspan(0, row["build"], color="#eeeeee")
    axis.scatter(moments, [1000 * length for length in lengths], s=4, color=COLOURS["ours"])
    axis.set(xlabel="seconds since the swap began", ylabel="gap, ms")
    axis.set_ylim(bottom=0)
    return as_svg(figure)

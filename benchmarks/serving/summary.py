"""Figures over repeats, and the comparisons that are claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.serving.figures import over_repeats
from benchmarks.serving.jobs import OURS, Job

Rows = Sequence[tuple[Job, Mapping]]


def summarise(done: Rows) -> dict:
    """{work: [a row for each engine and number of replies]} and `claims`."""
    found: dict = {}
    for work in dict.fromkeys(job.work for job, _ in done):
        keys = dict.fromkeys((job.engine, job.streams) for job, _ in done if job.work == work)
        found[work] = [{"engine": engine, "streams": streams, "repeats": len(rows), **over_repeats(rows)}
                       for engine, streams in keys
                       if (rows := [figures for job, figures in done if (job.work, job.engine, job.streams) == (work, engine, streams)])]
    return {**found, "claims": claims(found)}


def claims(found: Mapping) -> list[dict]:
    """What the project sets out to reach, with what was measured; a comparison with an engine that was not measured is left out."""
    rows = []

    def add(claim: str, measured: float | None, wanted: str, met: bool) -> None:
        rows.append({"claim": claim, "measured": measured, "wanted": wanted, "met": "yes" if met else "no"})

    def rate(engine: str, streams: int) -> float | None:
        return next((row["tokens_per_second"] for row in found.get("streams", ()) if (row["engine"], row["streams"]) == (engine, streams)), None)

    for other, streams, least in (("llama.cpp", 1, 0.9), ("vllm", 8, 6.0), ("transformers", 8, 2.5)):
        if (ours := rate(OURS, streams)) and (theirs := rate(other, streams)):
            add(f"tokens a second, {streams} at once, against {other}", ours / theirs, f"at least {least:g}", ours / theirs >= least)
    talks = {row["engine"]: row["first_token_sum"] for row in found.get("conversation", ())}
    if OURS in talks and "transformers" in talks:
        ratio = talks[OURS] / talks["transformers"]
        add("time to the first tokens of a 6-turn conversation, against transformers", ratio, "at most 0.5", ratio <= 0.5)
    for row in found.get("swap", ()):
        add("replies dropped by a swap", row["dropped"], "0", row["dropped"] == 0)
        ratio, all_saw_it = row["gap_max"] / row["gap_p50_before"], row["outlived_build"] == row["streams"]
        add("largest gap during a swap, in medians before it", ratio, f"under 4, all {row['streams']} replies outlasting it", ratio < 4 and all_saw_it)
    for row in found.get("learner", ()):
        ratio = row["gap_p95"] / row["idle_gap_p95"]
        add("p95 gap while the learner trains, against idle", ratio, "at most 1.6", ratio <= 1.6)
    for row in found.get("app", ()):
        add("cold start of the app to a first token, seconds", row["first_token"], "under 12", row["first_token"] < 12)
    for row in found.get("crowd", ()):
        people, seconds = row["people"], row["busy_seconds"]
        add(f"{people} people at once, answered", row["answered"], f"{people}", row["answered"] == people)
        add(f"{people} people at once, out of turn", row["out_of_turn"], "0", row["out_of_turn"] == 0)
        if seconds is not None:
            add("past the limit, seconds until one hears that it is busy", seconds, "under 1, nobody left without an answer", seconds < 1 and row["told_busy"] > 0 and row["neither"] == 0)
    return rows

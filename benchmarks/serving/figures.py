"""Arrival times as the figures we report: pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median


def quantile(values: Iterable[float], share: float) -> float:
    """The value that `share` of all are at most, without interpolation; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(round(share * 1e6)) * len(ordered) // 10**6) - 1))] if ordered else float("nan")


def gaps(times: Sequence[Sequence[float]]) -> list[float]:
    """Seconds between neighbouring tokens of the same reply, of all replies."""
    return [later - earlier for reply in times for earlier, later in pairwise(reply)]


def of_replies(times: Sequence[Sequence[float]]) -> dict:
    """Figures of replies asked for at moment 0.

    Args: times: for each reply the seconds at which its tokens arrived.
    """
    found = gaps(times)
    return {"tokens_per_second": sum(map(len, times)) / max(reply[-1] for reply in times),
            "first_token": median(reply[0] for reply in times), "last_first_token": max(reply[0] for reply in times),
            "gap_p50": quantile(found, 0.5), "gap_p95": quantile(found, 0.95), "gap_p99": quantile(found, 0.99), "gap_max": max(found, default=float("nan"))}


def during(times: Sequence[Sequence[float]], start: float, end: float) -> list[float]:
    """Gaps that overlap the time from `start` to `end`."""
    return [later - earlier for reply in times for earlier, later in pairwise(reply) if later > start and earlier < end]


GREATEST = ("dropped", "gap_max", "idle_gap_max", "gap_max_beside", "late_max", "peak_mb")
LEAST = ("outlived_build",)
"""Figures of the worst case: a median over repeats would hide the one repeat in which it happened."""


def over_repeats(rows: Sequence[Mapping]) -> dict:
    """Each figure's median over repeats, or its worst value; figures that are lists element by element, anything else from the first."""
    found = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows if row.get(name) is not None]
        of = max if name in GREATEST else min if name in LEAST else median
        if isinstance(first, list) and first and isinstance(first[0], (int, float)):
            found[name] = [median(column) for column in zip(*values, strict=False)]
        else:
            found[name] = of(values) if values and all(isinstance(value, (int, float)) for value in values) else first
    return found

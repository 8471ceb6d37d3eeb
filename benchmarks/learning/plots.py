"""The report's figures as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.page import as_svg, plt

COLOURS = {"base": "#777777", "sft": "#8c6d31", "reinforce": "#9467bd", "trl-kto": "#1f77b4", "trl-rloo": "#17becf", "best-of-4": "#2ca02c", "ours": "#d62728", "ours-refined": "#7f0000"}


def gold_against_n(summary: Mapping, tastes: Sequence[str]) -> str:
    """One panel a taste: mean over seeds at the first flip and hostile share, bars from the lowest seed to the highest."""
    rows = _first_setting(summary["rows"])
    figure, axes = plt.subplots(1, len(tastes), figsize=(4 * len(tastes), 3.4), squeeze=False)
    for axis, taste in zip(axes[0], tastes, strict=True):
        for arm in _arms(rows):
            points = sorted((row["n"], row["gold"], row["gold_lowest"], row["gold_highest"]) for row in rows if (row["arm"], row["taste"]) == (arm, taste))
            if points:
                n, gold, low, high = zip(*points, strict=True)
                axis.errorbar(n, gold, [[max(0.0, g - x) for g, x in zip(gold, low)], [max(0.0, x - g) for g, x in zip(gold, high)]],
                              label=arm, color=COLOURS.get(arm), marker="o", capsize=2, linewidth=1.4)
        axis.axhline(summary["base_gold"][taste], color=COLOURS["base"], linestyle=":", label="base")
        axis.set(title=taste, xlabel="rated replies", ylim=(0, 1))
        axis.set_xscale("log", base=2)
        ticks = sorted({row["n"] for row in rows})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axes[0][0].set_ylabel("gold reward, held-out")
    axes[0][-1].legend(fontsize=7)
    return as_svg(figure)


def gold_against_kl(summary: Mapping) -> str:
    """Gain over base against the square root of KL(policy || base) per reply; hollow where replies no longer answer."""
    figure, axis = plt.subplots(figsize=(5.5, 3.6))
    for row in [*summary["rows"], *summary["sweep"]]:
        axis.scatter(math.sqrt(max(0.0, row["kl_reply"])), row["gain"], s=28, edgecolors=COLOURS.get(row["arm"]), marker="o",
                     facecolors=COLOURS.get(row["arm"]) if row["answers"] >= 0.5 else "none")
    for arm in _arms([*summary["rows"], *summary["sweep"]]):
        axis.scatter([], [], color=COLOURS.get(arm), label=arm)
    axis.axhline(0, color=COLOURS["base"], linestyle=":")
    axis.set(xlabel="√KL from base per reply, nats", ylabel="gold reward above base")
    axis.legend(fontsize=7)
    return as_svg(figure)


def bars(rows: Sequence[Mapping], value: str, label: str, limit: float | None = None) -> str:
    """One bar a row, named by its arm and setting."""
    figure, axis = plt.subplots(figsize=(6.5, 0.6 + 0.28 * max(1, len(rows))))
    names = [f"{row.get('arm', 'ours')} n={row['n']} flip={row['flip']:g} hostile={row['hostile']:g} ({row['cells']})" for row in rows]
    axis.barh(names, [row[value] for row in rows], color=[COLOURS.get(row.get("arm", "ours")) for row in rows])
    if limit is not None:
        axis.axvline(limit, color="black", linestyle=":")
    axis.set(xlabel=label, xlim=(0, 1))
    axis.invert_yaxis()
    axis.tick_params(labelsize=7)
    return as_svg(figure)


def _first_setting(rows: Sequence[Mapping]) -> list[Mapping]:
    setting = min(((row["flip"], row["hostile"]) for row in rows), default=None)
    return [row for row in rows if (row["flip"], row["hostile"]) == setting]


def _arms(rows: Sequence[Mapping]) -> list[str]:
    return [arm for arm in COLOURS if any(row["arm"] == arm for row in rows)]


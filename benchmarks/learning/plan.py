"""Which cells run: the sweep first, then the grid at each arm's best rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.learning.arms import RATES, RUNS_THE_LEARNER
from benchmarks.learning.cells import Cell, Result

MAX_NLL_CHANGE = 0.10
"""Base model's NLL per token of an arm's replies, relative to its own replies'."""
MIN_RELEVANCE = 0.95
"""Overlap with the prompt, against the base model's own replies cut to the same lengths."""


@dataclass(frozen=True)
class Grid:
    """What was asked for on the command line."""

    arms: tuple[str, ...]
    tastes: tuple[str, ...]
    n: tuple[int, ...]
    seeds: tuple[int, ...]
    crowd: str
    flips: tuple[float, ...]
    hostile: tuple[float, ...]
    base_model: str
    max_new_tokens: int
    held_out: int
    code: str
    rates: Mapping[str, tuple[float | None, ...]]
    """Per arm; one rate means that it is not swept."""
    sweep_seed: int
    """Ratings the rates are chosen on; a seed of the grid itself gives every arm the best rate of that very draw."""
    sweep_tastes: tuple[str, ...]

    def cell(self, arm: str, **at) -> Cell:
        return Cell(arm=arm, crowd=self.crowd, base_model=self.base_model, max_new_tokens=self.max_new_tokens, held_out=self.held_out,
                    code=self.code if arm in RUNS_THE_LEARNER else "", **at)

    def base_cell(self) -> Cell:
        """The base model's replies are the same whatever was rated: one cell."""
        return replace(self.cell("base", taste=self.tastes[0], n=0, seed=0), crowd="one")

    def settings(self) -> list[dict]:
        """Taste, n, flip and hostile share of every set of ratings, seeds aside."""
        return [dict(taste=taste, n=n, flip=flip, hostile=hostile) for n in self.n for taste in self.tastes
                for flip in self.flips for hostile in self.hostile]

    def sweep(self) -> list[Cell]:
        """Every arm at every rate, at each n, on the sweep's tastes and ratings, at the first flip and hostile share."""
        return [self.cell(arm, taste=taste, n=n, flip=self.flips[0], hostile=self.hostile[0], seed=self.sweep_seed, rate=rate)
                for n in self.n for taste in self.sweep_tastes for arm in self.arms if len(self.rates[arm]) > 1 for rate in self.rates[arm]]

    def cells(self, results: Mapping[str, Result]) -> list[Cell]:
        """The grid at each arm's best rate by n; call it when the sweep's results are there. Seeds are the outermost loop."""
        best = {(arm, n): self.best_rate(arm, n, results) for arm in self.arms for n in self.n}
        return [self.cell(arm, seed=seed, rate=best[arm, at["n"]], **at)
                for seed in self.seeds for at in self.settings() for arm in self.arms if arm != "base"]

    def best_rate(self, arm: str, n: int, results: Mapping[str, Result]) -> float | None:
        """The rate with the highest mean gold reward among those whose replies still answer; among all when none do.

        One rule for all arms, ours included.
        """
        rates = self.rates[arm]
        if len(rates) == 1:
            return rates[0]
        base = results.get(self.base_cell().key)
        swept = {}
        for cell in self.sweep():
            result = results.get(cell.key)
            if (cell.arm, cell.n) == (arm, n) and result and result.error is None:
                swept.setdefault(cell.rate, []).append(result)
        if not swept:
            return rates[len(rates) // 2]
        answering = {rate: found for rate, found in swept.items() if base and all(answers(result.figures, base.figures) for result in found)}
        return max(answering or swept, key=lambda rate: mean_gold((answering or swept)[rate]))


def answers(figures: Mapping, base: Mapping) -> bool:
    """Whether replies still answer: as likely to the base model as its own within a tenth, on topic, none empty."""
    return (abs(figures["nll"] / base["nll"] - 1) <= MAX_NLL_CHANGE and figures["empty"] <= base["empty"]
            and relevance(figures) >= MIN_RELEVANCE)


def relevance(figures: Mapping) -> float:
    """Overlap with the prompt, against the base model's own replies cut to the same lengths; 1 is as relevant."""
    return figures["overlap"] / figures["matched_overlap"] if figures.get("matched_overlap") else 1.0


def mean_gold(results: Iterable[Result]) -> float:
    values = [result.figures["gold"][result.cell.taste] for result in results]
    return sum(values) / len(values)


def chosen_rates(arms: Sequence[str], rates: int | None, quick: bool) -> dict[str, tuple[float | None, ...]]:
    """Each arm's sweep, thinned to `rates` of them around the middle; `quick` sweeps two."""
    count = rates or (2 if quick else 3)
    return {arm: _middle(RATES[arm], count) for arm in arms}


def _middle(values: tuple, count: int) -> tuple:
    start = (len(values) - count + 1) // 2 if len(values) > count else 0
    return values[start:start + count]

"""A progress bar on the terminal for the first start's download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def terminal_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yields `progress(label, done, total)` in bytes; draws one bar a label on standard error."""
    bars: dict[str, tqdm] = {}

    def progress(label: str, done: int, total: int) -> None:
        bar = bars.get(label)
        if bar is None:
            bar = bars[label] = tqdm(desc=label, total=total or None, initial=done, unit="B", unit_scale=True)
        bar.total = total or None
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()

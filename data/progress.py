"""A progress bar on the terminal for the first start's download."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def terminal_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yields `progress(label, done, total)` in bytes; one bar a label, one after the other, on standard error."""
    bar: tqdm | None = None

    def progress(label: str, done: int, total: int) -> None:
        nonlocal bar
        if bar is None or bar.desc != f"{label}: ":          # tqdm appends the colon
            if bar is not None:
                bar.close()
            bar = tqdm(desc=label, total=total or None, initial=done, unit="B", unit_scale=True,
                       mininterval=0.1 if sys.stderr.isatty() else 10)          # a log file gets a line now and then
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()

"""What the terminal shows while a start takes long: a bar for the download, a line now and then for what has none."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

PATIENCE_SECONDS = 15.0


@contextmanager
def terminal_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yields `progress(label, done, total)` in bytes; one bar a label, one after the other, on standard error."""
    bar: tqdm | None = None
    labelled: str | None = None

    def progress(label: str, done: int, total: int) -> None:
        nonlocal bar, labelled
        if bar is None or label != labelled:
            if bar is not None:
                bar.close()
            labelled = label
            bar = tqdm(desc=label, total=total or None, initial=done, unit="B", unit_scale=True,
                       mininterval=0.1 if sys.stderr.isatty() else 10)          # a log file gets a line now and then
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def terminal_patience(doing: str, every: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Says on standard output what is being done inside, and every so many seconds that it still is: a minute without a line looks like a hang."""
    begun, ended = time.monotonic(), threading.Event()
    print(f"{doing} ...", flush=True)

    def remind() -> None:
        while not ended.wait(every):
            print(f"{doing} ... {time.monotonic() - begun:.0f} s", flush=True)

    thread = threading.Thread(target=remind, name="patience", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""How the learner gives way to the chat beside it on the same cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

Found = TypeVar("Found")

NICENESS = 10
"""Beside threads that never rest this is a tenth of a core."""
_computes_idle = False


def give_way(*, idle: bool) -> None:
    """This process computes after the chat. Call it before torch is loaded.

    Nor does it spin: threads that wait for each other by spinning take the processor from the chat beside them; with both cores busy,
    sleeping instead made training 2.4 times faster. torch reads that when it is loaded.

    Args: idle: what it computes is also idle work, see `as_idle_work`. Never the thread that calls: it renews the lease and writes to the
        store, and would hold the store's lock from the chat for as long as it is put aside.
    """
    global _computes_idle
    _computes_idle = idle
    os.nice(max(0, NICENESS - os.nice(0)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def computes_idle() -> bool:
    """Whether what this process computes is to be idle work."""
    return _computes_idle


def as_idle_work() -> None:
    """This thread, and what it starts from now on, is idle work if the process gave way so, and if the system knows that.

    Whoever wakes takes the core from it at once, where niceness alone lets it end its slice while a reply's next token waits; beside
    threads that never rest it stands still. Without rights a thread cannot be anything else again.
    """
    if _computes_idle and hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):                              # a sandbox may not let it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def started_as_idle_work(start: Callable[[], Found]) -> Found:
    """`start()`, whose processes and threads are idle work."""
    with ThreadPoolExecutor(1, initializer=as_idle_work) as pool:
        return pool.submit(start).result()

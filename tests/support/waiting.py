"""Waiting for what another thread or process does, or a coroutine."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor


def in_a_loop(coroutine):
    """What it returns, in an event loop of its own: this thread's may be that of a browser which other tests use too."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def until(condition, seconds: float = 180):
    """The condition's first value that is true; fails when there is none after so long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value

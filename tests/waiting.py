"""Waiting for what another thread or process does."""

from __future__ import annotations

import time


def until(condition, seconds: float = 180):
    """The condition's first value that is true; fails when there is none after so long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value

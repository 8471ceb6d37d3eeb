"""A value that is asked for far more often than it is worth finding out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
SHARE = 20
"""Finding it takes no more than one part in so many of the time, however long once takes."""


class Cached(Generic[T]):
    """What `find` returns, from when it was asked last: one caller at a time finds it out, and meanwhile the others are told what was found before."""

    def __init__(self, find: Callable[[], T], least_seconds: float = 0.0) -> None:
        """Args: least_seconds: how old it may become in any case."""
        self._find, self._least_seconds = find, least_seconds
        self._lock = threading.Lock()
        self._found: tuple[T] | None = None
        self._again_at = 0.0

    def __call__(self) -> T:
        """Raises: what `find` does; the next caller asks it again."""
        if not self._lock.acquire(blocking=self._found is None):
            return self._found[0]
        try:
            if self._found is None or time.monotonic() >= self._again_at:
                begun = time.monotonic()
                self._found = (self._find(),)
                found_at = time.monotonic()
                self._again_at = found_at + max(self._least_seconds, SHARE * (found_at - begun))
            return self._found[0]
        finally:
            self._lock.release()

    def forget(self) -> None:
        """It has changed: the next caller asks again."""
        self._again_at = 0.0

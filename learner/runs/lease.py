"""One learner at a time: a lease in the store, kept alive by a thread while the run computes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from data.adapters import LEARNER_LEASE
from data.errors import Busy, ChatError
from data.processes import this_holder
from data.sentences import said
from data.store import Store

SECONDS = 20.0
"""A learner that was killed is succeeded this much later at the latest."""


@contextmanager
def learner_lease(store: Store, wait: float = 2 * SECONDS, seconds: float = SECONDS) -> Iterator[threading.Event]:
    """Hold the learner's lease inside. Yields what is set when another learner has taken it: this process slept too long, say.

    Raises: Busy: another learner still held it after `wait` seconds.
    """
    owner = this_holder()
    give_up = time.monotonic() + wait
    while not store.acquire_lease(LEARNER_LEASE, owner, seconds):
        if time.monotonic() > give_up:
            raise Busy(said("another_learner"))
        time.sleep(0.25)
    ended, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not ended.wait(seconds / 4):
            try:
                if not store.renew_lease(LEARNER_LEASE, owner, seconds):
                    lost.set()
            except ChatError:                                # a busy or a full disk: the next renewal comes before the lease runs out
                continue
            except Exception:                                # nobody renews it any more
                lost.set()
                raise
        store.close()                                        # this thread's connection

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()
        store.release_lease(LEARNER_LEASE, owner)

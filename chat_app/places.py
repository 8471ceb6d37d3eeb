"""The bounded set of replies that are being written or wait in line, at most one in a conversation; and those that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chat_app.replies import ReplyJob
from data.errors import Busy
from data.sentences import said

SHARE, AT_LEAST = 8, 2
"""One person has one in so many of the places at most, so that a script that sends again and again is not before everybody, but so many in any case: two tabs are common."""


class Places:
    """Thread-safe. A place is reserved before any work is done, so that two clicks cannot start two replies."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._jobs: dict[str, ReplyJob] = {}
        self._reserved: list[tuple[str | None, str]] = []
        self._aside: list[ReplyJob] = []
        self._lock = threading.Lock()

    @contextmanager
    def reserve(self, where: str | None, rater_id: str) -> Iterator[Callable[[ReplyJob], ReplyJob]]:
        """A place for one reply, given back unless the function it yields is called with the job, which it starts.

        Args: where: what has one running reply at most: a conversation's id, None for a new one; or another name of the caller's.
        Raises: Busy: there it has one already, this person has their share of the places, or every place is taken.
        """
        place = where, rater_id
        filled: list[ReplyJob] = []

        def fill(job: ReplyJob) -> ReplyJob:
            with self._lock:                      # all at once: when the job ends, soon perhaps, its place is nobody's any more
                self._jobs[where or job.conversation_id] = job
                self._reserved.remove(place)
                filled.append(job)
                job.start()
            return job

        with self._lock:
            self._forget_finished()
            if where in self._jobs or (where and where in [reserved for reserved, _ in self._reserved]):
                raise Busy(said("still_written"))
            theirs = [*(job.rater_id for job in self._jobs.values()), *(rater for _, rater in self._reserved)].count(rater_id)
            if theirs >= max(AT_LEAST, self.limit // SHARE):
                raise Busy(said("your_places_taken", n=theirs))
            if len(self._jobs) + len(self._reserved) >= self.limit:
                raise Busy(said("all_places_taken", places=self.limit))
            self._reserved.append(place)
            self._give_way()
        try:
            yield fill
        finally:
            if not filled:
                with self._lock:
                    self._reserved.remove(place)

    def fill_aside(self, make: Callable[[], ReplyJob]) -> None:
        """Start a reply that nobody waits for, unless one that somebody waits for is written; it ends as soon as one begins."""
        with self._lock:
            self._forget_finished()
            if self._jobs or self._reserved:
                return
        job = make()
        with self._lock:
            self._aside.append(job)
            if self._jobs or self._reserved:      # somebody came meanwhile
                self._give_way()
            job.start()

    def running(self, where: str) -> ReplyJob | None:
        with self._lock:
            self._forget_finished()
            return self._jobs.get(where)

    def all(self) -> list[ReplyJob]:
        """Those written aside too."""
        with self._lock:
            return [*self._jobs.values(), *self._aside]

    def _give_way(self) -> None:
        for job in self._aside:
            job.cancel()

    def _forget_finished(self) -> None:
        self._jobs = {key: job for key, job in self._jobs.items() if not job.done or job.unsaved}
        self._aside = [job for job in self._aside if not job.done]

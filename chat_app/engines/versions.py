"""What every engine does with its versions: one worker each, built beside the others, freed after its last reply."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from chat_app.engines.protocol import VersionNotLoaded
from chat_app.engines.streams import FedStream
from data.records import Sampling
from data.sentences import said

CLOSE_SECONDS = 30.0
"""How long `close` waits for each worker."""


class Worker(Protocol):
    """Serves one version."""

    @property
    def takes_work(self) -> bool:
        """Neither retired nor dead."""
        ...

    def submit(self, prompt_ids: Sequence[int], sampling: Sampling) -> FedStream | None:
        """A stream, or None when this worker takes no more. Raises: MessageTooLong."""
        ...

    def retire(self, *, cancel: bool = False) -> None:
        """Take no more work, and free everything after the replies there are (or cancel them). Returns at once."""
        ...

    def join(self, seconds: float) -> None:
        """Wait until a retired worker has freed everything."""
        ...


class VersionedEngine(ABC):
    """An `Engine` but for how a version is started."""

    name: str

    def __init__(self) -> None:
        self._workers: dict[int, Worker] = {}
        self._lock = threading.Lock()
        self._load_lock = threading.Lock()

    @abstractmethod
    def _start(self, version: int, adapter: Path | None) -> Worker:
        """A worker for `version`, proven to work. Called by one thread at a time; may take seconds."""

    def stream(self, prompt_ids: Sequence[int], sampling: Sampling, version: int) -> FedStream:
        with self._lock:
            worker = self._workers.get(version)
            stream = worker.submit(prompt_ids, sampling) if worker else None
        if stream is None:
            raise VersionNotLoaded(said("version_not_loaded", version=version))
        return stream

    def load(self, version: int, adapter: Path | None) -> None:
        with self._load_lock:
            if version in self.loaded():
                return
            worker = self._start(version, adapter)
            with self._lock:
                dead = self._workers.get(version)
                self._workers[version] = worker
            if dead:
                dead.retire()

    def unload(self, version: int, *, at_once: bool = False) -> None:
        """Args: at_once: end its replies, and return when everything of it is freed."""
        with self._lock:
            worker = self._workers.pop(version, None)
        if worker:
            worker.retire(cancel=at_once)
            if at_once:
                worker.join(CLOSE_SECONDS)

    def loaded(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(sorted(version for version, worker in self._workers.items() if worker.takes_work))

    def close(self) -> None:
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.retire(cancel=True)
        for worker in workers:
            worker.join(CLOSE_SECONDS)

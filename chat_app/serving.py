"""Which version answers: follows the live version in the store and swaps engine states without dropping a stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from chat_app.engines.protocol import Engine, EngineAway, EngineDied, ReplyStream, VersionNotLoaded
from data.adapters import AdapterRegistry
from data.errors import Busy, ChatError, ModelUnavailable, StorageFull
from data.records import BASE_VERSION, BaseModel, Sampling
from data.sentences import Said, said
from data.store import Store

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often the store is asked which version is live ..."""
TROUBLE_SECONDS = 5.0
"""... and how long after a try that came to nothing."""
DEATH_SECONDS = (5.0, 60.0, 300.0)
"""How long after each death in a row of the process that loads a version it is tried again: memory runs out, and is there again. One death more is the version's own fault."""


@dataclass(frozen=True)
class Started:
    """A stream that an engine accepted, and which version writes it."""

    stream: ReplyStream
    version: int
    adapter_sha256: str | None
    begun: float
    """When, on the monotonic clock: the first token may be there before anybody reads."""


@dataclass(frozen=True)
class Change:
    """A version on its way into the engine, while another one answers."""

    version: int
    seconds: float
    """Since it was begun."""
    trouble: ChatError | None
    """Why the last try came to nothing; it is tried again."""


@dataclass
class _Tries:
    """What is known of the tries to load one version."""

    version: int
    begun: float
    trouble: ChatError | None = None
    deaths: int = 0
    again_at: float = 0.0


class Serving:
    """Keeps the engine on the live version.

    `start()` loads it and starts a thread that looks at the store twice a second: a new live version is built beside the
    running one, new replies go to it once it is ready, and the old one is freed after its streams end. A version
    that cannot be loaded is marked with the reason and the old one stays. What may pass, such as a process that was killed
    for want of memory, marks nothing: it is tried again, and the base model answers meanwhile where nothing else is loaded.
    """

    def __init__(self, engine: Engine, store: Store, registry: AdapterRegistry, base: BaseModel) -> None:
        self.engine, self.store, self.registry, self.base = engine, store, registry, base
        self.live: tuple[int, str | None] = BASE_VERSION, None
        """The version that answers now, and its adapter's sha256; at once, since a reply that begins is stored with both."""
        self._tries: _Tries | None = None
        self._stop = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="version follower", daemon=True)

    def start(self) -> None:
        """Load the live version before anyone is answered; falls back to older ones, at last to the base.

        An engine that is away, or a version that cannot be loaded just now, is no reason not to start: it is tried again until it is there.
        Raises: ModelUnavailable: the base model cannot be read or loaded. StorageFull.
        """
        try:
            while not self._load(self.store.live_version(self.base.id)):
                pass                              # that one is marked, so another one is live
        except ChatError as error:
            if not isinstance(error, EngineAway) and not self.engine.loaded():
                raise
            self._say(error)
        self._follower.start()

    @property
    def version(self) -> int:
        """The version that answers now."""
        return self.live[0]

    @property
    def change(self) -> Change | None:
        """The version that is being loaded, if one is."""
        tries = self._tries
        return None if tries is None else Change(tries.version, time.monotonic() - tries.begun, tries.trouble)

    def stream(self, prompt_ids: Sequence[int], sampling: Sampling) -> Started:
        """Start a reply on the current version.

        Raises: Busy or another ChatError: nothing was started.
        """
        for _ in range(10):                       # the version may be swapped out between reading it and using it
            version, sha256 = self.live
            try:
                begun = time.monotonic()
                return Started(self.engine.stream(prompt_ids, sampling, version), version, sha256, begun)
            except VersionNotLoaded:
                continue
        raise Busy(said("being_swapped"))

    def close(self) -> None:
        self._stop.set()
        if self._follower.is_alive():
            self._follower.join(timeout=30)
        self.engine.close()

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                wanted = self.store.live_version(self.base.id)
                if wanted == self.version and wanted in self.engine.loaded():      # the latter: else its engine state died
                    self._tries = None
                elif self._is_due(wanted):
                    self._load(wanted)
            except ChatError as error:            # the disk is full, a model file is gone, the store is busy: try again at the next look
                self._say(error)
                self._stop.wait(TROUBLE_SECONDS)
            except Exception:
                log.exception("Looking for a new version failed; the server goes on with version %s", self.version)
                self._stop.wait(TROUBLE_SECONDS)

    def _is_due(self, version: int) -> bool:
        return self._tries is None or self._tries.version != version or time.monotonic() >= self._tries.again_at

    def _say(self, trouble: ChatError) -> None:
        if self._tries:
            self._tries.trouble = trouble
        log.warning("%s", trouble)

    def _load(self, version: int) -> bool:
        """Build, switch, free the old one. False when the version is unusable; it is marked then.

        Raises: StorageFull, Busy, ModelUnavailable: no fault of the version's; it may load once they have passed.
        """
        if self._tries is None or self._tries.version != version:
            self._tries = _Tries(version, time.monotonic())
        try:
            self._switch(version)
        except (StorageFull, Busy, ModelUnavailable):
            raise
        except Exception as error:
            log.exception("Version %s cannot be loaded; version %s stays", version, self.version)
            if version == BASE_VERSION:
                raise ModelUnavailable(said("base_cannot_be_loaded", model=self.base.name, error=_words(error))) from error
            if self._may_pass(error):
                self._answer_meanwhile()
                raise Busy(said("cannot_load_now", version=version, error=_words(error))) from error
            self.store.mark_failed(version, error if isinstance(error, ChatError) else ChatError(said("could_not_load", error=str(error))))
            self._tries = None
            return False
        self._tries = None
        return True

    def _switch(self, version: int) -> None:
        adapter = None if version == BASE_VERSION else self.registry.verify(version)
        sha256 = None if version == BASE_VERSION else self.store.version(version).sha256
        if version not in self.engine.loaded():
            self.engine.load(version, adapter)
        old, self.live = self.version, (version, sha256)
        if old != version:
            self.engine.unload(old)               # also one that has died: it takes no replies, and what it holds is held all the same
        log.info("Version %s answers from now on", version)

    def _may_pass(self, error: Exception) -> bool:
        """Whether this says nothing of the version, which is tried again: too little memory, too many open files, and deaths of its process up to a number."""
        if not isinstance(error, EngineDied):
            return isinstance(error, OSError | MemoryError)
        self._tries.deaths += 1
        if self._tries.deaths > len(DEATH_SECONDS):
            return False
        self._tries.again_at = time.monotonic() + DEATH_SECONDS[self._tries.deaths - 1]
        return True

    def _answer_meanwhile(self) -> None:
        """Raises: ModelUnavailable: the base model cannot be loaded either, so what was wrong is no version's fault."""
        if not self.engine.loaded():
            tries = self._tries
            self._load(BASE_VERSION)
            self._tries = tries


def _words(error: Exception) -> Said | str:
    return (error.said if isinstance(error, ChatError) else None) or str(error) or type(error).__name__

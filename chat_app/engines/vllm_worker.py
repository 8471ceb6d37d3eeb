"""One version on a vLLM server: replies as tasks of one event loop, the adapter loaded again when the server has lost it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO

from chat_app.engines.protocol import EngineFailed
from chat_app.engines.streams import FedStream, room_for_reply
from chat_app.engines.vllm_server import Refused, ServerAway, ServerSilent, UnknownModel, VllmServer
from data.records import Sampling
from data.sentences import said

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""How often a reply is asked for while nothing of it came. Behind one address the server that lacks the adapter need not
be the one that has just loaded it, so each attempt loads once more than the one before."""
UNLOADS, MISSES = 24, 3
"""Behind one address every server that has an adapter is to let go of it: asked until so many in a row have none, so often at most."""
PROBES = ((5, 6, 7), (8,))
"""Prompts, beside two end-of-texts, whose next token shows whether a version's numbers can be used."""


class HeldAdapters:
    """Which adapters this process holds on the server: a name may belong to a version's new worker and its dying one.

    Other processes of this machine see it by a shared lock on the adapter's weights, which ends with its process, also when that
    is killed. The last one to let go unloads the adapter.
    """

    def __init__(self, server: VllmServer) -> None:
        self.server = server
        self._counts: Counter[str] = Counter()
        self._marks: dict[str, BinaryIO] = {}
        self._order = asyncio.Lock()

    async def acquire(self, name: str, path: str, folder: Path) -> None:
        """Args: path: of the adapter as the server sees it; folder: as we do."""
        async with self._order:
            if not self._counts[name]:
                self._marks[name] = await asyncio.to_thread(_marked, folder)
            try:
                await self.server.load(name, path)
            except BaseException:
                if not self._counts[name]:
                    self._marks.pop(name).close()
                raise
            self._counts[name] += 1

    async def release(self, name: str) -> None:
        async with self._order:
            self._counts[name] -= 1
            if not self._counts[name]:
                with self._marks.pop(name) as mark:
                    await self._unload_if_nobody_else_holds(name, mark, in_doubt=True)

    async def tidy(self, folders: dict[str, Path]) -> None:
        """Unload those of these adapters that nobody holds: left by a killed process, or by an unloading that failed.

        Only processes on this machine are seen to hold one. Another machine's that reads the same path, or one on a file system
        without locks, may want it still: then its next reply finds it gone and loads it again.
        """
        async with self._order:
            for name, folder in folders.items():
                with contextlib.suppress(FileNotFoundError), _weights(folder).open("rb") as mark:
                    await self._unload_if_nobody_else_holds(name, mark, in_doubt=False)

    async def _unload_if_nobody_else_holds(self, name: str, mark: BinaryIO, *, in_doubt: bool) -> None:
        """Args: in_doubt: whether to unload where the file system has no locks."""
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who wants it now waits until it is gone everywhere
        except BlockingIOError:
            return
        except OSError:
            if not in_doubt:
                return
        missed = 0
        try:
            for _ in range(UNLOADS):
                try:
                    await self.server.unload(name)
                    missed = 0
                except UnknownModel:
                    missed += 1
                    if missed == MISSES:
                        return
        except (ServerAway, Refused) as error:
            log.warning("%s may still be loaded, the vLLM server %s; it is unloaded with the next version that is loaded", name, error)


def _weights(folder: Path) -> Path:
    return folder / "adapter_model.safetensors"


def _marked(folder: Path) -> BinaryIO:
    """The weights, open; for as long as they are, no process on this machine unloads the adapter."""
    file = _weights(folder).open("rb")
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_SH)
    return file


class _RemoteStream(FedStream):
    """Everything but `cancel` and reading happens in the event loop's thread."""

    def __init__(self, prompt_ids: Sequence[int], sampling: Sampling, loop: asyncio.AbstractEventLoop, loop_alive: Callable[[], bool]):
        super().__init__(prompt_ids, sampling, loop_alive)
        self.task: asyncio.Task | None = None
        self._loop = loop

    def cancel(self) -> None:
        super().cancel()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the reply has ended
            self._loop.call_soon_threadsafe(lambda: self.task and self.task.cancel())


class RemoteWorker:
    """One version, under one name of the server's."""

    def __init__(self, held: HeldAdapters, loop: asyncio.AbstractEventLoop, name: str, path: str | None, eos_ids: frozenset[int], context_length: int):
        """Args: path: of the adapter as the server sees it, acquired already; None for the base model."""
        self._held, self._loop, self._name, self._path = held, loop, name, path
        self._eos_ids, self._context_length = eos_ids, context_length
        self._streams: set[_RemoteStream] = set()
        self._lock = threading.Lock()
        self._retired = self._lost = self._released = False
        self._freed = threading.Event()

    @property
    def takes_work(self) -> bool:
        return not self._retired and not self._lost

    def submit(self, prompt_ids: Sequence[int], sampling: Sampling) -> FedStream | None:
        room = room_for_reply(prompt_ids, sampling, self._context_length)
        stream = _RemoteStream(prompt_ids, sampling, self._loop, self._loop.is_running)
        with self._lock:
            if not self.takes_work:
                return None
            self._streams.add(stream)
        self._loop.call_soon_threadsafe(self._begin, stream, room)
        return stream

    def retire(self, *, cancel: bool = False) -> None:
        with self._lock:
            self._retired = True
            streams = list(self._streams)
        if cancel:
            for stream in streams:
                stream.cancel()
        self._loop.call_soon_threadsafe(self._release_when_done)

    def join(self, seconds: float) -> None:
        self._freed.wait(seconds)

    async def probe(self) -> None:
        """A few first tokens: proves that the numbers are finite, and that they are log-probs of the whole vocabulary.

        Raises: EngineFailed: not finite. Refused: of another kind. ServerAway; UnknownModel.
        """
        found = []
        for prompt in ((min(self._eos_ids, default=0),) * 2, *PROBES):
            stream = _RemoteStream(prompt, Sampling(temperature=1.0, top_k=1, top_p=1.0), self._loop, self._loop.is_running)
            await self._sample(stream, 1)
            found += stream.result().logprobs
        if not found or not all(map(math.isfinite, found)):
            raise EngineFailed(said("version_not_finite"))
        if max(found) > 0.001 or min(found) == 0:  # after top-k 1 a processed log-prob is exactly 0
            raise Refused("its log-probs are not the model's own: start it with --logprobs-mode raw_logprobs")

    def _begin(self, stream: _RemoteStream, room: int) -> None:
        stream.task = self._loop.create_task(self._answer(stream, room))
        stream.task.add_done_callback(lambda task: self._over(stream))
        if stream.cancelled:
            stream.task.cancel()

    async def _answer(self, stream: _RemoteStream, room: int) -> None:
        try:
            await self._sample(stream, room)
        except (ServerAway, UnknownModel, Refused) as error:
            if not stream.count and isinstance(error, ServerAway) and not isinstance(error, ServerSilent):
                self._lost = True  # whoever keeps the live version served loads it again as soon as the server is back
            log.warning("%s: the vLLM server %s", self._name, error)
            stream.fail(f"the model's server {error}" if isinstance(error, ServerAway) else f"the model's server said: {error}")
        except Exception as error:  # an answer that is not vLLM's: the reader hears of it and the others go on
            log.exception("a reply of %s failed", self._name)
            stream.fail(f"the model's server gave an answer that cannot be read ({type(error).__name__})")

    async def _sample(self, stream: _RemoteStream, room: int) -> None:
        """Feed `stream` to its end, asking again while nothing has come."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._sample_once(stream, room)
            except UnknownModel:
                if self._path is None or attempt == ATTEMPTS:
                    raise
                log.info("the vLLM server lacks %s: loading it again", self._name)
                for _ in range(attempt):
                    await self._held.server.load(self._name, self._path)
            except ServerSilent:
                raise
            except ServerAway:
                if stream.count or attempt > 1:
                    raise
                # at once again: a connection that was kept from before a restart breaks on its first use

    async def _sample_once(self, stream: _RemoteStream, room: int) -> None:
        reason = None
        async with aclosing(self._held.server.complete(self._name, stream.prompt_ids, stream.sampling, room, self._eos_ids)) as pieces:
            async for ids, logprobs, reason in pieces:
                if ids:
                    stream.feed(ids, logprobs)
        if reason not in ("stop", "length"):
            raise Refused(f"the reply ended with {reason!r}")
        stream.end(reason)

    def _over(self, stream: _RemoteStream) -> None:
        if not stream.ended:
            stream.end("cancelled")
        with self._lock:
            self._streams.discard(stream)
        self._release_when_done()

    def _release_when_done(self) -> None:
        with self._lock:
            if not self._retired or self._streams or self._released:
                return
            self._released = True
        self._loop.create_task(self._release())

    async def _release(self) -> None:
        if self._path is not None:
            await self._held.release(self._name)
        self._freed.set()

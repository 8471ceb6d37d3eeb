"""One version on a vLLM server: replies as tasks of one event loop, the adapter loaded again when the server has lost it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import aclosing

from chat_app.engines.protocol import EngineFailed
from chat_app.engines.streams import FedStream, room_for_reply
from chat_app.engines.vllm_adapters import HeldAdapters
from chat_app.engines.vllm_server import Refused, ServerAway, ServerSilent, UnknownModel
from data.records import Sampling
from data.sentences import said

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""How often a reply is asked for while nothing of it came. Behind one address the server that lacks the adapter need not
be the one that has just loaded it, so each attempt loads once more than the one before."""
PROBES = ((5, 6, 7), (8,))
"""Prompts, beside two end-of-texts, whose next token shows whether a version's numbers can be used."""


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

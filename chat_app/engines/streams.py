"""The reader's end of a reply, fed by an engine's worker thread; it never waits for a worker that is dead."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence

from chat_app.engines.protocol import EngineDied, EngineFailed
from data.errors import MessageTooLong
from data.records import Generated, Sampling
from data.sentences import Said, said

CHECK_SECONDS = 1.0
"""How often a waiting reader looks whether its worker still lives."""


class FedStream:
    """A `ReplyStream`. The worker calls `feed`, then `end` or `fail`; everybody else reads or cancels."""

    def __init__(self, prompt_ids: Sequence[int], sampling: Sampling, worker_alive: Callable[[], bool], on_cancel: Callable[[], None] | None = None):
        """Args: on_cancel: tells the worker, where it does not look at `cancelled` by itself; called in the canceller's thread."""
        self.prompt_ids = prompt_ids
        self.sampling = sampling
        self.cancelled = False
        """Set by `cancel`; the worker looks at it between steps."""
        self._worker_alive = worker_alive
        self._on_cancel = on_cancel
        self._news: queue.SimpleQueue[list[int] | None] = queue.SimpleQueue()
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._reason: str | None = None
        self._error: Said | str | None = None
        self._died = False

    # the reader's side

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            try:
                batch = self._news.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                if not self._worker_alive() and self._reason is None:
                    self.fail(said("worker_died"), died=True)
                continue
            if batch is not None:
                yield batch
            elif self._error is not None:
                raise (EngineDied if self._died else EngineFailed)(said("engine_failed", error=self._error))
            else:
                return

    def cancel(self) -> None:
        self.cancelled = True
        if self._on_cancel:
            self._on_cancel()

    def result(self) -> Generated:
        if self._reason is None:
            raise RuntimeError("result() before the reply has ended")
        return Generated(tuple(self._ids), tuple(self._logprobs), 1.0, self._reason)

    # the worker's side

    @property
    def ended(self) -> bool:
        return self._reason is not None

    @property
    def count(self) -> int:
        """Tokens sampled so far."""
        return len(self._ids)

    def feed(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Args: logprobs: nats, full vocabulary, temperature 1, one per id."""
        self._ids += ids
        self._logprobs += logprobs
        self._news.put(list(ids))

    def end(self, reason: str) -> None:
        """Args: reason: `stop`, `length` or `cancelled`."""
        if not self.ended:
            self._reason = reason
            self._news.put(None)

    def fail(self, error: Said | str, *, died: bool = False) -> None:
        """Args: died: the worker is gone, whatever it was asked."""
        if not self.ended:
            self._error, self._died = error, died
            self._reason = "error"
            self._news.put(None)


def room_for_reply(prompt_ids: Sequence[int], sampling: Sampling, context_length: int) -> int:
    """How many tokens the reply may have.

    Raises: MessageTooLong: the prompt fills the context; ValueError: the prompt is empty.
    """
    if not prompt_ids:
        raise ValueError("an empty prompt has no next token")
    room = min(sampling.max_new_tokens, context_length - len(prompt_ids))
    if room < 1:
        raise MessageTooLong(said("prompt_too_long", tokens=len(prompt_ids), limit=context_length))
    return room

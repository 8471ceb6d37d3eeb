"""One reply while it is being written: a thread reads the engine, keeps the text and stores it; pages only watch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from chat_app.line import Ticket
from chat_app.serving import Started
from data.base_models.tokenizer import ChatTokenizer, GrowingText
from data.errors import Busy, ChatError, StorageFull
from data.records import Generated, Reply
from data.sentences import said
from data.store import Store

log = logging.getLogger(__name__)

DECODE_SECONDS = 0.03
SAVE_SECONDS = 1.0
RETRY_SECONDS = 2.0
LINE_SECONDS = 0.2
"""How often a reply that waits in line looks whether it was stopped."""


class ReplyJob:
    """A reply that goes on whether or not anybody watches: a closed tab loses nothing.

    `text` grows; `done` turns true only after the reply is stored (or cannot be, then `error` says so).
    """

    def __init__(self, reply: Reply, ticket: Ticket, started: Started | None, begin: Callable[[], Started], store: Store,
                 tokenizer: ChatTokenizer, ended: Callable[[str], None] | None = None) -> None:
        """Args:
            started: the stream; None: it waits in line with `ticket`, and `begin` starts it.
            ended: hears the reply's id when it is over, in this job's thread.
        """
        self.reply_id, self.conversation_id, self.rater_id = reply.id, reply.conversation_id, reply.rater_id
        self.version, self.dropped_turns = reply.version, reply.dropped_turns
        self.text, self.done = "", False
        self.error: ChatError | None = None
        self.unsaved = False
        """True while a finished reply waits in memory, for room on the disk or for another process to leave the database."""
        self._stream, self._store, self._tokenizer = started and started.stream, store, tokenizer
        self._begun = started.begun if started else 0.0
        self._ticket, self._begin, self._ended = ticket, begin, ended
        self._closing, self._cancelled = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reply {reply.id}", daemon=True)

    def start(self) -> None:
        """Read and store from now on; called once, when the job is where others find it: it may end at any moment."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop soon; what was written is kept."""
        self._cancelled.set()
        if self._stream is not None:
            self._stream.cancel()

    @property
    def place(self) -> int:
        """How many turns away in the line; 0 when it is being written."""
        return self._ticket.place

    def close(self, timeout: float) -> None:
        """Server shutdown: cancel, and wait until what was written is stored."""
        self._closing.set()
        self.cancel()
        self._thread.join(timeout)

    def _show(self, text: str, *, done: bool = False, error: ChatError | None = None) -> None:
        self.text, self.error = text, error
        self.done = done or self.done             # last: whoever sees it sees the rest

    def _run(self) -> None:
        self._write_and_store()
        if self._ended:
            self._ended(self.reply_id)
            self._store.close()                   # this thread's connection

    def _write_and_store(self) -> None:
        try:
            generated, first, seconds = self._write() if self._has_its_turn() else (Generated((), (), 1.0, "cancelled"), None, 0.0)
        except Exception as error:
            log.exception("Reply %s broke off", self.reply_id)
            if self._stream is not None:
                self._stream.cancel()             # nobody reads it any more
            why = error if isinstance(error, ChatError) else ChatError(said("model_stopped"))
            self._store_finally(lambda: self._store.fail_reply(self.reply_id, self.text, str(why)), self.text, why)
            return
        finally:
            self._ticket.leave()
        text = self._tokenizer.decode(generated.completion_ids).rstrip("\ufffd")
        self._store_finally(lambda: self._store.finish_reply(self.reply_id, text, generated, first, seconds), text, None)

    def _has_its_turn(self) -> bool:
        """Wait in line, then start the stream with whatever version is live by then. False: it was stopped before."""
        if self._stream is not None:
            return True
        saved = time.monotonic()
        while not self._ticket.wait(LINE_SECONDS):
            if self._cancelled.is_set():
                return False
            if time.monotonic() - saved >= SAVE_SECONDS:
                saved = time.monotonic()
                self._save_partial()
        started = self._begin()
        self._stream, self._begun, self.version = started.stream, started.begun, started.version
        self._store.begin_reply(self.reply_id, started.version, started.adapter_sha256)
        if self._cancelled.is_set():
            self._stream.cancel()
        return True

    def _write(self) -> tuple[Generated, float | None, float]:
        """Read the stream to its end; what was sampled, seconds to the first token and to the last."""
        first, shown, saved, text = None, 0.0, time.monotonic(), GrowingText(self._tokenizer)
        for new in self._stream:
            clock = time.monotonic()
            first = first or clock - self._begun
            text.feed(new)
            if clock - shown >= DECODE_SECONDS:
                shown = clock
                self._show(text.look())
            if clock - saved >= SAVE_SECONDS:
                saved = clock
                self._save_partial()
        return self._stream.result(), first, time.monotonic() - self._begun

    def _save_partial(self) -> None:
        try:
            if not self._store.save_partial(self.reply_id, self.text):
                self.cancel()                     # asked for at another server on this state folder
        except ChatError as error:                # the end of the reply is stored with patience; this was only a safety copy
            log.warning("%s", error)

    def _store_finally(self, write, text: str, error: ChatError | None) -> None:
        """Store the end of the reply, waiting for room on the disk and for other writers if need be; the text is kept here until then."""
        while True:
            try:
                write()
                self.unsaved = False
                self._show(text, done=True, error=error)
                return
            except (StorageFull, Busy) as trouble:
                self.unsaved = True
                self._show(text, done=True, error=StorageFull(said("kept_in_memory")) if isinstance(trouble, StorageFull) else Busy(said("kept_while_locked")))
                log.error("Reply %s waits in memory: %s", self.reply_id, trouble)
            except Exception:
                log.exception("Reply %s cannot be stored", self.reply_id)
                self.unsaved = False
                self._show(text, done=True, error=ChatError(said("not_stored")))
                return
            finally:
                self._store.close()               # this thread's connection
            if self._closing.wait(RETRY_SECONDS):
                return

"""Serving on a CPU with OpenVINO GenAI: one process per version, which this side starts, asks and listens to."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from chat_app.engines.gguf import servable_gguf, servable_path, sweep_cache
from chat_app.engines.gguf_merge import Encoding
from chat_app.engines.openvino_process import Cancel, News, Retire, Start, Version
from chat_app.engines.protocol import EngineDied, EngineFailed
from chat_app.engines.streams import FedStream, room_for_reply
from chat_app.engines.versions import VersionedEngine
from data.cpus import usable_cpus
from data.errors import ChatError
from data.records import BaseModel, Sampling
from data.sentences import said

log = logging.getLogger(__name__)

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
"""Properties for single-precision arithmetic throughout; several times slower, for comparing numbers."""
MANY = {"tokens_a_step": 4096}
"""Options for a hundred replies that begin at once: nobody waits for a word while their prompts are read in one step."""
MANY_IN_BF16 = {**MANY, "encoding": "F16", "properties": {"INFERENCE_PRECISION_HINT": "bf16"}}
"""The same where the processor multiplies bf16: 1.4 times the tokens a second. One reply takes twice as long in F16, and on one core OpenVINO divides by zero."""

LOOK_SECONDS = 10.0
"""How often it is asked whether a process that owes an answer has said anything ..."""
SILENT_LOOKS = 30
"""... and how many times in a row it may have said nothing, before it is taken for hung and killed: it speaks after each step, and the longest,
one that reads thousands of tokens, takes tens of seconds where many are answered. Counted and not timed, since whoever suspends the server suspends both."""
START_SECONDS = 1800.0
"""How long it may take to start: a large model's file is merged first, on a slow disk for minutes."""

CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from chat_app.engines.openvino_process import main; main(0)"
ROOT = Path(__file__).parents[2]


class OpenVinoEngine(VersionedEngine):
    """An `Engine` over OpenVINO GenAI's `ContinuousBatchingPipeline`."""

    name = "openvino"

    def __init__(
        self,
        base: BaseModel,
        cache_dir: Path,
        eos_ids: frozenset[int],
        *,
        encoding: Encoding = "Q8_0",
        kv_cache_gib: int = 1,
        tokens_a_step: int | None = None,
        patient: bool = False,
        properties: Mapping[str, object] | None = None,
    ):
        """
        Args:
            cache_dir: where merged files are kept; those that nobody on this machine has loaded are deleted, the latest two aside.
            eos_ids: sampling any of these ends a reply; where there is none, only its length does.
            kv_cache_gib: upper bound of each version's attention cache, which also keeps shared beginnings of prompts.
            tokens_a_step: how many a step reads at most; None: OpenVINO's choice, with which replies go on while a long prompt is read.
            patient: wait for a silent process however long: one that is idle work stands still while others keep the cores busy.
            properties: OpenVINO properties beside ours, e.g. `EXACT`.
        """
        super().__init__()
        self._base = base
        self._cache_dir = cache_dir
        self._eos_ids = eos_ids
        self._encoding = encoding
        self._patient = patient
        self._fresh: set[Path] = set()
        self._scheduler = {"cache_size": kv_cache_gib, "enable_prefix_caching": True}
        if tokens_a_step:
            self._scheduler["max_num_batched_tokens"] = tokens_a_step
        # Pinned threads of two pipelines would sit on the same cores.
        # f32 is the kind of number in which OpenVINO multiplies 8-bit weights as they are; in bf16, its choice on a processor with AMX, it
        # widens them anew for every token: 8 streams were half as fast again in f32, reading a long prompt a third slower
        self._properties = {"INFERENCE_NUM_THREADS": usable_cpus(), "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32", **(properties or {})}

    def prepare(self, adapter: Path | None, threads: int) -> Path:
        """Write a version's file ahead of `load`, in this process, which then has at hand what the versions share. Returns: the file. Raises: as `servable_gguf`."""
        file = servable_path(self._base, adapter, self._cache_dir, encoding=self._encoding)
        if not file.exists():
            self._fresh.add(servable_gguf(self._base, adapter, self._cache_dir, encoding=self._encoding, threads=threads))
        return file

    def _start(self, version: int, adapter: Path | None) -> _Worker:
        file = servable_path(self._base, adapter, self._cache_dir, encoding=self._encoding)
        kept = file.exists() and file not in self._fresh
        told = Version(self._base, adapter, self._cache_dir, self._encoding, self._eos_ids, self._properties, self._scheduler)
        try:
            worker = _Worker(file, told, self._patient)
        except EngineFailed:  # a file kept from an earlier run may have been damaged since: once more from its sources
            if not kept:
                raise
            file.unlink(missing_ok=True)
            worker = _Worker(file, told, self._patient)
        try:
            sweep_cache(self._cache_dir)
        except BaseException:
            worker.retire(cancel=True)                       # nobody would know of it
            raise
        return worker


class _Worker:
    """One version's process, and the thread that hears what it says."""

    def __init__(self, file: Path, version: Version, patient: bool):
        """Raises: EngineFailed: OpenVINO cannot load `file`, or what it loaded does not give finite numbers. ChatError: there is no such file to make."""
        self.file = file
        self._context_length = version.base.context_length
        self._lock = threading.Lock()
        self._streams: dict[int, FedStream] = {}
        self._retired = False
        self._patient = patient
        self._owes = False
        """Whether it was asked for something and has not been heard to end everything since."""
        self._next_id = 1
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen([sys.executable, "-c", CHILD, str(ROOT)], stdin=theirs)
        theirs.close()
        self._connection = Connection(ours.detach())
        try:
            self._connection.send(version)
            if not self._connection.poll(None if patient else START_SECONDS):
                self._process.kill()
            answer = self._connection.recv()
        except (EOFError, OSError):
            answer = EngineDied(said("openvino_cannot", file=file.name, error=f"its process ended with code {self._process.wait()}"))
        if answer is not None:
            self._end_process()
            raise answer if isinstance(answer, ChatError) else EngineFailed(said("openvino_cannot", file=file.name, error=answer))
        self._thread = threading.Thread(target=self._listen, name=f"openvino-{file.stem}", daemon=True)
        self._thread.start()

    @property
    def takes_work(self) -> bool:
        return not self._retired and self._thread.is_alive()

    def submit(self, prompt_ids: Sequence[int], sampling: Sampling) -> FedStream | None:
        room = room_for_reply(prompt_ids, sampling, self._context_length)
        with self._lock:
            if not self.takes_work:
                return None
            number, self._next_id = self._next_id, self._next_id + 1
            stream = FedStream(prompt_ids, sampling, self._thread.is_alive, lambda: self._cancel(number))
            self._streams[number] = stream
            self._owes = True
            self._tell(Start(number, tuple(prompt_ids), sampling, room))
        return stream

    def retire(self, *, cancel: bool = False) -> None:
        with self._lock:
            self._retired = self._owes = True
            streams = list(self._streams.values()) if cancel else []
            self._tell(Retire())
        for stream in streams:
            stream.cancel()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._process.kill()

    def _cancel(self, number: int) -> None:
        """The reader need not wait for the step that is under way, which may be reading a long prompt."""
        with self._lock:
            if stream := self._streams.pop(number, None):
                stream.end("cancelled")
                self._tell(Cancel(number))

    def _tell(self, message: Start | Cancel | Retire) -> None:
        """One caller at a time."""
        try:
            self._connection.send(message)
        except OSError:  # it has died: whoever listens tells everybody
            pass

    def _listen(self) -> None:
        error, died = "its process ended", True
        try:
            while not isinstance(heard := self._hear(), str):
                for news in heard:
                    self._pass_on(news)
                with self._lock:
                    self._owes = self._retired or bool(self._streams)
            error, died = heard, False
        except (EOFError, OSError):
            pass
        with self._lock:
            self._retired = True
            for stream in self._streams.values():
                stream.fail(error, died=died)
            self._streams.clear()
        self._end_process()

    def _hear(self) -> list[News] | str:
        """What it says next. Raises: EOFError or OSError: it has ended, or was killed here since it hung.

        Takes no lock: whoever tells a hung process something may hold it until that process is gone.
        """
        silent = 0
        while not self._connection.poll(LOOK_SECONDS):
            silent = silent + 1 if self._owes and not self._patient else 0
            if silent >= SILENT_LOOKS:
                log.error("The process that serves %s has said nothing for %g seconds and is ended", self.file.name, silent * LOOK_SECONDS)
                self._process.kill()
        return self._connection.recv()

    def _pass_on(self, news: News) -> None:
        with self._lock:
            stream = self._streams.get(news.number)
            if stream is None:  # cancelled meanwhile
                return
            if news.ids:
                stream.feed(news.ids, news.logprobs)
            if news.end:
                stream.end(news.end)
            if news.error:
                stream.fail(news.error)
            if stream.ended:
                del self._streams[news.number]

    def _end_process(self) -> None:
        """It ends by itself when it hears no more from us; what it holds is freed with it."""
        self._connection.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

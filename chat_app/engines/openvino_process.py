"""One version in a process of its own: merges its file, builds OpenVINO's pipeline and steps it while there is work.

A step of OpenVINO GenAI holds Python's interpreter lock until it ends. In the chat's own process it kept every page,
Stop included, waiting between any two tokens, and for seconds while a long prompt was read. Never imports torch.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from chat_app.engines.gguf import held, servable_gguf
from chat_app.engines.gguf_merge import Encoding
from data.errors import ChatError
from data.records import BaseModel, Sampling

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """What the process is told first; it answers None when it is ready, else why it cannot be."""

    base: BaseModel
    adapter: Path | None
    cache_dir: Path
    encoding: Encoding
    eos_ids: frozenset[int]
    properties: Mapping[str, object]
    """OpenVINO's."""
    scheduler: Mapping[str, object]
    """Fields of OpenVINO GenAI's SchedulerConfig."""


@dataclass(frozen=True)
class Start:
    """Begin a reply, numbered from 1. Answered by `News` until one of them has an end or an error."""

    number: int
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    room: int
    """Tokens at most."""


@dataclass(frozen=True)
class Cancel:
    number: int


@dataclass(frozen=True)
class Retire:
    """End after the replies there are."""


@dataclass(frozen=True)
class News:
    """What one step brought one reply. A list of them is sent after each step, an empty one too, which tells that it goes on; a plain str instead says why there are no more steps."""

    number: int
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    end: str | None = None
    """`stop` or `length`."""
    error: str | None = None


def main(descriptor: int) -> None:
    """Args: descriptor: of the socket to the parent; when the parent is gone, so is this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)             # Ctrl-C reaches everybody; the parent ends us when replies are kept
    connection = Connection(os.dup(descriptor))
    try:
        try:
            pipeline = Pipeline(connection.recv())
        except (ChatError, RuntimeError) as error:
            connection.send(error if isinstance(error, ChatError) else first_line(error))
            return
        connection.send(None)
        pipeline.serve(connection)
    except (EOFError, ConnectionError):
        pass


class Pipeline:
    """OpenVINO GenAI's `ContinuousBatchingPipeline` and the replies it writes."""

    def __init__(self, version: Version) -> None:
        """Raises: ChatError: no file can be made; RuntimeError: OpenVINO cannot load it, or it does not give finite numbers."""
        import openvino_genai

        self._file = _held_gguf(version)                     # until this process ends
        scheduler = openvino_genai.SchedulerConfig()
        for name, value in version.scheduler.items():
            setattr(scheduler, name, value)
        self._eos_ids = version.eos_ids
        self._running: dict[int, object] = {}
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(self._file.name, _wordless(), scheduler, "CPU", **version.properties)
        self._probe()

    def serve(self, connection: Connection) -> None:
        """Until it is told to retire and has nothing left to do. Raises: EOFError: the parent is gone."""
        retired = False
        while self._running or not retired:
            news: list[News] = []
            while connection.poll(0 if self._running or news or retired else None):
                match connection.recv():
                    case Start() as asked:
                        try:
                            self._start(asked)
                        except (RuntimeError, ValueError, TypeError) as error:           # this request is odd; the others go on
                            news.append(News(asked.number, error=first_line(error)))
                    case Cancel(number):
                        if number in self._running:
                            self._running[number].cancel()                               # needs a step to be cleared away
                    case Retire():
                        retired = True
            steps = bool(self._running)
            try:
                news += self._step() if steps else []
            except Exception as error:                       # whatever it was, every reader hears of it
                log.exception("a step failed")
                connection.send(first_line(error))
                return
            if news or steps:
                connection.send(news)

    def _start(self, asked: Start) -> None:
        import openvino

        ids = openvino.Tensor(np.asarray([asked.prompt_ids], dtype=np.int64))
        self._running[asked.number] = self._pipeline.add_request(asked.number, ids, generation_config(asked.sampling, asked.room, self._eos_ids))

    def _step(self) -> list[News]:
        self._pipeline.step()
        news = [self._news(number, handle) for number, handle in list(self._running.items())]
        return [one for one in news if one.ids or one.end or one.error]

    def _news(self, number: int, handle) -> News:
        from openvino_genai import GenerationFinishReason, GenerationStatus

        status, reason = handle.get_status(), None           # before reading: what is read after a final status is complete
        ids, logprobs = [], []
        while handle.can_read():
            for output in handle.read().values():
                ids += output.generated_ids
                logprobs += output.generated_log_probs
                reason = output.finish_reason
        end = error = None
        if status != GenerationStatus.RUNNING:
            del self._running[number]
            if status == GenerationStatus.FINISHED:
                end = "length" if reason == GenerationFinishReason.LENGTH else "stop"
            else:
                error = "it ran out of attention cache"      # or it was cancelled, and nobody listens any more
        return News(number, tuple(ids), tuple(logprobs), end, error)

    def _probe(self) -> None:
        """One greedy token: proves that the numbers are finite, and compiles what the first person would wait for."""
        self._start(Start(0, (min(self._eos_ids, default=0),) * 2, Sampling(temperature=0), 1))
        logprobs: list[float] = []
        while self._running:
            for one in self._step():
                logprobs += one.logprobs
        if not all(map(math.isfinite, logprobs)):
            raise RuntimeError("it gives numbers that are not finite")


def generation_config(sampling: Sampling, room: int, eos_ids: frozenset[int]):
    """OpenVINO's form of `sampling`, with log-probs of the sampled tokens switched on."""
    import openvino_genai

    config = openvino_genai.GenerationConfig(max_new_tokens=room, logprobs=1, do_sample=sampling.temperature > 0)
    config.stop_token_ids = set(eos_ids)
    config.ignore_eos = not eos_ids
    config.eos_token_id = min(eos_ids, default=0)            # else the tokenizer's, see `_wordless`
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.rng_seed = sampling.seed
        if sampling.top_k:
            config.top_k = sampling.top_k
    return config


def _wordless():
    """A tokenizer of three tokens. The pipeline wants one and we never ask it: prompts and replies are token ids here.

    Its own would be built from the file's vocabulary: half of the time that a version takes to start.
    """
    from gguf import GGUFWriter
    from openvino_genai import Tokenizer

    with tempfile.TemporaryDirectory(prefix="tokenizer-") as folder:
        file = Path(folder) / "tokenizer.gguf"
        writer = GGUFWriter(file, "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(["end", "a", "b"])
        writer.add_token_types([3, 1, 1])                    # without a control token OpenVINO cannot build it
        writer.add_token_merges(["a b"])
        for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
            add(0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return Tokenizer(file)


def _held_gguf(version: Version) -> BinaryIO:
    """The merged file, kept from every sweep on this machine: several servers may share the folder."""
    while True:
        try:
            return held(servable_gguf(version.base, version.adapter, version.cache_dir, encoding=version.encoding))
        except FileNotFoundError:                            # another server swept it between the two
            continue


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]

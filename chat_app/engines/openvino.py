"""Serving on a CPU with OpenVINO GenAI: one continuous-batching pipeline per version over a merged GGUF.

Never imports torch. Each pipeline has one worker thread that calls `step()` while there is work and sleeps otherwise.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import openvino
import openvino_genai

from chat_app.engines.gguf import Encoding, held, servable_gguf, sweep_cache
from chat_app.engines.protocol import EngineFailed
from chat_app.engines.streams import CHECK_SECONDS, FedStream, room_for_reply
from chat_app.engines.versions import VersionedEngine
from data.cpus import usable_cpus
from data.records import BaseModel, Sampling

log = logging.getLogger(__name__)

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
"""Properties for single-precision arithmetic throughout; several times slower, for comparing numbers."""


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
        properties: Mapping[str, object] | None = None,
    ):
        """
        Args:
            cache_dir: where merged files are kept; those of versions that are not loaded are deleted.
            eos_ids: sampling any of these ends a reply.
            kv_cache_gib: upper bound of each version's attention cache, which also keeps shared beginnings of prompts.
            properties: OpenVINO properties beside ours, e.g. `EXACT`.
        """
        super().__init__()
        self._base = base
        self._cache_dir = cache_dir
        self._eos_ids = eos_ids
        self._encoding = encoding
        self._kv_cache_gib = kv_cache_gib
        # Pinned threads of two pipelines would sit on the same cores.
        self._properties = {"INFERENCE_NUM_THREADS": usable_cpus(), "ENABLE_CPU_PINNING": False, **(properties or {})}

    def _start(self, version: int, adapter: Path | None) -> _Worker:
        file = self._held(version, adapter)
        sweep_cache(self._cache_dir)
        try:
            return self._worker(file)
        except EngineFailed:  # a file kept from an earlier run may have been damaged since: once more from its sources
            Path(file.name).unlink(missing_ok=True)
            return self._worker(self._held(version, adapter))

    def _held(self, version: int, adapter: Path | None) -> BinaryIO:
        """The merged file, kept from every sweep on this machine: several servers may share the folder."""
        while True:
            try:
                return held(servable_gguf(self._base, version, adapter, self._cache_dir, encoding=self._encoding))
            except FileNotFoundError:  # another server swept it between the two
                continue

    def _worker(self, file: BinaryIO) -> _Worker:
        return _Worker(file, self._scheduler(), self._properties, self._eos_ids, self._base.context_length)

    def _scheduler(self) -> openvino_genai.SchedulerConfig:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = self._kv_cache_gib
        scheduler.enable_prefix_caching = True
        return scheduler


class _Worker:
    """One pipeline and the one thread that touches it."""

    def __init__(
        self, held_file: BinaryIO, scheduler, properties: Mapping[str, object], eos_ids: frozenset[int], context_length: int
    ):
        """Raises: EngineFailed: OpenVINO cannot load the file, or what it loaded does not give finite numbers."""
        self.file = file = Path(held_file.name)
        self._held_file = held_file  # until the pipeline is freed
        self._eos_ids = eos_ids
        self._context_length = context_length
        self._wake = threading.Condition()
        self._waiting: list[tuple[FedStream, int]] = []
        self._running: dict[int, tuple[FedStream, object]] = {}
        self._retired = False
        self._next_id = 0
        try:
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(file), scheduler, "CPU", dict(properties))
            self._probe()
        except (RuntimeError, EngineFailed) as error:
            held_file.close()
            if isinstance(error, EngineFailed):
                raise
            raise EngineFailed(f"OpenVINO cannot serve {file.name}: {_first_line(error)}. The version before stays.") from error
        self._thread = threading.Thread(target=self._work, name=f"openvino-{file.stem}", daemon=True)
        self._thread.start()

    @property
    def takes_work(self) -> bool:
        return not self._retired and self._thread.is_alive()

    def submit(self, prompt_ids: Sequence[int], sampling: Sampling) -> FedStream | None:
        room = room_for_reply(prompt_ids, sampling, self._context_length)
        stream = FedStream(prompt_ids, sampling, self._thread.is_alive)
        with self._wake:
            if not self.takes_work:
                return None
            self._waiting.append((stream, room))
            self._wake.notify()
        return stream

    def retire(self, *, cancel: bool = False) -> None:
        with self._wake:
            self._retired = True
            if cancel:
                for stream, _ in [*self._waiting, *list(self._running.values())]:
                    stream.cancel()
            self._wake.notify()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _work(self) -> None:
        try:
            while self._await_work():
                self._pipeline.step()
                for number, (stream, handle) in list(self._running.items()):
                    if self._pass_on(stream, handle):
                        del self._running[number]
        except Exception as error:  # whatever it was, every reader hears of it and the server goes on with other versions
            log.exception("the pipeline of %s failed", self.file.name)
            with self._wake:
                self._retired = True
                for stream, _ in [*self._waiting, *self._running.values()]:
                    stream.fail(_first_line(error))
                self._waiting.clear()
                self._running.clear()
        finally:
            self._held_file.close()
            del self._pipeline  # hundreds of megabytes, freed here and not when somebody forgets the engine

    def _await_work(self) -> bool:
        """Start what is waiting; True when there is something to step, False when this worker is done."""
        while True:
            with self._wake:
                while not (self._waiting or self._running or self._retired):
                    self._wake.wait(CHECK_SECONDS)
                waiting, self._waiting = self._waiting, []
                for number, (stream, room) in enumerate(waiting, self._next_id):
                    try:
                        if stream.cancelled:
                            stream.end("cancelled")
                        else:
                            self._running[number] = (stream, self._start(number, stream, room))
                    except (RuntimeError, ValueError, TypeError) as error:  # this request is odd; the others go on
                        stream.fail(_first_line(error))
                self._next_id += len(waiting)
                if self._running or self._retired:
                    return bool(self._running)

    def _start(self, number: int, stream: FedStream, room: int):
        config = generation_config(stream.sampling, room, self._eos_ids)
        ids = openvino.Tensor(np.asarray([stream.prompt_ids], dtype=np.int64))
        return self._pipeline.add_request(number, ids, config)

    def _pass_on(self, stream: FedStream, handle) -> bool:
        """Give `stream` what is new; True when the pipeline is done with it. A cancelled one needs a step to be cleared away."""
        status = handle.get_status()  # before reading: what is read after a final status is complete
        reason = None
        while handle.can_read():
            for output in handle.read().values():
                if output.generated_ids and not stream.ended:
                    stream.feed(output.generated_ids, output.generated_log_probs)
                reason = output.finish_reason
        if status == openvino_genai.GenerationStatus.RUNNING:
            if stream.cancelled and not stream.ended:
                handle.cancel()
                stream.end("cancelled")
            return False
        if status == openvino_genai.GenerationStatus.FINISHED:
            stream.end("length" if reason == openvino_genai.GenerationFinishReason.LENGTH else "stop")
        else:
            stream.fail("it ran out of attention cache")  # nothing to an ended stream
        return True

    def _probe(self) -> None:
        """One greedy token: proves that the numbers are finite, and compiles what the first person would wait for."""
        sampling = Sampling(temperature=0)
        stream = FedStream([min(self._eos_ids, default=0)] * 2, sampling, lambda: True)
        handle = self._start(0, stream, 1)
        self._next_id = 1
        while not stream.ended:
            self._pipeline.step()
            self._pass_on(stream, handle)
        if not all(map(math.isfinite, stream.result().logprobs)):
            raise EngineFailed(f"{self.file.name} gives numbers that are not finite. The version before stays.")


def generation_config(sampling: Sampling, room: int, eos_ids: frozenset[int]) -> openvino_genai.GenerationConfig:
    """OpenVINO's form of `sampling`, with log-probs of the sampled tokens switched on."""
    config = openvino_genai.GenerationConfig(max_new_tokens=room, logprobs=1, do_sample=sampling.temperature > 0)
    config.stop_token_ids = set(eos_ids)
    config.ignore_eos = not eos_ids  # the model's own is in the file, too
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.rng_seed = sampling.seed
        if sampling.top_k:
            config.top_k = sampling.top_k
    return config


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]

"""Composition: an engine that serves as the learner's sampler; on a CPU about five times as fast as the learner's model code.

Stands outside both packages because it joins them. The adapter in training is written to a temporary folder. On a CPU it is merged
among the chat server's files, named by their content: what the gate has measured last is what the server then loads.
"""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from chat_app.engines import Engine, EngineDied, EngineFailed
from chat_app.engines.gguf_merge import ARCHITECTURES
from chat_app.engines.openvino import MANY, MANY_IN_BF16, OpenVinoEngine
from data.base_models.tokenizer import ChatTokenizer
from data.cpus import usable_cpus
from data.errors import CorruptAdapter
from data.files import full_disk_says
from data.records import BaseModel, Generated, Sampling
from data.sentences import said
from learner.errors import Diverged
from learner.model.policy import Policy
from learner.model.priority import started_as_idle_work
from learner.model.sampler import PolicySampler, Sampler

log = logging.getLogger(__name__)

CANDIDATE = 1
"""The only version number this engine knows, beside the base model's 0."""
SCRATCH = ".candidate-"
MERGING = 2
"""Threads that write a version's file: the learner waits for it, and a version's weights are in memory a few at a time for each."""


class ServingSampler:
    """A `Sampler` over OpenVINO: an engine per call, so that its memory is free while the learner trains.

    Where the learner computes in bf16, so does this, on one core aside.
    """

    def __init__(self, policy: Policy, cache_dir: Path) -> None:
        self.policy, self.cache_dir = policy, cache_dir
        self._options = MANY_IN_BF16 if policy.dtype == torch.bfloat16 and usable_cpus() > 1 else MANY
        _sweep(cache_dir)

    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        """The rounding of numbers aside, the policy as it is.

        Raises: Diverged. EngineFailed: not even the base model can be asked, or the engine's process ended twice; ModelUnavailable; StorageFull.
        """
        try:
            return self._sample(prompts, sampling)
        except EngineDied:
            log.warning("The engine that samples for the learner ended; once more.", exc_info=True)
            return self._sample(prompts, sampling)

    def _sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        of_no_use = None
        engine = OpenVinoEngine(self.policy.base, self.cache_dir, ChatTokenizer(self.policy.base.folder).eos_ids, patient=True, **self._options)
        try:
            with _blamed(self.policy), _scratch(self.cache_dir) as scratch:
                version, adapter = _who_acts(self.policy, scratch)
                file = started_as_idle_work(partial(engine.prepare, adapter, min(MERGING, usable_cpus())))
                if adapter is not None and "encoding" in self._options:     # a form that no server loads, of weights that will not be again
                    of_no_use = file
                started_as_idle_work(partial(engine.load, version, adapter))
                return _replies(engine, version, prompts, sampling)
        finally:
            engine.close()
            if of_no_use:
                of_no_use.unlink(missing_ok=True)

    def as_served(self) -> ServingSampler:
        """With weights of 8.5 bits, which lie there merged for the chat server afterwards."""
        served = copy(self)
        served._options = MANY
        return served


class GpuSampler:
    """A `Sampler` over the engine that serves on a GPU, with a base model of its own that stays there.

    Raises: EngineFailed, ModelUnavailable, torch.OutOfMemoryError: the engine cannot serve this model there.
    """

    def __init__(self, policy: Policy, cache_dir: Path) -> None:
        from chat_app.engines.transformers import TransformersEngine

        self.policy, self.cache_dir = policy, cache_dir
        _sweep(cache_dir)
        self._engine = TransformersEngine(policy.base, ChatTokenizer(policy.base.folder).eos_ids, dtype=policy.dtype)
        weakref.finalize(self, self._engine.close)
        self._engine.load(0, None)

    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        """The rounding of numbers aside, the policy as it is.

        Raises: Diverged. EngineFailed: not even the base model can be asked.
        """
        try:
            with _blamed(self.policy), _scratch(self.cache_dir) as scratch:
                version, adapter = _who_acts(self.policy, scratch)
                self._engine.load(version, adapter)
                return _replies(self._engine, version, prompts, sampling)
        finally:
            self._engine.unload(CANDIDATE, at_once=True)

    def as_served(self) -> GpuSampler:
        return self


@contextmanager
def _blamed(policy: Policy) -> Iterator[None]:
    """An engine that fails with an adapter fails because of what was learnt: `Diverged`; with the base model, or where its process ends, it is the engine that fails."""
    try:
        yield
    except (CorruptAdapter, EngineFailed) as error:
        if policy.acting == "base" or isinstance(error, EngineDied):
            raise
        raise Diverged from error


@contextmanager
def _scratch(cache_dir: Path) -> Iterator[Path]:
    """A folder for the adapter in training while it is sampled from. Raises: StorageFull."""
    with full_disk_says(said("no_room_to_serve", folder=str(cache_dir))), tempfile.TemporaryDirectory(prefix=SCRATCH, dir=cache_dir) as folder:
        yield Path(folder)


def _sweep(cache_dir: Path) -> None:
    """Make the folder, and take away what a learner that was killed left in it; there is one at a time."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    for left in cache_dir.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)


def _who_acts(policy: Policy, scratch: Path) -> tuple[int, Path | None]:
    """What an engine loads of whom the policy is at this instant: a version's number and its folder, `scratch` for the adapter in training."""
    if policy.acting == "base":
        return 0, None
    if policy.acting != "candidate":
        return CANDIDATE, policy.acting
    policy.save(scratch)
    return CANDIDATE, scratch


def _replies(engine: Engine, version: int, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
    """One per prompt, all at once, each with a seed of its own. Raises: EngineFailed."""
    dice = random.Random(sampling.seed)
    streams = [engine.stream(prompt, replace(sampling, seed=dice.randrange(2**31)), version) for prompt in prompts]
    for stream in streams:
        for _ in stream:
            pass
    return [stream.result() for stream in streams]


def sampler_maker(engine: str, base: BaseModel, cache_dir: Path) -> Callable[[Policy, ChatTokenizer], Sampler]:
    """What `learner.runs.run.train` takes as `make_sampler`: an engine that serves, on the policy's own device, where it can and has the room; else the learner's own sampler.

    Args: engine: the ENGINE setting.
    """
    def make(policy: Policy, tokenizer: ChatTokenizer) -> Sampler:
        if policy.device.type == "cpu" and engine != "transformers" and base.gguf is not None and base.architecture in ARCHITECTURES:
            return ServingSampler(policy, cache_dir)
        from chat_app.engines.transformers import small_on_its_gpu

        if policy.device.type == "cuda" and not policy.team.sharded and small_on_its_gpu(policy.model):
            try:
                return GpuSampler(policy, cache_dir)
            except (EngineFailed, torch.OutOfMemoryError):
                log.warning("Fresh replies come from the learner's own code, which is slower: the engine does not serve this model on this GPU.", exc_info=True)
        return PolicySampler(policy, tokenizer.eos_ids)

    return make

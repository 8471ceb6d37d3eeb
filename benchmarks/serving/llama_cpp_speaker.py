"""llama.cpp through llama-cpp-python on the very file our engine serves, all replies in one batch, each with its own cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import llama_cpp as llama

from benchmarks.serving.speakers import SAMPLING, Said
from chat_app.engines.gguf import servable_gguf
from data.cpus import usable_cpus
from data.records import BaseModel

CONTEXT = 16_384
"""Tokens of attention cache for all replies together."""
SEQUENCES = 32
CHUNK = 2048
"""Prompt tokens read at once."""


class LlamaCpp:
    """llama.cpp's own batched decoding and samplers; what a prompt shares with its place's last one is not read again, as in its server."""

    def __init__(self, base: BaseModel, adapter: Path, cache_dir: Path) -> None:
        llama.llama_backend_init()
        file = servable_gguf(base, adapter, cache_dir)
        self._model = llama.llama_model_load_from_file(str(file).encode(), llama.llama_model_default_params())
        options = llama.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max, options.kv_unified = CONTEXT, CHUNK, 512, SEQUENCES, True
        options.n_threads = options.n_threads_batch = usable_cpus()
        self._context = llama.llama_init_from_model(self._model, options)
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(CHUNK, 0, 1)
        self._known: list[list[int]] = [[] for _ in range(SEQUENCES)]

    def say(self, prompts: Sequence[Sequence[int]], tokens: int, seed: int) -> list[Said]:
        said = [Said() for _ in prompts]
        samplers = [self._sampler(seed + place) for place in range(len(prompts))]
        for place in range(len(prompts), SEQUENCES):                   # places nobody uses now keep nothing
            self._keep(place, [])
        rest = [(place, token, at) for place, prompt in enumerate(prompts) for at, token in self._unread(place, list(prompt))]
        while rest:
            part, rest = rest[:CHUNK], rest[CHUNK:]
            self._decode([(place, token, at, at == len(prompts[place]) - 1) for place, token, at in part])
            self._sample(said, samplers, [(row, place) for row, (place, _, at) in enumerate(part) if at == len(prompts[place]) - 1])
        for _ in range(tokens - 1):
            self._decode([(place, one.ids[-1], len(prompts[place]) + len(one.ids) - 1, True) for place, one in enumerate(said)])
            self._sample(said, samplers, [(place, place) for place in range(len(said))])
        for place, one in enumerate(said):
            self._known[place] += one.ids[:-1]                         # the last token was never read
            llama.llama_sampler_free(samplers[place])
        return said

    def close(self) -> None:
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)

    def _unread(self, place: int, prompt: list[int]) -> list[tuple[int, int]]:
        """(position, token) of what the cache does not hold; at least the last token."""
        same = 0
        for old, new in zip(self._known[place], prompt[:-1], strict=False):
            if old != new:
                break
            same += 1
        self._keep(place, prompt[:same])
        self._known[place] = prompt
        return list(enumerate(prompt))[same:]

    def _keep(self, place: int, known: list[int]) -> None:
        llama.llama_memory_seq_rm(self._memory, place, len(known), -1)
        self._known[place] = known

    def _decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        """Args: rows: place, token, position, whether its logits are wanted."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for row, (place, token, at, wanted) in enumerate(rows):
            batch.token[row], batch.pos[row], batch.n_seq_id[row], batch.logits[row] = token, at, 1, wanted
            batch.seq_id[row][0] = place
        if llama.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp has no room for these replies")

    def _sample(self, said: list[Said], samplers: list, rows: Sequence[tuple[int, int]]) -> None:
        for row, place in rows:
            said[place].add([llama.llama_sampler_sample(samplers[place], self._context, row)])

    def _sampler(self, seed: int):
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        for part in (llama.llama_sampler_init_top_k(SAMPLING.top_k), llama.llama_sampler_init_top_p(SAMPLING.top_p, 1),
                     llama.llama_sampler_init_temp(SAMPLING.temperature), llama.llama_sampler_init_dist(seed)):
            llama.llama_sampler_chain_add(chain, part)
        return chain

"""On a GPU the operations of a step are recorded once for each size and then started together: on an H200 one reply was five times as fast.

Recording takes a quarter of a second, so sizes are few: new tokens are padded to powers of two, remembered ones too, and
steps that read a long prompt are neither padded nor recorded. Several versions live in one process, and torch ends that
process (an assertion in its allocator) when memory of recordings is given back while another thread records: whatever
gives memory back to the card, or waits for all of it, is done under one lock with recording.
"""

from __future__ import annotations

import threading

from transformers.generation.continuous_batching.continuous_api import ContinuousBatchProcessor
from transformers.generation.continuous_batching.utils import CudaGraphBuffer, pad_to_pow2

FEWEST_TOKENS, MOST_TOKENS = 16, 256
"""New tokens of a step that is recorded."""
FEWEST_REMEMBERED = 1024
RECORDING = threading.Lock()
"""Held while a step is recorded, and while recordings or a cache are made or given back."""


class RecordedSteps:
    """In place of a processor's own way to choose sizes and to record."""

    def __init__(self, processor: ContinuousBatchProcessor) -> None:
        self._runner, self._batch = processor.model_runner, processor.inputs_and_outputs
        self._choose, self._record = self._runner._get_forward_fn, self._runner._capture_graph
        self._runner.maybe_pad_inputs, self._runner._get_forward_fn, self._runner._capture_graph = self._padded, self._chosen, self._recorded
        self._batch._get_graph_key = self._size                # the library's own has a third part, which sdpa does not look at

    def _padded(self, tokens: int, remembered: int, use_decode_fast_path: bool) -> tuple[int, int]:
        cache = self._runner.cache
        if tokens > MOST_TOKENS:
            return tokens, remembered
        return (pad_to_pow2(tokens, min(MOST_TOKENS, cache.max_batch_tokens), FEWEST_TOKENS),
                pad_to_pow2(remembered, cache.max_tokens_read, FEWEST_REMEMBERED) if remembered else 0)

    def _chosen(self, use_block_table: bool) -> tuple:
        forward, recorded = self._choose(use_block_table)
        return forward, recorded and self._batch.num_q_tokens <= MOST_TOKENS

    def _recorded(self, *step) -> None:
        with RECORDING:
            self._record(*step)

    def _size(self) -> tuple[int, int]:
        return self._batch.num_q_tokens, self._batch.max_kv_read


def give_back(processor: ContinuousBatchProcessor) -> None:
    """Free its recordings; nothing of it runs any more, and the caller holds `RECORDING`."""
    processor.inputs_and_outputs.graphs = CudaGraphBuffer()
    processor.model_runner.mem_pool = processor.model_runner.graph_pool_id = None

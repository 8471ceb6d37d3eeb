"""On a GPU a step's operations are recorded once for each size and then started together: starting them one by one takes longer than they do.

Sizes are few, since recording takes a quarter of a second: new tokens are padded to powers of two, remembered ones too, and
steps that read a long prompt are not recorded. Several versions live in one process, and torch ends that process (an assertion
in its allocator) when memory of recordings is given back while another thread records: both happen one at a time here.
"""

from __future__ import annotations

import threading

from transformers.generation.continuous_batching.continuous_api import ContinuousBatchProcessor
from transformers.generation.continuous_batching.model_runner import ModelRunner
from transformers.generation.continuous_batching.utils import CudaGraphBuffer, pad_to_pow2

FEWEST_TOKENS, MOST_TOKENS = 16, 256
"""New tokens of a step that is recorded."""
FEWEST_REMEMBERED = 1024
RECORDING = threading.Lock()
"""Held while a step is recorded, and while recordings are given back."""


class RecordedSteps:
    """In place of a runner's own way to choose sizes and to record."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner, self._pad, self._choose, self._record = runner, runner.maybe_pad_inputs, runner._get_forward_fn, runner._capture_graph
        runner.maybe_pad_inputs, runner._get_forward_fn, runner._capture_graph = self._padded, self._chosen, self._recorded

    def _padded(self, tokens: int, remembered: int, use_decode_fast_path: bool) -> tuple[int, int]:
        if tokens > MOST_TOKENS:
            return self._pad(tokens, remembered, use_decode_fast_path)
        cache = self._runner.cache
        return (pad_to_pow2(tokens, min(MOST_TOKENS, cache.max_batch_tokens), FEWEST_TOKENS),
                pad_to_pow2(remembered, cache.max_tokens_read, FEWEST_REMEMBERED) if remembered else 0)

    def _chosen(self, use_block_table: bool) -> tuple:
        forward, recorded = self._choose(use_block_table)
        return forward, recorded and self._runner.inputs_and_outputs.num_q_tokens <= MOST_TOKENS

    def _recorded(self, *step) -> None:
        with RECORDING:
            self._record(*step)


def give_back(processor: ContinuousBatchProcessor) -> None:
    """Free its recordings; nothing of it runs any more, and the caller holds `RECORDING`."""
    processor.inputs_and_outputs.graphs = CudaGraphBuffer()
    processor.model_runner.mem_pool = processor.model_runner.graph_pool_id = None

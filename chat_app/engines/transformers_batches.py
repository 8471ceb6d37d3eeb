"""transformers' continuous batching, with honest log-probs and a seed for every reply.

The library samples for the whole batch from one stream of random numbers, and its log-probs are those after
temperature, top-k and top-p. Both happen in one method, which is replaced here; everything else is the library's.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable

import numpy as np
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, LogitsProcessorList
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from transformers.generation.continuous_batching import cb_logits_processors as processors
from transformers.generation.continuous_batching.continuous_api import BackgroundThreadStatus, ContinuousBatchingManager, OutputRouter
from transformers.generation.continuous_batching.requests import GenerationOutput

from chat_app.engines.transformers_graphs import RECORDING, RecordedSteps, give_back

PAGE = 64
"""Tokens in a page of the attention cache; shared beginnings of prompts are shared in whole pages."""
CPU_BATCH, GPU_BATCH = (256, 64), (2048, 256)
"""Tokens and replies in a step at most. On a GPU 192 replies take nine times as long as one (an H200)."""


class Router(OutputRouter):
    """Hands every output straight to `deliver`, in the manager's thread, instead of one queue for all."""

    def __init__(self, deliver: Callable[[GenerationOutput], None]):
        super().__init__()
        self._deliver = deliver

    def deliver(self, output: GenerationOutput) -> None:
        self._deliver(output)

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        for output in outputs:
            self._deliver(output)


GREEDY = -1
"""In place of a seed: take the likeliest token."""


class Draws(processors.ContinuousBatchingLogitsProcessor):
    """Remembers the raw logits of a step, and brings one uniform random number per reply to the device.

    Each reply draws from a generator of its own, seeded by its own seed.
    """

    supported_kwargs = {"seed": int}
    ignored_kwargs = ()

    def __init__(self):
        self.raw: torch.Tensor | None = None
        self.uniform: torch.Tensor | None = None
        self._generators: dict[str, np.random.Generator] = {}

    def forget(self, request: str) -> None:
        self._generators.pop(request, None)

    def fill_defaults(self, int32_tensor) -> None:
        int32_tensor.fill_(0)

    def prepare_tensor_args(self, requests_with_new_token) -> torch.Tensor:
        drawn = []
        for request in requests_with_new_token:
            seed = request.state.logit_processor_kwargs.get("seed", GREEDY)
            if seed == GREEDY:
                drawn.append(-1.0)
            else:
                name = request.state.request_id
                drawn.append(self._generators.setdefault(name, np.random.default_rng(seed)).random())
        return torch.tensor(drawn, dtype=torch.float32).view(torch.int32)

    def __call__(self, scores, tensor_arg):
        self.raw, self.uniform = scores, tensor_arg[: scores.size(0)].view(torch.float32)
        return scores


class Manager(ContinuousBatchingManager):
    """transformers' manager with our draws first, its own per-request temperature, top-k and top-p after them."""

    def __init__(self, model, pages: int, deliver: Callable[[GenerationOutput], None]):
        on_gpu = model.device.type == "cuda"
        tokens, replies = GPU_BATCH if on_gpu else CPU_BATCH
        config = ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=pages,
            max_batch_tokens=tokens,
            max_requests_per_batch=replies,
            return_logprobs=True,
            per_request_processors=True,
            auto_switch_to_flash=False,
            use_cuda_graph=on_gpu,
            use_async_batching=False,
        )
        super().__init__(model, GenerationConfig(do_sample=False, eos_token_id=-1), config)
        self.output_router = Router(deliver)
        self.draws = Draws()
        self.logit_processor = processors.ContinuousBatchingLogitsProcessorList(
            LogitsProcessorList(
                [
                    self.draws,
                    processors.ContinuousBatchingTemperatureLogitsWarper(TemperatureLogitsWarper(1.5)),
                    processors.ContinuousBatchingTopKLogitsWarper(TopKLogitsWarper(50)),
                    processors.ContinuousBatchingTopPLogitsWarper(TopPLogitsWarper(0.95)),
                ]
            )
        )
        self.logit_processor.tensors_required = len(self.logit_processor.logits_processor)

    def start(self) -> None:
        """As the parent's, but a server that exits does not wait for this thread."""
        self.background_thread_status.clear()
        self._generation_thread = threading.Thread(target=self._run_generation_loop, name="transformers-batches", daemon=True)
        self._generation_thread.start()

    def stop(self, **options) -> None:
        """As the parent's, but it always waits for the replies under way, and memory is given back while no other version records a step."""
        status, thread = self.background_thread_status, self._generation_thread
        status.request_stop(BackgroundThreadStatus.FLUSH_AND_STOP, self.distributed_helper.global_rank)
        if thread is not None:
            thread.join()
        with RECORDING:
            if status.fatal_error is not None:
                status.fatal_error.__traceback__ = None             # its frames would keep the memory until later
            self.draws.raw = self.draws.uniform = None
            if self.batch_processor is not None:
                give_back(self.batch_processor)
            super().stop(**options)

    def _create_batch_processor(self):
        with RECORDING:                                            # it empties the card's cache, and waits for the card
            batch_processor = super()._create_batch_processor()
        if any(self.continuous_batching_config.cuda_graph_booleans):
            RecordedSteps(batch_processor)
        draws = self.draws

        def sample(_runner, scores: torch.Tensor, output_ids: torch.Tensor) -> None:
            """Inverse-CDF sampling with each reply's own number; log-probs from the raw logits, all of the vocabulary."""
            cumulative = scores[0].softmax(dim=-1).double().cumsum(dim=-1)
            wanted = draws.uniform.double().clamp(min=0)[:, None] * cumulative[:, -1:]
            sampled = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1).clamp(max=cumulative.size(-1) - 1)
            tokens = torch.where(draws.uniform < 0, draws.raw.argmax(dim=-1), sampled)
            logprobs = draws.raw.log_softmax(dim=-1).gather(1, tokens[:, None]).squeeze(-1)
            output_ids[0, : tokens.size(0)].copy_(tokens)
            output_ids[1, : tokens.size(0)].copy_(logprobs.view(torch.int32))

        batch_processor.model_runner._sample = types.MethodType(sample, batch_processor.model_runner)
        return batch_processor

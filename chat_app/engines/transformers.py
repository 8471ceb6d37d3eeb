"""Serving with transformers' own continuous batching: on a GPU, or for an architecture that OpenVINO cannot read.

Versions share the base model's weights; each has its own LoRA layers (peft) and its own batching manager. On a GPU that has room for it
each has weights of its own, its LoRA merged into them: there a step's time is the number of its operations, and LoRA's were half of them.
"""

from __future__ import annotations

import copy
import gc
import itertools
import math
import threading
import types
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from transformers import AutoModelForCausalLM, GgufConfig
from transformers.generation.continuous_batching.requests import RequestStatus

from chat_app.engines.protocol import EngineFailed
from chat_app.engines.streams import FedStream, room_for_reply
from chat_app.engines.transformers_batches import GREEDY, PAGE, Manager
from chat_app.engines.versions import VersionedEngine
from data.base_models.unpacked import unpacked
from data.errors import AdapterMismatch, CorruptAdapter, ModelUnavailable
from data.files import of_the_moment
from data.records import BaseModel, Sampling
from data.sentences import said

LITTLE = 1 / 40
"""Of a GPU's memory: 4 GB of weights on the largest, .4 GB on one of 16 GB."""


class TransformersEngine(VersionedEngine):
    """An `Engine` over transformers' `ContinuousBatchingManager`."""

    name = "transformers"

    def __init__(
        self, base: BaseModel, eos_ids: frozenset[int], *, kv_cache_gib: float | None = None, dtype: torch.dtype | None = None
    ):
        """
        Args:
            eos_ids: sampling any of these ends a reply.
            kv_cache_gib: upper bound of each version's attention cache; a reply must fit into it alone. None: 0.5, on a large GPU 2.
            dtype: of weights and arithmetic; None takes bfloat16 where the processor has it, else float32.
        """
        super().__init__()
        self._base = base
        self._eos_ids = eos_ids
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._kv_cache_gib = kv_cache_gib or _cache_share(self._device)
        self._dtype = dtype or _native_dtype(self._device)
        self._model: torch.nn.Module | None = None

    def _start(self, version: int, adapter: Path | None) -> _Worker:
        if self._model is None:
            self._model = _load_base(self._base, self._dtype, self._device)
        shared = {id(weight): weight for weight in itertools.chain(self._model.parameters(), self._model.buffers())}
        model = copy.deepcopy(self._model, memo=shared)  # new modules around the same weights
        if adapter is not None:
            policy = _with_adapter(model, adapter)
            model = _merged(policy) if small_on_its_gpu(self._model) else policy.get_base_model()
        worker = _Worker(model, self._eos_ids, self._base.context_length, self._kv_cache_gib)
        worker.probe()
        return worker


class _Worker:
    """One version: a model, the manager that batches its replies, and the streams it feeds."""

    def __init__(self, model, eos_ids: frozenset[int], context_length: int, kv_cache_gib: float):
        self._eos_ids = eos_ids
        self._vocabulary = model.config.get_text_config().vocab_size
        self._retired = False
        self._reaper: threading.Thread | None = None
        self._numbers = itertools.count()
        pages = _pages(model, context_length, kv_cache_gib)
        self._capacity = min(context_length, (pages - 2) * PAGE)  # two pages of slack: one is the library's own
        self._streams: dict[str, FedStream] = {}
        self._manager = Manager(model, pages, self._pass_on)
        self._manager.start()

    @property
    def takes_work(self) -> bool:
        return not self._retired and self._manager.is_running() and self._manager.background_thread_status.fatal_error is None

    def submit(self, prompt_ids: Sequence[int], sampling: Sampling) -> FedStream | None:
        room = room_for_reply(prompt_ids, sampling, self._capacity)
        if not self.takes_work:
            return None
        stream, request = FedStream(prompt_ids, sampling, self._manager.is_running), f"reply-{next(self._numbers)}"
        self._streams[request] = stream
        self._manager.add_request(
            list(prompt_ids),
            request_id=request,
            max_new_tokens=room,
            streaming=True,
            eos_token_id=sorted(self._eos_ids),
            temperature=float(sampling.temperature or 1.0),
            top_k=min(sampling.top_k or self._vocabulary, self._vocabulary),
            top_p=float(sampling.top_p),
            seed=sampling.seed if sampling.temperature else GREEDY,
        )  # when the manager has just died it only logs: the stream then notices that nobody runs
        return stream

    def _pass_on(self, output) -> None:
        """Called by the manager's thread after each token of each reply."""
        stream = self._streams.get(output.request_id)
        if stream is None or stream.ended:
            return
        known = min(len(output.generated_tokens), len(output.logprobs))
        if known > stream.count:
            stream.feed(output.generated_tokens[stream.count : known], output.logprobs[stream.count : known])
        if output.status == RequestStatus.FAILED:
            stream.fail(output.error or said("gave_no_reason"))
        elif output.status == RequestStatus.FINISHED:
            stream.end("stop" if output.generated_tokens[-1] in self._eos_ids else "length")
        elif stream.cancelled:
            self._manager.cancel_request(output.request_id)
            stream.end("cancelled")
        if stream.ended:
            del self._streams[output.request_id]
            self._manager.draws.forget(output.request_id)

    def probe(self) -> None:
        """One greedy token: proves that the numbers are finite before anybody talks to this version."""
        try:
            stream = self.submit([min(self._eos_ids, default=0)] * 2, Sampling(temperature=0, max_new_tokens=1))
            finite = stream is not None and list(stream) and all(map(math.isfinite, stream.result().logprobs))
        except EngineFailed as error:
            self.retire(cancel=True)
            raise EngineFailed(said("transformers_cannot", error=error.said)) from error
        if not finite:
            self.retire(cancel=True)
            raise EngineFailed(said("version_not_finite"))

    def retire(self, *, cancel: bool = False) -> None:
        self._retired = True
        if cancel:
            for stream in list(self._streams.values()):
                stream.cancel()
        self._reaper = threading.Thread(target=self._reap, name="transformers-reaper", daemon=True)
        self._reaper.start()

    def join(self, seconds: float) -> None:
        if self._reaper:
            self._reaper.join(seconds)

    def _reap(self) -> None:
        # Not `block=False`: that takes the batch away under the thread that is still at work on it.
        self._manager.stop(block=True)
        for stream in list(self._streams.values()):
            stream.fail(said("was_shut_down"))
        del self._manager
        gc.collect()


def _load_base(base: BaseModel, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    options = {"dtype": dtype, "attn_implementation": "sdpa"}
    try:
        # unpacked once: layers that unpack at every step are slower, and peft cannot add to them
        folder = base.transformers or unpacked(base, str(dtype).removeprefix("torch."), lambda folder: _unpack(base, dtype, folder))
        model = AutoModelForCausalLM.from_pretrained(str(folder), **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelUnavailable(said("transformers_cannot_read", model=base.name, error=str(error), folder=str(base.folder))) from error
    model = model.to(device).requires_grad_(False).eval()
    return _with_short_norms(model) if device.type == "cuda" else model


def _with_short_norms(model: torch.nn.Module) -> torch.nn.Module:
    """`model`, whose RMS norms are one operation each in place of six, where that says the same."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and [*dict(module.named_parameters())] == ["weight"]:
            short, x = types.MethodType(_rms_norm, module), torch.linspace(-2, 3, 2 * len(module.weight)).view(2, -1).to(module.weight)
            if torch.allclose(module(x).float(), short(x).float(), rtol=0.01, atol=0.001):
                module.forward = short
    return model


def _rms_norm(norm: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _unpack(base: BaseModel, dtype: torch.dtype, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        str(base.folder), gguf_file=base.gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=dtype
    )
    model.config.quantization_config = model.hf_quantizer = None  # plain weights from here on
    model.save_pretrained(folder)


def _with_adapter(model: torch.nn.Module, folder: Path) -> PeftModel:
    """`model` with the LoRA layers of `folder` in it; peft only warns of tensors that find no place, we refuse."""
    weights = folder / "adapter_model.safetensors"
    try:
        with open(weights, "rb"), safe_open(weights, "pt") as file:      # it says of every file that cannot be opened that there is none
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except Exception as error:  # safetensors raises its own
        if of_the_moment(error):
            raise
        raise CorruptAdapter(said("adapter_unreadable", folder=folder.name, error=str(error))) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            policy = PeftModel.from_pretrained(model, str(folder))
        placed = {name: tuple(weight.shape) for name, weight in get_peft_model_state_dict(policy, save_embedding_layers=False).items()}
        odd = sorted(stored.items() ^ placed.items())
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        odd = [str(error).strip().splitlines()[-1].strip()]
    except OSError as error:
        if of_the_moment(error):
            raise
        raise CorruptAdapter(said("adapter_unreadable", folder=folder.name, error=str(error))) from error
    if odd:
        raise AdapterMismatch(said("adapter_misfit", folder=folder.name, reason=str(odd[0])))
    return policy.requires_grad_(False).eval()


def small_on_its_gpu(model: torch.nn.Module) -> bool:
    """Whether it is on a GPU of which another copy of its weights is little."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return False
    return sum(weight.nbytes for weight in model.parameters()) <= torch.cuda.get_device_properties(device).total_memory * LITTLE


def _merged(policy: PeftModel) -> torch.nn.Module:
    """The plain model whose weights are the policy's; those it shared with other versions stay as they are."""
    for layer in policy.modules():
        if isinstance(layer, LoraLayer):
            for name, own in list(layer.base_layer.named_parameters()):
                setattr(layer.base_layer, name, torch.nn.Parameter(own.clone(), requires_grad=False))
    return policy.merge_and_unload()


def _pages(model, context_length: int, kv_cache_gib: float) -> int:
    """Pages of attention cache within the bound, and no more than sixteen full contexts would fill."""
    config = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * head * model.dtype.itemsize
    return max(4, min(int(kv_cache_gib * 2**30) // (token_bytes * PAGE), 16 * context_length // PAGE))


def _cache_share(device: torch.device) -> float:
    """GiB for each version's attention cache: a twelfth of a card, since two or three versions and the learner share it."""
    if device.type != "cuda":
        return 0.5
    return min(2.0, max(0.5, torch.cuda.get_device_properties(device).total_memory / 2**30 / 12))


def _native_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it; emulated it is slower than float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else torch.float32

"""The policy: base model + LoRA adapter, and the one place where log-probs are computed."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig
from transformers.utils import logging as transformers_logging

from data.base_models.unpacked import unpacked
from data.errors import AdapterMismatch, ModelUnavailable
from data.files import plain_errors_of_safetensors
from data.records import BaseModel
from data.sentences import said
from learner.model import lanes
from learner.model.attention import BY_WIDTH
from learner.model.batches import Batch, Example, make_batch, padded_batches
from learner.model.fused import fuse
from learner.model.head import completion_scores, expectations
from learner.model.rows import groups_for_rows
from learner.model.sharding import shard_layers
from learner.model.team import ALONE, Team

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ADAPTER = "default"
"""peft's name for the adapter in training; a folder saved under it carries no extra path component."""
BEHAVIOR = "behavior"
SAME = 0.02
"""Relative difference of a hidden row, for bf16's rounding; a reply that sees another one makes a tenth to several times the row."""


class Scores(NamedTuple):
    """What the policy says of a batch, fp32."""

    logprobs: Tensor
    """(B, C) nats, full vocabulary, at each reply's own temperature; zero where `completion_mask` is False."""
    kl_sum: Tensor
    """Scalar: KL(base || policy) in nats, summed over the tokens of the anchored replies."""
    kl_tokens: int
    """How many tokens that sum runs over; 0 when no reply of the batch is anchored."""


class Policy:
    """A causal language model whose LoRA weights are the only parameters.

    Base weights and arithmetic are bf16 where the processor multiplies bf16 (measured 1.7 times faster), else fp32.
    LoRA weights are fp32: steps of 5e-4 would be rounded away in bf16. They are multiplied as bf16 where the base is.

    Raises: ModelUnavailable: the base model cannot be read, or computes its output in a way we do not reproduce.
    """

    def __init__(self, base: BaseModel, *, rank: int = 8, seed: int = 0, dtype: torch.dtype | None = None,
                 device: str | None = None, team: Team = ALONE) -> None:
        """Args: team: the processes that each hold this policy and share its passes and steps."""
        self.base, self.team = base, team
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype or fast_dtype(self.device)
        model = _load_base(base, self.dtype)
        if not team.sharded:
            model.to(self.device)
        torch.manual_seed(seed)                       # LoRA's A starts random, B at zero
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)    # peft asks transformers for a name that it renamed
            self.model: PeftModel = get_peft_model(model, LoraConfig(
                r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules=list(LINEARS)))
        fuse(self.model)
        self.model.eval()                             # no dropout anywhere: old and new log-probs differ by the weights alone
        self._decoder = model.get_decoder()
        self.in_one_row = self.device.type == "cpu" and self._keeps_apart()
        """Whether its batches are rows of replies; on a GPU starting an operation is what costs."""
        if team.sharded:
            shard_layers(self.model, self._decoder, self.device, team.size)
        self._head = model.get_output_embeddings().weight
        self.acting: Literal["candidate", "base"] | Path = "candidate"
        """Who computes at this instant: the adapter in training, the base model alone, or a version's folder."""

    @property
    def lanes(self) -> int:
        """How many threads may compute with it at once."""
        return 1 if self.team.sharded else lanes.count(self.device)

    def parameters(self) -> list[torch.nn.Parameter]:
        """The LoRA weights in training, in a fixed order."""
        return [parameter for name, parameter in self.model.named_parameters() if f".{ADAPTER}." in name]

    def weights(self) -> list[Tensor]:
        """Copies of `parameters`, in memory."""
        return [parameter.detach().cpu().clone() for parameter in self.parameters()]

    def set_weights(self, weights: Sequence[Tensor]) -> None:
        """Put `weights`, from a policy of the same base and rank, in place of this one's."""
        with torch.no_grad():
            for parameter, weight in zip(self.parameters(), weights, strict=True):
                parameter.copy_(weight)

    def batch(self, examples: Sequence[Example]) -> Batch:
        return make_batch(examples, self.device, in_one_row=self.in_one_row)

    def micro_batches(self, examples: Sequence[Example], max_batch_tokens: int) -> list[list[Example]]:
        """Every reply once, with those that it shares computation with; as many micro-batches as there are lanes have about `max_batch_tokens` tokens together at most,
        but for a reply that is longer."""
        if self.in_one_row:
            return groups_for_rows(examples, max_batch_tokens // self.lanes)
        return padded_batches(examples, max_batch_tokens, self.lanes)

    def hidden(self, batch: Batch) -> Tensor:
        """(N, H): last hidden states of the N completion tokens, in the order of `completion_mask`'s True places."""
        options = {}
        if batch.spans:
            positions = [position for span in batch.spans for position in span.positions()]
            options = {"position_ids": torch.tensor([positions], device=batch.input_ids.device), "spans": batch.spans,
                       "attention_mask": torch.ones_like(batch.input_ids)}          # without one, a mask would be made of where positions start again
        states = self._decoder(input_ids=batch.input_ids, use_cache=False, **options).last_hidden_state       # what is padded comes after all that is asked for
        return states.flatten(0, 1)[batch.places]

    def scores(self, batch: Batch, expected: Mapping[int, Tensor] | None = None) -> Scores:
        """Log-probs of the completion tokens, and the KL from the base model on anchored replies.

        Args: expected: of the anchored replies, by example index, what `expectations` gave under `reference()`.
        """
        return self.head(self.hidden(batch), batch, expected)

    def head(self, hidden: Tensor, batch: Batch, expected: Mapping[int, Tensor] | None = None) -> Scores:
        """`scores` from hidden rows that are at hand already."""
        anchored = [bool(expected) and index in expected for index in batch.indexes]
        with_kl = torch.tensor(anchored, device=hidden.device)[:, None].expand_as(batch.completion_mask)[batch.completion_mask]       # (N,)
        of_base = None
        if any(anchored):
            of_base = hidden.new_zeros(len(hidden), hidden.shape[1] + 1, dtype=torch.float32)
            of_base[with_kl] = torch.cat([expected[index] for index, one in zip(batch.indexes, anchored, strict=True) if one])
        logprobs, kl = completion_scores(hidden, self._head, *_asked(batch), of_base)
        return Scores(_spread(logprobs, batch), logprobs.new_zeros(()) if kl is None else kl[with_kl].sum(), int(with_kl.sum()))

    def expectations(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Log-probs as `Scores` has them, and per reply (completion length, H + 1), for the KL of another model from this one. Without gradient."""
        logprobs, rows = expectations(hidden, self._head, *_asked(batch))
        return _spread(logprobs, batch), rows.split(batch.completion_mask.sum(dim=1).tolist())

    @torch.no_grad()
    def _keeps_apart(self) -> bool:
        """Whether replies in one row are what each is alone: attention keeps them apart, a recurrent or convolutional layer does not."""
        examples = [Example(0, (1, 2, 3, 1, 5), (4, 5), 1.0), Example(1, (1, 2, 3, 1, 5), (2, 5, 4), 1.0), Example(2, (3, 1), (2, 5, 4), 1.0)]
        try:
            together, *apart = (self.hidden(make_batch(some, self.device, in_one_row=True)).float() for some in (examples, *([one] for one in examples)))
        except TypeError:                             # a layer that does not pass on what it does not know
            return False
        return bool(((together - torch.cat(apart)).norm(dim=1) < SAME * together.norm(dim=1)).all())

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The base model alone: the adapter is disabled inside."""
        with self.model.disable_adapter(), self._acting("base"):
            yield

    @contextmanager
    def behaving_as(self, folder: Path) -> Iterator[None]:
        """A published version instead of the adapter in training: for behaviour log-probs.

        Raises: AdapterMismatch: the folder holds no adapter for this base model.
        """
        config_file = folder / "adapter_config.json"
        try:
            if json.loads(config_file.read_text())["base_model_name_or_path"] != self.base.id:
                raise ValueError("another base model")
            self.model.load_adapter(str(folder), BEHAVIOR, is_trainable=False, torch_device=str(self.device))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            if BEHAVIOR in self.model.peft_config:            # shapes are compared after the adapter was put in place
                self.model.delete_adapter(BEHAVIOR)
            raise AdapterMismatch(said("adapter_of_another_base", folder=folder.name, base=self.base.id)) from error
        try:
            self.model.set_adapter(BEHAVIOR)
            with self._acting(folder):
                yield
        finally:
            self.model.set_adapter(ADAPTER)
            self.model.delete_adapter(BEHAVIOR)

    @contextmanager
    def _acting(self, who: Literal["base"] | Path) -> Iterator[None]:
        before, self.acting = self.acting, who
        try:
            yield
        finally:
            self.acting = before

    def lora_b(self) -> list[Tensor]:
        """Copies of the B halves: the adapter's effect is linear in them."""
        return [parameter.detach().clone() for parameter in self._b()]

    def set_scale(self, scale: float, full: Sequence[Tensor]) -> None:
        """Make the adapter `scale` times the one whose B halves are `full`."""
        with torch.no_grad():
            for parameter, original in zip(self._b(), full, strict=True):
                parameter.copy_(original * scale)

    def _b(self) -> list[torch.nn.Parameter]:
        return [parameter for name, parameter in self.model.named_parameters() if f".lora_B.{ADAPTER}." in name]

    def save(self, folder: Path) -> None:
        """Write `adapter_config.json` and `adapter_model.safetensors`: the same weights give the same bytes.

        Raises: OSError: the folder cannot be written, the disk being full among the reasons.
        """
        with plain_errors_of_safetensors():
            self.model.save_pretrained(str(folder), selected_adapters=[ADAPTER], save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)      # peft's empty model card
        config_file = folder / "adapter_config.json"
        config = json.loads(config_file.read_text())
        config["base_model_name_or_path"] = self.base.id    # peft puts this machine's path here
        config["target_modules"] = sorted(config["target_modules"])
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _asked(batch: Batch) -> tuple[Tensor, Tensor]:
    """(N,) each: the completion tokens, and the temperatures they were drawn at."""
    mask = batch.completion_mask
    return batch.completion_ids[mask], batch.temperatures[:, None].expand_as(mask)[mask]


def _spread(values: Tensor, batch: Batch) -> Tensor:
    """(N,) as (B, C), zero where `completion_mask` is False."""
    return values.new_zeros(batch.completion_mask.shape).masked_scatter(batch.completion_mask, values)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the hardware multiplies it, fp32 elsewhere (emulated bf16 is slower than fp32)."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def _load_base(base: BaseModel, dtype: torch.dtype) -> torch.nn.Module:
    transformers_logging.set_verbosity_error()        # it reports every layer; what matters here is an exception
    transformers_logging.disable_progress_bar()
    try:
        # a reader of GGUF files draws its own bar on stderr, whatever it is told
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _read_base(base, dtype)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelUnavailable(said("learner_cannot_read", base=base.id, error=str(error).splitlines()[0][:200], folder=str(base.folder))) from error
    unusual = [name for name in ("final_logit_softcapping", "logit_scale", "logits_scaling")
               if getattr(model.config, name, None) not in (None, 1, 1.0)]
    if unusual:
        raise ModelUnavailable(said("learner_cannot_train", base=base.id, feature=unusual[0]))
    model.requires_grad_(False)
    model.generation_config = GenerationConfig()      # the model's own may bring a penalty on repetition: replies are drawn from what is trained, and from nothing else
    return model


def _read_base(base: BaseModel, dtype: torch.dtype) -> torch.nn.Module:
    folder = base.transformers or unpacked(base, str(dtype).removeprefix("torch."), lambda folder: _unpack(base, dtype, folder))
    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype, attn_implementation=BY_WIDTH)


def _unpack(base: BaseModel, dtype: torch.dtype, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        str(base.gguf.parent), gguf_file=base.gguf.name, dtype=dtype, quantization_config=GgufConfig(dequantize=True))
    model.config.quantization_config = model.hf_quantizer = None       # the weights are plain now, and peft would treat them as packed
    model.save_pretrained(folder)

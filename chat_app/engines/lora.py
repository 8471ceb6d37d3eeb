"""A peft LoRA folder as plain matrices in GGUF's names and row order, or a refusal that says why."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import AdapterMismatch, CorruptAdapter
from data.files import of_the_moment
from data.sentences import said

TENSORS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""transformers' module name to GGUF's tensor name, the same for llama, qwen2 and qwen3."""

ROPE_PERMUTED = ("llama",)
"""Architectures whose q and k rows llama.cpp's converter reorders."""

PLAIN = frozenset(
    "auto_mapping base_model_name_or_path inference_mode init_lora_weights lora_alpha lora_dropout megatron_core peft_type "
    "peft_version qalora_group_size r revision runtime_config target_modules task_type use_rslora exclude_modules "
    "layers_pattern layers_to_transform ensure_weight_tying".split()
)
"""Fields of adapter_config.json that need nothing from us. Any other that is switched on changes what the numbers mean."""

KEY = re.compile(r"(?:base_model\.model\.)?model\.layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.weight")


@dataclass(frozen=True)
class Delta:
    """What an adapter adds to one weight: `up @ down`, the scale multiplied in, rows in GGUF's order."""

    up: np.ndarray
    """(rows, r) float32"""
    down: np.ndarray
    """(r, columns) float32"""


def read_deltas(
    folder: Path, shapes: Mapping[str, tuple[int, int]], *, architecture: str, heads: int, kv_heads: int
) -> dict[str, Delta]:
    """The adapter in `folder` as deltas by GGUF tensor name.

    Args:
        shapes: (rows, columns) of every matrix of the base model, by GGUF tensor name.
        heads, kv_heads: attention heads and key-value heads of the base model.
    Raises:
        CorruptAdapter: a file is missing, unreadable, or holds numbers that are not finite.
        AdapterMismatch: the adapter was made for another model, or uses a form of LoRA that cannot be merged here.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        weights = read_safetensors(folder / "adapter_model.safetensors")
    except Exception as error:  # safetensors raises its own and plain ones
        if of_the_moment(error):
            raise
        raise CorruptAdapter(said("adapter_unreadable", folder=folder.name, error=str(error))) from error
    scale = _scale(config, folder)

    halves: dict[str, dict[str, np.ndarray]] = {}
    for key, weight in weights.items():
        match = KEY.fullmatch(key)
        if match is None or match[2] not in TENSORS:
            raise _mismatch(folder, f"it changes {key}, which cannot be merged")
        if not np.isfinite(weight).all():
            raise CorruptAdapter(said("adapter_not_finite", folder=folder.name, key=key))
        halves.setdefault(f"blk.{match[1]}.{TENSORS[match[2]]}.weight", {})[match[3]] = weight

    deltas: dict[str, Delta] = {}
    for name, pair in halves.items():
        if pair.keys() != {"A", "B"}:
            raise _mismatch(folder, f"{name} has only one of its two matrices")
        down, up = pair["A"], pair["B"] * scale
        rank = config["r"]
        if name not in shapes or (up.shape, down.shape) != ((shapes[name][0], rank), (rank, shapes[name][1])):
            raise _mismatch(folder, f"{name} is {shapes.get(name)} there and {(up.shape[0], down.shape[1])}, rank {down.shape[0]}, here")
        if architecture in ROPE_PERMUTED and name.endswith(("attn_q.weight", "attn_k.weight")):
            up = permute_rows(up, heads if name.endswith("attn_q.weight") else kv_heads)
        deltas[name] = Delta(up.astype(np.float32), down.astype(np.float32))
    return deltas


def permute_rows(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k from transformers' order (halves of a head rotate together) to llama.cpp's (neighbours do).

    Within each head of d rows, row h * d/2 + i moves to 2 * i + h. Source: `permute` in llama.cpp's convert_hf_to_gguf.py.
    """
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _scale(config: dict, folder: Path) -> float:
    if config.get("peft_type") != "LORA" or not isinstance(config.get("r"), int) or config["r"] < 1:
        raise _mismatch(folder, "it is not a LoRA adapter")
    for field, value in config.items():
        if field not in PLAIN and value not in (None, False, {}, [], "", "none"):
            raise _mismatch(folder, f"it was made with {field}={value!r}, which cannot be merged")
    if not isinstance(config.get("init_lora_weights", True), bool) and config["init_lora_weights"] not in ("gaussian", "orthogonal", "eva"):
        raise _mismatch(folder, f"init_lora_weights={config['init_lora_weights']!r} changes the base model itself")
    return config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors as float32; bfloat16, which numpy lacks, included."""
    from safetensors import deserialize

    tensors = {}
    for name, entry in deserialize(path.read_bytes()):
        raw = bytes(entry["data"])
        if entry["dtype"] == "BF16":
            flat = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            flat = np.frombuffer(raw, {"F32": np.float32, "F16": np.float16, "F64": np.float64}[entry["dtype"]]).astype(np.float32)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def _mismatch(folder: Path, reason: str) -> AdapterMismatch:
    return AdapterMismatch(said("adapter_misfit", folder=folder.name, reason=reason))

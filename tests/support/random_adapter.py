"""A random LoRA adapter as a peft folder, written without torch: it changes what the model says, and nothing was learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import save_file

from chat_app.engines.lora import TENSORS
from data.records import BaseModel


def write_random_adapter(base: BaseModel, folder: Path, *, seed: int, scale: float = 0.1, rank: int = 4) -> None:
    """Fill every linear's A and B with normal numbers; `scale` is the size of B @ A's entries against N(0, 1)."""
    random = np.random.default_rng(seed)
    names = {gguf: module for module, gguf in TENSORS.items()}
    weights = {}
    for tensor in GGUFReader(base.gguf).tensors:
        parts = tensor.name.split(".")
        if parts[0] == "blk" and parts[2] in names:
            columns, rows = (int(n) for n in tensor.shape)
            key = f"base_model.model.model.layers.{parts[1]}.{names[parts[2]]}"
            weights[f"{key}.lora_A.weight"] = random.standard_normal((rank, columns)).astype(np.float32) / rank**0.5
            weights[f"{key}.lora_B.weight"] = random.standard_normal((rows, rank)).astype(np.float32) * scale
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base.id, "r": rank, "lora_alpha": rank,
              "target_modules": sorted(module.split(".")[1] for module in TENSORS), "bias": "none", "inference_mode": True}
    (folder / "adapter_config.json").write_text(json.dumps(config))

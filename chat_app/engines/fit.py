"""Whether an adapter was made for this base model, by the shapes on disk: for an engine that is somewhere else.

A vLLM server copies a smaller adapter into a corner of its buffers and says nothing, so it is asked only afterwards.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from chat_app.engines.lora import TENSORS, read_safetensors
from data.base_models.gguf_files import open_gguf
from data.errors import AdapterMismatch, CorruptAdapter
from data.files import of_the_moment
from data.records import BaseModel
from data.sentences import said

KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])\.weight")


def check_fit(base: BaseModel, folder: Path) -> None:
    """Compare every LoRA matrix in `folder` with the weight it is for. A weight that the base's files do not name is left to the engine.

    Raises:
        CorruptAdapter: a file is missing, unreadable, or holds numbers that are not finite.
        AdapterMismatch: a matrix has another shape than the weight it is for.
    """
    try:
        rank = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        weights = read_safetensors(folder / "adapter_model.safetensors")
    except Exception as error:  # safetensors raises its own and plain ones
        if of_the_moment(error):
            raise
        raise CorruptAdapter(said("adapter_unreadable", folder=folder.name, error=str(error))) from error
    shapes = _shapes(base)
    for key, weight in weights.items():
        if not np.isfinite(weight).all():
            raise CorruptAdapter(said("adapter_not_finite", folder=folder.name, key=key))
        match = KEY.fullmatch(key)
        found = shapes.get(match[1]) if match else None
        if found and weight.shape != ((rank, found[1]) if match[2] == "A" else (found[0], rank)):
            raise AdapterMismatch(said("adapter_misfit", folder=folder.name, reason=f"{key} is {weight.shape} and the weight it is for {found}"))


def _shapes(base: BaseModel) -> dict[str, tuple[int, int]]:
    """(rows, columns) by transformers' module name, from the files' headers."""
    if base.gguf is None:
        headers = [_header(file) for file in sorted(base.transformers.glob("*.safetensors"))]
        found = {name: tuple(entry["shape"]) for header in headers for name, entry in header.items() if name != "__metadata__"}
        return {name.removesuffix(".weight"): shape for name, shape in found.items() if len(shape) == 2}
    modules = {tensor: module for module, tensor in TENSORS.items()}
    parts = [(tensor.name.split("."), tensor.shape) for tensor in open_gguf(base.gguf).tensors]
    return {f"model.layers.{name[1]}.{modules[name[2]]}": (int(shape[1]), int(shape[0]))
            for name, shape in parts if name[0] == "blk" and name[2] in modules and name[3] == "weight"}


def _header(file: Path) -> dict:
    """A safetensors file's own table of contents: 8 bytes of its length, then JSON."""
    with open(file, "rb") as opened:
        return json.loads(opened.read(int.from_bytes(opened.read(8), "little")))

"""The base model's weights with an adapter added, as a GGUF file in an encoding that is read exactly.

Version 0 is re-encoded too: OpenVINO rounds the zero points of Q4_1 to integers, so the file as published is not the
model that the learner trains. All versions' files begin alike, with the vocabulary among other things, which takes as long
to read and write as the weights do: that beginning is kept for the next version.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from chat_app.engines.lora import Delta, read_deltas
from data.base_models.gguf_files import open_gguf
from data.errors import CorruptAdapter, ModelUnavailable
from data.records import BaseModel
from data.sentences import said

Encoding = Literal["Q8_0", "F16"]
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those OpenVINO's reader knows, and whose tensor names and layout `lora.py` knows."""

HALF_MAX = 65504.0
"""The largest half-precision number."""
ALIGNMENT = 32
"""Bytes; tensors begin at multiples of it in a GGUF file that does not say otherwise."""
AHEAD = 4
"""Tensors that are encoded and not written yet, at most, for each thread."""


@dataclass(frozen=True)
class Template:
    """What the files of all versions of a base model have in common."""

    header: bytes
    """All before the first tensor."""
    tensors: tuple
    """gguf's own descriptions, in the file's order; their data is read from the disk when it is asked for."""
    kinds: tuple
    """What each is encoded as."""
    heads: int
    kv_heads: int


def write_merged(base: BaseModel, adapter: Path | None, target: Path, encoding: Encoding, threads: int = 1) -> None:
    """Raises: ModelUnavailable; AdapterMismatch; CorruptAdapter; OSError."""
    if base.gguf is None or base.architecture not in ARCHITECTURES:
        raise ModelUnavailable(said("no_gguf_form", model=base.name, architecture=base.architecture))
    state = base.gguf.stat() if base.gguf.exists() else None    # gone: reading it says so
    template = _template(base.gguf, base.architecture, encoding, target.parent, *((state.st_mtime_ns, state.st_size) if state else ()))
    deltas: dict[str, Delta] = {}
    if adapter is not None:
        shapes = {tensor.name: _shape(tensor) for tensor in template.tensors if len(tensor.shape) == 2}
        deltas = read_deltas(adapter, shapes, architecture=base.architecture, heads=template.heads, kv_heads=template.kv_heads)
    with target.open("wb") as file, closing(_encoded_in_order(template, deltas, threads)) as tensors:
        file.write(template.header)
        for encoded in tensors:
            encoded.tofile(file)
            file.write(bytes(-encoded.nbytes % ALIGNMENT))


@lru_cache(maxsize=2)
def _template(gguf: Path, architecture: str, encoding: Encoding, room: Path, *state: int) -> Template:
    """Args: room: where a file may lie for a moment. state: what tells that the file of the base model is another one by now."""
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

    reader = open_gguf(gguf)
    heads = reader.fields[f"{architecture}.attention.head_count"].contents()
    kv_heads = reader.fields.get(f"{architecture}.attention.head_count_kv")
    kinds = tuple(_kind(tensor, encoding) for tensor in reader.tensors)
    with tempfile.NamedTemporaryFile(prefix=".merge-", dir=room) as file:
        writer = GGUFWriter(file.name, architecture)
        _copy_metadata(reader, writer)
        writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if encoding == "Q8_0" else LlamaFileType.MOSTLY_F16)
        for tensor, kind in zip(reader.tensors, kinds, strict=True):
            shape = _shape(tensor)
            if kind == GGMLQuantizationType.Q8_0:  # 32 weights are 32 bytes and one half-precision scale
                shape = (*shape[:-1], shape[-1] // 32 * 34)
                writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kind)
            else:
                dtype = np.dtype(np.float16 if kind == GGMLQuantizationType.F16 else np.float32)
                writer.add_tensor_info(tensor.name, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        header = Path(file.name).read_bytes()
    return Template(header + bytes(-len(header) % ALIGNMENT), tuple(reader.tensors), kinds, heads, kv_heads.contents() if kv_heads else heads)


def _encoded_in_order(template: Template, deltas: dict[str, Delta], threads: int) -> Iterator[np.ndarray]:
    """A few tensors in memory at a time."""
    jobs = [(tensor, kind, deltas.get(tensor.name)) for tensor, kind in zip(template.tensors, template.kinds, strict=True)]
    if threads < 2:
        yield from (_encoded(*job) for job in jobs)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="merge")
    try:
        ahead = deque(pool.submit(_encoded, *job) for job in jobs[: threads * AHEAD])
        for job in [*jobs[threads * AHEAD :], *[None] * len(ahead)]:
            yield ahead.popleft().result()
            if job is not None:
                ahead.append(pool.submit(_encoded, *job))
    finally:
        pool.shutdown(cancel_futures=True)


def _encoded(tensor, kind, delta: Delta | None) -> np.ndarray:
    from gguf.quants import dequantize, quantize

    if delta is None and tensor.tensor_type == kind:
        return np.ascontiguousarray(tensor.data)
    weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False).reshape(_shape(tensor))
    if delta is not None:
        weight = weight + delta.up @ delta.down
        if not np.abs(weight).max() <= HALF_MAX:  # also true of NaN
            raise CorruptAdapter(said("adapter_overflows", tensor=tensor.name))
    return quantize(weight, kind)


def _kind(tensor, encoding: Encoding):
    """Matrices in `encoding` (F16 where rows do not divide into blocks of 32); norms and biases in F32."""
    from gguf import GGMLQuantizationType

    if len(tensor.shape) < 2:
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.Q8_0 if encoding == "Q8_0" and _shape(tensor)[-1] % 32 == 0 else GGMLQuantizationType.F16


def _shape(tensor) -> tuple[int, ...]:
    """(rows, columns): GGUF counts dimensions from the fastest."""
    return tuple(int(size) for size in reversed(tensor.shape))


def _copy_metadata(reader, writer) -> None:
    from gguf import GGUFValueType

    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type", "general.alignment"):
            continue  # the writer's own
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind, sub_type=field.types[-1] if kind == GGUFValueType.ARRAY else None)

"""One servable GGUF per version: the base model's weights with the adapter added, in an encoding that is read exactly.

Version 0 is re-encoded too: OpenVINO rounds the zero points of Q4_1 to integers, so the file as published is not the
model that the learner trains.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from chat_app.engines.lora import Delta, read_deltas
from data.errors import CorruptAdapter, ModelUnavailable
from data.files import full_disk_says, plain_errors_of_numpy, sha256_of
from data.gguf_files import open_gguf
from data.records import BaseModel
from data.sentences import said

Encoding = Literal["Q8_0", "F16"]
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those OpenVINO's reader knows, and whose tensor names and layout `lora.py` knows."""

HALF_MAX = 65504.0
"""The largest half-precision number."""


KEPT_UNHELD = 2
"""How many files the sweep leaves though nobody has them loaded: the learner's gate has just measured the base model and
the candidate, which the chat server loads next."""


def servable_gguf(base: BaseModel, adapter: Path | None, cache_dir: Path, *, encoding: Encoding = "Q8_0") -> Path:
    """`cache_dir/<base id>/<sha12>-<encoding>.gguf`, written first when it is not there yet.

    Args:
        adapter: a peft folder; None for the base model alone.
        encoding: Q8_0 is 8.5 bits a weight and the faster one; F16 is 16 and exact to half precision.
    Raises: ModelUnavailable; AdapterMismatch; CorruptAdapter; StorageFull.
    """
    target = servable_path(base, adapter, cache_dir, encoding=encoding)
    if target.exists():  # only ever renamed into place when whole
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".merge-", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with full_disk_says(said("no_room_to_serve", folder=str(cache_dir))), plain_errors_of_numpy():
            _write(base, adapter, temporary, encoding)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def servable_path(base: BaseModel, adapter: Path | None, cache_dir: Path, *, encoding: Encoding = "Q8_0") -> Path:
    """Where `servable_gguf` puts its file. The name holds all that the content depends on.

    Raises: CorruptAdapter: the adapter's weights are missing.
    """
    if adapter is None:
        digest = base.id.rsplit("-", 1)[-1]
    elif (adapter / "adapter_model.safetensors").is_file():
        digest = sha256_of(adapter / "adapter_model.safetensors")[:12]
    else:
        raise CorruptAdapter(said("adapter_without_weights", folder=adapter.name))
    return cache_dir / base.id / f"{digest}-{encoding.lower()}.gguf"


def held(path: Path) -> BinaryIO:
    """The file, open; for as long as it is, no process on this machine sweeps it. Raises: FileNotFoundError: it was swept just now."""
    file = path.open("rb")
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
            raise FileNotFoundError(errno.ENOENT, "another file by now", path)
        os.utime(path)                                       # the sweep goes by when it was last taken
    except BaseException:
        file.close()
        raise
    return file


def sweep_cache(cache_dir: Path) -> None:
    """Delete servable files that nobody holds but the `KEPT_UNHELD` taken last, and what killed merges left behind."""
    unheld = 0
    for path in sorted(cache_dir.glob("*/*.gguf"), key=_age):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unheld += 1
                if unheld > KEPT_UNHELD:
                    path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue
    for path in cache_dir.glob("*/.merge-*"):
        if time.time() - path.stat().st_mtime > 3600:  # a younger one may be at work in another process
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:                                # another server swept it just now
        return 0.0


def _write(base: BaseModel, adapter: Path | None, target: Path, encoding: Encoding) -> None:
    """One tensor in memory at a time: sizes are announced first, then each is dequantised, added to and encoded."""
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

    if base.gguf is None or base.architecture not in ARCHITECTURES:
        raise ModelUnavailable(said("no_gguf_form", model=base.name, architecture=base.architecture))
    reader = open_gguf(base.gguf)
    shapes = {tensor.name: _shape(tensor) for tensor in reader.tensors if len(tensor.shape) == 2}
    heads = reader.fields[f"{base.architecture}.attention.head_count"].contents()
    kv_heads = reader.fields.get(f"{base.architecture}.attention.head_count_kv")
    deltas: dict[str, Delta] = {}
    if adapter is not None:
        deltas = read_deltas(
            adapter, shapes, architecture=base.architecture, heads=heads, kv_heads=kv_heads.contents() if kv_heads else heads
        )
    kinds = {tensor.name: _kind(tensor, encoding) for tensor in reader.tensors}

    writer = GGUFWriter(target, base.architecture)
    _copy_metadata(reader, writer)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0 if encoding == "Q8_0" else LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        kind, shape = kinds[tensor.name], _shape(tensor)
        if kind == GGMLQuantizationType.Q8_0:  # 32 weights are 32 bytes and one half-precision scale
            shape = (*shape[:-1], shape[-1] // 32 * 34)
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kind)
        else:
            dtype = np.dtype(np.float16 if kind == GGMLQuantizationType.F16 else np.float32)
            writer.add_tensor_info(tensor.name, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        writer.write_tensor_data(_encoded(tensor, kinds[tensor.name], deltas.get(tensor.name)))
    writer.close()


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
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue  # the writer's own
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind, sub_type=field.types[-1] if kind == GGUFValueType.ARRAY else None)

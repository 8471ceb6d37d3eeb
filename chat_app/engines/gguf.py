"""One servable GGUF file per version: where it lies, who holds it, and when it goes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from chat_app.engines.gguf_merge import Encoding, write_merged
from data.errors import CorruptAdapter
from data.files import full_disk_says, plain_errors_of_numpy, sha256_of
from data.records import BaseModel
from data.sentences import said

KEPT_UNHELD = 2
"""How many files the sweep leaves though nobody has them loaded: the learner's gate has just measured the base model and
the candidate, which the chat server loads next."""


def servable_gguf(base: BaseModel, adapter: Path | None, cache_dir: Path, *, encoding: Encoding = "Q8_0", threads: int = 1) -> Path:
    """`cache_dir/<base id>/<sha12>-<encoding>.gguf`, written first when it is not there yet.

    Args:
        adapter: a peft folder; None for the base model alone.
        encoding: Q8_0 is 8.5 bits a weight and the faster one; F16 is 16 and exact to half precision.
        threads: that write it; one where people are being answered meanwhile.
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
            write_merged(base, adapter, temporary, encoding, threads)
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
        with contextlib.suppress(FileNotFoundError):         # renamed just now by who wrote it
            if time.time() - path.stat().st_mtime > 3600:    # a younger one may be at work in another process
                path.unlink()


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:                                # another server swept it just now
        return 0.0

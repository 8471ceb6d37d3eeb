"""The weights of a GGUF as plain numbers, kept beside it: transformers reads a GGUF in half a minute, these files in a second."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from data.files import full_disk_says, plain_errors_of_safetensors, sha256_of
from data.records import BaseModel
from data.sentences import said

MANIFEST = "unpacked.json"
"""sha256 by file name; written last, so a folder that has it is whole."""


def unpacked(base: BaseModel, form: str, write: Callable[[Path], None]) -> Path:
    """A transformers folder with the weights of `base.gguf`, whose files are those that were written.

    Args:
        form: what tells it from other ways to unpack the same file, such as `bfloat16`.
        write: fills an empty folder; called when there is no such folder yet, or when its files have changed.
    Two processes may call this at once: one writes, the other waits.
    Raises: StorageFull; whatever `write` raises. Nothing half written stays.
    """
    target = base.folder / f"unpacked-{form}"
    with FileLock(base.folder / ".unpacked.lock"):
        if _is_whole(target):
            return target
        for left in base.folder.glob(".unpacking-*"):        # a process was killed here; we hold the lock, so nobody uses it
            shutil.rmtree(left, ignore_errors=True)
        writing = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=base.folder))
        try:
            with full_disk_says(said("no_room_to_unpack", folder=str(base.folder))):
                with plain_errors_of_safetensors():
                    write(writing)
                (writing / MANIFEST).write_text(json.dumps(_digests(writing), indent=1), encoding="utf-8")
                for file in writing.iterdir():
                    with file.open("rb") as stream:
                        os.fsync(stream.fileno())
                shutil.rmtree(target, ignore_errors=True)
                writing.rename(target)
        finally:
            shutil.rmtree(writing, ignore_errors=True)
    return target


def _is_whole(folder: Path) -> bool:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8")) == _digests(folder)
    except (OSError, ValueError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST}

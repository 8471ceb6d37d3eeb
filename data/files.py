"""What everything that reads and writes files here needs: what a file's sha256 is, and what an error says of the file or of the machine."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import StorageFull
from data.sentences import Said


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_the_moment(error: BaseException) -> bool:
    """Whether the machine was short of memory or of files that may be open, which says nothing of the file."""
    return isinstance(error, MemoryError) or isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


@contextmanager
def full_disk_says(sentence: Said) -> Iterator[None]:
    """Raises: StorageFull with this sentence where a full disk or a used-up quota ends what is inside."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(sentence) from error
        raise


@contextmanager
def plain_errors_of_safetensors() -> Iterator[None]:
    """Raises: OSError in place of safetensors' own kind of error, whatever the system said."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(errno.ENOSPC if "os error 28" in str(error) else errno.EIO, str(error)) from error


@contextmanager
def plain_errors_of_numpy() -> Iterator[None]:
    """Raises: OSError that says that the disk is full in place of one without a number, with which `tofile` says that it could not write all."""
    try:
        yield
    except OSError as error:
        if error.errno is None and "requested and" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise

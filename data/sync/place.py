"""The shared place: a folder behind any fsspec URL. Written whole files only, each named by what it holds."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.core import split_protocol

from data.errors import BadSetting, ChatError
from data.store.shards import HOST, NAME, BadShard, block, name_parts, sha256_of_bytes, shard_path

HALF_WRITTEN = re.compile(rf"\.{NAME.pattern}-")
"""What a kill leaves of `_write_whole`."""


class PlaceUnreachable(ChatError):
    """The shared place does not answer, or refuses."""


class NotOurShard(ChatError):
    """Another host wrote a shard under this host's id."""


class SharedPlace:
    """Reads and writes below SYNC_URL. Folders, S3 and Hugging Face never show half a file under a name that is read. A place that does
    (sftp, smb) has it replaced by the next round; until then whoever reads it sees by the sha256 that it is not whole.

    Every method raises PlaceUnreachable: the network, a permission or the service is in the way; trying again later is safe.
    """

    def __init__(self, url: str) -> None:
        """Raises: BadSetting: no such protocol, or what it needs is not installed."""
        self.url = url
        protocol = split_protocol(url)[0]
        if protocol is None:
            raise BadSetting(f"SYNC_URL is {url!r}, which is no URL; write s3://bucket/folder, hf://buckets/name/bucket/folder or file:///folder.")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
        except ImportError as error:
            extra = " (pip install -e '.[s3]')" if protocol in ("s3", "s3a") else ""
            raise BadSetting(f"SYNC_URL is {url!r}, and what {protocol}:// needs is not installed{extra}: {error}.") from error
        except ValueError as error:
            raise BadSetting(f"SYNC_URL is {url!r}, which cannot be used ({error}); write s3://bucket/folder, hf://buckets/name/bucket/folder or file:///folder.") from error
        self._local = protocol in ("file", "local")

    def hosts(self, stream: str) -> list[str]:
        """Who ever wrote shards of a stream. What else lies there is none of ours, such as what a file manager leaves in every folder."""
        return sorted(name for path in self._list(stream) if HOST.fullmatch(name := path.rsplit("/", 1)[-1]))

    def shards(self, stream: str, host: str, number: int) -> dict[int, list[str]]:
        """The shards in the folder where `number` is or will be, by number; one that is being written again has two."""
        found: dict[int, list[str]] = {}
        for path in self._list(f"{stream}/{host}/{block(number)}"):
            if NAME.fullmatch(path.rsplit("/", 1)[-1]):
                found.setdefault(name_parts(path)[0], []).append(path)
        return found

    def put_shard(self, stream: str, host: str, number: int, content: bytes, ours: list[str]) -> None:
        """Write a shard and then remove its earlier forms.

        Args: ours: sha256 of every form this host ever wrote, this one included.
        Raises: NotOurShard: there is a form that this host never wrote; nothing was changed.
        """
        target = f"{stream}/{host}/{shard_path(number, sha256_of_bytes(content))}"
        others = [path for path in self.shards(stream, host, number).get(number, ()) if name_parts(path) != name_parts(target)]
        if any(name_parts(path)[1] not in ours for path in others):
            raise NotOurShard(f"Shard {number} of host {host} in SYNC_URL was written by another server with the same state folder, a copy or an older backup of this one.")
        self.write(target, content)
        half_written = [path for path in self._list(target.rpartition("/")[0]) if HALF_WRITTEN.match(path.rpartition("/")[2])]
        for path in [*others, *half_written]:
            self._remove(path)

    def put_file(self, path: str, content: bytes) -> None:
        """A file that never changes: written when it is not there whole. Not every place writes whole files (sftp, smb): a kill leaves half of one."""
        if self._size(path) != len(content) or self.read(path) != content:    # seldom there already, so reading it costs little
            self.write(path, content)

    def give_up(self, path: str) -> None:
        """Empty a file, where there is one. Not removed: shards of a host that is gone, or was this one before it was restored, may name it still."""
        if self._size(path):
            self.write(path, b"")

    def read_file(self, path: str, sha256: str) -> bytes | None:
        """None: it was given up. Raises: BadShard: it is not there, or its bytes have another sha256."""
        try:
            content = self.read(path)
        except FileNotFoundError:
            content = None
        if content == b"":
            return None
        if content is None or sha256_of_bytes(content) != sha256:
            raise BadShard(f"{path} in SYNC_URL is missing or damaged (its sha256 is another); put it back there from the adapters/ of a host that has it.")
        return content

    def read(self, path: str) -> bytes:
        """Raises: FileNotFoundError."""
        with self._clear_errors(path):
            return self._fs.cat_file(f"{self._root}/{path}")

    def _size(self, path: str) -> int | None:
        """None: it is not there."""
        with self._clear_errors(path):
            self._fs.invalidate_cache()
            try:
                return self._fs.info(f"{self._root}/{path}")["size"]
            except FileNotFoundError:
                return None

    def _list(self, folder: str) -> list[str]:
        """Paths below the place."""
        with self._clear_errors(folder):
            self._fs.invalidate_cache()           # other hosts write here too
            try:
                return [f"{folder}/{str(path).rstrip('/').rpartition('/')[2]}" for path in self._fs.ls(f"{self._root}/{folder}", detail=False)]
            except (FileNotFoundError, NotADirectoryError):                  # the latter: a stray file is in its place
                return []

    def write(self, path: str, content: bytes) -> None:
        """The whole file in place of what was there; at once wherever the place can do that."""
        with self._clear_errors(path):
            if self._local:
                _write_whole(Path(self._root) / path, content)
            else:
                self._fs.pipe_file(f"{self._root}/{path}", content)          # one request, or parts that appear together

    def _remove(self, path: str) -> None:
        with self._clear_errors(path):
            try:
                self._fs.rm_file(f"{self._root}/{path}")
            except FileNotFoundError:
                pass

    @contextmanager
    def _clear_errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, ChatError):
            raise
        except Exception as error:                # every protocol has exceptions of its own
            raise PlaceUnreachable(f"{self.url} could not be used for {path} ({type(error).__name__}: {error}); "
                                   "it is tried again later, and nothing is lost.") from error


def _write_whole(path: Path, content: bytes) -> None:
    """A kill or a power cut leaves the whole file or, at worst, one whose name nobody reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

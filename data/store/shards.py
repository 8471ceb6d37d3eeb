"""A shard: lines of JSON, gzipped, named by its number and the sha256 of its bytes."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Sequence

from data.errors import ChatError

BLOCK = 1000
"""Shards in one folder, so that looking for the next one lists a bounded number of names."""
HOST = re.compile(r"[0-9a-f]{16}")
"""What hosts are named, see `Outbox.host_id`."""
NAME = re.compile(r"(\d{9})-([0-9a-f]{64})\.jsonl\.gz")


class BadShard(ChatError):
    """A shard's bytes are not the ones its name promises, or not what this program writes."""


class BadRecord(ValueError):
    """One record of a shard cannot be taken in; its words are a part of the sentence that says so of the shard."""


LONGEST_NAME = 200
"""Bytes; file systems take 255, and a file that is being written has a longer name than it will have."""


def encode(records: Sequence[dict]) -> bytes:
    """The same records are always the same bytes."""
    lines = "".join(json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n" for record in records)
    return gzip.compress(lines.encode(), 6, mtime=0)


def decode(content: bytes, name: str) -> list[dict]:
    """Raises: BadShard."""
    if sha256_of_bytes(content) != name_parts(name)[1]:
        raise BadShard(f"The shard {name} was damaged on its way (its sha256 is another); remove it there, and its host writes it again at its next start.")
    try:
        lines = gzip.decompress(content).decode().split("\n")               # `splitlines` also ends a line within a text, at U+2028 say
        records = [json.loads(line) for line in lines if line]
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise BadShard(f"The shard {name} cannot be read ({error}); run the same version of this program on all hosts.") from error
    if not all(isinstance(record, dict) for record in records):
        raise BadShard(f"The shard {name} holds something else than records; run the same version of this program on all hosts.")
    return records


def shard_path(number: int, sha256: str) -> str:
    """Below the folder of its stream and host."""
    return f"{block(number)}/{number:09d}-{sha256}.jsonl.gz"


def block(number: int) -> str:
    return f"{number // BLOCK:06d}"


def name_parts(name: str) -> tuple[int, str]:
    """Number and sha256. Raises: BadShard: no shard's name."""
    match = NAME.fullmatch(name.rsplit("/", 1)[-1])
    if match is None:
        raise BadShard(f"{name} is no shard's name.")
    return int(match[1]), match[2]


def is_plain_name(name: object) -> bool:
    """Whether this names one folder in the folder it is put in, and none elsewhere: what other hosts write is not to be trusted with a path."""
    return isinstance(name, str) and name.isprintable() and 0 < len(name.encode("utf-8", "replace")) <= LONGEST_NAME and not name.startswith(".") and not set(name) & {"/", "\\"}


def plain_name(name: object) -> str:
    """Raises: BadShard: it is none."""
    if not is_plain_name(name):
        raise BadShard(f"A version in SYNC_URL has {str(name)[:80]!r} for its folder, which is not the name of one; nothing of it was taken in: "
                       "find out who writes there, and remove what they wrote.")
    return name


def sha256_of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

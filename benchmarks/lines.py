"""Results on disk, a JSON line each: a line that a kill cut short is ignored, and what it measured is measured again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path


def read_lines(file: Path) -> Iterator[dict | list]:
    """Whole lines in order; nothing of a file that is not there."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def add_line(file: Path, row: dict | list) -> None:
    with file.open("a+b") as stream:
        if stream.tell():                                      # after a kill the last line may lack its end
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(json.dumps(row).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())

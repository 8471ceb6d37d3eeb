"""What a result depends on beside its job: our own files and the library that is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.serving.jobs import OURS

MEASURES = ("figures.py", "learner.py", "material.py", "processes.py", "speakers.py", "worker.py")
SPEAKERS = {"llama.cpp": "llama_cpp_speaker.py", "vllm": "vllm_speaker.py"}
LIBRARIES = {OURS: "openvino-genai", "transformers": "transformers", "llama.cpp": "llama-cpp-python"}
"""vLLM lives in an environment of its own."""
WHOLE = ("chat_app", "data", "app.py")
MEASURED = {"app": WHOLE, "crowd": WHOLE, "learner": ("chat_app/engines", "learner", "data")}


def digest(engine: str, work: str, root: Path) -> str:
    """Args: root: of the repository."""
    measures = [root / "benchmarks" / "serving" / name for name in (*MEASURES, *([SPEAKERS[engine]] if engine in SPEAKERS else []))]
    if work in ("app", "crowd"):
        measures.append(root / "benchmarks" / "serving" / "app.py")
    measured = [root / name for name in MEASURED.get(work, ("chat_app/engines",))] if engine == OURS else []
    found = hashlib.sha256(_version(LIBRARIES.get(engine)).encode())
    for path in _files([*measures, *measured]):
        found.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def _files(paths: Iterable[Path]) -> list[Path]:
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def _version(package: str | None) -> str:
    try:
        return f"{package} {version(package)}" if package else ""
    except PackageNotFoundError:
        return ""

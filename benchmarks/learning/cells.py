"""A cell is one arm on one set of ratings; its result is one JSON line, found again by the cell's key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from benchmarks.lines import add_line, read_lines

FORMAT = 2
"""Part of every key; raised when results of an earlier form can no longer stand beside new ones."""


@dataclass(frozen=True)
class Cell:
    """Everything a result depends on."""

    arm: str
    taste: str
    n: int
    """Rated replies."""
    seed: int
    rate: float | None = None
    """Learning rate; None for arms that have none."""
    crowd: str = "one"
    """`one`: a single person's thumbs; `varied`: habits, stars, ties, silence."""
    flip: float = 0.0
    hostile: float = 0.0
    base_model: str = ""
    max_new_tokens: int = 160
    temperature: float = 0.8
    held_out: int = 88
    """How many held-out prompts are answered."""
    code: str = ""
    """`source_digest` for arms that run any of it, so that a changed learner is measured anew."""

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def ratings(self) -> Cell:
        """The cell without its arm: equal for arms that see the same ratings."""
        return replace(self, arm="", rate=None, code="")

    @classmethod
    def from_dict(cls, row: dict) -> Cell:
        return cls(**{field.name: row[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Result:
    """What one finished cell measured, or why it failed."""

    cell: Cell
    figures: dict
    error: str | None = None


class Results:
    """An append-only file of finished cells. A line that a kill cut short is ignored and its cell runs again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[str, Result]:
        """By key; the newest of a key counts."""
        found = {}
        for row in read_lines(self.file):
            found[row["key"]] = Result(Cell.from_dict(row["cell"]), row["figures"], row["error"])
        return found

    def add(self, result: Result) -> None:
        add_line(self.file, {"key": result.cell.key, "cell": asdict(result.cell), "figures": result.figures, "error": result.error})


def source_digest(root: Path) -> str:
    """Of the product's files under `root` by which a learner learns, names and contents: the learner's code and texts, what it hears of a reply's style, and who samples for it."""
    learner = [path for path in (root / "learner").rglob("*") if path.suffix in (".py", ".txt")]
    digest = hashlib.sha256()
    for path in sorted([*learner, root / "data" / "texts" / "reply_features.py", root / "serving_sampler.py"]):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]

"""Models, versions and runs, and what came of each rating."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

BASE_VERSION = 0
"""The version number that means "the base model alone, no adapter"."""


@dataclass(frozen=True)
class BaseModel:
    """A base model that was imported into the state folder and is ready to serve and to train."""

    id: str
    """Lineage identity, `<name>-<first 12 hex of the source's sha256>`; adapters belong to exactly one."""
    name: str
    """What people read, e.g. `SmolLM2-135M-Instruct`."""
    source: str
    """What BASE_MODEL said."""
    folder: Path
    """`STATE_DIR/models/<id>`: tokenizer.json, tokenizer_config.json, base.json and the files below."""
    architecture: str
    """`llama`, `qwen2`, `qwen3`, ...: what the GGUF or config.json calls it."""
    context_length: int
    """Tokens the model can attend to, prompt and reply together."""
    gguf: Path | None
    """The source GGUF, or None when the source was a transformers folder."""
    transformers: Path | None
    """A transformers folder (config.json + safetensors), or None when the source was a GGUF."""


@dataclass(frozen=True)
class Version:
    """One published adapter. The row is the publication."""

    number: int
    base_model: str
    sha256: str
    """Of the adapter's safetensors file."""
    folder: str
    """Name inside `STATE_DIR/adapters`."""
    run_id: str | None
    parent: int
    """The version that was live when this one was trained."""
    created_at: str
    error: str | None = None
    """Why the server could not load it, when it could not."""
    error_said: dict | None = None
    """The same as a code with values, see data/sentences.py; None also where an older server wrote it."""
    note: str = ""
    """One sentence for people: what it was trained on."""
    removed_at: str | None = None
    """When its files were given up, newer versions being there; it cannot answer any more."""


@dataclass(frozen=True)
class Promotion:
    """One change of the live version: by a run, or by a maintainer (make live, roll back)."""

    id: int
    version: int
    base_model: str
    reason: str
    created_at: str


@dataclass(frozen=True)
class Progress:
    """Where a run is. Written by the learner, read by the maintainer's page."""

    stage: str
    """`start` (torch is imported), `collect`, `load` (the model), `anchor`, `refine`, `train`, `gate`, `publish`."""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    reward: float | None = None
    """Mean reward of the ratings in the last step, weighted by the current policy (importance-weighted), in [-1, 1]."""
    kl: float | None = None
    """Nats per token, current policy against the base model."""
    seconds_left: float | None = None


@dataclass(frozen=True)
class Run:
    """One learner run."""

    id: str
    base_model: str
    state: Literal["running", "published", "refused", "nothing_to_do", "stopped", "interrupted", "failed"]
    """`stopped`: by a maintainer; `interrupted`: its process was ended, with the server's or by a kill, or somebody deleted what it learned from."""
    trigger: str
    """Who asked: `maintainer`, `ratings`, `time`, `shell`."""
    started_at: str
    ended_at: str | None
    progress: Progress
    version: int | None
    report: dict = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class ReceiptRow:
    """How one rated reply counted in one published version."""

    version: int
    reply_id: str
    reward: float
    """In [-1, 1]."""
    weight: float
    """Confidence in [0, 1]."""
    advantage: float
    logprob_before: float
    """Sum over the reply's tokens, nats, under the base model."""
    logprob_after: float
    """The same under this version."""
    rating_ids: tuple[int, ...]
    """The rating events this reward was made of."""
    feedback_ids: dict[str, list[int]] = field(default_factory=dict)
    """The other events it was made of, by kind: `reasons`, `corrections`, `comparisons`."""


@dataclass(frozen=True)
class CorrectionReceipt:
    """How one corrected text counted in one published version, as an example of its own; fields as in `ReceiptRow`."""

    version: int
    correction_id: int
    reward: float
    weight: float
    advantage: float
    tokens: int
    """Of the corrected text, with the one that ends it."""
    logprob_before: float
    logprob_after: float


@dataclass(frozen=True)
class AskingHeads:
    """A small model of the ratings, made by a run, for the server to tell which reply it knows least of; D features, M heads.

    It predicts a reply's reward, in [-1, 1], once for each head: q_m = 2 sigmoid(heads_m . (1, (x - mean) / spread)) - 1.
    """

    run_id: str
    replies: int
    """How many rated ones it was fitted on."""
    correlation: float
    """Of its predictions with the rewards of prompts that were left out of the fit."""
    mean: tuple[float, ...]
    """(D,) of the features that `data/texts/reply_features.py` names."""
    spread: tuple[float, ...]
    """(D,)"""
    heads: tuple[tuple[float, ...], ...]
    """(M, 1 + D), the constant first."""


@dataclass(frozen=True)
class Outcome:
    """What became of a person's ratings of one reply."""

    reply_id: str
    version: int | None
    """The newest version they trained; None: none yet."""
    refused_run: str | None
    """The newest run, when it saw them and the gate refused what it made."""

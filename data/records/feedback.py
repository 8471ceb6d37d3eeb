"""What people say of replies, and what they take back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data.records.chat import TASKS, Reply, Task

RatingKind = Literal["thumb", "stars"]


@dataclass(frozen=True)
class Rating:
    """One rating event. `value` is -1/+1 for a thumb, 1..5 for stars, 0 for "taken back"."""

    id: int
    reply_id: str
    rater_id: str
    kind: RatingKind
    value: int
    created_at: str


@dataclass(frozen=True)
class Reasons:
    """Why a person rated a reply as they did: tags that explain their current thumb, and a comment in their own words."""

    reply_id: str
    rater_id: str
    tags: tuple[str, ...]
    comment: str
    created_at: str
    id: int = 0
    """Of the event; 0 in the answer to saying it."""


@dataclass(frozen=True)
class Correction:
    """What a person says a reply should have been."""

    id: int
    reply_id: str
    rater_id: str
    text: str
    created_at: str


@dataclass(frozen=True)
class Comparison:
    """Which of two attempts at one message a person found better."""

    id: int
    turn_id: str
    rater_id: str
    first_id: str
    """The reply that was shown first (on the left, or above)."""
    second_id: str
    preferred: Literal["first", "second", "same"]
    """`same`: about the same."""
    asked_by: Literal["person", "app"]
    """`person`: they asked for a better reply; `app`: the app asked them to compare."""
    created_at: str


@dataclass(frozen=True)
class SecondOpinion:
    """Somebody else's exchange that a person may rate, with personal data masked."""

    reply_id: str
    message: str
    text: str
    task: Task = TASKS[0]
    """What it was to be good at."""


@dataclass(frozen=True)
class RatedReply:
    """A finished reply with what people currently say of it: one training example."""

    reply: Reply
    ratings: tuple[Rating, ...]
    """Current ones only: newest per rater and kind, none that was taken back. Empty where people said other things of it."""
    message: str = ""
    """The person's message this replied to, for reports; training uses `reply.prompt_ids`."""
    reasons: tuple[Reasons, ...] = ()
    """Current ones, at most one a rater."""
    corrections: tuple[Correction, ...] = ()
    """Current ones, at most one a rater; the reply's own text stays as the model wrote it."""
    comparisons: tuple[Comparison, ...] = ()
    """Current ones with this reply on either side; the other side is a rated reply as well."""


@dataclass(frozen=True)
class Erasure:
    """A person deleted everything of theirs."""

    ratings: int
    """How many current ratings were taken back by it."""
    trained: bool
    """Whether any version had learned from them."""
    versions: tuple[int, ...]
    """Those that were trained without them, oldest first; every other one but the base model may hold what it learned from them."""

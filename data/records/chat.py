"""A conversation, and how what is in it was sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Task = Literal["dialogue", "writing", "translation", "check"]
TASKS: tuple[Task, ...] = get_args(Task)
"""What a conversation is for: a dialogue, a story or an article, a translation, the check of a text. The first is the default."""
IMPORTED = "imported"
"""Engine of replies that came from a file: no version of ours wrote them."""


@dataclass(frozen=True)
class Sampling:
    """How a reply is sampled: nucleus and top-k at a temperature."""

    temperature: float = 0.8
    """Divides the logits before the softmax; 0 means greedy."""
    top_p: float = 0.95
    """Nucleus: the smallest set of tokens whose probability reaches this; 1 turns it off."""
    top_k: int = 50
    """Only the k most likely tokens; 0 turns it off."""
    max_new_tokens: int = 320
    """A reply ends after this many tokens at the latest."""
    seed: int = 0
    """Seed of this one reply. The same seed, prompt and version give the same reply when it is alone in a batch."""


@dataclass(frozen=True)
class Message:
    """One message as a chat template sees it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Generated:
    """What an engine knows of a finished reply; everything the learner needs is here."""

    completion_ids: tuple[int, ...]
    """Sampled token ids in order, the end-of-text token included when the model sampled it."""
    logprobs: tuple[float, ...]
    """Nats, one per completion id, full vocabulary (before top-k and top-p), at `logprobs_temperature`."""
    logprobs_temperature: float
    """The temperature that `logprobs` were taken at; engines report 1.0 when they see only raw logits."""
    finish_reason: Literal["stop", "length", "cancelled", "error"]
    """`stop`: end-of-text was sampled; `length`: max_new_tokens; `cancelled`: it was stopped, by a person, a deletion, a waiting line or the end of the server."""


@dataclass(frozen=True)
class Reply:
    """A stored reply with its provenance."""

    id: str
    turn_id: str
    conversation_id: str
    rater_id: str
    attempt: int
    """0 for the first reply to a message; any other reply to it, by Regenerate or to compare, counts on."""
    state: Literal["streaming", "done", "failed"]
    text: str
    version: int
    adapter_sha256: str | None
    base_model: str
    """`BaseModel.id`."""
    engine: str
    sampling: Sampling
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    behavior_logprobs: tuple[float, ...]
    logprobs_temperature: float
    finish_reason: str | None
    dropped_turns: int
    """How many of the oldest turns were left out because the conversation is longer than the context."""
    started_at: str
    first_token_seconds: float | None
    seconds: float | None
    contributes: bool | None = True
    """Whether its person lets it train; None: they were asked and have not answered, so not yet."""
    task: Task = TASKS[0]
    """Its conversation's."""
    aside: bool = False
    """Whether the app wrote it for a comparison that its person did not ask for; they see it when they compare."""
    again_of: str | None = None
    """The reply whose prompt a later version was given for this one. It is written aside too, and shown in that reply's receipt alone."""


@dataclass(frozen=True)
class ReplyOutline:
    """What tells whether a reply is shown, as `Reply` has it: read for each one of a conversation every few seconds."""

    id: str
    turn_id: str
    state: str
    text: str
    finish_reason: str | None
    aside: bool
    again_of: str | None


@dataclass(frozen=True)
class Turn:
    """One message and the replies it got, oldest attempt first."""

    id: str
    conversation_id: str
    position: int
    message: str
    created_at: str
    replies: tuple[Reply, ...] = ()
    answer_id: str | None = None
    """The attempt that was chosen to go on from; None: the newest that was not written aside."""
    draft: str | None = None
    """The key its message was sent under, if any."""


@dataclass(frozen=True)
class Conversation:
    id: str
    rater_id: str
    title: str
    created_at: str
    turns: tuple[Turn, ...] = ()
    task: Task = TASKS[0]
    """Chosen when it begins, and the same to its end."""


@dataclass(frozen=True)
class HistoryEntry:
    """A conversation in its person's list."""

    id: str
    title: str
    changed_at: str
    """When its newest message was written."""
    task: Task = TASKS[0]

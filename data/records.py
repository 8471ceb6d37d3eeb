"""The nouns: frozen records that the chat app and the learner exchange through the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

RatingKind = Literal["thumb", "stars"]
BASE_VERSION = 0
"""The version number that means "the base model alone, no adapter"."""
Task = Literal["dialogue", "writing", "translation", "check"]
TASKS: tuple[Task, ...] = get_args(Task)
"""What a conversation is for: a dialogue, a story or an article, a translation, the check of a text. The first is the default."""


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
class Generated:
    """What an engine knows of a finished reply; everything the learner needs is here."""

    completion_ids: tuple[int, ...]
    """Sampled token ids in order, the end-of-text token included when the model sampled it."""
    logprobs: tuple[float, ...]
    """Nats, one per completion id, full vocabulary (before top-k and top-p), at `logprobs_temperature`."""
    logprobs_temperature: float
    """The temperature that `logprobs` were taken at; engines report 1.0 when they see only raw logits."""
    finish_reason: Literal["stop", "length", "cancelled", "error"]
    """`stop`: end-of-text was sampled; `length`: max_new_tokens; `cancelled`: a person pressed Stop."""


@dataclass(frozen=True)
class Reply:
    """A stored reply with its provenance."""

    id: str
    turn_id: str
    conversation_id: str
    rater_id: str
    attempt: int
    """0 for the first reply to a message, counting up with Regenerate."""
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
    note: str = ""
    """One sentence for people: what it was trained on."""


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
    """`collect`, `anchor`, `train`, `refine`, `gate`, `publish`."""
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
    state: Literal["running", "published", "refused", "nothing_to_do", "stopped", "failed"]
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
class Outcome:
    """What became of a person's ratings of one reply."""

    reply_id: str
    version: int | None
    """The newest version they trained; None: none yet."""
    refused_run: str | None
    """The newest run, when it saw them and the gate refused what it made."""


@dataclass(frozen=True)
class Erasure:
    """A person deleted everything of theirs."""

    ratings: int
    """How many current ratings were taken back by it."""
    trained: bool
    """Whether any version had learned from them."""
    version: int | None
    """The first version that was trained without them; None: none yet."""

"""From a conversation to prompt token ids that fit the model's context."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from data.base_models.tokenizer import ChatTokenizer
from data.errors import EmptyMessage, MessageTooLong
from data.records import Message, Turn
from data.sentences import said
from data.texts.characters import storable


@dataclass(frozen=True)
class Prompt:
    ids: tuple[int, ...]
    dropped_turns: int
    """How many of the oldest turns had to be left out."""
    room: int
    """Tokens left for the reply."""


def check_message(text: str, max_chars: int) -> str:
    """The message without surrounding white space.

    Raises: EmptyMessage, MessageTooLong.
    """
    if not isinstance(text, str | None):
        raise EmptyMessage(said("message_not_text", kind=type(text).__name__))
    text = storable(text or "").strip()
    if not text:
        raise EmptyMessage(said("empty_message"))
    if len(text) > max_chars:
        raise MessageTooLong(said("message_too_long", characters=len(text), limit=max_chars))
    return text


def fit_prompt(earlier: Sequence[Turn], message: str, tokenizer: ChatTokenizer, *, context_length: int,
               max_new_tokens: int, system_prompt: str = "") -> Prompt:
    """Render the conversation; the oldest turns leave until prompt and reply fit the context together.

    Raises: MessageTooLong: the message alone leaves no room for a reply.
    """
    history = [turn for turn in earlier if answer_of(turn)]
    wanted = min(max_new_tokens, context_length // 2)
    rendered: dict[int, list[int]] = {}

    def fits(dropped: int) -> bool:
        rendered[dropped] = tokenizer.render(_messages(history[dropped:], message, system_prompt))
        return len(rendered[dropped]) + wanted <= context_length

    # Each turn makes the prompt longer, so the least number to leave out is found by halves: one turn after the other takes quadratic time.
    dropped = 0 if fits(0) else bisect_left(range(len(history) + 1), True, lo=1, key=fits)
    if dropped > len(history):
        raise MessageTooLong(said("message_past_context", tokens=len(rendered[len(history)]), limit=context_length - wanted))
    ids = rendered[dropped]
    return Prompt(tuple(ids), dropped, context_length - len(ids))


def answer_of(turn: Turn) -> str:
    """What the conversation goes on from: the chosen attempt's text, else the newest finished one's, or "" when there is none.

    What was written aside for a comparison is gone on from only when it was chosen.
    """
    finished = [reply for reply in turn.replies if reply.state == "done" and reply.text]
    chosen = [reply.text for reply in finished if reply.id == turn.answer_id] or [reply.text for reply in finished if not reply.aside]
    return chosen[-1] if chosen else ""


def _messages(history: Sequence[Turn], message: str, system_prompt: str) -> list[Message]:
    messages = [Message("system", system_prompt)] if system_prompt else []
    for turn in history:
        messages += [Message("user", turn.message), Message("assistant", answer_of(turn))]
    return [*messages, Message("user", message)]

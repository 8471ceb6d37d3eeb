"""Rated conversations from a JSON file into the store, as if they had been held and rated here.

    [{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}, ...],
      "rating": {"stars": 3},        or {"thumb": 1}, or both; it counts for every assistant message of the conversation
      "rater": "name",               optional: ratings of one name are one person's; without it the file's name is used
      "task": "translation"},        optional: dialogue (the default), writing, translation or check
     ...]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.base_models.tokenizer import ChatTokenizer
from data.errors import ChatError, ModelUnavailable
from data.records import TASKS, BaseModel, Message, Task
from data.store import Store
from data.store.ratings import check_rating
from data.texts.characters import storable

ROLES = ("system", "user", "assistant")
TOGETHER = 200
"""Conversations written in one transaction: about a second, so that no chat server on this state folder waits for a long file."""


class BadImport(ChatError):
    """The file is not a list of rated conversations."""


@dataclass(frozen=True)
class Imported:
    """What an import added."""

    conversations: int
    replies: int
    already_there: int
    """Conversations of the file that an earlier import had added."""


@dataclass(frozen=True)
class _Entry:
    """A conversation of the file that has been found well-formed."""

    mark: str
    messages: list[Message]
    rating: dict
    rater: str
    task: Task


Tokens = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""Of each assistant message of a conversation the prompt's tokens and its own."""


def import_conversations(store: Store, base: BaseModel, tokenizer: ChatTokenizer, file: Path) -> Imported:
    """Add the file's conversations: all of them, or none when one is malformed.

    The whole file is checked before anything is written. Then text is tokenised here, once, outside of transactions, and
    some hundred conversations are written in each; each assistant message becomes a finished reply of engine `imported`
    without behaviour log-probs. Importing the same conversation again adds nothing, so after an import that was
    interrupted the same one adds what is missing.

    Raises:
        BadImport: the file cannot be read or has another shape; the sentence says where.
        BadRating: a rating has an unknown kind or value.
    """
    entries = _checked(base, tokenizer, file)
    conversations = replies = already_there = 0
    end = end_token(tokenizer)
    for start in range(0, len(entries), TOGETHER):
        some = [(entry, () if store.mark(entry.mark) else _tokens(entry.messages, tokenizer, end)) for entry in entries[start:start + TOGETHER]]
        with store.write():
            for entry, tokens in some:
                if store.mark(entry.mark):        # also where the file has it twice
                    already_there += 1
                    continue
                _import_one(store, base, entry, tokens)
                store.set_mark(entry.mark, "1")
                conversations += 1
                replies += len(tokens)
    return Imported(conversations, replies, already_there)


def end_token(tokenizer: ChatTokenizer) -> tuple[int, ...]:
    """The token that ends an assistant's message in this chat template; empty when the template uses none."""
    rendered = tokenizer.render([Message("user", "a"), Message("assistant", "b")])
    return tuple(token for token in rendered if token in tokenizer.eos_ids)[-1:]


def _checked(base: BaseModel, tokenizer: ChatTokenizer, file: Path) -> list[_Entry]:
    """Raises: BadImport, BadRating."""
    entries, refused = [], {}
    for number, entry in enumerate(_read(file), start=1):
        messages, rating, task = _messages(entry, number, file), _rating(entry, number, file), _task(entry, number, file)
        roles = tuple(message.role for message in messages)
        if roles not in refused:                  # a chat template refuses orders of roles
            refused[roles] = _refusal(roles, tokenizer)
        if refused[roles]:
            raise BadImport(f"Nothing was imported because conversation {number} of {file} cannot be read by {base.name}: {refused[roles]}")
        entries.append(_Entry("imported:" + _sha256([base.id, entry, file.name]), messages, rating, storable(str(entry.get("rater") or file.name)), task))
    return entries


def _refusal(roles: Sequence[str], tokenizer: ChatTokenizer) -> str:
    try:
        for _ in _prompts([Message(role, "a") for role in roles], tokenizer):
            pass
    except ModelUnavailable as error:
        return str(error)
    return ""


def _prompts(messages: Sequence[Message], tokenizer: ChatTokenizer) -> Iterator[tuple[int, ...]]:
    """What each assistant message answers."""
    return (tuple(tokenizer.render(messages[:place])) for place, message in enumerate(messages) if message.role == "assistant")


def _tokens(messages: Sequence[Message], tokenizer: ChatTokenizer, end: tuple[int, ...]) -> Tokens:
    said = [tuple(tokenizer.encode(message.content)) + end for message in messages if message.role == "assistant"]
    return list(zip(_prompts(messages, tokenizer), said, strict=True))


def _import_one(store: Store, base: BaseModel, entry: _Entry, tokens: Tokens) -> None:
    rater_id = store.ensure_rater("imported-" + _sha256(entry.rater)[:12], "imported", entry.rater)
    conversation = store.new_conversation(rater_id, task=entry.task)
    turn, left = None, iter(tokens)
    for message in entry.messages:
        if message.role == "user":
            turn = store.add_turn(conversation.id, message.content)
        elif message.role == "assistant":
            reply = store.import_reply(turn.id, base.id, *next(left), message.content)
            for kind, value in entry.rating.items():
                store.add_rating(reply.id, rater_id, kind, value)


def _read(file: Path) -> list[dict]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadImport(f"Nothing was imported because {file} cannot be read ({error}); check the path.") from error
    except json.JSONDecodeError as error:
        raise BadImport(f"Nothing was imported because {file} is not valid JSON (line {error.lineno}: {error.msg}); mend it and import again.") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadImport(f'Nothing was imported because {file} is not a list of conversations; the form is [{{"messages": [...], "rating": {{"stars": 3}}}}].')
    return entries


def _messages(entry: dict, number: int, file: Path) -> list[Message]:
    def bad(what: str) -> BadImport:
        return BadImport(f"Nothing was imported because conversation {number} of {file} {what}; mend it and import again.")

    found = entry.get("messages")
    if not isinstance(found, list) or not found:
        raise bad('has no list "messages"')
    for message in found:
        if not isinstance(message, dict) or message.get("role") not in ROLES or not isinstance(message.get("content"), str) or not message["content"].strip():
            raise bad(f'has a message that is not {{"role": one of {", ".join(ROLES)}, "content": some text}}')
    messages = [Message(message["role"], storable(message["content"])) for message in found]
    roles = [message.role for message in messages]
    if "assistant" not in roles or "user" not in roles[:roles.index("assistant")]:
        raise bad("needs a user's message and an assistant's answer to it")
    return messages


def _rating(entry: dict, number: int, file: Path) -> dict:
    rating = entry.get("rating")
    if not isinstance(rating, dict) or not rating:
        raise BadImport(f'Nothing was imported because conversation {number} of {file} has no rating; give it "rating": {{"stars": 1 to 5}} or {{"thumb": 1 or -1}}.')
    for kind, value in rating.items():
        check_rating(kind, value)
    return rating


def _task(entry: dict, number: int, file: Path) -> Task:
    task = entry.get("task", TASKS[0])
    if task not in TASKS:
        raise BadImport(f"Nothing was imported because conversation {number} of {file} has the unknown task {str(task)[:40]!r}; use one of {', '.join(TASKS)}.")
    return task


def _sha256(value: object) -> str:
    return hashlib.sha256(storable(json.dumps(value, ensure_ascii=False, sort_keys=True)).encode()).hexdigest()

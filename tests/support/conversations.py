"""Rated replies for the learner's tests: put into a real store the way a chat server does."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.records import BaseModel, Generated, Message, Reply, Sampling
from data.store import Store

RATER = "ann"


def add_reply(store: Store, base: BaseModel, prompt: str, completion_ids, *, rater: str = RATER, version: int = 0,
              logprobs=(), temperature: float = 0.8) -> Reply:
    """A finished reply by `version` in a conversation of its own."""
    store.ensure_rater(rater)
    turn = store.add_turn(store.new_conversation(rater).id, prompt)
    tokenizer = ChatTokenizer(base.folder)
    reply = store.start_reply(turn.id, version, None, base.id, "test", Sampling(temperature=temperature),
                              tuple(tokenizer.render([Message("user", prompt)])))
    return store.finish_reply(reply.id, tokenizer.decode(completion_ids),
                              Generated(tuple(completion_ids), tuple(logprobs), 1.0, "stop"), 0.1, 1.0)


def add_rated_replies(store: Store, base: BaseModel, count: int = 20, seed: int = 0) -> list[Reply]:
    """`count` random replies; every third is liked, the others disliked, one person's thumbs."""
    dice = random.Random(seed)
    replies = []
    for number in range(count):
        ids = [dice.randrange(3, 200) for _ in range(dice.randrange(4, 24))] + [2]
        replies.append(add_reply(store, base, f"question {number}", ids))
        store.add_rating(replies[-1].id, RATER, "thumb", 1 if number % 3 == 0 else -1)
    return replies


def open_store(folder: Path) -> Store:
    return Store(folder / "chat.db")


@pytest.fixture
def store(tmp_path) -> Store:
    return open_store(tmp_path)


@pytest.fixture
def registry(store, tmp_path) -> AdapterRegistry:
    return AdapterRegistry(store, tmp_path / "adapters")

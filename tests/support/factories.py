"""Rows for tests, through the store's own verbs."""

from __future__ import annotations

import secrets
from pathlib import Path

from data.records import Generated, Reply, Sampling
from data.store import Store


def add_reply(store: Store, rater: str | None = None, *, message: str = "hello", text: str = "hi", base_model: str = "base",
              version: int = 0, prompt_ids=(1, 2, 3), completion_ids=(4, 5), logprobs=(-1.0, -0.5), conversation: str | None = None,
              sampling: Sampling = Sampling(), finish_reason: str = "stop") -> Reply:
    """A finished reply in a conversation of `rater` (a new person when None)."""
    rater = store.ensure_rater(rater or secrets.token_hex(8))
    conversation = conversation or store.new_conversation(rater).id
    turn = store.add_turn(conversation, message)
    reply = store.start_reply(turn.id, version, None, base_model, "openvino", sampling, tuple(prompt_ids))
    return store.finish_reply(reply.id, text, Generated(tuple(completion_ids), tuple(logprobs), 1.0, finish_reason), 0.1, 0.2)


def write_adapter(content: bytes = b"weights"):
    """A writer for `AdapterRegistry.publish` whose files are only looked at as bytes."""
    def write(folder: Path) -> None:
        (folder / "adapter_model.safetensors").write_bytes(content)
        (folder / "adapter_config.json").write_text("{}")
    return write

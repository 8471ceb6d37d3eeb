"""Many replies at once from the serving engine, as the product's people would get them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chat_app.engines import make_engine
from data.base_models.tokenizer import ChatTokenizer
from data.records import BaseModel, Message, Sampling


@dataclass(frozen=True)
class Sampled:
    """One sampled reply, JSON-able by `asdict`."""

    prompt: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """End-of-text included when it was sampled."""
    logprobs: tuple[float, ...]
    """Nats at temperature 1, full vocabulary, by the engine."""
    text: str
    ended: bool
    """Whether end-of-text was sampled."""

    @property
    def tokens(self) -> int:
        """Without end-of-text."""
        return len(self.completion_ids) - self.ended

    def as_dict(self) -> dict:
        return {**asdict(self), "logprobs": [round(x, 5) for x in self.logprobs]}

    @classmethod
    def from_dict(cls, row: dict) -> Sampled:
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})


def sample_replies(base: BaseModel, adapter: Path | None, prompts: Sequence[str], sampling: Sampling, cache_dir: Path) -> list[Sampled]:
    """One reply per prompt by the base model with `adapter` (a peft folder; None: base alone), all in one batch.

    Each reply has a seed of its own, drawn from `sampling.seed`.
    """
    tokenizer = ChatTokenizer(base.folder)
    rng = random.Random(sampling.seed)
    engine = make_engine("auto", base, cache_dir)
    try:
        version = 0 if adapter is None else 1
        engine.load(version, adapter)
        rendered = [tuple(tokenizer.render([Message("user", prompt)])) for prompt in prompts]
        streams = [engine.stream(ids, Sampling(**{**asdict(sampling), "seed": rng.randrange(2**31)}), version) for ids in rendered]
        sampled = []
        for prompt, ids, stream in zip(prompts, rendered, streams, strict=True):
            for _ in stream:
                pass
            done = stream.result()
            sampled.append(Sampled(prompt, ids, done.completion_ids, done.logprobs, tokenizer.decode(done.completion_ids),
                                   done.finish_reason == "stop"))
        return sampled
    finally:
        engine.close()

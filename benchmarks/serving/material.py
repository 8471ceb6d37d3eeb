"""The prompts and the adapters: the same for every engine, new ones for every repeat, since engines remember what they have read."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.learning.prompts import read_prompts
from benchmarks.serving.jobs import ALL_STREAMS, Job
from data.base_models.tokenizer import ChatTokenizer
from data.records import BaseModel, Message

TURNS = 6
LONG_TOKENS = 4500
"""About 18,000 characters of English, near the longest message that is taken."""


class Material:
    """Token ids by job; two jobs of one engine never share more than the chat template's beginning, since each message begins with a number of its own."""

    def __init__(self, base: BaseModel) -> None:
        self._tokenizer = ChatTokenizer(base.folder)
        self._texts = [prompt.text for prompt in read_prompts()]
        self._context = base.context_length
        self._long = min(LONG_TOKENS, self._context * 2 // 3)

    def of(self, job: Job) -> dict:
        dice = random.Random(f"{job.work} {job.streams} {job.repeat}")
        texts = self._messages(dice, max(job.streams, TURNS))
        if job.work == "conversation":
            return {"prompts": self._turns(texts[:TURNS]), "seed": job.repeat}
        prompts = [self.prompt(text) for text in texts[: job.streams]]
        found = {"prompts": prompts, "seed": job.repeat, "tokens": min(job.tokens, self._context - max(map(len, prompts)))}
        if job.work == "reading":
            found |= {"prompts": [self.prompt(text) for text in texts[:4]], "long": [self._long_prompt(dice) for _ in range(3)]}
        return found

    def messages(self, job: Job, count: int) -> list[str]:
        """For those who write to the app."""
        return self._messages(random.Random(f"{job.work} {job.repeat}"), count)

    def warming(self) -> dict:
        """What is said before anything is measured."""
        dice = random.Random("warming")
        return {"prompts": [self.prompt(text) for text in self._messages(dice, max(ALL_STREAMS))], "long": self._long_prompt(dice)}

    def _messages(self, dice: random.Random, count: int) -> list[str]:
        return [f"{dice.randrange(10**6)}: {text}" for text in dice.sample(self._texts * (1 + count // len(self._texts)), count)]

    def prompt(self, text: str) -> list[int]:
        return self._tokenizer.render([Message("user", text)])

    def _turns(self, texts: list[str]) -> list[list[int]]:
        """The first prompt, and what each later message adds behind the reply before it."""
        first = self.prompt(texts[0])
        answered = [*first, *self._tokenizer.encode("Yes")]
        later = [self._tokenizer.render([Message("user", texts[0]), Message("assistant", "Yes"), Message("user", text)])[len(answered):] for text in texts[1:]]
        return [first, *later]

    def _long_prompt(self, dice: random.Random) -> list[int]:
        words = " ".join(dice.choices(self._texts, k=self._long // 8))
        return self.prompt(self._tokenizer.decode(self._tokenizer.encode(f"{dice.randrange(10**6)}: {words}")[: self._long]))


def write_adapters(base: BaseModel, folder: Path) -> tuple[Path, Path]:
    """Two LoRA adapters of rank 8 with random weights that visibly change the model, written once."""
    first, second = folder / "adapter-1", folder / "adapter-2"
    if (second / "adapter_config.json").exists():
        return first, second
    import torch

    from learner.model.policy import Policy

    for seed, target in enumerate((first, second)):
        policy = Policy(base, seed=seed)
        policy.set_scale(1.0, [torch.randn_like(weights) * 0.004 for weights in policy.lora_b()])
        target.mkdir(parents=True, exist_ok=True)
        policy.save(target)
    return first, second

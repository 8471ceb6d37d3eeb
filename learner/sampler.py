"""Fresh replies for the gate: the `Sampler` protocol, and the learner's own sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from learner.policy import Policy


class Sampler(Protocol):
    """Anything that answers prompts as the candidate would. A composition root may hand in a serving engine."""

    def sample(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int) -> list[list[int]]:
        """Completion token ids per prompt, end-of-text included when it was sampled. The same seed gives the same replies."""
        ...


class PolicySampler:
    """Samples from the policy itself, all prompts in one batch. The full vocabulary at `temperature`: no cut hides a bad tail."""

    def __init__(self, policy: Policy, eos_ids: frozenset[int]) -> None:
        self.policy = policy
        self.eos_ids = eos_ids

    @torch.no_grad()
    def sample(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float, seed: int) -> list[list[int]]:
        width = max(len(prompt) for prompt in prompts)
        filler = min(self.eos_ids)
        input_ids = torch.full((len(prompts), width), filler, dtype=torch.long)
        mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):                      # padded on the left: every reply starts at the same place
            input_ids[row, width - len(prompt):] = torch.tensor(list(prompt))
            mask[row, width - len(prompt):] = 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            output = self.policy.model.generate(
                input_ids=input_ids.to(self.policy.device), attention_mask=mask.to(self.policy.device), do_sample=True,
                temperature=temperature, top_k=0, top_p=1.0, max_new_tokens=max_new_tokens,
                eos_token_id=sorted(self.eos_ids), pad_token_id=filler)
        return [self._until_end(row) for row in output[:, width:].tolist()]

    def _until_end(self, ids: list[int]) -> list[int]:
        for place, token in enumerate(ids):
            if token in self.eos_ids:
                return ids[:place + 1]
        return ids

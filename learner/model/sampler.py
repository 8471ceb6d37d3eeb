"""Fresh replies for the refinement and the gates: the `Sampler` protocol, and the learner's own sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from data.records import Generated, Sampling
from learner.errors import Diverged
from learner.model.lanes import in_lanes
from learner.model.memory import times
from learner.model.policy import Policy
from learner.model.roles import role_of

ROWS = 32
"""Replies at a time; bounds the attention cache. On a GPU more, see memory.py."""


class Sampler(Protocol):
    """Anything that answers prompts as the policy would. A composition root may hand in a serving engine."""

    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        """One reply per prompt, at a temperature above 0, by whatever the policy is at this instant.

        Inside `policy.reference()` that is the base model, inside `policy.behaving_as(folder)` that version.
        The log-probs are the sampler's own arithmetic at `logprobs_temperature`; empty where it does not know them.
        Raises: Diverged: the policy's numbers cannot be sampled from.
        """
        ...

    def as_served(self) -> Sampler:
        """The same in the chat's own arithmetic, where this one's is another that is faster for many replies at once."""
        ...


class PolicySampler:
    """Samples from the policy itself, in batches. The same seed gives the same replies."""

    def __init__(self, policy: Policy, eos_ids: frozenset[int]) -> None:
        self.policy = policy
        self.eos_ids = eos_ids

    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        if self.policy.team.sharded:                                # the others must compute along; all draw the same
            self.policy.team.send("sample", role_of(self.policy), self.eos_ids, [list(prompt) for prompt in prompts], sampling)
        rows = ROWS * times(self.policy)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sampling.seed)
            batches = [prompts[start:start + rows] for start in range(0, len(prompts), rows)]
            return [reply for replies in in_lanes(lambda batch: self._sample(batch, sampling), batches, 1) for reply in replies]

    def as_served(self) -> PolicySampler:
        return self

    @torch.no_grad()
    def _sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Generated]:
        width = max(len(prompt) for prompt in prompts)
        filler = min(self.eos_ids)
        input_ids = torch.full((len(prompts), width), filler, dtype=torch.long)
        mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):                      # padded on the left: every reply starts at the same place
            input_ids[row, width - len(prompt):] = torch.tensor(list(prompt))
            mask[row, width - len(prompt):] = 1
        try:
            output = self.policy.model.generate(
                input_ids=input_ids.to(self.policy.device), attention_mask=mask.to(self.policy.device), do_sample=True,
                temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p, max_new_tokens=sampling.max_new_tokens,
                eos_token_id=sorted(self.eos_ids), pad_token_id=filler,
                synced_gpus=self.policy.team.sharded)
        except RuntimeError as error:
            if "probability tensor" not in str(error):
                raise
            raise Diverged from error                               # torch refuses NaN and infinite probabilities
        return [self._until_end(row) for row in output[:, width:].tolist()]

    def _until_end(self, ids: list[int]) -> Generated:
        for place, token in enumerate(ids):
            if token in self.eos_ids:
                return Generated(tuple(ids[:place + 1]), (), 1.0, "stop")
        return Generated(tuple(ids), (), 1.0, "length")

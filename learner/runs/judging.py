"""What a run does with reward models: one on its training ratings to refine by, one on held-out ratings to judge by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.errors import AdapterMismatch, CorruptAdapter, UnknownVersion
from data.records import BASE_VERSION, Generated, RatedReply
from data.sentences import Said, said
from data.texts.reply_features import STYLE
from learner.config import LearnerConfig
from learner.errors import Diverged
from learner.feedback.lessons import Lessons
from learner.feedback.opinions import CORRECTED, raters_of
from learner.gates.statistical import StatisticalReport, compare, hold_out, threads, undecidable
from learner.model.batches import Example
from learner.model.lanes import alone
from learner.model.policy import Policy
from learner.model.sampler import Sampler
from learner.refine.refine import Refinement, Refiner
from learner.reward.reliability import People
from learner.reward.reward_model import RewardModel
from learner.reward.scoring import Bounds, bounds_of, feature_table
from learner.reward.voices import fit_on_voices
from learner.runs.pace import Pace
from learner.training.anchor import Reference


def threads_of(examples: Sequence[Example], replies: Sequence[RatedReply]) -> list[Hashable]:
    """Per example, what it shares with those that are not independent of it."""
    return threads([example.prompt_ids for example in examples], [replies[example.index].reply.conversation_id for example in examples])


def split_ratings(examples: Sequence[Example], replies: Sequence[RatedReply], config: LearnerConfig) -> tuple[list[Example], list[Example]]:
    """(in training, held out for the judge)."""
    raters = [raters_of(replies[example.index]) for example in examples]
    held = hold_out(raters, threads_of(examples, replies), config.held_out_share, config.held_out_minimum, config.seed)
    return ([example for place, example in enumerate(examples) if place not in held],
            [example for place, example in enumerate(examples) if place in held])


class Judge(NamedTuple):
    """A reward model of held-out ratings, and what it is asked about."""

    prompts: dict[tuple[int, ...], Hashable]
    """Of the held-out replies, and of none in training; with each prompt's thread, of which each has its turn before any has another."""
    unable: Said | None
    """Why it decides nothing, so that its ratings had better train. None: it decides."""
    model: RewardModel | None = None
    bounds: Bounds | None = None
    longest: int = 0
    """Tokens of a reply to it at most."""


class Judging:
    """The run's policy, sampler and base view; the rated replies, and what the ratings say of each, by example index; and who gave them."""

    def __init__(self, policy: Policy, sampler: Sampler, tokenizer: ChatTokenizer, reference: Reference, lessons: Lessons,
                 people: People, config: LearnerConfig, pace: Pace) -> None:
        self.policy, self.sampler, self.tokenizer, self.reference = policy, sampler, tokenizer, reference
        self.replies, self.found, self.people, self.config, self.pace = lessons.replies, lessons.rewards, people, config, pace

    def refine(self, examples: Sequence[Example], weights: Tensor) -> Refinement:
        """Learn what a model of these replies' ratings prefers. Args: weights: (N,) by example index, with mean 1 over these. Raises: Stopped; Diverged: the base model's replies cannot be sampled."""
        self.pace.stage("refine")
        model, bounds = self._fit(examples)
        worth, _ = model.predict(*feature_table(examples, self.reference, self.tokenizer))
        # what the model sampled is an example of what is liked whoever rated it; what somebody wrote counts as far as they do
        counts = torch.tensor([min(1.0, float(weights[example.index])) if self.replies[example.index].reply.engine == CORRECTED else 1.0 for example in examples])
        return Refiner(self.policy, self.sampler, self.tokenizer, model, bounds, self.config, self._longest(examples),
                       on_start=lambda steps, until: self.pace.stage("refine", steps=steps, until=until), on_step=self.pace.step,
                       check=self.pace.check).refine(examples, worth, counts)

    def judge(self, training: Sequence[Example], held_out: Sequence[Example]) -> Judge:
        """By what the held-out ratings say, on prompts that are not among `training`."""
        if not held_out:
            return Judge({}, said("why_all_trained"))
        trained = {example.prompt_ids for example in training}
        of_thread = {example.prompt_ids: thread for example, thread in zip(held_out, threads_of(held_out, self.replies), strict=True) if example.prompt_ids not in trained}
        turns: Counter[Hashable] = Counter()
        turn = {}
        for prompt, thread in of_thread.items():
            turns[thread] += 1
            turn[prompt] = turns[thread]
        prompts = {prompt: of_thread[prompt] for prompt in sorted(of_thread, key=turn.__getitem__)}
        model, bounds = self._fit(held_out)
        return Judge(prompts, undecidable(model.fit, len(turns)), model, bounds, self._longest(held_out))

    def compare(self, judge: Judge, registry: AdapterRegistry, incumbent: int) -> StatisticalReport:
        """The candidate beside version `incumbent`."""
        if judge.unable:
            return StatisticalReport("not evaluable", judge.unable, len(judge.prompts), judge=judge.model and judge.model.fit)
        asked = [prompt for prompt in islice(judge.prompts, self.config.judge_prompts) for _ in range(self.config.judge_samples)]
        candidate = self._sample(asked, judge)
        try:
            with self._incumbent(registry, incumbent):
                theirs = self._sample(asked, judge)
        except (CorruptAdapter, UnknownVersion, AdapterMismatch, Diverged):
            return StatisticalReport("not evaluable", said("why_unreadable", version=incumbent), 0)
        return compare(self.policy, self.tokenizer, judge.model, judge.bounds, asked, [judge.prompts[prompt] for prompt in asked], candidate, theirs,
                       said("whom_base") if incumbent == BASE_VERSION else said("whom_before"),
                       temperature=self.config.fresh(0, 0).temperature, max_batch_tokens=self.config.max_batch_tokens, seed=self.config.seed,
                       check=self.pace.check)

    def _fit(self, examples: Sequence[Example]) -> tuple[RewardModel, Bounds]:
        found = [self.found[example.index] for example in examples]
        model = alone(lambda: fit_on_voices(found, self.people, *feature_table(examples, self.reference, self.tokenizer),
                                            [example.prompt_ids for example in examples], self.config.seed, STYLE))
        rewards, weights = torch.tensor([reward.reward for reward in found]), torch.tensor([reward.weight for reward in found])
        return model, bounds_of(examples, self.reference, rewards, weights, self.tokenizer.eos_ids)

    def _incumbent(self, registry: AdapterRegistry, version: int) -> AbstractContextManager[None]:
        return self.policy.reference() if version == BASE_VERSION else self.policy.behaving_as(registry.verify(version))

    def _sample(self, prompts: Sequence[tuple[int, ...]], judge: Judge) -> list[Generated]:
        self.pace.check()
        return self.sampler.sample(prompts, self.config.fresh(judge.longest, self.config.seed + 4))

    def _longest(self, examples: Sequence[Example]) -> int:
        return min(max(len(example.completion_ids) for example in examples), self.config.refine.max_new_tokens)

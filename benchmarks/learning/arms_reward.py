"""The product's reward model put to other uses: best of four, and TRL's RLOO in the place of our own refinement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.learning.serving import Sampled
from benchmarks.learning.task import Task, Trained, record
from data.base_models.tokenizer import ChatTokenizer
from data.records import Generated
from data.store import Store
from learner.config import LearnerConfig
from learner.feedback.rewards import rewards
from learner.model.policy import Policy
from learner.reward.reliability import rater_reliabilities
from learner.reward.reward_model import Fit
from learner.reward.scoring import as_examples, bounds_of, feature_table, score
from learner.reward.voices import fit_on_voices
from learner.training.anchor import reference_pass

Score = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], list[float]]
TRIES = 4


def reward_model(task: Task) -> tuple[Score, Fit]:
    """`score(prompt ids, completion ids)` as our refinement sees it, fitted on the task's ratings: disagreement and rules included."""
    config, tokenizer, policy = LearnerConfig(seed=task.seed), ChatTokenizer(task.base.folder), Policy(task.base)
    store = Store(task.folder / "reward.db")
    record(store, task.base, task.rated, task.sampling)
    replies = store.rated_replies(task.base.id)
    examples = as_examples([reply.reply.prompt_ids for reply in replies],
                           [Generated(reply.reply.completion_ids, (), 1.0, "stop") for reply in replies], task.sampling.temperature)
    reference = reference_pass(policy, policy.micro_batches(examples, config.max_batch_tokens), frozenset(), lambda: None)
    people = rater_reliabilities(replies, examples, reference, tokenizer)
    fused = rewards(replies, people.trust)
    values, weights = torch.tensor([each.reward for each in fused]), torch.tensor([each.weight for each in fused])
    model = fit_on_voices(fused, people, *feature_table(examples, reference, tokenizer), [example.prompt_ids for example in examples], task.seed)
    bounds = bounds_of(examples, reference, values, weights, tokenizer.eos_ids)

    def scored(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[float]:
        fresh = as_examples(prompts, [Generated(tuple(ids), (), 1.0, "stop") for ids in completions], task.sampling.temperature)
        return score(policy, tokenizer, model, fresh, bounds, penalty=config.refine.disagreement_penalty,
                     max_batch_tokens=config.max_batch_tokens, check=lambda: None).lower.tolist()

    return scored, model.fit


def best_of_four(task: Task) -> Trained:
    """The base model answers four times and the reward model chooses: what sampling alone reaches, at four times the price of a reply."""
    scored, fit = reward_model(task)

    def choose(replies: Sequence[Sampled]) -> int:
        found = scored([reply.prompt_ids for reply in replies], [reply.completion_ids for reply in replies])
        return max(range(len(found)), key=found.__getitem__)

    return Trained(None, 0, {"reward_model": fit.as_dict()}, tries=TRIES, choose=choose)


def rloo_on_our_reward_model(task: Task) -> Trained:
    from benchmarks.learning.arms_trl import rloo

    scored, fit = reward_model(task)
    trained = rloo(task, scored)
    return Trained(trained.adapter, trained.tokens, {**trained.report, "reward_model": fit.as_dict()})

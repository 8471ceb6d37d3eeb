"""Peers in a few lines: what one would try first with logged ratings."""

from __future__ import annotations

import random

import torch

from benchmarks.learning.task import Task, Trained
from learner.model.batches import Example, padded_batches, plan_steps
from learner.model.policy import Policy

EPOCHS = 2
BATCH_SIZE = 8
MAX_BATCH_TOKENS = 4096


def no_training(task: Task) -> Trained:
    """The base model as it is."""
    return Trained(None, 0)


def positives_only(task: Task) -> Trained:
    """Supervised fine-tuning on the replies that were liked: mean cross-entropy per token."""
    liked = [example for example, rated in zip(task.examples(), task.rated, strict=True) if rated.signal > 0]
    if not liked:
        return Trained(None, 0, {"reason": "nothing was liked"})
    return train_on(task, liked, {example.index: 1.0 / len(example.completion_ids) for example in liked})


def reinforce(task: Task) -> Trained:
    """REINFORCE with the mean reward as its baseline: -(r - mean r) log pi(reply), nothing held back (Williams 1992)."""
    examples = task.examples()
    mean = sum(rated.signal for rated in task.rated) / len(task.rated)
    longest = max(len(example.completion_ids) for example in examples)
    return train_on(task, examples, {example.index: (rated.signal - mean) / longest
                                   for example, rated in zip(examples, task.rated, strict=True)})


def train_on(task: Task, examples: list[Example], weights: dict[int, float]) -> Trained:
    """Minimise -sum_i w_i sum_t log pi(token) / batch with AdamW over the adapter, rate decaying linearly to zero."""
    policy = Policy(task.base, seed=task.seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=task.rate, betas=(0.9, 0.99), weight_decay=0.0)
    plan = plan_steps(examples, BATCH_SIZE) * EPOCHS
    random.Random(task.seed).shuffle(plan)
    losses = []
    for step, rows in enumerate(plan):
        optimizer.param_groups[0]["lr"] = task.rate * (1 - step / len(plan))
        loss_sum = 0.0
        for micro_batch in padded_batches(rows, MAX_BATCH_TOKENS):
            batch = policy.batch(micro_batch)
            weight = torch.tensor([weights[index] for index in batch.indexes], device=policy.device)
            loss = -(weight * policy.scores(batch).logprobs.sum(dim=1)).sum() / BATCH_SIZE
            loss.backward()
            loss_sum += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(round(loss_sum, 5))
    adapter = task.folder / "adapter"
    adapter.mkdir()
    policy.save(adapter)
    return Trained(adapter, EPOCHS * sum(example.tokens for example in examples), {"losses": losses})

"""The optimizer's loop over rated replies: the only place where weights learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from learner.config import LearnerConfig
from learner.errors import Diverged
from learner.model.batches import Example, padded_batches, shares, shuffled
from learner.model.lanes import at_once, in_lanes
from learner.model.policy import Policy
from learner.model.team import Part
from learner.training.anchor import Reference, pad
from learner.training.estimator import LossParts, policy_gradient_loss, weighted_reward

FEW_RATINGS_EPOCHS = 8
"""More passes than this over a handful of replies would learn them by heart."""


@dataclass(frozen=True)
class Signals:
    """What each rated reply teaches, by example index, (N,) each."""

    rewards: Tensor
    weights: Tensor
    """Confidences divided by their mean."""
    advantages: Tensor


@dataclass(frozen=True)
class StepFigures:
    """One optimizer step."""

    step: int
    steps: int
    loss: float
    reward: float
    """Importance-weighted mean reward of the step's replies."""
    kl: float | None
    """Nats per token on the step's anchored replies; None when it has none."""
    masked: float
    """Share of tokens outside the trust region."""
    taper: float
    """Mean factor on the step's replies; 1 when nothing was tapered."""
    gradient_norm: float


def count_steps(steps_per_epoch: int, config: LearnerConfig) -> int:
    """Whole epochs, and up to `FEW_RATINGS_EPOCHS` of them while there would be fewer than `min_steps` steps."""
    return steps_per_epoch * max(config.epochs, min(FEW_RATINGS_EPOCHS, -(-config.min_steps // steps_per_epoch)))


def learning_rate_at(step: int, steps: int, config: LearnerConfig) -> float:
    """Linear warm-up, then linear decay to a third at the last step. `step` counts from 0."""
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return config.learning_rate * warm * (1 - 2 / 3 * step / max(1, steps - 1))


def train_steps(policy: Policy, plan: list[list[Example]], signals: Signals, reference: Reference,
                behavior: Mapping[int, Tensor] | None, config: LearnerConfig, on_step: Callable[[StepFigures], None]) -> list[StepFigures]:
    """Refit the adapter. `on_step` is called after every step and may raise to stop.

    The trust region is centred on what the policy said when it last visited the reply: the base model in the first
    epoch, the visit before in later ones.

    Args: behavior: (completion length,) nats by example index, of who sampled the replies; None: they count as the policy's own,
        whoever sampled them: there is no ratio to correct by and no region to leave.
    Raises: Diverged: the loss or its gradient is not finite; the weights are those of the step before.
    """
    parameters, team = policy.parameters(), policy.team
    if team.size > 1:
        team.send("train", policy.weights(), plan, signals, reference.told(team), behavior, config)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    old = dict(reference.logprobs)
    max_length = max(len(example.completion_ids) for step in plan for example in step)
    steps = count_steps(len(plan), config)
    history: list[StepFigures] = []
    for epoch in range(steps // len(plan)):
        for examples in shuffled(plan, config.seed + epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(len(history), steps, config)
            figures = _step(policy, optimizer, parameters, examples, signals, reference, behavior, old, max_length, config)
            history.append(StepFigures(len(history) + 1, steps, *figures))
            team.agree(lambda: on_step(history[-1]))
    return history


def _step(policy: Policy, optimizer, parameters, examples: list[Example], signals: Signals, reference: Reference, behavior, old,
          max_length: int, config: LearnerConfig) -> tuple:
    """Forward, backward and update over one step's replies, this process's among them; renews `old` for those it visits."""
    anchored_tokens = sum(len(example.completion_ids) for example in examples if example.index in reference.expected)
    learnt_tokens = sum(len(example.completion_ids) - len(example.left_out) for example in examples)
    order = {example.index: place for place, example in enumerate(examples)}
    sums, ratios, tapers = torch.zeros(3, dtype=torch.float64), torch.zeros(len(order)), torch.zeros(len(order))
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)

    def look(rows: list[Example]) -> _Share:
        return _look(policy, parameters, rows, signals, reference, behavior, old, max_length, anchored_tokens, config)

    parts = _parts(policy, examples, config.max_batch_tokens)
    for part, share in zip(parts, in_lanes(look, [part.rows for part in parts], _lanes(policy, parts, config.max_batch_tokens)), strict=True):
        if not part.counts:
            continue
        for parameter, gradient in zip(parameters, share.gradients, strict=True):
            parameter.grad += gradient
        sums += torch.tensor(share.sums, dtype=torch.float64)
        places = [order[index] for index in share.now]
        ratios[places], tapers[places] = share.parts.ratio.float().cpu(), share.parts.taper.float().cpu()
        old.update(share.now)
    policy.team.add_up([*(parameter.grad for parameter in parameters), sums, ratios, tapers])
    loss_sum, kl_sum, masked = sums.tolist()
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_gradient_norm)
    if not (math.isfinite(loss_sum) and bool(norm.isfinite())):
        raise Diverged
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    indexes = list(order)
    reward = float(weighted_reward(signals.rewards[indexes], signals.weights[indexes], ratios))
    return loss_sum, reward, kl_sum / anchored_tokens if anchored_tokens else None, masked / learnt_tokens, float(tapers.mean()), float(norm)


def _parts(policy: Policy, examples: list[Example], max_batch_tokens: int) -> list[Part]:
    """What of a step goes through this process's model at once: shares of as many tokens each where nothing is padded, else replies of similar length."""
    if policy.team.sharded:                                      # all take part in every layer, as often as each other
        return policy.team.parts(padded_batches(examples, max_batch_tokens))
    rows = [row for part in policy.team.parts([examples]) for row in part.rows]
    if policy.in_one_row:
        split = shares(rows, policy.lanes, max_batch_tokens)
    else:                                                        # no more at once than keeps every lane busy
        padded = len(rows) * max((row.tokens for row in rows), default=0)
        split = padded_batches(rows, min(padded, max_batch_tokens), policy.lanes)
    return [Part(share, True) for share in split]


def _lanes(policy: Policy, parts: Sequence[Part], max_batch_tokens: int) -> int:
    """How many parts go through at once: fewer than there are lanes where single replies are so long that together they are beyond what memory is for."""
    return at_once([sum(example.tokens for example in part.rows) for part in parts], max_batch_tokens, policy.lanes)


class _Share(NamedTuple):
    """What some rows of a step say."""

    gradients: tuple[Tensor, ...]
    """Of their part of the step's loss, by LoRA weight."""
    sums: tuple[float, float, float]
    """Loss, nats of KL, and tokens outside the trust region."""
    parts: LossParts
    now: dict[int, Tensor]
    """(completion length,) nats by example index, before the step."""


def _look(policy: Policy, parameters, examples: list[Example], signals: Signals, reference: Reference, behavior, old,
          max_length: int, anchored_tokens: int, config: LearnerConfig) -> _Share:
    """Forward and backward over some rows. Changes nothing: several threads are in here at once."""
    batch = policy.batch(examples)
    indexes, width = list(batch.indexes), batch.completion_mask.shape[1]
    scores = policy.scores(batch, reference.expected)
    now = scores.logprobs.detach()
    parts = policy_gradient_loss(
        scores.logprobs, now if behavior is None else pad(behavior, indexes, width).to(policy.device),
        now if behavior is None else pad(old, indexes, width).to(policy.device),
        signals.advantages[indexes].to(policy.device), signals.weights[indexes].to(policy.device), batch.learnt_mask,
        trust_region=config.trust_region, max_length=max_length, batch_size=config.batch_size)
    loss = parts.loss + config.kl_coefficient * scores.kl_sum / max(1, anchored_tokens)
    gradients = torch.autograd.grad(loss, parameters)
    rows = {example.index: row[:len(example.completion_ids)].clone() for example, row in zip(examples, now, strict=True)}
    return _Share(gradients, (float(loss.detach()), float(scores.kl_sum.detach()), float(parts.masked * batch.learnt_mask.sum())), parts, rows)

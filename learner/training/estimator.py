"""Rewards to gradient: baseline, advantages, and the off-policy policy-gradient loss.

The objective is J(theta) = E[R], and grad J = E[R grad log pi] (REINFORCE, Williams 1992). On policy, with weights 1, no
margin and no mask, `policy_gradient_loss` is exactly that estimator divided by a constant; tests/learner/training/test_estimator.py
enumerates a tiny policy to show it. The rest keeps a few hundred logged ratings from doing harm.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEUTRAL_RATINGS = 4.0
"""How many imaginary neutral ratings the baseline starts from: with two thumbs down and nothing else, down still means down."""
OWN_REPLIES = 8
"""How many other rated replies a task needs before its baseline is its own alone."""
LOG_RATIO_CLAMP = 5.0
"""Nats per token that one token may add to a reply's log importance ratio."""


def leave_one_out_baselines(rewards: Tensor, weights: Tensor, neutral: float = NEUTRAL_RATINGS) -> Tensor:
    """For each reply the weighted mean reward of all the *other* replies, shrunk towards 0.

        V_i = sum_{j != i} w_j r_j / (sum_{j != i} w_j + neutral * mean(w))         the mean over weights above 0

    It does not depend on reply i, so subtracting it leaves the gradient unbiased.

    Args: rewards, weights: (N,). Returns: (N,), 0 for a reply that is alone.
    Source: leave-one-out as in RLOO, arXiv:2402.14740.
    """
    others = (weights * rewards).sum() - weights * rewards
    counted = weights[weights > 0]
    mass = weights.sum() - weights + neutral * (counted.mean() if len(counted) else 0.0)
    return torch.where(mass > 1e-12, others / mass.clamp(min=1e-12), torch.zeros_like(others))


def task_baselines(rewards: Tensor, weights: Tensor, tasks: Tensor, neutral: float = NEUTRAL_RATINGS) -> Tensor:
    """For each reply the baseline of its own task, and as far as that has few replies, of all.

        V_i = s_i V_i(its task) + (1 - s_i) V_i(all),   s_i = min(1, n_i / OWN_REPLIES)

    n_i counts the other replies of its task that have a weight. With one task this is `leave_one_out_baselines`; with
    nine replies or more a task hears of no other. Neither part depends on reply i, so the gradient stays unbiased.

    Args: rewards, weights: (N,). tasks: (N,) whole numbers, equal for replies of one task. Returns: (N,).
    """
    found = leave_one_out_baselines(rewards, weights, neutral)
    for task in tasks.unique():
        here = tasks == task
        counts = (weights[here] > 0).to(rewards.dtype)
        share = ((counts.sum() - counts) / OWN_REPLIES).clamp(max=1.0)
        found[here] = share * leave_one_out_baselines(rewards[here], weights[here], neutral) + (1 - share) * found[here]
    return found


def advantages(rewards: Tensor, weights: Tensor, tasks: Tensor, *, margin: float, neutral: float = NEUTRAL_RATINGS) -> Tensor:
    """A_i = r_i - (V_i - margin), and never above 0 for a reply that people disliked.

    A baseline below the mean keeps off-policy updates stable (AsymRE, arXiv:2506.20520). Where nearly everything is
    disliked that alone would push disliked replies *up*; the bound stops it.

    Args: rewards in [-1, 1], weights and tasks as in `task_baselines`, (N,). Returns: (N,).
    """
    raw = rewards - (task_baselines(rewards, weights, tasks, neutral) - margin)
    return torch.where(rewards < 0, raw.clamp(max=0.0), raw)


class LossParts(NamedTuple):
    """The scalar to differentiate, and what to watch."""

    loss: Tensor
    taper: Tensor
    """(B,) the factor c on each reply."""
    ratio: Tensor
    """(B,) importance ratio of the whole reply, current against behaviour policy."""
    masked: Tensor
    """Share of completion tokens that left the trust region."""


def policy_gradient_loss(logprobs: Tensor, behavior_logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, weights: Tensor,
                         completion_mask: Tensor, *, trust_region: float, max_length: int, batch_size: int) -> LossParts:
    """Policy gradient on logged replies: tapered for what was disliked, uncapped for what was liked.

        rho_i = exp sum_t clamp(l_t - l_behavior_t, -5, 5)                       no gradient
        c_i   = min(1, rho_i) where A_i < 0, else 1                              no gradient
        m_t   = 0 where A_i > 0 and p_t - p_old_t > trust_region
                  or A_i < 0 and p_t - p_old_t < -trust_region, else 1           no gradient
        L     = -1 / batch_size sum_i w_i c_i A_i 1 / max_length sum_t m_t l_t

    The taper forgets a disliked reply once the policy no longer produces it; without it the loss could fall for ever.
    A cap on liked replies was tried and halved what is learnt. Dividing by a constant length, not by the reply's own,
    keeps long replies from counting less per token.

    Args:
        logprobs: (B, C) nats, current policy, carries gradient.
        behavior_logprobs: (B, C) nats, the policy that sampled the reply, at the same temperature.
        old_logprobs: (B, C) nats, the policy when the trust region was last centred.
        advantages: (B,) reward units.
        weights: (B,) confidences, divided by their mean over the whole run.
        completion_mask: (B, C) True where the policy sampled the token and may learn it.
        max_length: L_max, the run's longest completion, tokens.
        batch_size: replies in a full step; constant, so that the last, smaller step weighs each reply alike.
    Raises: ValueError: shapes disagree, no token is sampled, or a constant is not positive.
    Sources: TOPR, arXiv:2503.14286 (taper); constant length, arXiv:2503.20783; probability-difference mask as in DPPO.
    """
    if not logprobs.shape == behavior_logprobs.shape == old_logprobs.shape == completion_mask.shape:
        raise ValueError("log-probs and mask must have one shape")
    if advantages.shape != weights.shape or advantages.shape != logprobs.shape[:1]:
        raise ValueError("advantages and weights must have one value per reply")
    if not completion_mask.any() or min(max_length, batch_size, trust_region) <= 0:
        raise ValueError("a sampled token and positive constants are needed")
    mask = completion_mask.to(logprobs.dtype)
    with torch.no_grad():
        log_ratio = ((logprobs - behavior_logprobs).clamp(-LOG_RATIO_CLAMP, LOG_RATIO_CLAMP) * mask).sum(dim=1)
        taper = torch.where(advantages < 0, log_ratio.clamp(max=0.0).exp(), torch.ones_like(log_ratio))
        moved = logprobs.exp() - old_logprobs.exp()
        sign = advantages.sign()[:, None]
        outside = (sign * moved > trust_region) & completion_mask
        inside = mask * ~outside
    per_reply = (inside * logprobs).sum(dim=1) / max_length
    loss = -(weights * taper * advantages * per_reply).sum() / batch_size
    return LossParts(loss, taper, log_ratio.exp(), outside.sum() / completion_mask.sum())


def weighted_reward(rewards: Tensor, weights: Tensor, ratios: Tensor, max_ratio: float = 10.0) -> Tensor:
    """The mean reward these replies would have if the current policy had sampled them (self-normalised, truncated).

        sum w min(rho, max_ratio) r / sum w min(rho, max_ratio)

    Args: rewards, weights, ratios: (B,). Returns: scalar in [-1, 1].
    Source: Swaminathan and Joachims 2015 (self-normalised estimator).
    """
    mass = weights * ratios.clamp(max=max_ratio)
    return (mass * rewards).sum() / mass.sum().clamp(min=1e-12)

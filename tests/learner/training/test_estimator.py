"""The estimator's mathematics, on policies small enough to enumerate."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.training.estimator import advantages, leave_one_out_baselines, policy_gradient_loss, task_baselines, weighted_reward

TOKENS, STEPS = 3, 2
SEQUENCES = list(itertools.product(range(TOKENS), repeat=STEPS))
REWARDS = torch.tensor([0.3, -1.0, 0.5, 1.0, 0.0, -0.2, 0.8, -0.6, 0.1], dtype=torch.float64)


def tiny_policy(seed: int) -> torch.Tensor:
    """Logits of a policy over two steps: a row for the first token, then one per first token for the second."""
    return torch.randn(1 + TOKENS, TOKENS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def token_logprobs(theta: torch.Tensor) -> torch.Tensor:
    """(9, 2): log pi of both tokens of each of the nine sequences."""
    table = torch.log_softmax(theta, dim=-1)
    return torch.stack([torch.stack([table[0, a], table[1 + a, b]]) for a, b in SEQUENCES])


def sequence_probabilities(theta: torch.Tensor) -> torch.Tensor:
    return token_logprobs(theta).sum(dim=1).exp()


def exact_gradient(theta: torch.Tensor, rewards: torch.Tensor = REWARDS) -> torch.Tensor:
    """grad J, J = sum over all sequences of pi(sequence) R(sequence), by differentiating that sum."""
    theta = theta.clone().requires_grad_()
    (sequence_probabilities(theta) * rewards).sum().backward()
    return theta.grad


def estimate(theta: torch.Tensor, chosen: list[int], given_advantages: torch.Tensor, behavior: torch.Tensor | None = None) -> torch.Tensor:
    """What one batch of sampled sequences says the gradient of J is: minus the gradient of the loss, times its constant length."""
    theta = theta.clone().requires_grad_()
    logprobs = token_logprobs(theta)[chosen]
    old = logprobs.detach()
    parts = policy_gradient_loss(logprobs, old if behavior is None else token_logprobs(behavior)[chosen], old, given_advantages,
                                 torch.ones_like(given_advantages), torch.ones(len(chosen), STEPS, dtype=torch.bool),
                                 trust_region=0.2, max_length=STEPS, batch_size=len(chosen))
    parts.loss.backward()
    return -theta.grad * STEPS


def test_the_mean_of_the_estimator_is_the_exact_gradient_of_the_expected_reward():
    theta = tiny_policy(0)
    mean = sum(p * estimate(theta, [i], REWARDS[i:i + 1]) for i, p in enumerate(sequence_probabilities(theta)))
    assert torch.allclose(mean, exact_gradient(theta), atol=1e-12)


def test_it_stays_exact_with_the_leave_one_out_baseline():
    theta = tiny_policy(1)
    probabilities = sequence_probabilities(theta)
    mean = torch.zeros_like(theta)
    for i, j in itertools.product(range(9), repeat=2):              # every batch of two, as likely as it is
        pair = REWARDS[[i, j]]
        baselines = leave_one_out_baselines(pair, torch.ones(2, dtype=torch.float64))
        mean += probabilities[i] * probabilities[j] * estimate(theta, [i, j], pair - baselines)
    assert torch.allclose(mean, exact_gradient(theta), atol=1e-12)


def test_the_leave_one_out_baseline_lowers_the_variance():
    theta, shift = tiny_policy(2), REWARDS + 2                       # all good: without a baseline every sample pushes up
    probabilities = sequence_probabilities(theta)

    def variance(with_baseline: bool) -> float:
        total = 0.0
        for i, j in itertools.product(range(9), repeat=2):
            pair = shift[[i, j]]
            baseline = leave_one_out_baselines(pair, torch.ones(2, dtype=torch.float64), neutral=0.0) if with_baseline else 0
            difference = estimate(theta, [i, j], pair - baseline) - exact_gradient(theta, shift)
            total += float(probabilities[i] * probabilities[j] * (difference ** 2).sum())
        return total

    assert variance(True) < 0.5 * variance(False)


def test_disliked_replies_sampled_by_another_policy_count_as_the_policy_would_sample_them():
    """Where pi <= mu the taper is the importance ratio itself, so the mean over mu is the exact gradient over pi."""
    theta, behavior = tiny_policy(3), tiny_policy(4)
    pi, mu = sequence_probabilities(theta), sequence_probabilities(behavior)
    rarer = pi <= mu
    assert 0 < rarer.sum() < 9
    rewards = torch.where(rarer, torch.full((9,), -1.0, dtype=torch.float64), torch.zeros(9, dtype=torch.float64))
    mean = sum(p * estimate(theta, [i], rewards[i:i + 1], behavior) for i, p in enumerate(mu))
    assert torch.allclose(mean, exact_gradient(theta, rewards), atol=1e-12)


def test_liked_replies_are_learnt_in_full_however_rare_they_have_become():
    """c = 1 on positives: the mean over mu is the gradient of E_mu[A log pi], a likelihood that rises until pi makes them."""
    theta, behavior = tiny_policy(5), tiny_policy(6)
    rewards = torch.rand(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    mu = sequence_probabilities(behavior)
    mean = sum(p * estimate(theta, [i], rewards[i:i + 1], behavior) for i, p in enumerate(mu))
    free = theta.clone().requires_grad_()
    (mu * rewards * token_logprobs(free).sum(dim=1)).sum().backward()
    assert torch.allclose(mean, free.grad, atol=1e-12)


def loss_of(logprobs, *, behavior=None, old=None, advantage, weight=1.0, mask=None, max_length=2, batch_size=1):
    logprobs = torch.tensor([logprobs], requires_grad=True)
    same = logprobs.detach()
    parts = policy_gradient_loss(
        logprobs, same if behavior is None else torch.tensor([behavior]), same if old is None else torch.tensor([old]),
        torch.tensor([advantage]), torch.tensor([weight]), torch.tensor([mask or [True, True]]),
        trust_region=0.2, max_length=max_length, batch_size=batch_size)
    parts.loss.backward()
    return parts, logprobs.grad.tolist()[0]


def test_a_liked_token_is_pushed_up_and_the_prompt_and_padding_are_left_alone():
    _, gradient = loss_of([-2.0, -1.0], advantage=0.5, mask=[False, True])
    assert gradient == [0.0, -0.25]                                  # -w c A / max_length = -1 * 1 * 0.5 / 2


def test_a_disliked_reply_the_policy_hardly_makes_any_more_is_tapered_away():
    parts, gradient = loss_of([-3.0, -3.0], behavior=[-2.0, -2.0], advantage=-1.0)
    assert parts.ratio.item() == pytest.approx(0.135335, abs=1e-6)   # exp(-1 - 1)
    assert gradient == pytest.approx([0.0676676] * 2, abs=1e-6)      # exp(-2) * 1 / 2


def test_a_disliked_reply_the_policy_makes_more_often_than_before_is_not_amplified():
    parts, gradient = loss_of([-1.0, -1.0], behavior=[-2.0, -2.0], advantage=-1.0)
    assert parts.taper.item() == 1.0 and gradient == [0.5, 0.5]


def test_one_token_moves_a_replys_ratio_by_at_most_five_nats():
    parts, _ = loss_of([-1.0, -20.0], behavior=[-1.0, -2.0], advantage=-1.0)
    assert parts.taper.item() == pytest.approx(0.0067379, abs=1e-6)  # exp(-5), not exp(-18)


def test_a_token_outside_the_trust_region_gets_no_gradient_in_the_direction_it_already_went():
    # probabilities now .5 and .3, before .25 and .25: the first rose by .25 > .2
    now, before = [-0.693147, -1.203973], [-1.386294, -1.386294]
    parts, gradient = loss_of(now, old=before, advantage=1.0)
    assert gradient == [0.0, -0.5] and parts.masked.item() == 0.5
    _, gradient = loss_of(now, old=before, advantage=-1.0)           # back down is allowed
    assert gradient == [0.5, 0.5]
    _, gradient = loss_of(before, behavior=before, old=now, advantage=-1.0)
    assert gradient == [0.0, 0.5]                                    # .5 -> .25 fell too far, .3 -> .25 did not


def test_the_loss_divides_by_constants_so_a_long_reply_does_not_weigh_less_per_token():
    _, short = loss_of([-1.0, -1.0], advantage=1.0, mask=[True, False], max_length=10, batch_size=4)
    _, long = loss_of([-1.0, -1.0], advantage=1.0, max_length=10, batch_size=4)
    assert short[0] == long[0] == pytest.approx(-0.025)               # 1 / (10 * 4)


def test_half_the_confidence_is_half_the_gradient():
    _, gradient = loss_of([-1.0, -1.0], advantage=1.0, weight=0.5)
    assert gradient == [-0.25, -0.25]


def test_shapes_that_disagree_are_an_error():
    row = torch.zeros(1, 2)
    with pytest.raises(ValueError):
        policy_gradient_loss(row, row, row, torch.zeros(2), torch.zeros(2), torch.ones(1, 2, dtype=torch.bool),
                             trust_region=0.2, max_length=2, batch_size=1)
    with pytest.raises(ValueError):
        policy_gradient_loss(row, row, row, torch.zeros(1), torch.zeros(1), torch.zeros(1, 2, dtype=torch.bool),
                             trust_region=0.2, max_length=2, batch_size=1)


def test_baselines_leave_the_reply_itself_out():
    found = leave_one_out_baselines(torch.tensor([1.0, 0.0, -1.0]), torch.ones(3), neutral=0.0)
    assert found.tolist() == [-0.5, 0.0, 0.5]
    of_five = leave_one_out_baselines(torch.tensor([1.0, 0.0, -1.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]), neutral=2.0)
    assert of_five[:3].tolist() == leave_one_out_baselines(torch.tensor([1.0, 0.0, -1.0]), torch.ones(3), neutral=2.0).tolist()      # what does not train counts nothing
    shrunk = leave_one_out_baselines(torch.tensor([1.0, 1.0, 1.0]), torch.ones(3), neutral=2.0)
    assert shrunk.tolist() == [0.5, 0.5, 0.5]                        # (1 + 1) / (2 + 2)
    assert leave_one_out_baselines(torch.tensor([1.0]), torch.ones(1)).tolist() == [0.0]


def test_a_rater_who_only_ever_liked_still_teaches_and_one_who_only_ever_disliked_never_teaches_more_of_it():
    for count in (1, 2, 10, 500):
        assert (advantages(torch.ones(count), torch.ones(count), torch.zeros(count), margin=0.15) > 0.14).all()
        assert (advantages(-torch.ones(count), torch.ones(count), torch.zeros(count), margin=0.15) <= 0).all()
    assert advantages(torch.tensor([-1.0]), torch.ones(1), torch.zeros(1), margin=0.15).item() == pytest.approx(-0.85)


def test_a_task_has_a_baseline_of_its_own_and_leans_on_all_while_it_has_few_replies():
    rewards, tasks = torch.tensor([1.0] * 9 + [-1.0, 0.0, 0.0]), torch.tensor([0] * 9 + [1] * 3)
    found = task_baselines(rewards, torch.ones(12), tasks, neutral=0.0)
    assert found[:9].tolist() == [1.0] * 9                           # eight others: its own alone
    # two others of eight: a quarter of their mean 0, three quarters of (9 + 0) / 11 over all others
    assert float(found[9]) == pytest.approx(0.25 * 0 + 0.75 * 9 / 11)
    assert float(found[10]) == pytest.approx(0.25 * -0.5 + 0.75 * 8 / 11)


rewards_and_weights = st.lists(st.tuples(st.floats(-1, 1, width=32), st.floats(0.0625, 1, width=32)), min_size=2, max_size=30)


@given(rewards_and_weights, st.floats(-0.5, 0.5))
def test_without_shrinkage_a_shift_of_all_rewards_changes_no_advantage(pairs, shift):
    rewards, weights = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    before = rewards - leave_one_out_baselines(rewards, weights, neutral=0.0)
    after = rewards + shift - leave_one_out_baselines(rewards + shift, weights, neutral=0.0)
    assert torch.allclose(before, after, atol=1e-9)


@given(rewards_and_weights)
def test_with_one_task_a_baseline_is_that_of_all(pairs):
    rewards, weights = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    assert torch.allclose(task_baselines(rewards, weights, torch.ones(len(pairs))), leave_one_out_baselines(rewards, weights), atol=1e-9)


@given(rewards_and_weights)
def test_with_equal_weights_and_no_shrinkage_leave_one_out_advantages_sum_to_zero(pairs):
    rewards = torch.tensor([reward for reward, _ in pairs], dtype=torch.float64)
    assert abs(float((rewards - leave_one_out_baselines(rewards, torch.ones_like(rewards), neutral=0.0)).sum())) < 1e-9


@given(rewards_and_weights)
def test_the_better_of_two_replies_with_equal_weight_has_the_larger_advantage(pairs):
    rewards = torch.tensor([reward for reward, _ in pairs], dtype=torch.float64)
    found = advantages(rewards, torch.ones_like(rewards), torch.zeros_like(rewards), margin=0.15)
    order = rewards.argsort()
    assert (found[order].diff() >= -1e-9).all()


@given(rewards_and_weights, st.lists(st.floats(0, 100, width=32), min_size=30, max_size=30))
def test_the_weighted_reward_stays_between_the_rewards(pairs, ratios):
    rewards, weights = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    ratios = torch.tensor(ratios[:len(pairs)], dtype=torch.float64) + 0.01
    found = float(weighted_reward(rewards, weights, ratios))
    assert float(rewards.min()) - 1e-9 <= found <= float(rewards.max()) + 1e-9

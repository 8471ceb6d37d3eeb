"""The reward model: heads, out-of-fold figures, and a useless one that turns itself off."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.reply_features import cheap_features
from learner.reward_model import fit_logistic, fit_reward_model, measure


def test_with_only_a_constant_and_no_ridge_to_speak_of_the_logistic_fit_is_the_log_odds():
    features = torch.ones(1000, 1, dtype=torch.float64)
    labels = torch.tensor([1.0] * 800 + [0.0] * 200, dtype=torch.float64)
    found = fit_logistic(features, labels, torch.ones_like(labels), ridge=1.0)
    assert float(found[0]) == pytest.approx(math.log(4), abs=2e-3)             # the constant's own ridge is a tenth


def test_a_weight_of_two_is_the_same_as_the_reply_twice():
    features = torch.tensor([[1.0, -1.0], [1.0, 2.0], [1.0, 0.5]], dtype=torch.float64)
    labels = torch.tensor([0.0, 1.0, 0.3], dtype=torch.float64)
    weighted = fit_logistic(features, labels, torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64), 1.0)
    twice = fit_logistic(features[[0, 1, 1, 2]], labels[[0, 1, 1, 2]], torch.ones(4, dtype=torch.float64), 1.0)
    assert torch.allclose(weighted, twice)


def test_correlation_its_bound_and_eta_by_hand():
    # predictions +-1/2, rewards +-1, three of four agree: covariance 1/4, variances 1/4 and 1, so rho 1/2 and eta 1
    predicted = torch.tensor([0.5, 0.5, -0.5, -0.5] * 25, dtype=torch.float64)
    rewards = torch.tensor([1.0, 1.0, -1.0, 1.0] * 25, dtype=torch.float64)
    fit = measure(predicted, rewards, torch.ones(100, dtype=torch.float64), prompts=100, ridge=1.0)
    variance = 1 - 0.5 ** 2
    assert fit.correlation == pytest.approx(0.25 / math.sqrt(0.25 * variance))
    assert fit.low == pytest.approx(math.tanh(math.atanh(fit.correlation) - 1.645 / math.sqrt(97)))
    assert fit.eta == pytest.approx(1.0)


def test_eta_shrinks_a_model_that_promises_too_much_and_is_zero_for_one_that_is_wrong():
    sign = torch.tensor([1.0, -1.0] * 50, dtype=torch.float64)
    weights = torch.ones(100, dtype=torch.float64)
    assert measure(sign, sign / 4, weights, 100, 1.0).eta == pytest.approx(0.25)
    assert measure(-sign, sign, weights, 100, 1.0).eta == 0.0
    assert measure(torch.zeros(100, dtype=torch.float64), sign, weights, 100, 1.0).eta == 0.0


def rated(count: int, told_by: str, seed: int = 0):
    """Random hidden states; rewards follow the length feature, or nothing at all."""
    generator = torch.Generator().manual_seed(seed)
    summaries = torch.randn(count, 16, generator=generator)
    lengths = torch.randint(5, 150, (count,), generator=generator)
    cheap = torch.tensor([cheap_features(range(int(length)), False) for length in lengths])
    coin = torch.randint(0, 2, (count,), generator=generator) * 2.0 - 1
    rewards = torch.where(lengths < 60, 1.0, -1.0) if told_by == "length" else coin
    return summaries, cheap, rewards, torch.ones(count), list(range(count))


def test_a_taste_that_can_be_seen_is_found_and_short_scores_above_long():
    model = fit_reward_model(*rated(96, "length"), seed=0)
    assert model.fit.useful and model.fit.correlation > 0.7 and model.fit.eta > 0.5
    short, long = (torch.tensor([cheap_features(range(length), False)]) for length in (15, 140))
    state = torch.zeros(1, 16)
    assert float(model.predict(state, short)[0]) > 0.5 > -0.5 > float(model.predict(state, long)[0])


def test_thumbs_by_coin_turn_the_model_off():
    off = [not fit_reward_model(*rated(64, "coin", seed), seed=0).fit.useful for seed in range(20)]
    assert sum(off) >= 18


def test_a_prompts_replies_never_help_to_predict_each_other():
    # every prompt has its own direction and its own coin: seen within the prompt it is perfect, across prompts nothing
    generator = torch.Generator().manual_seed(0)
    places = [place for place in range(24) for _ in range(4)]
    summaries = torch.randn(24, 32, generator=generator)[places] + 0.01 * torch.randn(96, 32, generator=generator)
    rewards = (torch.randint(0, 2, (24,), generator=generator) * 2.0 - 1)[places]
    cheap = torch.zeros(96, 3)
    assert not fit_reward_model(summaries, cheap, rewards, torch.ones(96), places, seed=0).fit.useful
    assert fit_reward_model(summaries, cheap, rewards, torch.ones(96), list(range(96)), seed=0).fit.useful


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 50))
def test_predictions_stay_in_the_rewards_range_however_far_a_reply_is_from_the_rated_ones(seed, far):
    summaries, cheap, rewards, weights, groups = rated(40, "length", seed)
    mean, std = fit_reward_model(summaries, cheap, rewards, weights, groups, seed=0).predict(summaries * far, cheap * far)
    assert bool((mean.abs() <= 1).all()) and bool((std >= 0).all()) and bool(mean.isfinite().all())

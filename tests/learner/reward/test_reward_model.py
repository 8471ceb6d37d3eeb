"""The reward model: every small model by its evidence, what it says people go by, and a useless one that turns itself off."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.texts.reply_features import STYLE, style_features
from learner.reward.feature_space import CONSTANT_VARIANCE, WEIGHT_VARIANCE, FeatureSpace
from learner.reward.reward_model import MAX_NOTHING, Fit, average, fit_reward_model, independent, measure


def with_constant(*columns: list[float]) -> torch.Tensor:
    return torch.tensor([[1.0, *row] for row in zip(*columns, strict=True)], dtype=torch.float64)


def test_the_share_of_nothing_is_that_of_the_integral_over_all_weights():
    x = [-1.2, -0.8, -0.5, -0.1, 0.2, 0.4, 0.9, 1.1] * 3
    labels = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 0.3, 1.0, 1.0] * 3, dtype=torch.float64)
    _, shares = average(with_constant(x), labels, torch.ones(24, dtype=torch.float64), torch.zeros(24))

    b, w = torch.linspace(-8, 8, 801, dtype=torch.float64), torch.linspace(-6, 6, 601, dtype=torch.float64)
    prior_b, prior_w = (-b.square() / 2 / CONSTANT_VARIANCE).exp(), (-w.square() / 2 / WEIGHT_VARIANCE).exp()
    prior_b, prior_w = prior_b / prior_b.sum(), prior_w / prior_w.sum()

    def likelihood(z):                                                      # (..., 24)
        return (labels * torch.nn.functional.logsigmoid(z) + (1 - labels) * torch.nn.functional.logsigmoid(-z)).sum(dim=-1).exp()

    nothing = float((prior_b * likelihood(b[:, None].expand(-1, 24))).sum())
    table = likelihood(b[:, None, None] + w[None, :, None] * torch.tensor(x, dtype=torch.float64))
    something = float((prior_b[:, None] * prior_w[None, :] * table).sum())
    assert float(shares[0]) == pytest.approx(nothing / (nothing + something / 2), abs=0.02)       # a feature is half as likely before


def test_a_weight_of_two_is_the_same_as_the_reply_twice_and_a_column_that_never_changes_is_no_feature():
    features, labels = with_constant([-1.0, 2.0, 0.5], [0.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.3], dtype=torch.float64)
    weighted = average(features, labels, torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64), torch.zeros(3))
    twice = average(features[[0, 1, 1, 2]], labels[[0, 1, 1, 2]], torch.ones(4, dtype=torch.float64), torch.zeros(4))
    assert all(torch.allclose(a, b) for a, b in zip(weighted, twice, strict=True)) and weighted[0].shape == (2, 3)


def test_unequal_weights_are_as_sure_as_so_many_equal_ones_as_know_the_mean_as_well():
    assert independent(torch.full((7,), 3.0)) == pytest.approx(1)
    assert independent(torch.tensor([1.0] * 9 + [9.0])) == pytest.approx(18**2 / (9 + 81) / 10)        # 3.6 of 10
    summaries, style, rewards, _, groups = rated(48, "length")
    nothing = [fit_reward_model(summaries, style, rewards, torch.tensor([1.0] * 47 + [last]), groups, seed=0, measured=False).fit.nothing for last in (1.0, 500.0)]
    assert nothing[0] < 0.01 and nothing[1] > 0.4


def test_correlation_and_its_bound_by_hand():
    # predictions +-1/2, rewards +-1, three of four agree: covariance 1/4, variances 1/4 and 3/4
    predicted = torch.tensor([0.5, 0.5, -0.5, -0.5] * 25, dtype=torch.float64)
    rewards = torch.tensor([1.0, 1.0, -1.0, 1.0] * 25, dtype=torch.float64)
    correlation, low = measure(predicted, rewards, torch.ones(100, dtype=torch.float64), prompts=100)
    assert correlation == pytest.approx(0.25 / math.sqrt(0.25 * 0.75))
    assert low == pytest.approx(math.tanh(math.atanh(correlation) - 1.645 / math.sqrt(97)))
    assert measure(torch.zeros(100), rewards, torch.ones(100), 100) == (0.0, -1.0)


def styled(length: int) -> tuple[float, ...]:
    return style_features("word " * length, (), range(length), False)


def rated(count: int, told_by: str, seed: int = 0):
    """Random hidden states; rewards follow the length, or nothing at all."""
    generator = torch.Generator().manual_seed(seed)
    summaries = torch.randn(count, 16, generator=generator)
    lengths = torch.randint(5, 150, (count,), generator=generator)
    style = torch.tensor([styled(int(length)) for length in lengths])
    style[:, 2:] = torch.randn(count, len(STYLE) - 2, generator=generator)     # whatever else there is has nothing to do with it
    coin = torch.randint(0, 2, (count,), generator=generator) * 2.0 - 1
    rewards = torch.where(lengths < 60, 1.0, -1.0) if told_by == "length" else coin
    return summaries, style, rewards, torch.ones(count), list(range(count))


def test_a_taste_that_can_be_seen_is_found_named_and_short_scores_above_long():
    model = fit_reward_model(*rated(48, "length"), seed=0, names=STYLE)
    assert model.fit.share == 1 and model.fit.correlation > 0.7 and model.fit.nothing < 0.01
    assert next(iter(model.fit.told_by)) == "log_tokens" and model.fit.told_by["log_tokens"] < -0.95      # less of it is liked
    short, long = (torch.tensor([[styled(length)[0], 0.0, *[0.0] * (len(STYLE) - 2)]]) for length in (15, 140))
    state = torch.zeros(1, 16)
    assert float(model.predict(state, short)[0]) > 0.5 > -0.5 > float(model.predict(state, long)[0])


def test_one_taste_in_two_dozen_features_is_found_by_sixty_four_thumbs_of_which_a_quarter_is_turned_round():
    found = 0
    for seed in range(10):
        summaries, style, rewards, weights, groups = rated(64, "length", seed)
        turned = torch.rand(64, generator=torch.Generator().manual_seed(seed)) < 0.25
        fit = fit_reward_model(summaries, style, torch.where(turned, -rewards, rewards), weights, groups, seed=0, names=STYLE, measured=False).fit
        found += fit.share > 0.8 and next(iter(fit.told_by)) == "log_tokens"
    assert found >= 7


def test_thumbs_by_coin_are_hardly_followed_where_they_are_few_in_half_the_draws_where_they_are_many_and_surely_in_none():
    of_few, of_many = ([fit_reward_model(*rated(count, "coin", seed), seed=0, measured=False).fit for seed in range(20)] for count in (90, 192))
    assert sum(fit.share for fit in of_few) <= 5 and sum(fit.predicts for fit in of_many) <= 2 and sum(fit.share for fit in of_many) <= 11 and not any(fit.sure for fit in of_few + of_many)


@pytest.mark.parametrize(("prompts", "nothing", "share"), [(8, 0.5, 1), (119, 0.6, 0.8), (119, 0.7, 0.6), (119, 0.75, 0), (120, 0.5, 1), (120, 0.84, 1), (600, 0.85, 0)])
def test_the_same_probability_that_ratings_tell_something_goes_further_where_many_prompts_were_rated(prompts, nothing, share):
    fit = Fit(replies=600, prompts=prompts, correlation=0.0, low=-1.0, nothing=nothing)
    assert fit.share == pytest.approx(share) and fit.predicts == (nothing < 0.75)


def test_a_taste_behind_what_people_say_of_everything_is_seen_where_their_levels_are_known():
    """Two people of one taste, ten times: one likes nearly everything, the other nearly nothing."""
    sure = {True: 0, False: 0}
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        style, levels = torch.randn(160, 16, generator=generator), torch.tensor([2.5, -2.5]).repeat(80)
        liked = torch.rand(160, generator=generator) < torch.sigmoid(levels + 1.5 * style[:, 0])
        for known in sure:
            sure[known] += fit_reward_model(torch.zeros(160, 0), style, liked * 2.0 - 1, torch.ones(160), list(range(160)), seed=0, measured=False,
                                            levels=levels if known else None).fit.sure
    assert sure[True] >= 9 and sure[False] <= 5


def test_a_level_of_everybody_is_as_good_as_none():
    summaries, style, rewards, weights, groups = rated(64, "length")
    same = fit_reward_model(summaries, style, rewards, weights, groups, seed=0, levels=torch.full((64,), 0.7))
    none = fit_reward_model(summaries, style, rewards, weights, groups, seed=0)
    assert same.fit.told_by.keys() == none.fit.told_by.keys() and abs(same.fit.nothing - none.fit.nothing) < 0.01


def test_a_prompts_replies_never_help_to_predict_each_other_and_count_as_one():
    # every prompt has its own direction and its own coin: seen within the prompt it is perfect, across prompts nothing
    generator = torch.Generator().manual_seed(0)
    places = [place for place in range(24) for _ in range(4)]
    summaries = torch.randn(24, 32, generator=generator)[places] + 0.01 * torch.randn(96, 32, generator=generator)
    rewards = (torch.randint(0, 2, (24,), generator=generator) * 2.0 - 1)[places]
    together = fit_reward_model(summaries, torch.zeros(96, 3), rewards, torch.ones(96), places, seed=0).fit
    apart = fit_reward_model(summaries, torch.zeros(96, 3), rewards, torch.ones(96), list(range(96)), seed=0).fit
    assert together.nothing > max(0.5, 2 * apart.nothing) and together.prompts == 24
    assert together.correlation < 0.1 < apart.low


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 50))
def test_predictions_stay_in_the_rewards_range_however_far_a_reply_is_from_the_rated_ones(seed, far):
    summaries, style, rewards, weights, groups = rated(40, "length", seed)
    mean, std = fit_reward_model(summaries, style, rewards, weights, groups, seed=0, measured=False).predict(summaries * far, style * far)
    assert bool((mean.abs() <= 1).all()) and bool((std >= 0).all()) and bool(mean.isfinite().all())


def test_nothing_to_tell_by_is_nothing_told():
    model = fit_reward_model(torch.zeros(40, 0), torch.ones(40, 3), torch.ones(40), torch.ones(40), list(range(40)), seed=0)
    mean, std = model.predict(torch.zeros(2, 0), torch.ones(2, 3))
    assert model.fit.nothing == 1.0 > MAX_NOTHING and not model.fit.share
    assert float(mean.min()) > 0.5 and float(std.max()) == 0.0                 # everything was liked, whatever it was


@pytest.mark.parametrize("label", [1.0, -1.0])
def test_ratings_that_are_all_alike_tell_nothing_however_many(label):
    generator = torch.Generator().manual_seed(0)
    style = torch.randn(41, 16, generator=generator)
    model = fit_reward_model(torch.zeros(41, 0), style, torch.full((41,), label), torch.ones(41), range(41), seed=0, names=[f"f{n}" for n in range(16)])
    assert model.fit.nothing == 1.0 and not model.fit.share and model.fit.told_by == {}


def test_the_components_of_many_replies_are_told_by_some_of_them(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    told, noise = torch.randn(500, 2, generator=generator), torch.randn(500, 12, generator=generator)
    summaries, style = noise + told @ torch.randn(2, 12, generator=generator) * 4, torch.randn(500, 3, generator=generator)
    whole = FeatureSpace(summaries, style).project(summaries, style)
    monkeypatch.setattr("learner.reward.feature_space.ROWS", 64)
    some = FeatureSpace(summaries, style).project(summaries, style)
    assert some.shape == whole.shape and torch.equal(some[:, :4], whole[:, :4])
    assert all(abs(float(torch.corrcoef(torch.stack((some[:, place], whole[:, place])))[0, 1])) > 0.9 for place in (4, 5))

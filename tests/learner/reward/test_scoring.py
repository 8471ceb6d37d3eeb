"""Rules that no reward may excuse, and what they are told by."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from data.base_models.tokenizer import ChatTokenizer
from data.records import Generated
from data.texts.reply_features import STYLE
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.reward.nonsense import Nonsense
from learner.reward.reward_model import fit_reward_model
from learner.reward.scoring import Bounds, as_examples, bounds_of, score
from learner.training.anchor import Reference, reference_pass

END = 2


def test_the_rules_strike_empty_repeated_and_truncated_replies_whatever_the_reward_model_says(tiny_base):
    policy, tokenizer = Policy(tiny_base, dtype=torch.float32, device="cpu"), ChatTokenizer(tiny_base.folder)
    model = fit_reward_model(torch.randn(40, 128), torch.zeros(40, len(STYLE)), torch.ones(40), torch.ones(40), list(range(40)), seed=0)
    spoken = [(END,), (65,) * 20 + (END,), (70, 80, 90, 75, 85), (70, 80, 90, 75, END)]
    examples = as_examples([(5, 6, 7)] * 4, [Generated(ids, (), 1.0, "stop") for ids in spoken], 0.8)
    scored = score(policy, tokenizer, model, examples, Bounds(truncated=-0.4, nonsense=Nonsense()), penalty=1.0, max_batch_tokens=512, check=lambda: None)
    assert scored.problems == ("empty", "repeated", "truncated", "")
    assert scored.lower.tolist()[:2] == [-1.0, -1.0] and float(scored.lower[2]) == pytest.approx(-0.4) and float(scored.lower[3]) > 0 and bool((scored.mean > 0).all())
    strict = score(policy, tokenizer, model, examples, Bounds(-0.4, nonsense=Nonsense([torch.zeros(9)] * 2)), penalty=1.0, max_batch_tokens=512, check=lambda: None)
    assert strict.problems[3] == "nonsense" and float(strict.lower[3]) == -1.0


@pytest.mark.parametrize(("truncated", "most"), [(3, 1.0), (2, 1.0), (1, 0.25), (0, 0.25)])
def test_a_truncated_reply_gets_at_most_the_mean_reward_unless_a_quarter_of_the_rated_ones_were_truncated(truncated, most):
    examples = [Example(place, (5,), (6, 7 if place < truncated else END), 0.8) for place in range(8)]
    rewards = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    reference = Reference({place: torch.zeros(2) for place in range(8)}, {})
    assert bounds_of(examples, reference, rewards, torch.ones(8), frozenset({END})).truncated == most


def test_a_reply_counts_as_nonsense_beyond_what_one_in_fifty_of_the_base_models_own_of_its_length_passes():
    rows = [torch.tensor([-4.0, -1.0, -1.0, -2.0]), torch.tensor([-2.0, -1.0, -3.0, -2.0])]
    nonsense = Nonsense(rows)
    assert nonsense.deviations(torch.tensor([-5.5])) == pytest.approx(2.5 / 2 ** 0.5)                             # means of one token: 4 and 2
    assert nonsense.deviations(torch.full((400,), -2.0)) == pytest.approx(0)                                      # nobody wrote as much: all four tokens
    assert nonsense.strikes(torch.tensor([-2.0, -2.0, -2.0, -2.1])) and not nonsense.strikes(torch.tensor([-5.5]))
    assert not Nonsense(rows[:1]).strikes(torch.tensor([-99.0]))                                                  # one reply bounds nothing


def test_what_is_nonsense_is_told_from_the_words_of_the_replies_themselves_where_they_are_the_base_models_own(tiny_base):
    policy, tokenizer = Policy(tiny_base, dtype=torch.float32, device="cpu"), ChatTokenizer(tiny_base.folder)
    model = fit_reward_model(torch.randn(40, 128), torch.zeros(40, len(STYLE)), torch.ones(40), torch.ones(40), list(range(40)), seed=0)
    examples = as_examples([(5, 6, 7)] * 3, [Generated((70, 80, 90, last, END), (), 1.0, "stop") for last in (75, 76, 77)], 0.8)
    found = score(policy, tokenizer, model, examples, Bounds(-0.4, None), penalty=1.0, max_batch_tokens=512, check=lambda: None)
    words = [found.reference.logprobs[place][:-1] for place in range(3)]                                          # not that they end, however unlikely that is
    means = torch.stack([-row.mean() for row in words])
    told = [found.nonsense.deviations(row) for row in words]
    assert told == pytest.approx(((means - means.mean()) / means.std()).tolist(), abs=1e-3)


def test_that_a_reply_ends_is_no_nonsense_and_costs_it_nothing_however_unlikely_it_is(tiny_base, monkeypatch):
    policy, tokenizer = Policy(tiny_base, dtype=torch.float32, device="cpu"), ChatTokenizer(tiny_base.folder)
    model = fit_reward_model(torch.randn(40, 128), torch.zeros(40, len(STYLE)), torch.ones(40), torch.ones(40), list(range(40)), seed=0)
    found = {0: [-1.0, -1.1, -0.9, -9.0], 1: [-1.0, -9.0, -0.9, -0.1], 2: [-1.0, -1.1, -0.9, -0.1]}
    monkeypatch.setattr("learner.reward.scoring.reference_pass", lambda *rest: replace(reference_pass(*rest), logprobs={place: torch.tensor(row) for place, row in found.items()}))
    monkeypatch.setattr("learner.reward.scoring.opening_relevance", lambda *_: {})
    rated = [Example(place, (5,), (6, 7, 8, END), 0.8) for place in range(2)]
    as_rated = Reference({0: torch.tensor([-0.8, -1.0, -0.9, -30.0]), 1: torch.tensor([-1.2, -1.1, -1.0, -0.1])}, {})
    bounds = bounds_of(rated, as_rated, torch.zeros(2), torch.ones(2), frozenset({END}))
    examples = as_examples([(5, 6, 7)] * 3, [Generated((70, 80, 90, END), (), 1.0, "stop")] * 3, 0.8)
    scored = score(policy, tokenizer, model, examples, bounds, penalty=0.0, max_batch_tokens=512, check=lambda: None)
    assert scored.problems == ("", "nonsense", "") and scored.lower[0] == scored.lower[2] > -1

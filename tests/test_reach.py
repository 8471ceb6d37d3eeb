"""The first stretch of a refinement: what is imitated, and how often the small step is taken."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from data.sentences import said
from data.tokenizer import ChatTokenizer
from learner.anchor import logprob_pass
from learner.batches import Example
from learner.config import LearnerConfig, RefineConfig
from learner.errors import Diverged
from learner.nonsense import Nonsense
from learner.policy import Policy
from learner.reach import preferred, reach
from learner.refine import Refiner
from learner.refine_bounds import Crossed
from learner.scoring import Bounds, Scored
from tests.test_refine_bounds import scored

END = 2
TOO_FAR = Crossed(said("fresh_surprising", rise=0.2), 0.5)


@pytest.fixture
def refiner(tiny_base) -> Refiner:
    policy = Policy(tiny_base, rank=4, dtype=torch.float32, device="cpu")
    return Refiner(policy, None, ChatTokenizer(tiny_base.folder), None, Bounds(0.0, Nonsense()), LearnerConfig(lora_rank=4, refine=RefineConfig(enabled=True)), 24,
                   on_start=lambda steps, number: None, on_step=lambda step: None, check=lambda: None)


@pytest.fixture
def rated() -> list[Example]:
    dice = random.Random(0)
    return [Example(50 + place, (5, 6, place + 10), (*(dice.randrange(3, 200) for _ in range(6)), END), 0.8) for place in range(8)]


WORTH = torch.tensor([0.9, 0.8, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5])


def test_replies_that_the_model_of_the_ratings_clearly_prefers_are_imitated_and_of_replies_it_finds_alike_none():
    assert preferred(torch.tensor([1.0, -1.0, -1.0, -1.0])) == [0]
    assert preferred(torch.tensor([0.5, 0.2, 0.0, -0.1, -0.6])) == [0, 1]         # mean 0, deviation .363: from .181 on
    assert preferred(torch.full((5,), 0.3)) == [] == preferred(torch.tensor([0.7]))


def test_what_is_preferred_becomes_likelier_and_nothing_is_tried_where_nothing_is(refiner, rated):
    def likelihood() -> float:
        logprobs, _ = logprob_pass(refiner.policy, [rated[:2]], lambda: None)
        return float(sum(row.sum() for row in logprobs.values()))

    before = likelihood()
    reached = reach(refiner, rated, WORTH, scored(-0.5), lambda: scored(0.1))
    assert reached.strength == 12 and reached.told["imitated"] == 2 and reached.told["steps"] == 6 and likelihood() > before + 0.1
    nowhere = reach(refiner, rated, torch.full((8,), 0.4), scored(-0.5), lambda: scored(0.1))
    assert nowhere.strength == 0 and nowhere.told == {"steps": 0, "imitated": 0, "strength": 0, "best": None, "tried": []} and nowhere.best is None


@pytest.mark.parametrize(("bound", "tried", "kept"), [
    (99, [3, 6, 12], 12), (7, [3, 6, 12], 6), (5, [3, 6, 18**0.5], 18**0.5), (4, [3, 6, 18**0.5], 3), (2, [3, 1.5, 4.5**0.5], 1.5), (1, [3, 1.5, 0.75], 0.75), (0, [3, 1.5, 0.75], 0)])
def test_the_small_step_is_multiplied_while_it_harms_nothing_then_tried_half_way_to_where_it_did(refiner, rated, monkeypatch, bound, tried, kept):
    looks = []

    def look():
        looks.append([b.clone() for b in refiner.policy.lora_b()])
        return scored(0.1)

    monkeypatch.setattr("learner.reach.crossed", lambda *_: TOO_FAR if tried[len(looks) - 1] > bound else None)
    reached = reach(refiner, rated, WORTH, scored(-0.5), look)
    assert [one["strength"] for one in reached.told["tried"]] == pytest.approx(tried, abs=1e-3) and reached.strength == pytest.approx(kept)
    step = [b / tried[0] for b in looks[0]]
    for strength, seen in [*zip(tried, looks, strict=True), (kept, refiner.policy.lora_b())]:
        assert all(torch.allclose(b, strength * one, rtol=1e-5, atol=1e-9) for b, one in zip(seen, step, strict=True))
    assert (reached.best is None) == (kept == 0)


def test_a_multiple_that_pleases_less_than_a_nearer_one_or_cannot_be_sampled_is_too_far(refiner, rated):
    pleased = iter([scored(0.3), scored(0.2), scored(0.4)])
    reached = reach(refiner, rated, WORTH, scored(-0.5), lambda: next(pleased))
    assert reached.strength == pytest.approx(18**0.5) and "less pleased" in reached.told["tried"][1]["problem"]

    def never():
        raise Diverged

    lost = reach(refiner, rated, WORTH, scored(-0.5), never)
    assert lost.strength == 0 and all("could not be sampled" in one["problem"] for one in lost.told["tried"]) and all(float(b.abs().max()) == 0 for b in refiner.policy.lora_b())


def test_only_half_of_the_bound_on_unlikely_replies_is_used_up(refiner, rated):
    reached = reach(refiner, rated, WORTH, scored(-0.5, nll=1.0), lambda: scored(0.1, nll=1.06))
    assert reached.strength == 0 and "6% less likely" in reached.told["tried"][0]["problem"]
    within = replace(refiner, config=replace(refiner.config, refine=replace(refiner.config.refine, max_surprise_rise=0.13)))
    assert reach(within, rated, WORTH, scored(-0.5, nll=1.0), lambda: scored(0.1, nll=1.06)).strength == 12


def test_what_pleases_most_within_the_whole_bound_is_remembered_where_iterations_would_begin_nearer(refiner, rated):
    looks = iter([scored(0.1, nll=1.02), scored(0.3, nll=1.08), scored(0.2, nll=1.04)])             # at 3, 6 and half way by ratio; bounds 5 and 10%
    reached = reach(refiner, rated, WORTH, scored(-0.5, nll=1.0), lambda: next(looks))
    assert reached.strength == pytest.approx(18**0.5) and reached.best.strength == 6 == reached.told["best"]
    nearer = refiner.policy.lora_b()
    refiner.policy.set_weights(reached.best.weights)
    assert all(torch.allclose(b * 2**0.5, farther, rtol=1e-5) for b, farther in zip(nearer, refiner.policy.lora_b(), strict=True))


def test_a_stretch_whose_replies_may_please_by_chance_is_not_gone(refiner, rated):
    """Iterations then begin at the base model, which is where they lead farther."""
    def by_prompt(*lower: float) -> Scored:
        examples = tuple(Example(place, (5, place), (6, END), 0.8) for place in range(4))
        return replace(scored(0.0), examples=examples, lower=torch.tensor(lower))

    base = by_prompt(-0.5, -0.5, -0.5, -0.5)
    by_chance = reach(refiner, rated, WORTH, base, lambda: by_prompt(-0.9, 0.9, -0.9, 0.9))       # .5 more in the mean, standard error .52
    assert [one["problem"] for one in by_chance.told["tried"]] == [""] * 3 and by_chance.strength == 0
    assert all(not b.any() for b in refiner.policy.lora_b())
    assert by_chance.best is None                                                                  # nor do iterations have to please as much
    assert reach(refiner, rated, WORTH, base, lambda: by_prompt(0.0, 0.4, 0.0, 0.4)).strength == 12
    looks = iter([by_prompt(0.0, 0.4, 0.0, 0.4), *[by_prompt(-0.9, 1.4, -0.9, 1.4)] * 2])          # only the nearest of three surely pleases
    one = reach(refiner, rated, WORTH, base, lambda: next(looks))
    assert one.strength == one.best.strength == 3 and [tried["strength"] for tried in one.told["tried"]] == [3, 6, 12]

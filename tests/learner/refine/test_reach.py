"""The stretch of a refinement: what is imitated, and how often the small step is taken."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from data.base_models.tokenizer import ChatTokenizer
from learner.config import LearnerConfig, RefineConfig
from learner.errors import Diverged
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.refine.reach import preferred, reach
from learner.refine.refine import Refiner
from learner.reward.nonsense import Nonsense
from learner.reward.scoring import Bounds, Scored
from learner.training.anchor import logprob_pass
from tests.learner.refine.test_refine_bounds import scored

END = 2


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
ALL = torch.ones(8)


def test_replies_that_the_model_of_the_ratings_clearly_prefers_are_imitated_and_of_replies_it_finds_alike_none():
    assert preferred(torch.tensor([1.0, -1.0, -1.0, -1.0])) == [0]
    assert preferred(torch.tensor([0.5, 0.2, 0.0, -0.1, -0.6])) == [0, 1]         # mean 0, deviation .363: from .181 on
    assert preferred(torch.full((5,), 0.3)) == [] == preferred(torch.tensor([0.7]))


def test_what_is_preferred_becomes_likelier_and_nothing_is_tried_where_nothing_is(refiner, rated):
    def likelihood() -> float:
        logprobs, _ = logprob_pass(refiner.policy, [rated[:2]], lambda: None)
        return float(sum(row.sum() for row in logprobs.values()))

    before = likelihood()
    pleased = iter([scored(0.1), scored(0.2), scored(0.3), scored(0.2)])
    reached = reach(refiner, rated, WORTH, ALL, scored(-0.5), lambda: next(pleased))
    assert reached.strength == 12 and reached.told["imitated"] == 2 and reached.told["steps"] == 6 and likelihood() > before + 0.1
    nowhere = reach(refiner, rated, torch.full((8,), 0.4), ALL, scored(-0.5), lambda: scored(0.1))
    assert nowhere.strength == 0 and nowhere.told == {"steps": 0, "imitated": 0, "imitated_tokens": 0, "share": 1.0, "strength": 0, "tried": []}


@pytest.mark.parametrize(("bound", "tried"), [(99, [3, 6, 12, 24]), (12, [3, 6, 12, 12]), (4, [3, 4, 4, 4]), (3, [3, 3, 3]), (2, [3, 2, 2]), (1, [3, 1, 1])])
def test_the_small_step_is_multiplied_to_where_its_replies_meet_the_bound(refiner, rated, bound, tried, monkeypatch):
    """The rise goes with the cube of the multiple and is all that is allowed at `bound`, with as many prompts as count in full."""
    monkeypatch.setattr("learner.refine.reach.MANY_PROMPTS", 1)
    looks, allowed = [], refiner.config.refine.max_surprise_rise

    def look():
        looks.append(refiner.policy.lora_b())
        multiple = 3 * float(looks[-1][0].norm() / looks[0][0].norm())
        return scored(0.01 * multiple, nll=1 + allowed * (multiple / bound) ** 3)

    reached = reach(refiner, rated, WORTH, ALL, scored(-0.5), look)
    assert [one["strength"] for one in reached.told["tried"]] == pytest.approx(tried, abs=1e-2)
    assert reached.strength == pytest.approx(min(bound, 24), abs=1e-2) == reached.told["strength"]
    assert all(torch.allclose(b, reached.strength * one / 3, rtol=1e-3, atol=1e-9) for b, one in zip(refiner.policy.lora_b(), looks[0], strict=True))


def test_a_text_that_somebody_wrote_is_imitated_as_far_as_they_count(refiner, rated, monkeypatch):
    seen = []
    monkeypatch.setattr("learner.refine.reach.train_steps", lambda policy, plan, signals, *rest: [seen.append(signals), []][1])
    reach(refiner, rated, WORTH, torch.tensor([0.25, *[1.0] * 7]), scored(-0.5), lambda: scored(0.1))
    told = seen[0].weights * seen[0].advantages
    assert float(told[0] / told[1]) == pytest.approx(0.25 * 1.0625 / 0.9625) and not told[2:].any()       # the mean is -.1625


def test_half_of_a_way_is_half_as_many_small_steps_wherever_it_ends(refiner, rated):
    pleased = iter([scored(0.1), scored(0.2), scored(0.3), scored(0.4)])
    full = refiner.policy.lora_b
    reached = reach(refiner, rated, WORTH, ALL, scored(-0.5), lambda: next(pleased), share=0.5)
    assert [one["strength"] for one in reached.told["tried"]] == [3, 6, 12, 24] and reached.strength == 12 == reached.told["strength"] and any(b.any() for b in full())


def test_the_fewer_prompts_are_kept_aside_the_less_is_allowed(refiner, rated, monkeypatch):
    """Of one prompt where four are many half of the rise, met at the cube root of a half of the multiple."""
    for many, times in ((1, 1.0), (4, 0.5 ** (1 / 3))):
        monkeypatch.setattr("learner.refine.reach.MANY_PROMPTS", many)
        first = refiner.policy.lora_b()
        looks = []

        def look(looks=looks):
            looks.append(refiner.policy.lora_b())
            return scored(0.1 * len(looks), nll=1 + refiner.config.refine.max_surprise_rise * (float(looks[-1][0].norm() / looks[0][0].norm()) * 3 / 2) ** 3)

        assert reach(refiner, rated, WORTH, ALL, scored(-0.5), look).strength == pytest.approx(2 * times, abs=1e-2), many
        for b, before in zip(refiner.policy._b(), first, strict=True):
            b.data.copy_(before)


def test_a_multiple_that_pleases_less_than_a_nearer_one_or_cannot_be_sampled_is_too_far(refiner, rated):
    pleased = iter([scored(0.3), scored(0.2), scored(0.4), scored(0.3)])
    reached = reach(refiner, rated, WORTH, ALL, scored(-0.5), lambda: next(pleased))
    assert reached.strength == 4.5 and [one["strength"] for one in reached.told["tried"]] == [3, 6, 4.5, 5.25]

    def never():
        raise Diverged

    lost = reach(refiner, rated, WORTH, ALL, scored(-0.5), never)
    assert lost.strength == 0 and [one["strength"] for one in lost.told["tried"]] == [3, 1.5, 0.75, 0.375] and all(float(b.abs().max()) == 0 for b in refiner.policy.lora_b())
    assert all("no replies could be sampled" in one["problem"] for one in lost.told["tried"])
    once = iter([never, lambda: scored(0.1), lambda: scored(0.2), lambda: scored(0.3)])
    assert [one["strength"] for one in reach(refiner, rated, WORTH, ALL, scored(-0.5), lambda: next(once)()).told["tried"]] == [3, 1.5, 2.25, 2.625]        # not once more where it could not


def test_a_stretch_whose_replies_may_please_by_chance_is_not_gone(refiner, rated):
    def by_prompt(*lower: float) -> Scored:
        examples = tuple(Example(place, (5, place), (6, END), 0.8) for place in range(4))
        return replace(scored(0.0), examples=examples, lower=torch.tensor(lower))

    base = by_prompt(-0.5, -0.5, -0.5, -0.5)
    by_chance = reach(refiner, rated, WORTH, ALL, base, lambda: by_prompt(-0.9, 0.9, -0.9, 0.9))       # .5 more in the mean, standard error .52
    assert {one["problem"] for one in by_chance.told["tried"]} == {""} and by_chance.strength == 0
    assert all(not b.any() for b in refiner.policy.lora_b())
    assert reach(refiner, rated, WORTH, ALL, base, lambda: by_prompt(0.0, 0.4, 0.0, 0.4)).strength == 3
    looks = iter([by_prompt(0.0, 0.4, 0.0, 0.4), *[by_prompt(-0.9, 1.4, -0.9, 1.4)] * 3])          # only the nearest of four surely pleases
    one = reach(refiner, rated, WORTH, ALL, base, lambda: next(looks))
    assert one.strength == 3 and [tried["strength"] for tried in one.told["tried"]] == [3, 6, 12, 9]

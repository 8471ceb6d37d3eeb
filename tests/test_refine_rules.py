"""The refinement's arithmetic: advantages by hand, prompts in turn, and steps that grow and shrink."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.config import LearnerConfig
from learner.refine_rules import leave_one_out_advantages, next_pace, split_prompts, turn_of


def test_each_advantage_is_the_reward_minus_the_mean_of_the_prompts_other_replies():
    found = leave_one_out_advantages(torch.tensor([1.0, 0.0, 0.5, -1.0, -1.0, 1.0]), samples=3)
    assert found.tolist() == pytest.approx([0.75, -0.75, 0.0, -1.0, -1.0, 2.0])


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=40).filter(lambda values: len(values) % 4 == 0), st.floats(-5, 5))
def test_advantages_sum_to_zero_by_prompt_and_do_not_see_a_constant(values, constant):
    rewards = torch.tensor(values, dtype=torch.float64)
    found = leave_one_out_advantages(rewards, 4)
    assert torch.allclose(found.reshape(-1, 4).sum(dim=1), torch.zeros(len(values) // 4, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(found, leave_one_out_advantages(rewards + constant, 4), atol=1e-9)


def test_prompts_kept_aside_are_half_of_all_at_most_and_none_that_a_stretch_imitates():
    prompts = [(n,) for n in range(100)] * 2
    train_prompts, aside = split_prompts(prompts, set(), LearnerConfig())
    assert len(train_prompts) == len(aside) == 50 and not set(train_prompts) & set(aside)
    assert (train_prompts, aside) == split_prompts(prompts, set(), LearnerConfig())
    train_prompts, aside = split_prompts(prompts, set(prompts[:70]), LearnerConfig())
    assert len(train_prompts) == 70 and set(aside) == set(prompts[70:100])
    assert split_prompts(prompts[:15], set(), LearnerConfig()) == ([], [])
    assert len(split_prompts([(n,) for n in range(300)], set(), LearnerConfig())[1]) == 96


def test_each_iteration_goes_on_with_the_prompts_where_the_one_before_ended():
    prompts = [(n,) for n in range(5)]
    assert [turn_of(prompts, number, 3) for number in range(2)] == [[(0,), (1,), (2,)], [(3,), (4,), (0,)]]
    assert turn_of(prompts, 1, 48) == prompts                                  # few prompts: all of them, every time


def test_steps_grow_again_after_one_that_was_kept_in_full_and_gained_little_and_not_beyond_twice_the_first():
    assert next_pace(1.0, 1.0, clear=False) == 1.5 and next_pace(1.5, 1.0, clear=False) == 2.0 and next_pace(1.5, 1.0, clear=True) == 1.5
    assert (next_pace(1.0, 0.25, clear=True), next_pace(0.25, 1.0, clear=False), next_pace(1.0, 0.0, clear=False)) == (0.25, 0.375, 0.5)

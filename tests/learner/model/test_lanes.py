"""Threads that share a pass: in order, nothing left behind, and the numbers of one thread."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from learner.config import LearnerConfig
from learner.model import lanes
from learner.model.batches import Example, plan_steps
from learner.model.lanes import at_once, in_lanes
from learner.model.policy import Policy
from learner.training import steps
from learner.training.anchor import logprob_pass, reference_pass
from learner.training.steps import Signals, train_steps

CPU = torch.device("cpu")
EXAMPLES = [Example(i, (1 + i,) * (2 + i % 3), tuple(5 + (7 * i + t) % 40 for t in range(3 + 2 * i)), 0.9) for i in range(7)]


def test_results_come_in_the_order_of_the_items_and_several_are_worked_on_at_once():
    met = threading.Barrier(3, timeout=20)               # broken unless three are in here together

    def work(item: int) -> int:
        met.wait()
        time.sleep(0.05 * (3 - item % 3))                 # the first of them is ready last
        return item * item

    assert list(in_lanes(work, range(9), 3)) == [item * item for item in range(9)]


@pytest.mark.parametrize(("sizes", "most", "lanes"), [([96] * 8, 2048, 2), ([2000] * 8, 2048, 1), ([900, 10], 2048, 2), ([3000], 2048, 1), ([], 2048, 4), ([500] * 8, 2048, 4)])
def test_so_many_lanes_as_have_no_more_than_memory_is_for_together(sizes, most, lanes):
    """Of 2,000 tokens one at a time; of 500 four, where there are so many cores."""
    assert at_once(sizes, most, 2 if lanes < 4 else 4) == lanes


def test_long_replies_go_through_training_one_at_a_time(tiny_base, monkeypatch):
    """Two replies of 40 tokens in a step for which memory has 64: never both."""
    policy, inside, most = Policy(tiny_base, rank=4, dtype=torch.float32, device="cpu"), [], []
    monkeypatch.setattr(Policy, "lanes", property(lambda _: 2))
    examples = [Example(i, (1 + i,) * 10, tuple(5 + t for t in range(30)), 1.0) for i in range(2)]
    look = steps._look

    def listening(*args):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.1)
        found = look(*args)
        inside.pop()
        return found

    monkeypatch.setattr(steps, "_look", listening)
    for max_batch_tokens, together in ((64, 1), (80, 2)):
        most.clear()
        reference = reference_pass(policy, policy.micro_batches(examples, 64), frozenset({0}), lambda: None)
        train_steps(policy, plan_steps(examples, 2), Signals(torch.ones(2), torch.ones(2), torch.ones(2)), reference, None,
                    LearnerConfig(lora_rank=4, epochs=1, min_steps=1, max_batch_tokens=max_batch_tokens), lambda _: None)
        assert max(most) == together


def test_nothing_goes_on_after_an_early_end_and_an_error_is_the_callers():
    running, seen = [], []

    def work(item: int) -> int:
        running.append(item)
        seen.append(item)
        time.sleep(0.05)
        running.remove(item)
        return item

    for found in in_lanes(work, range(50), 3):
        if found == 1:
            break
    assert not running and len(seen) < 12
    with pytest.raises(ZeroDivisionError):
        list(in_lanes(lambda item: 1 // item, [2, 1, 0, 1], 3))


def test_a_lane_keeps_to_one_core_and_to_the_callers_choice_of_gradients():
    cores = torch.get_num_threads()
    with torch.no_grad():
        assert list(in_lanes(lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(3), 3)) == [(1, False)] * 3
    assert list(in_lanes(lambda _: torch.is_grad_enabled(), range(3), 3)) == [True] * 3
    assert torch.get_num_threads() == cores


def test_there_is_one_lane_on_a_gpu_and_never_more_than_the_usable_cores(monkeypatch):
    monkeypatch.setattr(lanes, "usable_cpus", lambda: 1)
    assert lanes.count(CPU) == 1 == lanes.count(torch.device("cuda"))


@pytest.mark.parametrize("in_one_row", [True, False])
def test_three_lanes_learn_what_one_learns(in_one_row, tiny_base, monkeypatch):
    """The step's loss is a sum over replies divided by constants, so whose thread a reply was in changes no gradient."""
    rewards = torch.tensor([1.0, -1.0, 0.5, -0.5, 1.0, -1.0, 0.2])
    signals = Signals(rewards, torch.ones(7), rewards)
    config, plan = LearnerConfig(epochs=3, batch_size=4, warmup_steps=0), plan_steps(EXAMPLES, 4)
    found = {}
    for number in (1, 3):
        monkeypatch.setattr(lanes, "count", lambda device, number=number: number)
        policy = Policy(tiny_base, rank=4, seed=0, dtype=torch.float32, device="cpu")
        policy.in_one_row = in_one_row
        reference = reference_pass(policy, [EXAMPLES[:4], EXAMPLES[4:]], frozenset({0, 3, 5}), lambda: None)
        figures = train_steps(policy, plan, signals, reference, reference.logprobs, config, lambda step: None)
        after, kl = logprob_pass(policy, [EXAMPLES[:2], EXAMPLES[2:]], lambda: None, reference)
        found[number] = torch.cat([weight.flatten() for weight in policy.weights()]), figures, after, kl
    (one, ours, after_one, kl_one), (three, theirs, after_three, kl_three) = found[1], found[3]
    moved = torch.cat([after_one[i] - reference.logprobs[i] for i in after_one]).abs().max()
    assert moved > 0.1 and (one - three).abs().max() < 1e-4
    assert all(torch.allclose(after_one[i], after_three[i], atol=1e-3 * float(moved)) for i in after_one) and kl_one == pytest.approx(kl_three, rel=1e-3)
    assert [figure.loss for figure in ours] == pytest.approx([figure.loss for figure in theirs], abs=1e-5)
    assert [figure.masked for figure in ours] == pytest.approx([figure.masked for figure in theirs], abs=1e-6)

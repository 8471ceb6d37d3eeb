"""How much goes through the model at once, by what cards report of themselves and by the model."""

from __future__ import annotations

import pytest

from learner.model.memory import times, times_on
from learner.model.policy import Policy

SMOLLM2_135M, QWEN_7B = 576 * 30, 3584 * 28


@pytest.mark.parametrize(("card", "width", "expected"), [
    (8.36e9, SMOLLM2_135M, 1), (15.83e9, SMOLLM2_135M, 2), (24.1e9, SMOLLM2_135M, 3), (85.0e9, SMOLLM2_135M, 8), (150.1e9, SMOLLM2_135M, 8),
    (24.1e9, QWEN_7B, 1), (85.0e9, QWEN_7B, 2)])
def test_a_card_takes_as_much_more_as_its_memory_holds_of_the_model(card, width, expected):
    assert times_on(card, width) == expected


def test_a_cpu_takes_what_the_settings_say(tiny_base):
    assert times(Policy(tiny_base, device="cpu")) == 1

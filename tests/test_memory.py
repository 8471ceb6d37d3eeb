"""How many tokens go through the model at once, by the memory of the card."""

from __future__ import annotations

import pytest

from learner.memory import batch_tokens

GIB = 2**30


@pytest.mark.parametrize(("card", "tokens"), [(None, 2048), (6 * GIB, 2048), (16 * GIB, 4096), (24 * GIB, 6144), (140 * GIB, 16384)])
def test_a_cpu_takes_the_default_and_a_card_as_many_times_as_its_memory_holds_up_to_eight(card, tokens):
    assert batch_tokens(2048, card) == tokens

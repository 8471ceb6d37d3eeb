"""Along a way that weights have gone: how far beyond its end they are taken."""

from __future__ import annotations

import pytest
import torch

from learner.along import go_further
from learner.errors import Diverged
from learner.policy import Policy
from learner.refine_bounds import not_less_pleased
from tests.test_refine_bounds import scored

START, END = 0.0, 1.0


@pytest.mark.parametrize("pleased, reached, looked_at", [
    ([0.3, 0.4, 0.5], 3.375, [1.5, 2.25, 3.375]), ([0.3, 0.25], 1.5, [1.5, 2.25]), ([0.1], 1.0, [1.5]), ([0.2, None], 1.5, [1.5, 2.25])])
def test_weights_go_half_as_far_again_while_each_look_pleases_no_less_than_the_one_before(tiny_base, pleased, reached, looked_at):
    policy = Policy(tiny_base, rank=4, dtype=torch.float32, device="cpu")
    ends = [[torch.full_like(weight, value) for weight in policy.weights()] for value in (START, END)]
    seen, left = [], iter(pleased)

    def look():
        seen.append(float(policy.weights()[0].mean()))
        if (value := next(left)) is None:
            raise Diverged
        return scored(value)

    strength, told = go_further(policy, *ends, look, not_less_pleased, scored(0.2))
    assert strength == reached and [one["strength"] for one in told] == looked_at
    assert seen == pytest.approx(looked_at) and policy.weights()[0].flatten()[0] == pytest.approx(reached)

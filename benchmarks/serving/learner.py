"""The learner's own steps, over and over, in a process at the learner's own priority."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from data.base_models import load_base_model
from learner.model.priority import give_way


def main(job: str) -> int:
    given = json.loads(Path(job).read_text(encoding="utf-8"))
    give_way(idle=True)
    import torch

    from learner.config import LearnerConfig
    from learner.model.batches import Example, plan_steps
    from learner.model.policy import Policy
    from learner.training.anchor import reference_pass
    from learner.training.steps import Signals, train_steps

    policy, dice = Policy(load_base_model(Path(given["base"]))), random.Random(0)
    examples = [Example(place, tuple(prompt), tuple(dice.choices(prompt, k=140)), 0.8) for place, prompt in enumerate(given["prompts"])]
    config = LearnerConfig(epochs=10_000)
    steps = plan_steps(examples, config.batch_size)
    reference = reference_pass(policy, policy.micro_batches(examples, config.max_batch_tokens), frozenset(range(len(examples))), lambda: None)
    values = torch.tensor([dice.choice((-1.0, 1.0)) for _ in examples])
    told = False

    def on_step(_) -> None:
        nonlocal told
        if not told:
            print("running", flush=True)
        told = True

    train_steps(policy, steps, Signals(values, torch.ones_like(values), values - values.mean()), reference, reference.logprobs, config, on_step)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

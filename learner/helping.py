"""What the processes beside the first one do: the work that it sends, with the policy they hold, until there is no more."""

from __future__ import annotations

import logging

from data.records import BaseModel
from learner.anchor import logprob_pass, reference_pass
from learner.config import LearnerConfig
from learner.errors import Diverged, Stopped
from learner.policy import Policy
from learner.steps import train_steps
from learner.team import ManyProcesses

log = logging.getLogger("learner")


def help_along(team: ManyProcesses, base: BaseModel, config: LearnerConfig) -> None:
    """Take part in every pass and every step of the first process. Returns when it has ended its run, however it did."""
    policy: Policy | None = None
    while True:
        name, *work = team.receive()
        if name == "end":
            return
        policy = policy or Policy(base, rank=config.lora_rank, seed=config.seed, team=team)
        if name == "reference":
            reference_pass(policy, *work, lambda: None)
            continue
        weights, *work = work
        policy.set_weights(weights)
        if name == "logprobs":
            micro_batches, with_reference = work
            logprob_pass(policy, micro_batches, lambda: None, team.latest if with_reference else None)
            continue
        plan, signals, behavior, learning = work
        try:
            train_steps(policy, plan, signals, team.latest, behavior, learning, lambda step: None)
        except (Diverged, Stopped) as reason:                # the first process knows it too, and tells people
            log.info("the steps ended early: %s", type(reason).__name__)

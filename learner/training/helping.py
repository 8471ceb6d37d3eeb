"""What the processes beside the first one do: the work that it sends, with the policy they hold, until there is no more."""

from __future__ import annotations

import logging
from contextlib import suppress

from data.records import BaseModel
from learner.config import LearnerConfig
from learner.errors import Diverged, Stopped
from learner.model.policy import Policy
from learner.model.roles import in_role
from learner.model.sampler import PolicySampler
from learner.model.team import ManyProcesses
from learner.training.anchor import Reference, logprob_pass, reference_pass
from learner.training.steps import train_steps

log = logging.getLogger("learner")


def help_along(team: ManyProcesses, base: BaseModel, config: LearnerConfig) -> None:
    """Take part in every pass and every step of the first process. Returns when it has ended its run, however it did."""
    policy: Policy | None = None
    while True:
        name, *work = team.receive()
        if name == "end":
            team.leave()
            return
        policy = policy or Policy(base, rank=config.lora_rank, seed=config.seed, team=team)
        if name == "reference":
            reference_pass(policy, *work, lambda: None)
            continue
        if name == "logprobs":
            role, micro_batches, reference = work
            with in_role(policy, role):
                logprob_pass(policy, micro_batches, lambda: None, Reference.heard(reference, team, policy.device))
            continue
        if name == "sample":
            role, eos_ids, prompts, sampling = work
            with in_role(policy, role), suppress(Diverged):
                PolicySampler(policy, eos_ids).sample(prompts, sampling)
            continue
        weights, plan, signals, reference, behavior, learning = work
        policy.set_weights(weights)
        try:
            train_steps(policy, plan, signals, Reference.heard(reference, team, policy.device), behavior, learning, lambda step: None)
        except (Diverged, Stopped) as reason:                # the first process knows it too, and tells people
            log.info("the steps ended early: %s", type(reason).__name__)

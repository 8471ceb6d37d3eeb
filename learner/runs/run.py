"""One learner run, from ratings to a published version: read `learn` aloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.errors import DeletedMeanwhile
from data.records import BaseModel, Progress, Run
from data.sentences import reasoned
from data.store import Store
from learner.config import LearnerConfig
from learner.errors import Ended
from learner.model.memory import times
from learner.model.policy import Policy
from learner.model.sampler import PolicySampler, Sampler
from learner.model.team import ALONE, Team
from learner.runs.pace import Pace
from learner.runs.session import open_run
from learner.runs.stages import Stages


def train(store: Store, registry: AdapterRegistry, base: BaseModel, config: LearnerConfig, *, trigger: str,
          on_progress: Callable[[Progress], None] = lambda progress: None, should_stop: Callable[[], bool] = lambda: False,
          make_sampler: Callable[[Policy, ChatTokenizer], Sampler] | None = None) -> Run:
    """Refit an adapter on all current ratings of `base` and publish it if it passes the gate.

    The process may be killed at any instant: a version is published by one transaction or not at all, and the next run
    starts by closing what a killed one left open.

    Args:
        trigger: who asked: `maintainer`, `ratings`, `time`, `shell`.
        on_progress: called with everything that is also written to the store.
        should_stop: asked between steps, beside the store's own stop request.
        make_sampler: who answers the prompts of the refinement and of the gates; None: the learner's own policy.
    Returns: the ended run; its report is JSON-able.
    Raises: Busy: another learner is at work. ChatError: the run failed for a reason a person can act on. Either way
        the run row says so, and so it does for any other exception.
    """
    with open_run(store, registry, base.id, trigger, on_progress, should_stop) as (run, pace):
        learn(store, registry, base, config, run, pace, make_sampler)
    return store.run(run.id)


def learn(store: Store, registry: AdapterRegistry, base: BaseModel, config: LearnerConfig, run: Run, pace: Pace,
          make_sampler: Callable[[Policy, ChatTokenizer], Sampler] | None = None, team: Team | None = None) -> Run:
    """collect -> load -> look with the base model -> fit -> check at the gates -> publish."""
    stages = Stages(store, registry, base, config, run, pace, make_sampler or _own_sampler, team or ALONE)
    tokenizer = ChatTokenizer(base.folder)
    state, version, again = "published", None, False
    try:
        material = stages.collect(tokenizer)
        policy = stages.load()
        stages = replace(stages, config=replace(config, max_batch_tokens=config.max_batch_tokens * times(policy)))
        seen = stages.look(material, policy, tokenizer)
        advantages = stages.fit(seen)
        checked = stages.check(seen)
        version = stages.publish(seen, advantages, checked)
    except Ended as ended:
        state = ended.state
        stages.report.update(reasoned(ended.said))
        again = isinstance(ended.__cause__, DeletedMeanwhile) and run.trigger == "maintainer"       # somebody's deletion is in the way of this version alone
    with store.write():
        finished = store.finish_run(run.id, state, version=version, report={**stages.report, "seconds": pace.seconds()})
        if again:
            store.request_training(run.trigger)
    return finished


def _own_sampler(policy: Policy, tokenizer: ChatTokenizer) -> Sampler:
    return PolicySampler(policy, tokenizer.eos_ids)

"""One learner run, from ratings to a published version: read `learn` aloud."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict

from data.adapters import AdapterRegistry
from data.records import BASE_VERSION, IMPORTED, BaseModel, Progress, RatedReply, Run
from data.sentences import reasoned, said, sentence
from data.store import Store
from data.tokenizer import ChatTokenizer
from learner.accounts import data_used, in_doubt, left_out_personal, note_of, receipt_rows, training_figures
from learner.anchor import choose_anchor, logprob_pass, reference_pass
from learner.asking_heads import keep_asking_heads
from learner.batches import Example, flattened, micro_batches, plan_steps
from learner.behavior import behavior_pass
from learner.config import LearnerConfig
from learner.errors import Diverged
from learner.gate import Gate
from learner.gate_statistical import verdict
from learner.judging import Judging, split_ratings
from learner.lessons import lessons_from
from learner.opinions import CORRECTED
from learner.pace import Pace
from learner.personal import without_personal_data
from learner.policy import Policy
from learner.reliability import rater_reliabilities
from learner.sampler import PolicySampler, Sampler
from learner.session import open_run
from learner.steps import count_steps, train_steps
from learner.team import ALONE, Team

REFINE_TOKENS = 150_000
"""A first guess at the refinement's token passes, for the time left."""
GATE_ANCHOR = 32
"""Replies on which the candidate's KL is taken."""
NOT_SAMPLED = (IMPORTED, CORRECTED)
"""Engines of replies that no version sampled: no anchor, as long as there are others."""


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
        make_sampler: who answers the gate's prompts; None: the learner's own policy.
    Returns: the ended run; its report is JSON-able.
    Raises: Busy: another learner is at work. ChatError: the run failed for a reason a person can act on. Either way
        the run row says so, and so it does for any other exception.
    """
    with open_run(store, registry, base.id, trigger, on_progress, should_stop) as (run, pace):
        learn(store, registry, base, config, run, pace, make_sampler)
    return store.run(run.id)


def learn(store: Store, registry: AdapterRegistry, base: BaseModel, config: LearnerConfig, run: Run, pace: Pace,
          make_sampler: Callable[[Policy, ChatTokenizer], Sampler] | None = None, team: Team | None = None) -> Run:
    """collect -> load -> anchor -> (refine, or where that is off or comes to nothing) train -> gate -> publish."""
    pace.stage("collect")
    tokenizer = ChatTokenizer(base.folder)
    lessons = lessons_from(store.rated_replies(base.id), tokenizer)
    replies, found = lessons.replies, lessons.rewards
    short = [example for example in lessons.examples if example.tokens <= config.max_reply_tokens]
    usable = without_personal_data(short, tokenizer)
    examples, held_out = split_ratings(usable, replies, config)
    report = {"base_model": base.id, "trigger": run.trigger, "published": False, "version": None,
              "data": {**data_used(replies, found, examples, held_out), "left_out_too_long": len(lessons.examples) - len(short),
                       **left_out_personal(short, usable)}, "ratings_used": 0}
    if not examples:
        if not replies and store.live_version(base.id) != BASE_VERSION:       # what it was trained on is gone, so it is made of nothing
            store.promote(BASE_VERSION, base.id, "every rating was taken back")
        why = (said("nothing_rated") if not lessons.examples else said("nothing_left", tokens=config.max_reply_tokens) if short
               else said("nothing_short_enough", tokens=config.max_reply_tokens))
        report["asking"] = keep_asking_heads(store, run, replies, found, examples, config.seed)
        return store.finish_run(run.id, "nothing_to_do", report={**report, **reasoned(why), "gate": None})

    pace.stage("load")
    policy = Policy(base, rank=config.lora_rank, seed=config.seed, team=team or ALONE)
    plan = plan_steps(examples, config.batch_size, config.max_batch_tokens)
    steps = count_steps(len(plan), config)
    refines = config.refine.enabled and len(examples) >= config.refine.min_replies

    pace.stage("anchor", steps=steps)
    anchored = _anchors(examples, replies, config.anchor_replies, config.seed) | _anchors(held_out, replies, round(config.anchor_replies * config.held_out_share), config.seed)
    judged = micro_batches(held_out, config.max_batch_tokens, config.batch_size)
    reference = reference_pass(policy, flattened(plan) + judged, anchored, pace.check)
    reliable = rater_reliabilities(replies, [*examples, *held_out], reference, tokenizer, config.seed)
    lessons = lessons.trusting({rater: one.trust for rater, one in reliable.items()})
    found = lessons.rewards
    report["asking"] = keep_asking_heads(store, run, replies, found, [*examples, *held_out], config.seed)
    sampler = (make_sampler or _own_sampler)(policy, tokenizer)
    judging = Judging(policy, sampler, tokenizer, reference, found, config, pace)
    examples, held_out = ([example for example in part if found[example.index].weight > 0] for part in (examples, held_out))   # the others: quarantine
    judge = judging.judge(examples, held_out)
    if judge.unable:                                         # set aside they would serve nothing, and a fifth is much
        examples, held_out = sorted([*examples, *held_out], key=lambda example: example.index), []
    report["data"] |= {**data_used(replies, found, examples, held_out), "raters_in_doubt": in_doubt(reliable)}
    report["ratings_used"] = sum(len(found[e.index].rating_ids) for e in examples)
    if not examples:
        return store.finish_run(run.id, "nothing_to_do", report={**report, **reasoned(said("nothing_trusted")), "gate": None})
    plan = plan_steps(examples, config.batch_size, config.max_batch_tokens)
    steps = count_steps(len(plan), config)
    tokens = sum(example.tokens for example in examples)
    train_tokens = 3 * tokens * steps // len(plan)
    pace.expect(refine=REFINE_TOKENS * refines, train=train_tokens * (not refines), gate=20_000, publish=tokens)
    behavior, behavior_report = behavior_pass(policy, registry, replies, examples, reference, config.max_batch_tokens, pace.check)
    learning = lessons.signals(examples, config)
    try:
        refinement = judging.refine(examples) if refines else None
        history = []
        if not (refinement and refinement.kept):
            pace.expect(train=train_tokens)
            pace.stage("train", steps=steps)
            history = train_steps(policy, plan, learning, reference, behavior, config, pace.step)
    except Diverged:
        why = reasoned(said("diverged", step=pace.steps_done(), rate=f"{config.learning_rate:g}"))
        return store.finish_run(run.id, "refused", report={**report, "behavior": behavior_report, **why,
                                                           "gate": {"passed": False, **why}, "seconds": pace.seconds()})

    pace.stage("gate", steps=steps, step=steps)
    pool = [example for example in examples if example.index in anchored]
    gate = Gate(policy, sampler, tokenizer, config.gate, reference,
                pool if len(pool) <= GATE_ANCHOR else random.Random(config.seed).sample(pool, GATE_ANCHOR),
                temperature=config.sampling.temperature, seed=config.seed, check=pace.check)
    checked = gate.decide()
    report |= {"behavior": behavior_report, "training": training_figures(history),
               "refinement": refinement and refinement.as_dict(), "gate": checked.as_dict(),
               **reasoned(checked.said), "config": asdict(config)}
    if not checked.passed:
        return store.finish_run(run.id, "refused", report={**report, "seconds": pace.seconds()})
    compared = judging.compare(judge, registry, store.live_version(base.id))
    report["comparison"] = compared.as_dict()
    report |= reasoned(verdict(checked, compared))
    if compared.decision == "refused":
        return store.finish_run(run.id, "refused", report={**report, "seconds": pace.seconds(), "gate": {
            **report["gate"], "passed": False, "reason": report["reason"], "said": report["said"]}})

    pace.stage("publish", steps=steps, step=steps)
    after, _ = logprob_pass(policy, flattened(plan), pace.check)
    if store.deleted_among([found[e.index].reply_id for e in examples]):
        return store.finish_run(run.id, "interrupted", report={**report, **reasoned(said("interrupted_by_deletion")), "seconds": pace.seconds()})
    receipts, of_corrections = receipt_rows(replies, found, examples, learning.advantages, reference.logprobs, after)
    note = note_of(report["data"], checked.scale)
    version = registry.publish(policy.save, base_model=base.id, run_id=run.id, parent=store.live_version(base.id), receipts=receipts,
                               of_corrections=of_corrections, note=sentence(note))
    report |= {"published": True, "note": version.note, "note_said": note, "version": version.number, "adapter_sha256": version.sha256, "kl": round(checked.tried[-1][1].kl, 5) if pool else None,
               "seconds": pace.seconds()}
    return store.finish_run(run.id, "published", version=version.number, report=report)


def _anchors(examples: Sequence[Example], replies: Sequence[RatedReply], limit: int, seed: int) -> frozenset[int]:
    sampled_by_base = [replies[e.index].reply.version == BASE_VERSION and replies[e.index].reply.engine not in NOT_SAMPLED for e in examples]
    return choose_anchor([example.index for example in examples], sampled_by_base, limit, seed)


def _own_sampler(policy: Policy, tokenizer: ChatTokenizer) -> Sampler:
    return PolicySampler(policy, tokenizer.eos_ids)

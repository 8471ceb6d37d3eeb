"""The stages of a run, in the order in which `learner.runs.run.learn` takes them; each hands on what the next ones need."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from data.adapters import AdapterRegistry
from data.base_models.tokenizer import ChatTokenizer
from data.errors import DeletedMeanwhile, EndedMeanwhile
from data.records import BASE_VERSION, IMPORTED, BaseModel, RatedReply, Run
from data.sentences import Said, reasoned, said, sentence
from data.store import Store
from data.store.versions import HOLDS_DELETED
from learner.config import LearnerConfig
from learner.errors import Diverged, Ended
from learner.feedback.lessons import Lessons, lessons_from
from learner.feedback.opinions import CORRECTED
from learner.feedback.personal import without_personal_data
from learner.gates.gate import Gate, GateReport
from learner.gates.statistical import verdict
from learner.model.batches import Example, plan_steps
from learner.model.lanes import alone
from learner.model.policy import Policy
from learner.model.sampler import Sampler
from learner.model.team import Team
from learner.reward.asking_heads import keep_asking_heads
from learner.reward.reliability import People, rater_reliabilities
from learner.runs.accounts import data_used, left_out_personal, note_of, rater_weights, receipt_rows, training_figures
from learner.runs.judging import Judge, Judging, split_ratings
from learner.runs.pace import Pace
from learner.training.anchor import Reference, choose_anchor, logprob_pass, reference_pass
from learner.training.behavior import behavior_pass, comparable
from learner.training.steps import count_steps, train_steps

REFINE_TOKENS = 150_000
"""A first guess at the refinement's token passes, for the time left."""
GATE_TOKENS = 60_000
"""The gate's."""
GATE_ANCHOR = 32
"""Replies on which the candidate's KL is taken."""
NOT_SAMPLED = (IMPORTED, CORRECTED)
"""Engines of replies that no version sampled: an anchor only where replies of the base model are few, as replies of later versions are."""


class Material(NamedTuple):
    """What a run learns from, and what it may be judged by; an example's index is its place among the lessons."""

    lessons: Lessons
    examples: list[Example]
    held_out: list[Example]


class Seen(NamedTuple):
    """The material with the base model's view of it, and who will compute."""

    material: Material
    """Raters in quarantine left out; a held-out part that can judge nothing is in training again."""
    anchored: frozenset[int]
    policy: Policy
    reference: Reference
    sampler: Sampler
    judging: Judging
    judge: Judge


@dataclass(frozen=True)
class Stages:
    """What every stage needs. Each writes into `report` what it found, JSON-able, and may raise Ended or Stopped."""

    store: Store
    registry: AdapterRegistry
    base: BaseModel
    config: LearnerConfig
    run: Run
    pace: Pace
    make_sampler: Callable[[Policy, ChatTokenizer], Sampler]
    team: Team
    report: dict = field(default_factory=dict)

    def collect(self, tokenizer: ChatTokenizer) -> Material:
        """Everything people said that still counts."""
        self.pace.stage("collect")
        lessons = lessons_from(self.store.rated_replies(self.base.id), tokenizer, self.config.refine.max_new_tokens)
        short = [example for example in lessons.examples if example.tokens <= self.config.max_reply_tokens]
        usable = without_personal_data(short, tokenizer)
        material = Material(lessons, *split_ratings(usable, lessons.replies, self.config))
        self.report.update(base_model=self.base.id, trigger=self.run.trigger, published=False, version=None, ratings_used=0, gate=None,
                           data={**_data_of(material), "left_out_too_long": len(lessons.examples) - len(short), **left_out_personal(short, usable)})
        if not material.examples:
            self._keep_asking_heads(material, People())
            raise self._nothing_to_do(said("nothing_rated") if not lessons.examples else said("nothing_left", tokens=self.config.max_reply_tokens) if short
                                      else said("nothing_short_enough", tokens=self.config.max_reply_tokens), made_of_nothing=not lessons.examples)
        return material

    def load(self) -> Policy:
        """The base model with an adapter that does nothing yet."""
        self.pace.stage("load")
        return Policy(self.base, rank=self.config.lora_rank, seed=self.config.seed, team=self.team)

    def look(self, material: Material, policy: Policy, tokenizer: ChatTokenizer) -> Seen:
        """One pass of the base model over all of it; then who is trusted, and whether there is a judge."""
        own, (lessons, examples, held_out) = self.config, material
        plan = plan_steps(examples, own.batch_size)
        self.pace.stage("anchor", steps=count_steps(len(plan), own))
        anchored = (self._anchors(lessons.replies, examples, own.anchor_replies)
                    | self._anchors(lessons.replies, held_out, round(own.anchor_replies * own.held_out_share)))
        visited = [batch for part in (examples, held_out) for batch in policy.micro_batches(part, own.max_batch_tokens)]
        reference = reference_pass(policy, visited, anchored, self.pace.check)
        people = alone(lambda: rater_reliabilities(lessons.replies, [*examples, *held_out], reference, tokenizer))
        lessons = lessons.trusting(people.trust)
        self._keep_asking_heads(material._replace(lessons=lessons), people)
        examples, held_out = ([example for example in part if lessons.rewards[example.index].weight > 0] for part in (examples, held_out))   # the others: quarantine
        sampler = self.make_sampler(policy, tokenizer)
        judging = Judging(policy, sampler, tokenizer, reference, lessons, people, own, self.pace)
        judge = judging.judge(examples, held_out)
        if judge.unable:                                     # set aside they would serve nothing, and a fifth is much
            examples, held_out = sorted([*examples, *held_out], key=lambda example: example.index), []
        material = Material(lessons, examples, held_out)
        self.report["data"].update(_data_of(material), rater_weights=rater_weights(people.raters))
        self.report["ratings_used"] = sum(len(lessons.rewards[example.index].rating_ids) for example in examples)
        if not examples:
            raise self._nothing_to_do(said("nothing_trusted"))
        return Seen(material, anchored, policy, reference, sampler, judging, judge)

    def fit(self, seen: Seen) -> Tensor:
        """Refine, or where that is off or comes to nothing train on the rated replies themselves; the candidate is in the policy.

        Returns: by example index (N,) each reply's advantage: above 0 it was made likelier, below less likely, at 0 it was left alone.
        """
        own, examples = self.config, seen.material.examples
        refines = own.refine.enabled and len(examples) >= own.refine.min_replies
        plan = plan_steps(examples, own.batch_size)
        steps, tokens = count_steps(len(plan), own), sum(example.tokens for example in examples)
        train_tokens = 3 * tokens * steps // len(plan)
        self.pace.expect(refine=REFINE_TOKENS * refines, train=train_tokens * (not refines), gate=GATE_TOKENS, publish=tokens)
        signals, refinement, history = seen.material.lessons.signals(examples, own), None, []
        if refines:
            try:
                refinement = seen.judging.refine(examples, signals.weights)
            except Diverged:                                 # of the base model's own: nothing of the candidate is in it
                raise self._unsampled() from None
        if not (refinement and refinement.kept) and not signals.advantages[[example.index for example in examples]].any():
            raise self._nothing_to_do(said("all_alike"))     # what Adam made of rounding errors would be a version
        try:
            if not (refinement and refinement.kept):
                behavior, self.report["behavior"] = self._behavior(seen, examples)
                self.pace.expect(train=train_tokens)
                self.pace.stage("train", steps=steps)
                history = train_steps(seen.policy, plan, signals, seen.reference, behavior, own, self.pace.step)
            else:
                _, self.report["behavior"] = self._behavior(seen, comparable(seen.material.lessons.replies, examples))
        except Diverged:
            raise self._refused(said("gate_refused", problem=said("diverged", step=self.pace.steps_done(), rate=f"{own.learning_rate:g}"))) from None
        self.report.update(training=training_figures(history), refinement=refinement and refinement.as_dict(), config=asdict(own))
        return signals.advantages if history else _left_alone_but(refinement.advantages, examples, len(signals.advantages))

    def _behavior(self, seen: Seen, examples: Sequence[Example]) -> tuple[dict[int, Tensor], dict]:
        return behavior_pass(seen.policy, self.registry, seen.material.lessons.replies, examples, seen.reference, self.config.max_batch_tokens, self.pace.check)

    def check(self, seen: Seen) -> GateReport:
        """Both gates: on language, and where ratings were set aside on whether it is better liked. The policy is at the strength that passed."""
        own, done = self.config, self.pace.steps_done()
        self.pace.stage("gate", steps=done, step=done)
        gate = Gate(seen.policy, seen.sampler.as_served(), seen.judging.tokenizer, own.gate, seen.reference, self._gate_anchors(seen),
                    temperature=own.sampling.temperature, seed=own.seed, check=self.pace.check)
        checked = gate.decide()
        self.report["gate"] = checked.as_dict()
        if not checked.passed:
            raise self._refused(checked.said)
        try:
            live = self.store.live_version(self.base.id)
            compared = seen.judging.compare(seen.judge, self.registry, BASE_VERSION if self.store.must_be_left(live) else live)
        except Diverged:
            raise self._unsampled() from None
        together = verdict(checked, compared)
        self.report.update(comparison=compared.as_dict(), **reasoned(together))
        if compared.decision == "refused":
            raise self._refused(together)
        return checked

    def publish(self, seen: Seen, advantages: Tensor, checked: GateReport) -> int:
        """Returns: the new version's number; it is live."""
        done, (lessons, examples, _) = self.pace.steps_done(), seen.material
        self.pace.stage("publish", steps=done, step=done)
        after, _ = logprob_pass(seen.policy, seen.policy.micro_batches(examples, self.config.max_batch_tokens), self.pace.check)
        receipts, of_corrections = receipt_rows(lessons.replies, lessons.rewards, examples, advantages, seen.reference.logprobs, after)
        note = note_of(self.report["data"], checked.scale)
        try:
            version = self.registry.publish(seen.policy.save, base_model=self.base.id, run_id=self.run.id, parent=self.store.live_version(self.base.id),
                                            receipts=receipts, of_corrections=of_corrections, note=sentence(note))
        except (DeletedMeanwhile, EndedMeanwhile) as error:
            raise Ended("interrupted", error.said) from error
        self.report.update(published=True, note=version.note, note_said=note, version=version.number, adapter_sha256=version.sha256,
                           kl=round(checked.tried[-1][1].kl, 5) if self._gate_anchors(seen) else None)
        return version.number

    def _gate_anchors(self, seen: Seen) -> list[Example]:
        """The replies on which the gate takes the candidate's KL."""
        pool = [example for example in seen.material.examples if example.index in seen.anchored]
        return pool if len(pool) <= GATE_ANCHOR else random.Random(self.config.seed).sample(pool, GATE_ANCHOR)

    def _leave_what_is_gone(self, made_of_nothing: bool = False) -> bool:
        """The base model goes live where the live version must be left, or is `made_of_nothing` that is left, and this run brings none without it. Returns: whether it did."""
        live = self.store.live_version(self.base.id)
        if live == BASE_VERSION or self.store.follows_a_learner(live) or not (made_of_nothing or self.store.must_be_left(live)):
            return False
        self.store.promote(BASE_VERSION, self.base.id, "nothing that it was trained on is left" if made_of_nothing else HOLDS_DELETED)
        return True

    def _nothing_to_do(self, why: Said, made_of_nothing: bool = False) -> Ended:
        return Ended("nothing_to_do", said("and_base_answers", why=why) if self._leave_what_is_gone(made_of_nothing) else why)

    def _refused(self, why: Said) -> Ended:
        if self._leave_what_is_gone():
            why = said("gate_refused_left", problem=why["problem"])
        self.report["gate"] = {**(self.report["gate"] or {}), "passed": False, **reasoned(why)}
        return Ended("refused", why)

    def _unsampled(self) -> Ended:
        return self._refused(said("gate_refused", problem=said("unsampled")))

    def _keep_asking_heads(self, material: Material, people: People) -> None:
        self.report["asking"] = keep_asking_heads(self.store, self.run, material.lessons.replies, material.lessons.rewards,
                                                  [*material.examples, *material.held_out], people, self.config.seed)

    def _anchors(self, replies: Sequence[RatedReply], examples: Sequence[Example], limit: int) -> frozenset[int]:
        sampled_by_base = [replies[e.index].reply.version == BASE_VERSION and replies[e.index].reply.engine not in NOT_SAMPLED for e in examples]
        return choose_anchor([example.index for example in examples], sampled_by_base, limit, self.config.seed)


def _left_alone_but(advantages: Tensor, examples: Sequence[Example], count: int) -> Tensor:
    """Args: advantages: (E,) of these examples. Returns: (count,) by example index, 0 of all others."""
    return torch.zeros(count).index_copy(0, torch.tensor([example.index for example in examples]), advantages.float())


def _data_of(material: Material) -> dict:
    return data_used(material.lessons.replies, material.lessons.rewards, material.examples, material.held_out)

"""What is learnt in the place of passes over the logged ratings: a first stretch (reach.py), or where it leads nowhere on-policy iterations (RLOO): sample, score, push, look.

For each prompt x_i the policy samples k fresh replies y_ij, the reward model of the ratings scores them, and

    R_ij = lower(q_ij)                                    mean - lambda std over the heads, after the rules of scoring.py
    A_ij = P(the ratings tell anything) (R_ij - mean of the prompt's other replies)      weighed so against the KL, not for Adam
    L    = -mean_ij A_ij log pi(y_ij) / L_max + beta KL(base || policy) at the fresh replies' own places

Fresh replies to learn from are drawn from the whole vocabulary: that is what log pi is of, and the chat's nucleus hides what
is rare, such as an early end, so that nothing can be learnt of it. Each reply is visited once, at most some dozens of steps after
it was sampled, and counts as the policy's own: no ratio is corrected for. Correcting it cost a pass, and its taper forgot disliked
replies within a few steps.
What the next iteration learns from also tells whether the last one helped: the step is kept in full, or in part where that was out of
bounds, or taken back, by what the ensemble's lower bound and the base model say of its replies. Within the bounds it is kept unless it
clearly pleases less: a taste that few replies meet is learnt in steps too small to be seen on some dozens of replies. A policy that grows
surer draws less from the tail, so how unlikely its replies have become is taken from where they were likeliest. In the end prompts
that were kept aside are answered as the chat draws, as they were by the base model: they tell, with what ordinary text costs the policy,
where it settles (settle.py).
After a step that was kept in full the next one is half as long again unless its gain was clear, after one that was kept in
part as much shorter, after one that was taken back half as long; the second one in a row ends it, and so does one for which too few
replies come to an end. AdamW's moments go on from one iteration to the next, also where it was taken back: begun anew, it makes a full
step of whatever a few replies say, which undid what the iterations before had learnt.
Sources: RLOO, arXiv:2402.14740; early stopping against over-optimisation, arXiv:2210.10760.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from data.records import Generated
from data.sentences import Said, reasoned, said
from data.tokenizer import ChatTokenizer
from learner.along import described, go_as_far, told_of
from learner.batches import Example, plan_steps
from learner.config import LearnerConfig
from learner.errors import Diverged
from learner.frozen_text import OrdinaryText, frozen_text
from learner.nonsense import Nonsense
from learner.personal import without_personal_data
from learner.policy import Policy
from learner.reach import NOWHERE, preferred, reach
from learner.refine_bounds import clearly_pleased, crossed
from learner.refine_rules import leave_one_out_advantages, next_pace, split_prompts, turn_of
from learner.reward_model import RewardModel
from learner.sampler import Sampler
from learner.scoring import Bounds, Scored, as_examples, score
from learner.settle import Way, settle
from learner.steps import Signals, StepFigures, train_steps

log = logging.getLogger("learner")

AS_IT_IS = 1.0
"""Temperature at which the base model is asked how likely replies to prompts kept aside are. At the chat's .8 rare tokens count for more: where short answers were 2% likelier
than its own at 1, they were 1% less likely at .8."""
ON_THE_WAY = 1.0
"""Standard errors by which an iteration may be beyond a bound: a tenth of 128 replies is told to 2.7 points, and a step that one reply too many took back was taken back for nothing; the
check in the end has no such room."""
IN_VAIN = 2
"""So many iterations taken back one after the other end it; one alone is within chance on some dozens of replies."""
AT_ITS_BOUND = ("fresh_truncated",)
"""What one step that is taken back is enough to end it for: replies only grow longer where that pleases, and a shorter step leads there too."""


@dataclass(frozen=True)
class Refinement:
    """What came of it."""

    kept: float
    """Iterations, a part of one as a fraction; 0: the weights are those of before."""
    said: Said
    figures: dict
    """JSON-able."""

    def as_dict(self) -> dict:
        return {"kept": self.kept, **reasoned(self.said), **self.figures}


@dataclass(frozen=True)
class Refiner:
    """What every iteration uses.

    Args:
        model, bounds: fitted on the ratings in training; what is nonsense is told by fresh ones of the base model.
        on_start: called before the first optimizer step of the first stretch or of an iteration with how many it has, and which part of the whole that is, of
            how many: the stretch, each iteration and the check in the end take about as long.
        check: called between passes. It, `on_start` and `on_step` may raise to stop.
    """

    policy: Policy
    sampler: Sampler
    tokenizer: ChatTokenizer
    model: RewardModel
    bounds: Bounds
    config: LearnerConfig
    max_new_tokens: int
    on_start: Callable[[int, tuple[float, int]], None]
    on_step: Callable[[StepFigures], None]
    check: Callable[[], None]

    def refine(self, rated: Sequence[Example], worth: Tensor) -> Refinement:
        """Refine the adapter in place, or leave it exactly as it was.

        Args: rated: the replies in training. worth: (N,) what the reward model thinks of each.
        Raises: Diverged: the base model's own replies cannot be sampled.
        """
        figures = {"reward_model": self.model.fit.as_dict()}
        if not self.model.fit.useful:
            return Refinement(0.0, said("not_refined_unpredictable"), figures)
        imitated = {rated[place].prompt_ids for place in preferred(worth)}
        train_prompts, check_prompts = split_prompts([example.prompt_ids for example in rated], imitated, self.config)
        if not check_prompts:
            return Refinement(0.0, said("not_refined_few"), figures)
        untouched = self.policy.weights()
        seeds = itertools.count(2)                                       # a second look at a like strength is to say something new
        asked = [prompt for prompt in check_prompts for _ in range(-(-self.config.refine.check_replies // len(check_prompts)))]
        text = OrdinaryText(self.policy, self.tokenizer, frozen_text())

        def answers(nonsense: Nonsense | None, seed: int) -> Scored:
            replies, text_nll = self._told_by(nonsense)._score(asked, self._sample(asked, seed), temperature=AS_IT_IS), text.nll(self.check)
            if not math.isfinite(text_nll):
                raise Diverged
            return replace(replies, text_nll=text_nll)

        @cache
        def base() -> Scored:
            with self.policy.reference():
                return answers(None, 1)

        def look() -> Scored:
            return answers(base().nonsense, next(seeds))

        reached = NOWHERE
        if self.config.refine.stretches and self.model.fit.likely:
            own_replies = base()
            try:
                reached = reach(self, rated, worth, own_replies, look)
            except Diverged:
                log.warning("The first stretch of the refinement is not gone.", exc_info=True)
        if reached.strength:
            problem = next((one["said"] for one in reached.told["tried"] if one["said"]), None)
            return Refinement(1.0, _said(1.0, problem), {**figures, "base": described(base()), "reached": reached.told, "iterations": [], "checked": []})
        self.policy.set_weights(untouched)
        kept, checked = 0.0, []
        ways, problem, iterations = self._iterate(train_prompts, earlier=int(bool(reached.told)))
        if ways:
            kept, checked = settle(self, base(), look, Way(0.0, untouched), ways)
            problem = next((one["said"] for one in checked if one["said"]), problem)
        if not kept:
            self.policy.set_weights(untouched)
        return Refinement(kept, _said(kept, problem), {
            **figures, "base": described(base()) if reached.told or checked else None, "reached": reached.told, "iterations": iterations, "checked": checked})

    def _iterate(self, prompts: Sequence[tuple[int, ...]], earlier: int) -> tuple[list[Way], Said | None, list[dict]]:
        """Args: earlier: parts of the whole's time that are over.

        Returns: weights worth a check, the most promising first; why there is nothing beyond them; and what happened.
        """
        own = self.config.refine
        count, held = own.iterations, own.kl_coefficient > 0
        with self.policy.reference():
            fresh = self._told_by(None)._fresh(prompts, 0, held=held)
        first, explorer = fresh.without_expected(), self._told_by(fresh.nonsense)
        likeliest, ways, problem, gone, pace, in_vain = first, [], None, 0.0, 1.0, 0
        moments: dict = {}
        told: list[dict] = []
        for number in range(count):
            start = self.policy.weights()
            told.append({"learning_rate": pace * own.learning_rate})
            try:
                if fresh is None:                                   # the last step was taken back, and its replies say nothing of where the policy is again
                    fresh = explorer._fresh(prompts, number, held=held)
                told[-1] |= {"fresh": described(fresh), **self._push(fresh, number, pace * own.learning_rate, moments, (number + earlier, count + earlier + 1))}
                if number + 1 == count:                             # there is nothing to learn from its replies any more: the check tells
                    return [Way(gone + 1, self.policy.weights()), *ways], None, told
                before, fresh = fresh.without_expected(), None
                strength, fresh, tried = go_as_far(
                    self.policy, start, self.policy.weights(), lambda: explorer._fresh(prompts, number + 1, held=held),
                    lambda after: crossed(before, after, first, likeliest, own.max_surprise_rise, self.bounds.knows_truncated, ON_THE_WAY))
            except Diverged:
                log.warning("Iteration %d of the refinement is taken back.", number + 1, exc_info=True)
                self.policy.set_weights(start)
                strength, fresh, tried = 0.0, None, [told_of(1.0, said("fresh_diverged"), None)]
            told[-1]["tried"], problem = tried, tried[0]["said"]
            gone, pace = gone + strength, next_pace(pace, strength, fresh is not None and clearly_pleased(before, fresh))
            if strength:
                ways, in_vain = [Way(gone, self.policy.weights())], 0
                likeliest = min(likeliest, fresh.without_expected(), key=Scored.surprise)
            else:
                in_vain += 1
            if in_vain == IN_VAIN or in_vain and problem["code"] in AT_ITS_BOUND:
                break
        return ways, problem, told

    def _told_by(self, nonsense: Nonsense | None) -> Refiner:
        """The same, that tells what is nonsense by these replies; None: by the next that it scores, of the base model."""
        return replace(self, bounds=replace(self.bounds, nonsense=nonsense))

    def _sample(self, prompts: Sequence[tuple[int, ...]], seed: int, *, freely: bool = False) -> list[Generated]:
        """Args: freely: from the whole vocabulary, not as the chat draws."""
        self.check()
        drawn = self.config.fresh(self.max_new_tokens, self.config.seed + seed)
        return self.sampler.sample(prompts, replace(drawn, top_p=1.0, top_k=0) if freely else drawn)

    def _score(self, prompts: Sequence[tuple[int, ...]], replies: Sequence[Generated], temperature: float, anchored: bool = False) -> Scored:
        """Args: temperature: of the log-probs."""
        examples = as_examples(prompts, replies, temperature)
        return score(self.policy, self.tokenizer, self.model, examples, self.bounds, penalty=self.config.refine.disagreement_penalty,
                     max_batch_tokens=self.config.max_batch_tokens, check=self.check, anchored=frozenset(range(len(examples)) if anchored else ()))

    def _fresh(self, prompts: Sequence[tuple[int, ...]], number: int, *, held: bool) -> Scored:
        """What iteration `number` learns from, by the policy as it is now. Args: held: whether the KL is to weigh something."""
        own = self.config.refine
        asked = [prompt for prompt in turn_of(prompts, number, own.prompts) for _ in range(own.samples)]
        return self._score(asked, self._sample(asked, 100 + number, freely=True), self.config.fresh(0, 0).temperature, anchored=held)

    def _push(self, fresh: Scored, number: int, learning_rate: float, moments: dict, part: tuple[float, int]) -> dict:
        """One pass of gradient over fresh replies. Returns: what came of it."""
        own = self.config.refine
        gains = (1 - self.model.fit.nothing) * leave_one_out_advantages(fresh.lower, own.samples)
        telling = [example for example, gain in zip(fresh.examples, gains, strict=True) if abs(gain) > own.least_gain * gains.std()]
        plan = plan_steps(without_personal_data(telling, self.tokenizer), self.config.batch_size)
        found = {"prompts": len(fresh.examples) // own.samples, "reward_spread": round(float(fresh.lower.std()), 4), "trained_on": len(telling), "steps": 0}
        if not plan:
            return found
        self.on_start(len(plan), part)
        one_pass = replace(self.config, learning_rate=learning_rate, kl_coefficient=own.kl_coefficient, epochs=1, min_steps=1,
                           seed=self.config.seed + 100 + number)
        history = train_steps(self.policy, plan, Signals(fresh.lower.float(), torch.ones(len(gains)), gains.float()), fresh.reference,
                              None, one_pass, self.on_step, moments)
        return found | {"steps": len(history), "kl": history[-1].kl}


def _said(kept: float, problem: Said | None) -> Said:
    if not kept:
        return said("refinement_undone", problem=problem or said("never_more_pleased"))
    return said("refined", n=kept, until=said("refined_until", problem=problem) if problem else "")

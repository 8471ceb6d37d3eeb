"""What is learnt in the place of passes over the logged ratings: as much of what a reward model of them prefers as fresh replies allow.

    sample      the base model answers prompts that are kept aside, as the chat draws, and is told by its replies
    reach       a small step towards the rated replies that the model prefers, so many times as replies to those prompts
                stay within the bounds (bounds.py): none harmed, none less likely, and clearly more pleasing (reach.py)

Where the ratings tell nothing, too few prompts were rated, or the step leads nowhere, the weights are those of before, and the rated
replies train as they were rated. On-policy iterations (RLOO, arXiv:2402.14740) in the stretch's place gained less in more time, after it
nothing, and where ratings tell little no more than the rated replies themselves (docs/experiments.md).
Source: early stopping against over-optimisation, arXiv:2210.10760.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from data.base_models.tokenizer import ChatTokenizer
from data.records import Generated
from data.sentences import Said, reasoned, said
from learner.config import LearnerConfig
from learner.errors import Diverged
from learner.model.batches import Example
from learner.model.policy import Policy
from learner.model.sampler import Sampler
from learner.refine.keep_aside import keep_aside
from learner.refine.looks import described
from learner.refine.reach import NOWHERE, imitated_gains, preferred, reach
from learner.reward.nonsense import Nonsense
from learner.reward.reward_model import RewardModel
from learner.reward.scoring import Bounds, Scored, as_examples, score
from learner.training.frozen_text import OrdinaryText, frozen_text
from learner.training.steps import StepFigures

log = logging.getLogger("learner")

AS_IT_IS = 1.0
"""Temperature at which the base model is asked how likely replies to prompts kept aside are. At the chat's .8 rare tokens count for more: where short answers were 2% likelier
than its own at 1, they were 1% less likely at .8."""


@dataclass(frozen=True)
class Refinement:
    """What came of it."""

    said: Said
    figures: dict
    """JSON-able."""
    advantages: Tensor | None = None
    """(N,) what each rated reply was imitated by, 0 where it was left alone; None where the weights are those of before."""

    @property
    def kept(self) -> bool:
        return self.advantages is not None

    def as_dict(self) -> dict:
        return {"kept": self.kept, **reasoned(self.said), **self.figures}


@dataclass(frozen=True)
class Refiner:
    """What a refinement uses.

    Args:
        model, bounds: fitted on the ratings in training; what is nonsense is told by fresh ones of the base model.
        on_start: called before the first optimizer step with how many there are, and the share of the whole that is over when they are.
        check: called between passes. It, `on_start` and `on_step` may raise to stop.
    """

    policy: Policy
    sampler: Sampler
    tokenizer: ChatTokenizer
    model: RewardModel
    bounds: Bounds
    config: LearnerConfig
    max_new_tokens: int
    on_start: Callable[[int, float], None]
    on_step: Callable[[StepFigures], None]
    check: Callable[[], None]

    def refine(self, rated: Sequence[Example], worth: Tensor, counts: Tensor) -> Refinement:
        """Refine the adapter in place, or leave it exactly as it was.

        Args: rated: the replies in training. worth: (N,) what the reward model thinks of each. counts: (N,) how much each may be imitated, 0..1.
        Raises: Diverged: the base model's own replies cannot be sampled.
        """
        figures = {"reward_model": self.model.fit.as_dict()}
        if not self.model.fit.share:
            return Refinement(said("not_refined_unpredictable"), figures)
        imitated = {rated[place].prompt_ids for place in preferred(worth)}
        aside = keep_aside([example.prompt_ids for example in rated], imitated, self.config)
        if not aside:
            return Refinement(said("not_refined_few"), figures)
        untouched = self.policy.weights()
        seeds = itertools.count(2)                                       # a second look at a like strength is to say something new
        asked = [prompt for prompt in aside for _ in range(-(-self.config.refine.check_replies // len(aside)))]
        text = OrdinaryText(self.policy, self.tokenizer, frozen_text())

        def answers(nonsense: Nonsense | None, seed: int) -> Scored:
            replies, text_nll = self._score(asked, self._sample(asked, seed), nonsense), text.nll(self.check)
            if not math.isfinite(text_nll):
                raise Diverged
            return replace(replies, text_nll=text_nll)

        with self.policy.reference():
            base = answers(None, 1)
        try:
            reached = reach(self, rated, worth, counts, base, lambda: answers(base.nonsense, next(seeds)), self.model.fit.share)
            problem = next((one["said"] for one in reached.told["tried"] if one["said"]), None)
        except Diverged:
            log.warning("The small step of the refinement cannot be made.", exc_info=True)
            reached, problem = NOWHERE, said("fresh_diverged")
        if not reached.strength:
            self.policy.set_weights(untouched)
        return Refinement(_said(reached.strength, problem, self.model.fit.share), {**figures, "base": described(base), "reached": reached.told},
                          imitated_gains(worth) if reached.strength else None)

    def _sample(self, prompts: Sequence[tuple[int, ...]], seed: int) -> list[Generated]:
        self.check()
        return self.sampler.sample(prompts, self.config.fresh(self.max_new_tokens, self.config.seed + seed))

    def _score(self, prompts: Sequence[tuple[int, ...]], replies: Sequence[Generated], nonsense: Nonsense | None) -> Scored:
        """Args: nonsense: by what it is told; None: by these replies, which are the base model's."""
        return score(self.policy, self.tokenizer, self.model, as_examples(prompts, replies, AS_IT_IS), replace(self.bounds, nonsense=nonsense),
                     penalty=self.config.refine.disagreement_penalty, max_batch_tokens=self.config.max_batch_tokens, check=self.check)


def _said(strength: float, problem: Said | None, share: float) -> Said:
    if not strength:
        return said("refinement_undone", problem=problem or said("never_more_pleased"))
    if share < 1:
        problem = said("told_by_few", share=share)
    return said("refined_by", strength=strength, until=said("refined_until", problem=problem) if problem else "")

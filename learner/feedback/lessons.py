"""What people said to what the policy trains on: replies and corrected texts, their rewards, and their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from data.base_models.tokenizer import ChatTokenizer
from data.importing import end_token
from data.records import BASE_VERSION, TASKS, RatedReply
from learner.config import LearnerConfig
from learner.feedback.opinions import CORRECTED
from learner.feedback.rewards import Reward, rewards
from learner.model.batches import Example
from learner.training.estimator import advantages
from learner.training.steps import Signals


@dataclass(frozen=True)
class Lessons:
    """N lessons; an example's index is its place in `replies` and `rewards`."""

    replies: tuple[RatedReply, ...]
    """What the model said, then what people wrote in its place."""
    rewards: tuple[Reward, ...]
    examples: tuple[Example, ...]
    """Of those that teach something: what was said of the others has no direction."""

    def signals(self, examples: Sequence[Example], config: LearnerConfig) -> Signals:
        """Tensors over all N; lessons that are not among `examples` have weight 0."""
        used = {example.index for example in examples}
        values = torch.tensor([reward.reward for reward in self.rewards])
        weights = torch.tensor([reward.weight if index in used else 0.0 for index, reward in enumerate(self.rewards)])
        weights = weights * len(used) / weights.sum()                        # mean 1 over the replies in training
        tasks = torch.tensor([TASKS.index(rated.reply.task) for rated in self.replies])
        return Signals(values, weights, advantages(values, weights, tasks, margin=config.baseline_margin))


    def trusting(self, trust: Mapping[str, float]) -> Lessons:
        """The same lessons with rewards that count each rater by `trust`."""
        return replace(self, rewards=tuple(rewards(self.replies, trust)))


def lessons_from(rated_replies: Sequence[RatedReply], tokenizer: ChatTokenizer, longest: int) -> Lessons:
    """Args: longest: tokens of a reply that the chat gives."""
    replies = (*rated_replies, *corrected_replies(rated_replies, tokenizer, longest))
    found = tuple(rewards(replies))
    return Lessons(replies, found, tuple(_example(index, rated) for index, rated in enumerate(replies) if found[index].weight > 0))


def corrected_replies(replies: Sequence[RatedReply], tokenizer: ChatTokenizer, longest: int) -> list[RatedReply]:
    """Every current correction as a reply to the same prompt: the text's tokens, then the one that ends a message.

    Nobody sampled it, so it is treated as an imported reply is: at temperature 1, its behaviour log-probs the base
    model's. It keeps the original's id, under which its receipt is told, and is tokenised here, once. Of a text that is longer than any
    reply of the chat its beginning teaches: all lessons are divided by the longest one's length (estimator.py), so it would weaken the others.
    """
    end = end_token(tokenizer) if any(rated.corrections for rated in replies) else ()
    return [RatedReply(replace(rated.reply, engine=CORRECTED, version=BASE_VERSION, text=written.text, behavior_logprobs=(),
                               completion_ids=(tuple(tokenizer.encode(written.text)) + end)[:longest], sampling=replace(rated.reply.sampling, temperature=1.0)),
                       (), rated.message, corrections=(written,))
            for rated in replies for written in rated.corrections]


def _example(index: int, rated: RatedReply) -> Example:
    reply = rated.reply
    return Example(index, reply.prompt_ids, reply.completion_ids, reply.sampling.temperature if reply.sampling.temperature > 0 else 1.0)

"""A reward model that the chat server can use: heads on features it computes itself, to ask for a comparison where they disagree.

The run's other reward models see the base model's hidden states, which a serving engine does not give. This one sees
`data/texts/reply_features.py` alone and is stored as numbers. It is made of every rating at hand, those held out for the judge too:
nothing is trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from data.records import RatedReply, Run
from data.store import Store
from data.texts.reply_features import FEATURES, reply_features
from learner.feedback.rewards import Reward
from learner.model.batches import Example
from learner.reward.reliability import People
from learner.reward.voices import fit_on_voices

MIN_REPLIES = 32
"""With fewer there is no telling whether they predict each other."""


def keep_asking_heads(store: Store, run: Run, replies: Sequence[RatedReply], found: Sequence[Reward], examples: Sequence[Example],
                      people: People, seed: int) -> dict:
    """Fit on the examples that a version sampled and somebody trusted rated, and store the heads, or that there are none worth asking.

    Args: people: who rated.
    Returns: for the report: `replies` it was made of and, where they are enough, the figures of `Fit`, with whether it is `useful`.
    """
    told = [example.index for example in examples if replies[example.index].reply.behavior_logprobs and found[example.index].weight > 0]
    figures, model = {"replies": len(told), "useful": False}, None
    if len(told) >= MIN_REPLIES:
        features = torch.tensor([reply_features(replies[index].reply) for index in told], dtype=torch.float64)
        fitted = fit_on_voices([found[index] for index in told], people, torch.zeros(len(told), 0), features,
                               [replies[index].reply.prompt_ids for index in told], seed, FEATURES)
        figures = {**fitted.fit.as_dict(), **figures, "useful": fitted.fit.predicts}
        model = fitted.as_dict() if fitted.fit.predicts else None
    store.add_asking_heads(run, figures, model, [replies[index].reply.id for index in told])
    return figures

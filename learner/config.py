"""How a run learns: every number in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from data.records import Sampling


@dataclass(frozen=True)
class GateLimits:
    """What a candidate must keep to (G0). Figures marked "above base" are compared with the base model's own."""

    max_kl: float = 0.5
    """Nats per token, KL(base || candidate) on replies of the base model."""
    max_text_rise: float = 0.05
    """How much less likely the frozen text may become, relative nats per token: what the model knew of language before. Rated replies cost it up to 1%, a stretch at most 4%."""
    max_surprise_rise: float = 0.12
    """How much less likely than its own replies, relative nats per token, the base model may find the candidate's. Nonsense that pleases shows here. Drawn from the whole vocabulary its own are
    so unlikely that a rise of 28% of replies as the chat draws them is 18% here, 14% is 8%."""
    max_repetition_rise: float = 0.2
    """Share of repeated 4-grams in a reply, above base."""
    max_empty_rise: float = 0.05
    """Share of empty replies, above base: three of 64 are still chance."""
    min_length_ratio: float = 0.15
    """Mean tokens per reply, against base."""
    prompts: int = 8
    """How many of the fixed prompts are answered."""
    samples: int = 8
    """Replies to each: by one alone the figure above differed from draw to draw by 13 points, by eight by some 4."""
    new_tokens: int = 64
    """Length of those answers at most."""
    scales: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    """The adapter is tried at these strengths; the first that passes is published."""


@dataclass(frozen=True)
class RefineConfig:
    """As far towards what a reward model of the ratings prefers as fresh replies allow. The ratings' own replies train where that comes to nothing."""

    enabled: bool = False
    """Whether a run refines at all."""
    min_replies: int = 32
    """With fewer rated replies there is no reward model."""
    looks: int = 4
    """At multiples of the small step that the rated replies teach, at most."""
    check_prompts: int = 96
    """Prompts of rated replies, of which none is imitated, that are answered anew at each look; at most half of all."""
    check_replies: int = 128
    """Replies to those in all, at least, as many to each, by the base model and by what is to be kept. How unlikely they are differs more from prompt to prompt than between replies
    to one: a rise of a tenth is told to 5.1 points by three to each of 24, to 4.2 by one to each of 70."""
    max_new_tokens: int = 320
    """A fresh reply ends here at the latest, and at the longest rated reply's length."""
    learning_rate: float = 7.5e-4
    """AdamW's, for the small step."""
    disagreement_penalty: float = 0.25
    """lambda: standard deviations over the reward model's heads that are taken off a reply's reward."""
    max_surprise_rise: float = 0.1
    """How much less likely than its own replies, relative nats per token, the base model may find those of the result."""


@dataclass(frozen=True)
class LearnerConfig:
    """One run's constants; `learner.__main__` fills them from the settings."""

    learning_rate: float = 5e-4
    """AdamW's, for the LoRA weights; decays linearly to a third over the run."""
    warmup_steps: int = 3
    """The learning rate climbs linearly over the first steps, while Adam's averages are still guesses."""
    epochs: int = 2
    """Passes over the rated replies."""
    min_steps: int = 16
    """With few ratings there are more passes, at most 8, until this many optimizer steps were made: people should see what they did."""
    batch_size: int = 8
    """Rated replies in one optimizer step."""
    max_batch_tokens: int = 2048
    """Tokens that go through the model at once, padded ones counted where it pads and those that prompts share once where it does not learn; bounds memory (about 1.5 MB a token for the default model), not the mathematics. On a GPU more, see memory.py."""
    max_reply_tokens: int = 2048
    """A rated reply whose prompt and completion are longer together is left out, and the report says how many were."""
    lora_rank: int = 8
    """Rank of the adapter's matrices."""
    baseline_margin: float = 0.15
    """delta: the baseline is this far below the mean reward."""
    kl_coefficient: float = 0.1
    """beta: how strongly the policy is held near the base model."""
    anchor_replies: int = 256
    """Replies of the base model on which the KL to it is taken, and of those set aside to judge `held_out_share` as many; bounds memory (2.3 kB a token for the default model) and time."""
    trust_region: float = 0.2
    """How far one token's probability may move from where the epoch found it before its gradient is switched off."""
    max_gradient_norm: float = 1.0
    """The gradient is scaled down to this norm when it is longer."""
    seed: int = 0
    """Of what is drawn and shuffled. Passes over the same ratings on one machine end in the same adapter; how far a refinement goes may differ a little, since engines sample on several threads."""
    sampling: Sampling = Sampling()
    """How the chat samples: replies that are judged are drawn alike. Rated replies keep the temperature they had."""
    held_out_share: float = 0.2
    """Share of the rated replies that are set aside to judge the candidate (G1); where they cannot, they train."""
    held_out_minimum: int = 128
    """With fewer rated replies all of them train, and G1 cannot be evaluated."""
    judge_prompts: int = 32
    """Held-out prompts that candidate and incumbent answer, at most."""
    judge_samples: int = 2
    """Replies of each to each of them."""
    refine: RefineConfig = field(default_factory=RefineConfig)
    gate: GateLimits = field(default_factory=GateLimits)

    def fresh(self, max_new_tokens: int, seed: int) -> Sampling:
        """The chat's sampling for fresh replies; at temperature 1 where the chat is greedy: there would be nothing to choose from."""
        return replace(self.sampling, temperature=self.sampling.temperature or 1.0, max_new_tokens=max_new_tokens, seed=seed)

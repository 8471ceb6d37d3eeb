"""How a run learns: every number in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class GateLimits:
    """What a candidate must keep to (G0). Figures marked "above base" are compared with the base model's own."""

    max_kl: float = 0.5
    """Nats per token, KL(base || candidate) on replies of the base model."""
    max_text_nll_rise: float = 0.3
    """Nats per token above base on the frozen text: what the model knew of language before."""
    max_surprise_rise: float = 1.0
    """Nats per token above base: how unlikely the base model finds the candidate's own replies. Nonsense that pleases shows here."""
    max_repetition_rise: float = 0.2
    """Share of repeated 4-grams in a reply, above base."""
    max_empty_rise: float = 0.13
    """Share of empty replies, above base: one of eight is still chance."""
    min_length_ratio: float = 0.15
    """Mean tokens per reply, against base."""
    prompts: int = 8
    """How many of the fixed prompts are answered."""
    new_tokens: int = 64
    """Length of those answers at most."""
    scales: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    """The adapter is tried at these strengths; the first that passes is published."""


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
    """Padded tokens that go through the model at once; bounds memory (about 1.5 MB a token for the default model), not the mathematics."""
    max_reply_tokens: int = 2048
    """A rated reply whose prompt and completion are longer together is left out, and the report says how many were."""
    lora_rank: int = 8
    """Rank of the adapter's matrices."""
    baseline_margin: float = 0.15
    """delta: the baseline is this far below the mean reward."""
    kl_coefficient: float = 0.1
    """beta: how strongly the policy is held near the base model."""
    anchor_replies: int = 256
    """Replies of the base model on which the KL to it is taken; bounds memory and time."""
    trust_region: float = 0.2
    """How far one token's probability may move from where the epoch found it before its gradient is switched off."""
    max_gradient_norm: float = 1.0
    """The gradient is scaled down to this norm when it is longer."""
    seed: int = 0
    """Same ratings, same seed, same machine: same adapter."""
    sampling_temperature: float = 0.8
    """For the gate's replies; rated replies keep the temperature they were sampled at."""
    gate: GateLimits = field(default_factory=GateLimits)

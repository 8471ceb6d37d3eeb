"""Random peft adapters on disk, large enough to change what a model says."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

from data.records import BaseModel


def load_policy(base: BaseModel):
    """The base model as a plain transformers model in single precision, unmarked as quantised; one's own copy."""
    return copy.deepcopy(_read(base))


@functools.lru_cache(maxsize=1)
def _read(base: BaseModel):
    """transformers takes half a minute of a core to read the real model's GGUF."""
    import torch
    from transformers import AutoModelForCausalLM

    if base.gguf is None:
        return AutoModelForCausalLM.from_pretrained(base.transformers, dtype=torch.float32).eval()
    model = AutoModelForCausalLM.from_pretrained(base.folder, gguf_file=base.gguf.name, dtype=torch.float32)
    del model.config.quantization_config
    model.hf_quantizer = None
    return model.eval()


def write_random_lora(base: BaseModel, folder: Path, *, seed: int = 0, spread: float = 0.05, **options) -> Path:
    """A LoRA of rank 8 on every linear layer, both matrices random, saved by peft itself."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options})
    policy = get_peft_model(load_policy(base), config)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=spread)
    policy.save_pretrained(folder)
    return folder


def forward_logprobs(model, prompt_ids, completion_ids) -> list[float]:
    """Nats of each completion token, full vocabulary, temperature 1: one plain forward pass."""
    import torch

    ids = torch.tensor([[*prompt_ids, *completion_ids]])
    with torch.no_grad():
        logprobs = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
    return [logprobs[len(prompt_ids) - 1 + at, token].item() for at, token in enumerate(completion_ids)]


def nats_apart(policy, prompts, results) -> tuple[float, float]:
    """Mean absolute difference, in nats a token, of the log-probs in `results` to those of the peft model `policy`, and to its base's."""
    apart, from_base = [], []
    for prompt, result in zip(prompts, results):
        learners = forward_logprobs(policy, prompt, result.completion_ids)
        with policy.disable_adapter():
            bases = forward_logprobs(policy, prompt, result.completion_ids)
        apart += [abs(served - learner) for served, learner in zip(result.logprobs, learners)]
        from_base += [abs(served - base) for served, base in zip(result.logprobs, bases)]
    return sum(apart) / len(apart), sum(from_base) / len(from_base)

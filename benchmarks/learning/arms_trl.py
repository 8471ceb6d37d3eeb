"""TRL as a peer: KTO on the ratings, RLOO on a reward model. Same base weights, same LoRA shape, same token ids as ours.

Traps that would rig the comparison: its default learning rate (1e-6) is far too low for LoRA, so it is swept like all
others; given an existing PeftModel its trainers take the current adapter as the reference, so it gets the plain model and
a `peft_config`; gradient checkpointing, on by default, is a third slower here and saves memory nobody lacks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence

import torch
from peft import LoraConfig
from transformers import AutoTokenizer

from benchmarks.learning.prompts import split_prompts
from benchmarks.learning.task import Rated, Task, Trained
from data.records import BaseModel
from learner.model.policy import LINEARS, Policy

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

EPOCHS = 2
BATCH_SIZE = 8
LORA_RANK = 8
RLOO_PROMPTS = 48
RLOO_SAMPLES = 4
"""On-policy replies per prompt; 48 x 4 is what our own refinement was designed around."""


def plain_model(base: BaseModel) -> torch.nn.Module:
    """The base model without an adapter, weights in the type the learner computes in."""
    return Policy(base).model.unload()


def kto_trainer(base: BaseModel, rated: Sequence[Rated], rate: float, seed: int, folder: str, *, epochs: int = EPOCHS, batch_size: int = BATCH_SIZE):
    """A `KTOTrainer` over exactly the token ids that were sampled. Ties (three stars) are left out: KTO has no label for them."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    class KtoOnIds(KTOTrainer):
        """TRL tokenises text; these replies are token ids already, and some were cut, which its template would close."""

        def _prepare_dataset(self, dataset, *_):
            return dataset

    told = [one for one in rated if one.signal != 0]
    batches = [told[start:start + batch_size] for start in range(0, len(told), batch_size)]
    mismatched = [list(batch[place - 1].sampled.completion_ids) for batch in batches for place in range(len(batch))]   # TRL's own pairing
    liked = sum(one.signal > 0 for one in told)
    disliked = len(told) - liked
    dataset = Dataset.from_dict({
        "prompt_ids": [list(one.sampled.prompt_ids) for one in told], "completion_ids": [list(one.sampled.completion_ids) for one in told],
        "KL_completion_ids": mismatched, "label": [one.signal > 0 for one in told]})
    arguments = KTOConfig(
        output_dir=folder, learning_rate=rate, num_train_epochs=epochs, per_device_train_batch_size=batch_size,
        beta=0.1, desirable_weight=max(1.0, disliked / max(1, liked)), undesirable_weight=max(1.0, liked / max(1, disliked)),
        seed=seed, **_common())
    return KtoOnIds(model=plain_model(base), args=arguments, train_dataset=dataset, processing_class=_tokenizer(base), peft_config=_lora())


def kto(task: Task) -> Trained:
    """Both classes weigh the same in all, as TRL advises (Ethayarajh et al., arXiv:2402.01306)."""
    trainer = kto_trainer(task.base, task.rated, task.rate, task.seed, str(task.folder / "trl"))
    trainer.train()
    tokens = sum(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in trainer.train_dataset)
    return _saved(trainer, task, EPOCHS * tokens)


def rloo(task: Task, reward: Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], list[float]]) -> Trained:
    """TRL's RLOO from base: fresh replies scored by `reward(prompt ids, completion ids)`, the reward model ours uses."""
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    tokenizer = _tokenizer(task.base)
    prompts = list(dict.fromkeys(one.sampled.prompt for one in task.rated))
    prompts = (prompts + [prompt.text for prompt in split_prompts("train") if prompt.text not in prompts])[:RLOO_PROMPTS]
    seen = [0]

    def scored(prompts, completions, completion_ids, **_) -> list[float]:
        rendered = [tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"] for prompt in prompts]
        seen[0] += sum(map(len, rendered)) + sum(map(len, completion_ids))
        return reward(rendered, completion_ids)

    arguments = RLOOConfig(
        output_dir=str(task.folder / "trl"), learning_rate=task.rate, num_train_epochs=1, per_device_train_batch_size=4 * RLOO_SAMPLES,
        num_generations=RLOO_SAMPLES, max_completion_length=task.sampling.max_new_tokens, temperature=task.sampling.temperature,
        beta=0.05, seed=task.seed, disable_dropout=True, **_common())
    trainer = RLOOTrainer(model=plain_model(task.base), reward_funcs=scored, args=arguments, processing_class=tokenizer, peft_config=_lora(),
                          train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": prompt}] for prompt in prompts]}))
    trainer.train()
    return _saved(trainer, task, seen[0])


def _common() -> dict:
    return dict(save_strategy="no", report_to=[], logging_steps=1, gradient_checkpointing=False, disable_tqdm=True,
                lr_scheduler_type="linear", use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=torch.cuda.is_available())


def _lora() -> LoraConfig:
    return LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules=list(LINEARS))


def _tokenizer(base: BaseModel):
    tokenizer = AutoTokenizer.from_pretrained(str(base.folder))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def _saved(trainer, task: Task, tokens: int) -> Trained:
    adapter = task.folder / "adapter"
    trainer.model.save_pretrained(str(adapter), save_embedding_layers=False)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = task.base.id             # ours says which base an adapter belongs to; peft says where it lay
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    curve = [{key: round(row[key], 4) for key in ("loss", "reward", "kl", "rewards/chosen", "rewards/rejected") if key in row}
             for row in trainer.state.log_history if "loss" in row]
    return Trained(adapter, tokens, {"curve": curve})

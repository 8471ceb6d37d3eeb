"""What a GGUF file says about itself, and the tokenizer it carries, without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from data.errors import ModelUnavailable

END_OF_GENERATION = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>", "</s>")
"""Control tokens that end a turn whatever the metadata says; llama.cpp goes by the same names."""

CONTROL = 3
"""Token type of control tokens in `tokenizer.ggml.token_type`."""


@dataclass(frozen=True)
class GgufDescription:
    """The few facts of a GGUF file that we keep beside it."""

    architecture: str
    context_length: int
    name: str
    """What the file calls its model (`general.name`); empty when it does not say."""


def unpack_tokenizer(gguf: Path, folder: Path) -> GgufDescription:
    """Write tokenizer.json and tokenizer_config.json into `folder` from the metadata of `gguf`.

    Raises: ModelUnavailable: not a GGUF file, cut short, or of a kind whose tokenizer we cannot rebuild exactly.
    """
    metadata = {key: field.contents() for key, field in open_gguf(gguf).fields.items()}
    try:
        architecture = metadata["general.architecture"]
        description = GgufDescription(architecture, int(metadata[f"{architecture}.context_length"]), str(metadata.get("general.name", "")))
        tokens, template = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.chat_template"]
    except KeyError as absent:
        raise ModelUnavailable(
            f"{gguf.name} has no {absent.args[0]} in its metadata, so nobody can chat with it. "
            "Choose the instruct or chat variant of the model."
        ) from None
    tokenizer = _build_tokenizer(gguf, metadata)
    tokenizer.save(str(folder / "tokenizer.json"))

    def token(key: str) -> str | None:
        number = metadata.get(f"tokenizer.ggml.{key}_token_id")
        return None if number is None else tokens[number]

    types = metadata.get("tokenizer.ggml.token_type", [])
    stops = {number for number, (text, kind) in enumerate(zip(tokens, types)) if kind == CONTROL and text in END_OF_GENERATION}
    stops |= {metadata[key] for key in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id") if key in metadata}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": description.context_length,
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "pad_token": token("padding"),
        "chat_template": template,
        "eos_token_ids": sorted(int(number) for number in stops),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
    return description


def open_gguf(gguf: Path):
    """The file as a `gguf.GGUFReader`, tensors unread.

    Raises: ModelUnavailable: missing, not a GGUF file, or cut short.
    """
    import numpy as np
    from gguf import GGUFReader

    class Reader(GGUFReader):
        """A vocabulary is some 150,000 small slices; on a plain array each costs a third of one on a memmap."""

        def _get(self, *arguments, **options):
            if isinstance(self.data, np.memmap):
                self.data = self.data.view(np.ndarray)
            return super()._get(*arguments, **options)

    try:
        return Reader(gguf)
    except (OSError, ValueError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ModelUnavailable(
            f"{gguf} cannot be read as a GGUF file ({error}). It is missing, damaged or cut short: start again to fetch it anew."
        ) from error


def _build_tokenizer(gguf: Path, metadata: dict):
    """transformers' own conversion, and on top of it the splits of digits that it lacks."""
    from tokenizers import Regex, normalizers, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import (
        GGUF_PRE_TOKENIZER_SPLITS,
        GGUF_TOKENIZER_MAPPING,
        convert_gguf_tokenizer,
    )

    keys = GGUF_TOKENIZER_MAPPING["tokenizer"]
    described = {name: metadata[f"tokenizer.{key}"] for key, name in keys.items() if f"tokenizer.{key}" in metadata}
    split = described.get("pre_tokenizer_type", "gpt-2")
    # SmolLM and StarCoder vocabularies were learned with every digit alone, then GPT-2's split.
    single_digits = split in ("smollm", "starcoder", "refact", "command-r")
    if described.get("tokenizer_type") == "gpt2" and not (
        single_digits or split == "gpt-2" or split in GGUF_PRE_TOKENIZER_SPLITS
    ):
        raise ModelUnavailable(
            f"{gguf.name} splits text the way {split!r} does, which we cannot rebuild exactly. "
            "Use the transformers form of this model (a folder, or hf:org/name)."
        )
    try:
        tokenizer, _ = convert_gguf_tokenizer(metadata["general.architecture"], described)
    except (ValueError, KeyError) as error:
        raise ModelUnavailable(
            f"{gguf.name} has a tokenizer that cannot be rebuilt ({error}). Use the transformers form of this model."
        ) from error
    if single_digits:
        digit = pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digit, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if split == "qwen2":
        tokenizer.normalizer = normalizers.NFC()  # Qwen's own tokenizer.json normalises; a GGUF does not say so
    return tokenizer

"""A tiny random llama as a GGUF file: real format, real tokenizer, milliseconds to run."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from tokenizers import pre_tokenizers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("Ġ t", "h e", "Ġ a", "i n", "Ġt he", "o u", "l l", "e r", "s e", "Ġ w", "Ġa n", "Ġan d")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    architecture: str = "llama",
    layers: int = 2,
    hidden: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    feed_forward: int = 128,
    context_length: int = 1024,
    scale: float = 0.3,
    endless: bool = False,
) -> Path:
    """Write a random model of `architecture` (llama, qwen2, qwen3) to `path`.

    Args:
        seed: the same seed gives the same bytes.
        scale: spread of the weights; large enough that the next token is neither certain nor uniform.
        endless: end-of-text is never among the 50 likeliest tokens, so a reply goes on until its limit.
    """
    random = np.random.default_rng(seed)
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL))
    head = 128 if architecture == "qwen3" else hidden // heads  # transformers takes no other from a qwen3 GGUF

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    writer.add_context_length(context_length)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)

    def matrix(name: str, rows: int, columns: int, spread: float) -> None:
        writer.add_tensor(f"{name}.weight", (random.standard_normal((rows, columns)) * spread).astype(np.float16))

    def norm(name: str, size: int = hidden) -> None:
        writer.add_tensor(f"{name}.weight", (1 + 0.1 * random.standard_normal(size)).astype(np.float32))

    embedding = random.standard_normal((len(tokens), hidden)) * scale
    if endless:
        embedding[: len(SPECIAL)] = 0      # tied to the output: their logits are 0, the middle of all the others
    writer.add_tensor("token_embd.weight", embedding.astype(np.float16))
    for block in range(layers):
        for name, rows, columns in (
            ("attn_q", head * heads, hidden),
            ("attn_k", head * kv_heads, hidden),
            ("attn_v", head * kv_heads, hidden),
            ("attn_output", hidden, head * heads),
            ("ffn_gate", feed_forward, hidden),
            ("ffn_up", feed_forward, hidden),
            ("ffn_down", hidden, feed_forward),
        ):
            matrix(f"blk.{block}.{name}", rows, columns, scale)
            if architecture == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
                writer.add_tensor(f"blk.{block}.{name}.bias", (random.standard_normal(rows) * scale).astype(np.float32))
        norm(f"blk.{block}.attn_norm")
        norm(f"blk.{block}.ffn_norm")
        if architecture == "qwen3":
            norm(f"blk.{block}.attn_q_norm", head)
            norm(f"blk.{block}.attn_k_norm", head)
    norm("output_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

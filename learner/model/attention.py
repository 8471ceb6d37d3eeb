"""Attention whose kind is decided by how much there is to compute at once, so that threads with batches of different widths share one model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

from learner.model.rows import Span

BY_WIDTH = "by_width"
"""Its name among the kinds of attention that transformers knows."""
NARROW = 512
"""Up to this width, squared, whole T x S matrices are fastest in bf16 on a CPU; beyond it they would not fit in memory."""
UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some architectures add, and ours does not do."""


class _Attention(torch.autograd.Function):
    """softmax(scale q k^T + mask) v. Query heads that share a key head read it without a copy, and one matrix of T x S is kept for the way back.

    Shapes: query (B, G K, T, D); key, value (B, K, S, D); mask (T, S), to add, the same for all. Returns: (B, T, G K, D).
    """

    @staticmethod
    def forward(ctx, query, key, value, mask, scale):
        size, heads, length, width = query.shape
        q, k, v = (states.reshape(size * key.shape[1], -1, width) for states in (query, key, value))
        p = torch.baddbmm(mask.repeat(q.shape[1] // length, 1)[None], q, k.transpose(1, 2), alpha=scale).softmax(-1)
        ctx.save_for_backward(q, k, v, p)
        ctx.query, ctx.key, ctx.scale = query.shape, key.shape, scale
        return torch.bmm(p, v).view(size, heads, length, width).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx, gradient):
        q, k, v, p = ctx.saved_tensors
        gradient = gradient.transpose(1, 2).reshape(q.shape)
        z = torch.ops.aten._softmax_backward_data(gradient.bmm(v.transpose(1, 2)), p, -1, p.dtype)
        return (z.bmm(k).mul_(ctx.scale).view(ctx.query), z.transpose(1, 2).bmm(q).mul_(ctx.scale).view(ctx.key),
                p.transpose(1, 2).bmm(gradient).view(ctx.key), None, None)


def _by_width(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, dropout: float = 0.0, scaling: float | None = None,
              spans: Sequence[Span] | None = None, **options) -> tuple[Tensor, Tensor | None]:
    """Ours where rows share a mask, the architecture's own eager attention, or the fused kind. `query` is (B, heads, T, head size).

    Args: spans: of the one row there is; each sees what it continues, and itself.
    """
    if spans and len(spans) > 1:
        apart = []
        for span in spans:
            (start, end), earlier = span.own, span.earlier
            k, v = (_seen(states, span) for states in (key, value))
            mask = attention_mask[..., earlier:earlier + end - start, :earlier + end - start]
            apart.append(_by_width(module, query[:, :, start:end], k, v, mask, dropout, scaling, **options)[0])
        return torch.cat(apart, dim=1), None
    narrow = query.shape[2] * key.shape[2] <= NARROW ** 2
    shared = attention_mask.shape[:2] == (1, 1) and key.shape == value.shape
    if narrow and shared and scaling and not dropout and all(options.get(name) is None for name in UNKNOWN):
        return _Attention.apply(query, key, value, attention_mask[0, 0], scaling), None
    kind = sys.modules[type(module).__module__].eager_attention_forward if narrow else sdpa_attention_forward
    return kind(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options)


def _seen(states: Tensor, span: Span) -> Tensor:
    """(B, K, S, D): keys or values of what a span sees."""
    parts = [states[:, :, start:end] for start, end in (*span.before, span.own)]
    return torch.cat(parts, dim=2) if span.before else parts[0]


def _mask(batch_size: int, *rest, attention_mask: Tensor | None = None, **options) -> Tensor:
    """Numbers to add, which all kinds take: (B, 1, T, T), or one for all rows where none of them is padded on the left."""
    return eager_mask(batch_size if attention_mask is not None else 1, *rest, attention_mask=attention_mask, **options)


AttentionInterface.register(BY_WIDTH, _by_width)
AttentionMaskInterface.register(BY_WIDTH, _mask)

"""Attention whose kind each batch's own width decides, so that threads with batches of different widths share one model."""

from __future__ import annotations

import sys

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

BY_WIDTH = "by_width"
"""Its name among the kinds of attention that transformers knows."""
EAGER_TOKENS = 512
"""Up to this width eager attention is fastest in bf16 on a CPU; beyond it its T x T matrices would not fit in memory."""


def _by_width(module: nn.Module, query: Tensor, *rest, **options) -> tuple[Tensor, Tensor | None]:
    """The architecture's own eager attention, or the fused kind. `query` is (B, heads, T, head size)."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    return (eager if query.shape[2] <= EAGER_TOKENS else sdpa_attention_forward)(module, query, *rest, **options)


AttentionInterface.register(BY_WIDTH, _by_width)
AttentionMaskInterface.register(BY_WIDTH, eager_mask)           # numbers to add: both kinds take them

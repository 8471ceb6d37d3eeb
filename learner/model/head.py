"""Output head for completion rows only: log-probs and KL to the base model without a vocabulary-wide graph.

A vocabulary of 49,152 in fp32 is 196 kB a token. The head is frozen, so all that its backward pass needs is one
gradient row of the hidden size per token, and that row is known in the forward pass already (the fused
linear-cross-entropy idea of Liger-Kernel, arXiv:2410.10989). The vocabulary goes by in tiles that stay in a core's cache,
with a running softmax as in FlashAttention (arXiv:2205.14135); nothing as wide as the vocabulary is kept.

Logits are linear in the hidden row, so the exact KL over the full vocabulary needs of the base model's distribution q no more than
what it expects of the head's rows, E = sum_v q_v weight_v, and its negative entropy. Both are taken once, and the base model's logits never again:

    kl = sum_v q_v log q_v - E . hidden / temperature + log sum_v exp z_v

With logits in bf16 one token's kl is some .03 nats off, either way and also below 0; the mean over a step's tokens is what is used.
"""

from __future__ import annotations

import torch
from torch import Tensor

TILE, GPU_TILE = 2**19, 2**25
"""Numbers of a tile, rows x tokens of the vocabulary: 2 MB of fp32. Chunks of 128 rows with the whole vocabulary waited for memory:
log-probs, KL and gradient of 500 rows in two threads took 1.5 times as long. A GPU, where starting an operation is what costs, gets fewer and larger ones."""
MIN_WIDTH = 256
"""Tokens of a tile at least, however many rows there are."""


def completion_scores(hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor,
                      expected: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Log-prob of each target and, given what the base model expects, KL(base || policy) over the full vocabulary.

        z = hidden @ weight.T / temperature
        logprob = z[target] - log sum_v exp z_v               d logprob / d hidden = (weight[target] - p @ weight) / temperature
        kl = sum_v q_v (log q_v - log p_v)                    d kl / d hidden      = (p @ weight - q @ weight) / temperature

    Args:
        hidden: (N, H) last hidden states after the final norm, one row per sampled token; may carry gradient.
        weight: (V, H) output embedding, frozen.
        targets: (N,) sampled token ids.
        temperatures: (N,) > 0.
        expected: (N, H + 1) what `expectations` gave of the base model's hidden states of the same rows, or None for no KL.
    Returns: logprobs (N,) in nats and kl (N,) in nats or None, both fp32.
    """
    logprobs, kl = _CompletionScores.apply(hidden, weight, targets, temperatures, expected)
    return logprobs, (kl if expected is not None else None)


def expectations(hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    """Of a model that another one is held near: logprobs (N,), and (N, H + 1) fp32, `q @ weight` and then `sum_v q_v log q_v`. Without gradient."""
    scale = temperatures[:, None]
    chosen, base = _sweep(hidden, weight, targets, scale, with_rows=True)
    rows = base.mean_rows()
    negative_entropy = (rows * hidden).sum(dim=1, keepdim=True) / scale - base.normaliser()[:, None]
    return chosen - base.normaliser(), torch.cat((rows, negative_entropy), dim=1)


class _CompletionScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, temperatures, expected):
        scale = temperatures[:, None]
        chosen, policy = _sweep(hidden, weight, targets, scale, with_rows=hidden.requires_grad)
        kl = torch.zeros_like(chosen)
        if expected is not None:
            kl = expected[:, -1] - (expected[:, :-1] * hidden).sum(dim=1) / temperatures + policy.normaliser()
        rows = []
        if hidden.requires_grad:
            mean = policy.mean_rows()
            rows.append(((weight[targets].float() - mean) / scale).to(hidden.dtype))
            if expected is not None:
                rows.append(((mean - expected[:, :-1]) / scale).to(hidden.dtype))
        ctx.save_for_backward(*rows)
        return chosen - policy.normaliser(), kl

    @staticmethod
    def backward(ctx, logprobs_gradient, kl_gradient):
        logprob_rows, *kl_rows = ctx.saved_tensors
        gradient = logprob_rows.float() * logprobs_gradient[:, None]
        for rows in kl_rows:
            gradient = gradient + rows.float() * kl_gradient[:, None]
        return gradient.to(logprob_rows.dtype), None, None, None, None


def _sweep(hidden: Tensor, weight: Tensor, targets: Tensor, scale: Tensor, *, with_rows: bool) -> tuple[Tensor, _Softmax]:
    """Once through the vocabulary: (N,) the targets' logits, and the softmax."""
    found, chosen = _Softmax(hidden, weight, scale, with_rows), torch.zeros_like(scale[:, 0])
    width = max(MIN_WIDTH, (TILE if hidden.device.type == "cpu" else GPU_TILE) // max(1, len(hidden)))
    for start in range(0, len(weight), width):
        tile = weight[start:start + width]
        z = found.logits(tile)
        place = targets - start
        here = (place >= 0) & (place < len(tile))
        chosen = torch.where(here, z.gather(1, place.clamp(0, len(tile) - 1)[:, None])[:, 0], chosen)
        found.take(z, tile)
    return chosen, found


class _Softmax:
    """softmax(hidden @ weight.T / scale), tile by tile: sums of exp(z - the largest z so far)."""

    def __init__(self, hidden: Tensor, weight: Tensor, scale: Tensor, with_rows: bool) -> None:
        self._hidden, self._scale = hidden, scale
        self._most = torch.full_like(scale, -torch.inf)
        self._total = torch.zeros_like(scale)
        self._rows = torch.zeros(len(hidden), weight.shape[1], dtype=torch.float32, device=hidden.device) if with_rows else None

    def logits(self, tile: Tensor) -> Tensor:
        return (self._hidden @ tile.T).float().div_(self._scale)

    def take(self, z: Tensor, tile: Tensor) -> None:
        """Count a tile's logits in; `z` becomes exp(z - most)."""
        most = torch.maximum(self._most, z.amax(dim=1, keepdim=True))
        shrink, self._most = (self._most - most).exp_(), most
        z.sub_(most).exp_()
        self._total = self._total * shrink + z.sum(dim=1, keepdim=True)
        if self._rows is not None:
            self._rows.mul_(shrink).add_(z.to(tile.dtype) @ tile)

    def normaliser(self) -> Tensor:
        """(N,): log sum exp z."""
        return (self._most + self._total.log())[:, 0]

    def mean_rows(self) -> Tensor:
        """(N, H) fp32: probabilities @ weight."""
        return self._rows / self._total

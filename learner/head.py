"""Output head for completion rows only: log-probs and KL to the base model without a vocabulary-wide graph.

A vocabulary of 49,152 in fp32 is 196 kB a token. The head is frozen, so all that its backward pass needs is one
gradient row of the hidden size per token, and that row is known in the forward pass already (the fused
linear-cross-entropy idea of Liger-Kernel, arXiv:2410.10989). The vocabulary goes by in tiles that stay in a core's cache,
with a running softmax as in FlashAttention (arXiv:2205.14135); nothing as wide as the vocabulary is kept.
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
                      reference: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Log-prob of each target and, given the base model's hidden rows, KL(base || policy) over the full vocabulary.

        z = hidden @ weight.T / temperature
        logprob = z[target] - log sum_v exp z_v               d logprob / d hidden = (weight[target] - p @ weight) / temperature
        kl = sum_v q_v (log q_v - log p_v)                    d kl / d hidden      = (p @ weight - q @ weight) / temperature

    Args:
        hidden: (N, H) last hidden states after the final norm, one row per sampled token; may carry gradient.
        weight: (V, H) output embedding, frozen.
        targets: (N,) sampled token ids.
        temperatures: (N,) > 0.
        reference: (N, H) the base model's hidden states of the same rows, or None for no KL.
    Returns: logprobs (N,) in nats and kl (N,) in nats or None, both fp32.
    """
    logprobs, kl = _CompletionScores.apply(hidden, weight, targets, temperatures, reference)
    return logprobs, (kl if reference is not None else None)


class _CompletionScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, temperatures, reference):
        wants_gradient = hidden.requires_grad
        scale = temperatures[:, None]
        policy = _Softmax(hidden, weight, scale, wants_gradient)
        base = _Softmax(reference, weight, scale, wants_gradient) if reference is not None else None
        chosen, crossed = torch.zeros_like(temperatures), torch.zeros_like(scale)
        width = max(MIN_WIDTH, (TILE if hidden.device.type == "cpu" else GPU_TILE) // max(1, len(hidden)))
        for start in range(0, len(weight), width):
            tile = weight[start:start + width]
            z = policy.logits(tile)
            place = targets - start
            here = (place >= 0) & (place < len(tile))
            chosen = torch.where(here, z.gather(1, place.clamp(0, len(tile) - 1)[:, None])[:, 0], chosen)
            if base is not None:
                base_z = base.logits(tile)
                apart = base_z - z
                shrink = base.take(base_z, tile)
                crossed = crossed * shrink + apart.mul_(base_z).sum(dim=1, keepdim=True)     # `take` made base_z exp(base_z - most)
            policy.take(z, tile)
        kl = torch.zeros_like(chosen) if base is None else (crossed / base.total)[:, 0] - base.normaliser() + policy.normaliser()
        rows = None
        if wants_gradient:
            mean = policy.mean_rows()
            rows = [((weight[targets].float() - mean) / scale).to(hidden.dtype)]
            if base is not None:
                rows.append(((mean - base.mean_rows()) / scale).to(hidden.dtype))
        ctx.save_for_backward(*rows or ())
        return chosen - policy.normaliser(), kl

    @staticmethod
    def backward(ctx, logprobs_gradient, kl_gradient):
        logprob_rows, *kl_rows = ctx.saved_tensors
        gradient = logprob_rows.float() * logprobs_gradient[:, None]
        for rows in kl_rows:
            gradient = gradient + rows.float() * kl_gradient[:, None]
        return gradient.to(logprob_rows.dtype), None, None, None, None


class _Softmax:
    """softmax(hidden @ weight.T / scale), tile by tile: sums of exp(z - the largest z so far)."""

    def __init__(self, hidden: Tensor, weight: Tensor, scale: Tensor, with_rows: bool) -> None:
        self._hidden, self._scale = hidden, scale
        self._most = torch.full_like(scale, -torch.inf)
        self.total = torch.zeros_like(scale)
        self._rows = torch.zeros(len(hidden), weight.shape[1], dtype=torch.float32, device=hidden.device) if with_rows else None

    def logits(self, tile: Tensor) -> Tensor:
        return (self._hidden @ tile.T).float().div_(self._scale)

    def take(self, z: Tensor, tile: Tensor) -> Tensor:
        """Count a tile's logits in; `z` becomes exp(z - most). Returns: (N, 1), by what earlier such sums shrink."""
        most = torch.maximum(self._most, z.amax(dim=1, keepdim=True))
        shrink, self._most = (self._most - most).exp_(), most
        z.sub_(most).exp_()
        self.total = self.total * shrink + z.sum(dim=1, keepdim=True)
        if self._rows is not None:
            self._rows.mul_(shrink).add_(z.to(tile.dtype) @ tile)
        return shrink

    def normaliser(self) -> Tensor:
        """(N,): log sum exp z."""
        return (self._most + self.total.log())[:, 0]

    def mean_rows(self) -> Tensor:
        """(N, H) fp32: probabilities @ weight."""
        return self._rows / self.total

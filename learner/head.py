"""Output head for completion rows only: log-probs and KL to the base model without a vocabulary-wide graph.

A vocabulary of 49,152 in fp32 is 196 kB a token. The head is frozen, so all that its backward pass needs is one
gradient row of the hidden size per token, and that row is known in the forward pass already (the fused
linear-cross-entropy idea of Liger-Kernel, arXiv:2410.10989). Rows go through in chunks; nothing wide is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_ROWS = 128
"""Rows at a time: 128 x 49,152 x 4 bytes = 25 MB for each of the few wide temporaries; what is above 32 MB the allocator gives
back to the system each time, and zeroing the pages anew took a quarter of the time."""


def completion_scores(hidden: Tensor, weight: Tensor, targets: Tensor, temperatures: Tensor,
                      reference: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Log-prob of each target and, given the base model's hidden rows, KL(base || policy) over the full vocabulary.

        z = hidden @ weight.T / temperature
        logprob = log softmax(z)[target]                      d logprob / d hidden = (weight[target] - p @ weight) / temperature
        kl = sum_v q_v (log q_v - log p_v)                    d kl / d hidden      = ((p - q) @ weight) / temperature

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
        logprobs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        kl = torch.zeros_like(logprobs)
        logprob_rows = torch.empty_like(hidden) if wants_gradient else None
        kl_rows = torch.zeros_like(hidden) if wants_gradient and reference is not None else None
        for start in range(0, len(hidden), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            scale = temperatures[rows, None]
            log_p = torch.log_softmax((hidden[rows] @ weight.T).float() / scale, dim=-1)
            logprobs[rows] = log_p.gather(1, targets[rows, None])[:, 0]
            if reference is not None:
                log_q = torch.log_softmax((reference[rows] @ weight.T).float() / scale, dim=-1)
                q = log_q.exp()
                kl[rows] = (q * log_q.sub_(log_p)).sum(dim=-1)
            if wants_gradient:
                p = log_p.exp_()
                mean_rows = p.to(weight.dtype) @ weight
                logprob_rows[rows] = ((weight[targets[rows]].float() - mean_rows.float()) / scale).to(hidden.dtype)
                if reference is not None:
                    kl_rows[rows] = ((p.sub_(q).to(weight.dtype) @ weight).float() / scale).to(hidden.dtype)
        ctx.save_for_backward(logprob_rows, kl_rows)
        return logprobs, kl

    @staticmethod
    def backward(ctx, logprobs_gradient, kl_gradient):
        logprob_rows, kl_rows = ctx.saved_tensors
        gradient = logprob_rows.float() * logprobs_gradient[:, None]
        if kl_rows is not None:
            gradient = gradient + kl_rows.float() * kl_gradient[:, None]
        return gradient.to(logprob_rows.dtype), None, None, None, None

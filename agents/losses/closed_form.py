"""Divergences and their gradients with respect to the student's logits, in few ``[C, V]`` buffers.

With p = softmax(z) and a loss D(p), ``dD/dz = p * (f - sum(p f))`` where ``f = dD/dp``:

    reverse KL      f = log p - log q
    Jensen-Shannon  f = (1 - alpha) (log p - log M),  M = (1 - alpha) p + alpha q
    forward KL      dD/dz = p - q
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agents.losses.divergence import close_support, divergence


def log_softmax_(z: Tensor) -> Tensor:
    """Turn logits into log-probabilities in place and return the probabilities, ``[C, V]``.

    A logit of -inf becomes the dtype's lowest number, so that 0 * log 0 is 0. A token forbidden to one side
    only therefore gives an astronomically large divergence where the formula says infinity.
    """
    z.sub_(z.amax(-1, keepdim=True))
    p = z.exp()
    total = p.sum(-1, keepdim=True)
    z.sub_(total.log()).clamp_(min=torch.finfo(z.dtype).min)
    return p.div_(total)


def entropy(logp: Tensor, p: Tensor) -> Tensor:
    """``-sum p log p``, ``[C, V] x [C, V] -> [C]``."""
    return (logp * p).sum(-1).neg_()


def full(
    logp: Tensor, p: Tensor, logq: Tensor, q: Tensor, alpha: float, gradient: bool = True
) -> tuple[Tensor, Tensor | None]:
    """`divergence` over the whole vocabulary ``[C]`` and its gradient to the student's logits ``[C, V]``.

    Holds two buffers besides its arguments.
    """
    if alpha == 0.0:
        value = (logq - logp).mul_(q).sum(-1)
        return value, p - q if gradient else None
    if alpha == 1.0:
        force = logp - logq
        value = (force * p).sum(-1)
        return value, force.sub_(value[:, None]).mul_(p) if gradient else None
    mixture = logq + (math.log(alpha) - math.log1p(-alpha))
    torch.logaddexp(logp, mixture, out=mixture).add_(math.log1p(-alpha))
    force = logq - mixture
    value = force.mul_(q).sum(-1).mul_(alpha)
    torch.sub(logp, mixture, out=force)
    kl = torch.mul(force, p, out=mixture).sum(-1)
    value.add_(kl, alpha=1 - alpha)
    return value, force.sub_(kl[:, None]).mul_(p).mul_(1 - alpha) if gradient else None


def top_k(
    logp: Tensor, p: Tensor, logq: Tensor, alpha: float, k: int, tail: bool, gradient: bool = True
) -> tuple[Tensor, Tensor | None]:
    """`divergence` on the student's k likeliest tokens ``[C]``, and its gradient to the logits ``[C, V]``.

    The gradient to the k kept log-probabilities is autograd's, on ``[C, k + 1]``; from there to the logits,
    ``dD/dz = scatter(g) - p * sum(g)``.
    """
    kept, ids = logp.topk(min(k, logp.shape[-1]), dim=-1)
    with torch.enable_grad():
        kept = kept.detach().requires_grad_(gradient)
        value = divergence(close_support(kept, tail), close_support(logq.gather(-1, ids), tail), alpha)
    if not gradient:
        return value, None
    (g,) = torch.autograd.grad(value, kept, torch.ones_like(value))
    return value.detach(), p.mul(-g.sum(-1, keepdim=True)).scatter_add_(-1, ids, g)

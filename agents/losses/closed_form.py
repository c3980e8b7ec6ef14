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

from agents.losses.support import Renormalise, support_divergence


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


def entry_clipped(
    logp: Tensor, p: Tensor, logq: Tensor, q: Tensor, alpha: float, clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`full` with each vocabulary entry of the sum capped at ``clip``: (uncapped ``[C]``, capped ``[C]``, gradient).

    A capped entry has no force of its own. The constant that a KL's force drops where all entries take part
    (f = log p - log q + 1, or -q / p) stays here. Holds two buffers besides its arguments, and one of bools.
    """
    if alpha == 0.0:
        summands = (logq - logp).mul_(q)
        whole, value, capped = _cap_(summands, clip)
        torch.mul(q, ~capped, out=summands)
        mass = summands.sum(-1, keepdim=True)
        return whole, value, summands.neg_().addcmul_(p, mass)
    if alpha == 1.0:
        force = logp - logq
        summands = force * p
        force.add_(1)
    else:
        force = logq + (math.log(alpha) - math.log1p(-alpha))
        torch.logaddexp(logp, force, out=force).add_(math.log1p(-alpha))
        summands = (logq - force).mul_(q).mul_(alpha)
        torch.sub(logp, force, out=force).mul_(1 - alpha)
        summands.addcmul_(force, p)
    whole, value, capped = _cap_(summands, clip)
    gradient = torch.mul(force.masked_fill_(capped, 0), p, out=summands)
    return whole, value, gradient.addcmul_(p, gradient.sum(-1, keepdim=True), value=-1)


def _cap_(summands: Tensor, clip: float) -> tuple[Tensor, Tensor, Tensor]:
    """Sum, sum of the capped, and which are capped; overwrites ``summands``."""
    whole, capped = summands.sum(-1), summands > clip
    return whole, summands.clamp_(max=clip).sum(-1), capped


def on_support(
    logp: Tensor,
    p: Tensor,
    teacher: Tensor,
    ids: Tensor,
    kept: Tensor,
    alpha: float,
    tail: bool,
    renormalise: Renormalise,
    entry_clip: float | None = None,
    ratio_clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`support_divergence` ``[C]`` and its gradient to the logits ``[C, V]``.

    ``teacher``, ``ids``, ``kept``: ``[C, S]``, as there. The gradient to the log-probabilities of the support is
    autograd's, on ``[C, S + 1]``; from there to the logits, ``dD/dz = scatter(g) - p * sum(g)``.
    """
    with torch.enable_grad():
        student = logp.gather(-1, ids).detach().requires_grad_()
        value = support_divergence(student, teacher, kept, alpha, tail, renormalise, entry_clip, ratio_clip)
        (g,) = torch.autograd.grad(value.sum(), student)
    return value.detach(), p.mul(-g.sum(-1, keepdim=True)).scatter_add_(-1, ids, g)

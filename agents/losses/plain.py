"""The loss as one reads it in a paper: full logits, plain autograd. The reference that tests compare with.

Holds about seven ``[N, V]`` tensors; `agents.losses.fused.fused_loss` is the one to train with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.losses.divergence import divergence, sampled_token, top_k_support
from agents.losses.head import Head, Teacher, TokenStats
from agents.losses.terms import Distill, PolicyGradient, Term, importance_weights, policy_gradient, select


def plain_loss(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    terms: Sequence[Term],
    *,
    teacher: Teacher | None = None,
    taught: Tensor | None = None,
    old_logprobs: Tensor | None = None,
    sampler_logprobs: Tensor | None = None,
    temperature: float = 1.0,
    top: int = 0,
) -> tuple[Tensor, TokenStats]:
    """`agents.losses.fused.fused_loss` without chunks: same arguments, same result.

    Except that inputs must be finite at every token, those of coefficient 0 included.
    """
    n = len(targets)
    logp = (head.logits(hidden) / temperature).log_softmax(-1)
    logp_y = logp.gather(-1, targets[:, None])[:, 0]
    stats = TokenStats.empty(n, top, logp.dtype, logp.device)
    stats.logp = logp_y.detach()
    stats.entropy = torch.special.entr(logp.detach().exp()).sum(-1)

    if teacher is not None:
        rows = torch.arange(n, device=hidden.device) if taught is None else taught.nonzero()[:, 0]
        student, logq = logp[rows], teacher.logits(slice(None)).log_softmax(-1)
        logq_y = logq.gather(-1, targets[rows][:, None])[:, 0]
        stats.teacher_logp[rows] = logq_y
        stats.teacher_entropy[rows] = torch.special.entr(logq.exp()).sum(-1)
        measured = next((t for t in terms if isinstance(t, Distill)), None)
        stats.divergence[rows] = _divergence(measured, student.detach(), logq)
        if top:
            assert stats.top_ids is not None
            assert stats.top_teacher is not None
            assert stats.top_student is not None
            q, ids = logq.exp().topk(top, dim=-1)
            stats.top_ids[rows], stats.top_teacher[rows] = ids, q
            stats.top_student[rows] = student.detach().exp().gather(-1, ids)

    loss = (logp_y * 0).sum()
    for term in terms:
        if isinstance(term, Distill):
            if not bool(term.coefficients.any()):
                continue
            if teacher is None:
                raise ValueError("a Distill coefficient is not 0 where taught is False")
            old, sampler = _rows(old_logprobs, rows), _rows(sampler_logprobs, rows)
            rho, w = importance_weights(logp_y[rows], old, sampler, term.is_clip)
            if term.form == "sampled":
                per_token = sampled_token(logp_y[rows], logq_y)
            else:
                per_token = _divergence(term, student, logq)
            loss = loss + (select(term, rows).coefficients * per_token * rho * w).sum()
        elif isinstance(term, PolicyGradient):
            per_token = policy_gradient(term, logp_y, old_logprobs, sampler_logprobs)
            loss = loss + (term.coefficients * per_token).sum()
        else:
            loss = loss - (term.coefficients * logp_y).sum()
    return loss, stats


def _divergence(term: Distill | None, student: Tensor, teacher: Tensor) -> Tensor:
    """The divergence a term is about, ``[N, V] x 2 -> [N]``; Jensen-Shannon without a term."""
    if term is None:
        return divergence(student, teacher, 0.5)
    if term.top_k is None:
        return divergence(student, teacher, term.alpha)
    return divergence(*top_k_support(student, teacher, term.top_k, term.tail), term.alpha)


def _rows(values: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if values is None else values[rows]

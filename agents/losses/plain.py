"""The loss as one reads it in a paper: full logits, plain autograd. The reference that tests compare with.

Holds about seven ``[N, V]`` tensors; `agents.losses.fused.fused_loss` is the one to train with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agents.losses.divergence import divergence, position_weight
from agents.losses.head import Head, Teacher, TokenStats
from agents.losses.stream import SparseTeacher, Stream, check_distill, gather_streams, measured_stream
from agents.losses.support import choose, support_divergence
from agents.losses.surrogate import importance_weights, per_token, sampled_form
from agents.losses.terms import Distill, Term, select


def plain_loss(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    terms: Sequence[Term],
    *,
    teacher: Teacher | SparseTeacher | None = None,
    taught: Tensor | None = None,
    streams: Mapping[str, Stream] | None = None,
    old_logprobs: Tensor | None = None,
    sampler_logprobs: Tensor | None = None,
    temperature: float = 1.0,
    top: int = 0,
) -> tuple[Tensor, TokenStats]:
    """`agents.losses.fused.fused_loss` without chunks: same arguments, same result.

    Except that inputs must be finite at every token, those of coefficient 0 included.
    """
    n = len(targets)
    every = gather_streams(n, hidden.device, teacher, taught, streams)
    logp = (head.logits(hidden) / temperature).log_softmax(-1)
    logp_y = logp.gather(-1, targets[:, None])[:, 0]
    stats = TokenStats.empty(n, top, logp.dtype, logp.device)
    stats.logp = logp_y.detach()
    stats.entropy = torch.special.entr(logp.detach().exp()).sum(-1)
    said = {name: _Said(stream, targets) for name, stream in every.items()}
    measured = measured_stream(terms, every)
    if measured is not None:
        first = next((term for term in terms if isinstance(term, Distill)), None)
        said[measured].measure(stats, logp.detach(), first, top)

    loss = (logp_y * 0).sum()
    for whole in terms:
        if not isinstance(whole, Distill):
            loss = loss + (whole.coefficients * per_token(whole, logp_y, old_logprobs, sampler_logprobs)).sum()
            continue
        check_distill(whole, every)
        if not bool(whole.coefficients.any()):
            continue
        other = said[whole.teacher]
        term, student, own = select(whole, other.rows), logp[other.rows], logp_y[other.rows]
        rho, w = importance_weights(
            own, _rows(old_logprobs, other.rows), _rows(sampler_logprobs, other.rows), term.is_clip
        )
        if term.form == "full":
            value = other.divergence(term, student, clipped=True)
            if term.clip is not None and term.clip_at == "position":
                value = value * position_weight(value, term.clip)
        else:
            value = sampled_form(term, own, other.logq_y, other.baseline(term, student))
        loss = loss + (term.coefficients * value * rho * w).sum()
    return loss, stats


class _Said:
    """What a stream's teacher says, at its tokens."""

    def __init__(self, stream: Stream, targets: Tensor) -> None:
        assert stream.taught is not None
        self.rows = stream.taught.nonzero()[:, 0]
        self.teacher = stream.teacher
        if isinstance(stream.teacher, SparseTeacher):
            self.logq, self.logq_y = stream.teacher.logprobs, stream.teacher.target_logprob
        else:
            self.logq = stream.teacher.logits(slice(None)).log_softmax(-1)
            self.logq_y = self.logq.gather(-1, targets[self.rows][:, None])[:, 0]

    def divergence(self, term: Distill, student: Tensor, clipped: bool) -> Tensor:
        """Of a full-form term, ``[N, V] -> [N]``."""
        entry_clip = term.clip if clipped and term.clip_at == "entry" else None
        ratio_clip = term.ratio_clip if clipped else None
        if isinstance(self.teacher, SparseTeacher):
            ids, kept = self.teacher.ids, self.logq > -torch.inf
            p, q = student.gather(-1, ids.where(kept, 0)), self.logq
        elif term.top_k is None:
            return divergence(student, self.logq, term.alpha, entry_clip=entry_clip)
        else:
            ids, kept = choose(student, self.logq, term.top_k, term.support)
            p, q = student.gather(-1, ids), self.logq.gather(-1, ids)
        return support_divergence(p, q, kept, term.alpha, term.tail, term.renormalise, entry_clip, ratio_clip)

    def baseline(self, term: Distill, student: Tensor) -> Tensor | None:
        """The control variate of form "baseline", ``[N, V] -> [N]``."""
        if term.form != "baseline":
            return None
        if term.top_k is None:
            return divergence(student, self.logq, 1.0)
        ids, kept = choose(student, self.logq, term.top_k, "student")
        return support_divergence(student.gather(-1, ids), self.logq.gather(-1, ids), kept, 1.0, False, "both")

    def measure(self, stats: TokenStats, logp: Tensor, term: Distill | None, top: int) -> None:
        rows, student = self.rows, logp[self.rows]
        stats.teacher_logp[rows] = self.logq_y
        sparse = isinstance(self.teacher, SparseTeacher)
        if not sparse:
            stats.teacher_entropy[rows] = torch.special.entr(self.logq.exp()).sum(-1)
        if term is None or term.form != "full":
            alpha = 0.5 if term is None else 1.0
            term = Distill(logp.new_ones(len(rows)), alpha, support="teacher" if sparse else "student")
        stats.divergence[rows] = self.divergence(term, student, clipped=False)
        if top:
            assert stats.top_ids is not None
            assert stats.top_teacher is not None
            assert stats.top_student is not None
            q, ids = self.logq.exp().topk(min(top, self.logq.shape[-1]), dim=-1)
            if isinstance(self.teacher, SparseTeacher):
                ids = self.teacher.ids.gather(-1, ids)
            known = q > 0
            columns = slice(ids.shape[-1])
            stats.top_ids[rows, columns] = ids.where(known, -1)
            stats.top_teacher[rows, columns] = q.where(known, torch.nan)
            stats.top_student[rows, columns] = student.exp().gather(-1, ids.where(known, 0)).where(known, torch.nan)


def _rows(values: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if values is None else values[rows]

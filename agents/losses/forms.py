"""A Distill term on one chunk of tokens: student against one teacher, dense or sparse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.losses import closed_form
from agents.losses.head import TokenStats
from agents.losses.stream import SparseTeacher, Stream
from agents.losses.support import choose, support_divergence
from agents.losses.terms import Distill


@dataclass
class Student:
    """The student on a chunk of C tokens."""

    rows: Tensor
    """[C] which tokens."""
    y: Tensor
    """[C, 1] targets."""
    logp: Tensor
    """[C, V]"""
    p: Tensor
    """[C, V]"""
    logp_y: Tensor
    """[C]"""


@dataclass
class Dense:
    """What a teacher says there, over the whole vocabulary."""

    logq: Tensor
    """[C, V]"""
    q: Tensor
    """[C, V]"""
    logq_y: Tensor
    """[C]"""


@dataclass
class Sparse:
    """What a served teacher says there, of K tokens."""

    ids: Tensor
    """[C, K]"""
    kept: Tensor
    """[C, K] bool: the slot holds a token."""
    logq: Tensor
    """[C, K]"""
    logq_y: Tensor
    """[C]"""


def hear(stream: Stream, own: Tensor, student: Student) -> Dense | Sparse:
    """The teacher at ``own``, its rows for the student's chunk, ``[C]``."""
    teacher, device, dtype = stream.teacher, student.logp.device, student.logp.dtype
    if isinstance(teacher, SparseTeacher):
        part = teacher.take(own)
        logq = part.logprobs.to(device, dtype)
        kept = logq > -torch.inf
        return Sparse(part.ids.to(device).where(kept, 0), kept, logq, part.target_logprob.to(device, dtype))
    logq = teacher.logits(own)
    q = closed_form.log_softmax_(logq)
    return Dense(logq, q, logq.gather(-1, student.y)[:, 0])


def evaluate(term: Distill, student: Student, said: Dense | Sparse) -> tuple[Tensor, Tensor, Tensor]:
    """A full-form term: its divergence without clips ``[C]``, the loss ``[C]``, and that one's gradient ``[C, V]``.

    All without a position's cap, which is a weight.
    """
    entry_clip = term.clip if term.clip_at == "entry" else None
    if isinstance(said, Dense) and term.top_k is None:
        if entry_clip is not None:
            return closed_form.entry_clipped(student.logp, student.p, said.logq, said.q, term.alpha, entry_clip)
        value, gradient = closed_form.full(student.logp, student.p, said.logq, said.q, term.alpha)
        assert gradient is not None
        return value, value, gradient
    logq, ids, kept = _support(term, student, said)
    loss, gradient = closed_form.on_support(
        student.logp, student.p, logq, ids, kept, term.alpha, term.tail, term.renormalise, entry_clip, term.ratio_clip
    )
    clipped = entry_clip is not None or term.ratio_clip is not None
    return report(term, student, said) if clipped else loss, loss, gradient


def report(term: Distill | None, student: Student, said: Dense | Sparse) -> Tensor:
    """The divergence to report, ``[C]``: a full-form term's own without clips; see `TokenStats`."""
    if term is not None and term.form == "full" and (term.top_k is not None or isinstance(said, Sparse)):
        logq, ids, kept = _support(term, student, said)
        student_kept = student.logp.gather(-1, ids)
        return support_divergence(student_kept, logq, kept, term.alpha, term.tail, term.renormalise)
    alpha = 0.5 if term is None else term.alpha
    if isinstance(said, Sparse):
        return support_divergence(student.logp.gather(-1, said.ids), said.logq, said.kept, alpha, True, "both")
    return closed_form.full(student.logp, student.p, said.logq, said.q, alpha, gradient=False)[0]


def baseline(term: Distill, student: Student, said: Dense | Sparse) -> Tensor | None:
    """The control variate of form "baseline", ``[C]``: KL(p || q), on the student's ``top_k`` where given."""
    if term.form != "baseline" or isinstance(said, Sparse):
        return None
    if term.top_k is None:
        return closed_form.full(student.logp, student.p, said.logq, said.q, 1.0, gradient=False)[0]
    logq, ids, kept = _support(term, student, said)
    return support_divergence(student.logp.gather(-1, ids), logq, kept, 1.0, False, "both")


def measure(stats: TokenStats, student: Student, said: Dense | Sparse, top: int, entropy: bool) -> None:
    """Fill the teacher's fields of the stats, all but the divergence."""
    rows = student.rows
    stats.teacher_logp[rows] = said.logq_y
    if entropy and isinstance(said, Dense):
        stats.teacher_entropy[rows] = closed_form.entropy(said.logq, said.q)
    if not top or stats.top_ids is None:
        return
    assert stats.top_teacher is not None
    assert stats.top_student is not None
    q = said.q if isinstance(said, Dense) else said.logq.exp()
    likeliest, ids = q.topk(min(top, q.shape[-1]), dim=-1)
    known = torch.ones_like(ids, dtype=torch.bool)
    if isinstance(said, Sparse):
        ids, known = said.ids.gather(-1, ids), said.kept.gather(-1, ids)
    columns = slice(ids.shape[-1])
    stats.top_ids[rows, columns] = ids.where(known, -1)
    stats.top_teacher[rows, columns] = likeliest.where(known, torch.nan)
    stats.top_student[rows, columns] = student.p.gather(-1, ids).where(known, torch.nan)


def _support(term: Distill, student: Student, said: Dense | Sparse) -> tuple[Tensor, Tensor, Tensor]:
    """(teacher's log-probabilities, ids, which slots hold a token) of a term's support, ``[C, S]`` each."""
    if isinstance(said, Sparse):
        return said.logq, said.ids, said.kept
    assert term.top_k is not None
    ids, kept = choose(student.logp, said.logq, term.top_k, term.support)
    return said.logq.gather(-1, ids), ids, kept

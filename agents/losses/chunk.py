"""The work on one chunk of tokens: logits of student and teacher, every term's loss, and its gradient.

Every gradient to the tempered logits z has the form

    dL/dz = sum of coefficient * divergence gradient (`agents.losses.closed_form`) + pull * (onehot(y) - p)

where ``pull = dL/dlog p(y)`` gathers whatever depends on the target's log-probability alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.losses import closed_form
from agents.losses.divergence import sampled_token
from agents.losses.head import Head, Teacher, TokenStats
from agents.losses.terms import (
    Distill,
    Likelihood,
    PolicyGradient,
    Term,
    importance_weights,
    policy_gradient,
    select,
)


@dataclass
class Result:
    """What one chunk adds to the loss."""

    loss: Tensor
    """Scalar."""
    gradient: Tensor | None
    """[C, V], to the output of the head's linear map."""


@dataclass
class Job:
    """One call of the loss: all its arguments but the tensors that get a gradient."""

    head: Head
    targets: Tensor
    terms: Sequence[Term]
    teacher: Teacher | None
    taught: Tensor
    old: Tensor | None
    sampler: Tensor | None
    temperature: float
    chunk: int
    measure_all: bool
    stats: TokenStats
    top: int

    def chunks(self) -> Iterator[tuple[Tensor, bool, bool]]:
        """(token indices, has a part in the loss, has a teacher), alike within a chunk."""
        active = torch.zeros_like(self.taught)
        for term in self.terms:
            active |= term.coefficients != 0
        for is_active in (True, False) if self.measure_all else (True,):
            for is_taught in (True, False):
                rows = ((active == is_active) & (self.taught == is_taught)).nonzero()[:, 0]
                for start in range(0, len(rows), self.chunk):
                    yield rows[start : start + self.chunk], is_active, is_taught

    def run(self, hidden: Tensor, rows: Tensor, taught_rows: Tensor | None, grad: bool) -> Result:
        """Measure one chunk; with ``grad`` also its loss and the gradient to the student's logits."""
        stats, y = self.stats, self.targets[rows, None]
        logp = self.head.logits(hidden)
        cap = self.head.softcap
        slope = None if cap is None or not grad else (logp / cap).square_().neg_().add_(1)
        if self.temperature != 1.0:
            logp.div_(self.temperature)
        p = closed_form.log_softmax_(logp)
        logp_y = logp.gather(-1, y)[:, 0]
        stats.logp[rows] = logp_y
        if self.measure_all:
            stats.entropy[rows] = closed_form.entropy(logp, p)

        logq = q = logq_y = None
        if taught_rows is not None:
            assert self.teacher is not None
            logq = self.teacher.logits(taught_rows)
            q = closed_form.log_softmax_(logq)
            logq_y = logq.gather(-1, y)[:, 0]
            self.measure_teacher(rows, p, logq, q, logq_y)

        result = Result(logp.new_zeros(()), None)
        if grad:
            self.differentiate(result, rows, y, logp, p, logp_y, logq, q, logq_y)
            assert result.gradient is not None
            if self.head.scale != self.temperature:
                result.gradient.mul_(self.head.scale / self.temperature)
            if slope is not None:
                result.gradient.mul_(slope)
        elif logq is not None and q is not None:
            stats.divergence[rows] = _value(self.first_distill(), logp, p, logq, q)
        return result

    def first_distill(self) -> Distill | None:
        """The term whose divergence is reported."""
        return next((term for term in self.terms if isinstance(term, Distill)), None)

    def differentiate(
        self,
        result: Result,
        rows: Tensor,
        y: Tensor,
        logp: Tensor,
        p: Tensor,
        logp_y: Tensor,
        logq: Tensor | None,
        q: Tensor | None,
        logq_y: Tensor | None,
    ) -> None:
        """Fill ``result``: the chunk's loss and its gradient to the tempered logits. Overwrites ``p``."""
        reported = self.first_distill()
        unmeasured = logq is not None and self.measure_all
        pulls = torch.zeros_like(logp_y)
        for whole in self.terms:
            live = (whole.coefficients[rows] != 0).nonzero()[:, 0]
            if not len(live):
                continue
            if isinstance(whole, Distill) and whole.form == "full":
                assert logq is not None
                assert q is not None
                value = self.distill(result, select(whole, rows), rows, logp, p, logp_y, logq, q)
                if whole is reported:
                    self.stats.divergence[rows] = value
                    unmeasured = False
            else:
                term = select(whole, rows[live])
                loss, pull = self.pull(term, logp_y[live], None if logq_y is None else logq_y[live], rows[live])
                result.loss += loss
                pulls[live] += pull
        if unmeasured and logq is not None and q is not None:
            self.stats.divergence[rows] = _value(reported, logp, p, logq, q)
        if result.gradient is None:
            result.gradient = p.mul_(-pulls[:, None])
        else:
            result.gradient.addcmul_(p, pulls[:, None], value=-1)
        result.gradient.scatter_add_(-1, y, pulls[:, None])

    def distill(
        self,
        result: Result,
        term: Distill,
        rows: Tensor,
        logp: Tensor,
        p: Tensor,
        logp_y: Tensor,
        logq: Tensor,
        q: Tensor,
    ) -> Tensor:
        """Add a full-form Distill term to ``result``; returns its divergence, ``[C]``."""
        if term.top_k is None:
            value, gradient = closed_form.full(logp, p, logq, q, term.alpha)
        else:
            value, gradient = closed_form.top_k(logp, p, logq, term.alpha, term.top_k, term.tail)
        assert gradient is not None
        rho, w = importance_weights(logp_y, _at(self.old, rows), _at(self.sampler, rows), term.is_clip)
        factor = term.coefficients.to(value.dtype) * rho * w
        idle = term.coefficients == 0
        result.loss += (factor * value).masked_fill_(idle, 0).sum()
        gradient.mul_(factor[:, None])
        if bool(idle.any()):
            gradient.masked_fill_(idle[:, None], 0)
        result.gradient = gradient if result.gradient is None else result.gradient.add_(gradient)
        return value

    def pull(self, term: Term, logp_y: Tensor, logq_y: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of a term that sees the target's log-probability only, and its derivative to that, ``[C]``."""
        old, sampler = _at(self.old, rows), _at(self.sampler, rows)
        with torch.enable_grad():
            x = logp_y.detach().requires_grad_()
            if isinstance(term, PolicyGradient):
                per_token = policy_gradient(term, x, old, sampler)
            elif isinstance(term, Likelihood):
                per_token = -x
            else:
                assert logq_y is not None
                rho, w = importance_weights(x, old, sampler, term.is_clip)
                per_token = sampled_token(x, logq_y) * rho * w
            loss = (term.coefficients.detach() * per_token).sum()
            (pull,) = torch.autograd.grad(loss, x)
        return loss.detach(), pull

    def measure_teacher(self, rows: Tensor, p: Tensor, logq: Tensor, q: Tensor, logq_y: Tensor) -> None:
        """Fill the teacher's fields of the stats."""
        stats = self.stats
        stats.teacher_logp[rows] = logq_y
        if self.measure_all:
            stats.teacher_entropy[rows] = closed_form.entropy(logq, q)
        if self.top and stats.top_ids is not None:
            assert stats.top_teacher is not None
            assert stats.top_student is not None
            likeliest, ids = q.topk(self.top, dim=-1)
            stats.top_ids[rows], stats.top_teacher[rows] = ids, likeliest
            stats.top_student[rows] = p.gather(-1, ids)


def _at(values: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if values is None else values[rows]


def _value(term: Distill | None, logp: Tensor, p: Tensor, logq: Tensor, q: Tensor) -> Tensor:
    """The divergence to report where no gradient is needed, ``[C]``."""
    if term is not None and term.top_k is not None:
        return closed_form.top_k(logp, p, logq, term.alpha, term.top_k, term.tail, gradient=False)[0]
    return closed_form.full(logp, p, logq, q, 0.5 if term is None else term.alpha, gradient=False)[0]

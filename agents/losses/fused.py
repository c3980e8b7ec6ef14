"""Last layer and loss in one: hidden states in, loss out, never more than a chunk of logits in memory.

For each chunk of tokens: logits of student and teacher, the loss of each, and at once the gradient to the
hidden states and to the head. ``backward`` only scales what ``forward`` found, so the ``[N, V]`` tensors that
autograd would keep never exist. Every full-vocabulary gradient has the form

    dL/dz = sum of coefficient * divergence gradient (`agents.losses.closed_form`) + pull * (onehot(y) - p)

where ``pull = dL/dlog p(y)`` gathers whatever depends on the target's log-probability alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.losses import closed_form
from agents.losses.divergence import sampled_token
from agents.losses.head import Head, Teacher, TokenStats
from agents.losses.plain import plain_loss
from agents.losses.terms import (
    Distill,
    Likelihood,
    PolicyGradient,
    Term,
    importance_weights,
    policy_gradient,
    select,
)

__all__ = ["Head", "Teacher", "TokenStats", "auto_chunk", "fused_loss", "plain_loss", "token_stats"]

BUFFER_BYTES = 32_000_000
"""Size of one ``[chunk, V]`` buffer; about six live at once."""


def auto_chunk(vocabulary: int, itemsize: int = 4) -> int:
    """Tokens per chunk such that a ``[chunk, V]`` buffer takes about `BUFFER_BYTES`."""
    return max(1, BUFFER_BYTES // (vocabulary * itemsize))


def fused_loss(
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
    chunk: int | None = None,
    top: int = 0,
    stats: bool = True,
) -> tuple[Tensor, TokenStats]:
    """Sum of all terms over all tokens, with gradient to ``hidden`` and to the head where it asks for one.

    Args:
        hidden: ``[N, d]`` student's last hidden states, at the positions that predict ``targets``.
        head: the student's.
        targets: ``[N]`` token ids.
        terms: each with ``[N]`` coefficients that already hold the global denominator.
        teacher: its parts' hidden states have one row per taught token, in order.
        taught: ``[N]`` bool; None: every token, if there is a teacher.
        old_logprobs: ``[N]`` log-probabilities at the start of the batch; None: the current ones.
        sampler_logprobs: ``[N]`` log-probabilities as the sampler reported them; None: trusted to be equal.
        temperature: divides the student's logits; that of the rollout.
        chunk: tokens per chunk; None: `auto_chunk`.
        top: how many of the teacher's likeliest tokens to report.
        stats: also measure tokens that have no part in the loss.

    Returns:
        The scalar loss, float32 (float64 for float64 weights), and the measurements. ``backward`` runs once.

    Raises:
        ValueError: shapes disagree, or a Distill coefficient is not 0 where nothing is taught.
    """
    n = len(targets)
    if taught is None:
        taught = torch.full((n,), teacher is not None, dtype=torch.bool, device=hidden.device)
    _check(hidden, targets, terms, teacher, taught, old_logprobs, sampler_logprobs, temperature)
    if chunk is None:
        chunk = auto_chunk(len(head.weight), 8 if head.weight.dtype == torch.float64 else 4)
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    job = _Job(
        head=head,
        targets=targets,
        terms=terms,
        teacher=teacher,
        taught=taught,
        old=old_logprobs,
        sampler=sampler_logprobs,
        temperature=temperature,
        chunk=chunk,
        measure_all=stats,
        stats=TokenStats.empty(n, top, dtype, hidden.device),
        top=top,
    )
    return _FusedLoss.apply(hidden, head.weight, head.bias, job), job.stats  # type: ignore[no-untyped-call]


@torch.no_grad()
def token_stats(
    hidden: Tensor, head: Head, targets: Tensor, *, temperature: float = 1.0, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy at each token, ``[N]`` each, nats, without gradient."""
    _, stats = fused_loss(hidden, head, targets, [], temperature=temperature, chunk=chunk)
    return stats.logp, stats.entropy


def _check(
    hidden: Tensor,
    targets: Tensor,
    terms: Sequence[Term],
    teacher: Teacher | None,
    taught: Tensor,
    old: Tensor | None,
    sampler: Tensor | None,
    temperature: float,
) -> None:
    n = len(targets)
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be above 0")
    columns = {"hidden": hidden, "taught": taught, "old_logprobs": old, "sampler_logprobs": sampler}
    columns |= {f"coefficients of {type(term).__name__}": term.coefficients for term in terms}
    for name, column in columns.items():
        if column is not None and len(column) != n:
            raise ValueError(f"{name}: {len(column)} rows for {n} targets")
    count = int(taught.sum())
    if teacher is None and count:
        raise ValueError(f"taught marks {count} tokens but there is no teacher")
    for _, rows, _ in teacher.parts if teacher else []:
        if len(rows) != count:
            raise ValueError(f"a teacher part has {len(rows)} hidden states for {count} taught tokens")
    for term in terms:
        if isinstance(term, Distill) and bool(((term.coefficients != 0) & ~taught).any()):
            raise ValueError("a Distill coefficient is not 0 where taught is False")


@dataclass
class _Job:
    """The arguments of one call that autograd does not differentiate."""

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

    def run(self, hidden: Tensor, rows: Tensor, taught_rows: Tensor | None, grad: bool) -> _Result:
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

        result = _Result(logp.new_zeros(()), None)
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
        result: _Result,
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
                loss, pull = self.pull(
                    term, logp_y[live], None if logq_y is None else logq_y[live], rows[live]
                )
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
        result: _Result,
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


@dataclass
class _Result:
    loss: Tensor
    """Scalar."""
    gradient: Tensor | None
    """[C, V], to the output of the head's linear map."""


def _at(values: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if values is None else values[rows]


def _value(term: Distill | None, logp: Tensor, p: Tensor, logq: Tensor, q: Tensor) -> Tensor:
    """The divergence to report where no gradient is needed, ``[C]``."""
    if term is not None and term.top_k is not None:
        return closed_form.top_k(logp, p, logq, term.alpha, term.top_k, term.tail, gradient=False)[0]
    return closed_form.full(logp, p, logq, q, 0.5 if term is None else term.alpha, gradient=False)[0]


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: _Job) -> Tensor:
        to_hidden, to_weight, to_bias, _ = ctx.needs_input_grad
        dtype = job.stats.logp.dtype
        loss = torch.zeros((), dtype=dtype, device=hidden.device)
        grad_hidden = torch.zeros_like(hidden) if to_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=dtype) if to_weight else None
        grad_bias = torch.zeros(len(weight), dtype=dtype, device=weight.device) if to_bias else None
        teacher_row = job.taught.cumsum(0) - 1
        for rows, is_active, is_taught in job.chunks():
            x = hidden[rows]
            result = job.run(x, rows, teacher_row[rows] if is_taught else None, is_active)
            loss += result.loss
            if not is_active:
                continue
            g, result.gradient = result.gradient, None
            assert g is not None
            if grad_weight is not None:
                grad_weight.addmm_(g.t(), x.to(dtype))
            if grad_bias is not None:
                grad_bias += g.sum(0)
            if grad_hidden is not None:
                grad_hidden[rows] = (g.to(weight.dtype) @ weight).to(hidden.dtype)
            del g  # before the next chunk's buffers
        ctx.gradients = (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
        )
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("fused_loss gives its gradients away in backward: call it again to go again")
        gradients, ctx.gradients = ctx.gradients, None
        (scale,) = grad_outputs
        return (*(None if g is None else g.mul_(scale) for g in gradients), None)

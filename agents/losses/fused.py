"""Last layer and loss in one: hidden states in, loss out, never more than a chunk of logits in memory.

For each chunk of tokens (`agents.losses.chunk`): logits of student and teachers, the loss of each token, and
at once the gradient to the hidden states and to the head. ``backward`` only scales what ``forward`` found, so
the ``[N, V]`` tensors that autograd would keep never exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.losses.chunk import Job
from agents.losses.head import Head, Teacher, TokenStats
from agents.losses.plain import plain_loss
from agents.losses.stream import SparseTeacher, Stream, check_distill, gather_streams, measured_stream
from agents.losses.terms import Distill, Term

__all__ = [
    "Head",
    "SparseTeacher",
    "Stream",
    "Teacher",
    "TokenStats",
    "auto_chunk",
    "fused_loss",
    "plain_loss",
    "token_stats",
]

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
    teacher: Teacher | SparseTeacher | None = None,
    taught: Tensor | None = None,
    streams: Mapping[str, Stream] | None = None,
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
        teacher: the stream called "teacher"; it has one row per taught token, in order.
        taught: ``[N]`` bool, its tokens; None: every token, if there is a teacher.
        streams: more teachers, by the name that a `Distill` gives in its ``teacher``. However many, the logits
            of one at a time are in memory.
        old_logprobs: ``[N]`` log-probabilities at the start of the batch; None: the current ones.
        sampler_logprobs: ``[N]`` log-probabilities as the sampler reported them; None: trusted to be equal.
        temperature: divides the student's logits; that of the rollout.
        chunk: tokens per chunk; None: `auto_chunk`.
        top: how many of the measured teacher's likeliest tokens to report (`TokenStats`).
        stats: also measure tokens that have no part in the loss.

    Returns:
        The scalar loss, float32 (float64 for float64 weights), and the measurements. ``backward`` runs once.

    Raises:
        ValueError: shapes disagree, a Distill coefficient is not 0 where its stream says nothing, or a Distill
            asks a `SparseTeacher` for more than it has.
    """
    n = len(targets)
    _check(hidden, targets, terms, old_logprobs, sampler_logprobs, temperature)
    every = gather_streams(n, hidden.device, teacher, taught, streams)
    for term in terms:
        if isinstance(term, Distill):
            check_distill(term, every)
    if chunk is None:
        chunk = auto_chunk(len(head.weight), 8 if head.weight.dtype == torch.float64 else 4)
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    job = Job(
        head=head,
        targets=targets,
        terms=terms,
        streams=every,
        measured=measured_stream(terms, every),
        old=old_logprobs,
        sampler=sampler_logprobs,
        temperature=temperature,
        chunk=chunk,
        measure_all=stats,
        stats=TokenStats.empty(n, top, dtype, hidden.device),
        top=top,
    )
    inputs: tuple[Tensor | None, ...] = (hidden, head.weight, head.bias)
    if not torch.is_grad_enabled():  # else the head's gradient would be made for nothing
        inputs = tuple(None if x is None else x.detach() for x in inputs)
    return _FusedLoss.apply(*inputs, job), job.stats  # type: ignore[no-untyped-call]


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
    old: Tensor | None,
    sampler: Tensor | None,
    temperature: float,
) -> None:
    n = len(targets)
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be above 0")
    columns = {"hidden": hidden, "old_logprobs": old, "sampler_logprobs": sampler}
    columns |= {f"coefficients of {type(term).__name__}": term.coefficients for term in terms}
    for name, column in columns.items():
        if column is not None and len(column) != n:
            raise ValueError(f"{name}: {len(column)} rows for {n} targets")


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job) -> Tensor:
        to_hidden, to_weight, to_bias, _ = ctx.needs_input_grad
        dtype = job.stats.logp.dtype
        loss = torch.zeros((), dtype=dtype, device=hidden.device)
        grad_hidden = torch.zeros_like(hidden) if to_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=dtype) if to_weight else None
        grad_bias = torch.zeros(len(weight), dtype=dtype, device=weight.device) if to_bias else None
        for rows, is_active, heard in job.chunks():
            x = hidden[rows]
            result = job.run(x, rows, heard, is_active)
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

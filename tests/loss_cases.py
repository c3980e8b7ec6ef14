"""Random problems for the loss, and fused against plain on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.losses.fused import Head, SparseTeacher, Stream, Teacher, TokenStats, fused_loss, plain_loss
from agents.losses.terms import Term

torch.set_num_threads(1)


@dataclass
class Problem:
    """A student with gradients, and a generator for whatever else a test wants."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    targets: Tensor
    old: Tensor
    sampler: Tensor
    generator: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.hidden.dtype)

    def coefficients(self, mask: Tensor | None = None) -> Tensor:
        """Positive, negative, and about a third zeros."""
        ragged = self.normal(len(self.targets)) * (torch.rand(len(self.targets), generator=self.generator) > 0.3)
        return ragged if mask is None else ragged * mask

    def dense(self, taught: Tensor, parts: int = 1) -> Stream:
        v, d = self.weight.shape
        rows = int(taught.sum())
        return Stream(
            Teacher([(1.0 / parts, self.normal(rows, d), Head(self.normal(v, d))) for _ in range(parts)]), taught
        )

    def sparse(self, taught: Tensor, k: int) -> Stream:
        rows = int(taught.sum())
        logq = self.normal(rows, len(self.weight)).mul(2).log_softmax(-1)
        return Stream(sparse_of(logq, self.targets[taught], k), taught)

    def mask(self) -> Tensor:
        """Some of the tokens: none, all, or about half."""
        n = len(self.targets)
        share = float(torch.randint(4, (1,), generator=self.generator)) / 2
        return torch.rand(n, generator=self.generator) < share


def sparse_of(logq: Tensor, targets: Tensor, k: int) -> SparseTeacher:
    """The k likeliest tokens of ``[T, V]`` log-probabilities."""
    likeliest, ids = logq.topk(k, dim=-1)
    return SparseTeacher(ids, likeliest, logq.gather(-1, targets[:, None])[:, 0])


def problem(n: int = 7, v: int = 23, d: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> Problem:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    hidden, weight, bias = normal(n, d), normal(v, d), normal(v)
    targets = torch.randint(v, (n,), generator=g)
    old = (hidden @ weight.t() + bias).log_softmax(-1).gather(-1, targets[:, None])[:, 0] + 0.5 * normal(n)
    return Problem(
        hidden.requires_grad_(),
        weight.requires_grad_(),
        bias.requires_grad_(),
        targets,
        old,
        old + 0.5 * normal(n),
        g,
    )


def run(
    function: Any, case: Problem, terms: Sequence[Term], streams: Mapping[str, Stream] | None = None, **options: Any
) -> tuple[Tensor, list[Tensor], TokenStats]:
    """(value, gradients to hidden, weight and bias, stats)."""
    leaves = [case.hidden, case.weight, case.bias]
    for leaf in leaves:
        leaf.grad = None
    loss, stats = function(case.hidden, Head(case.weight, case.bias), case.targets, terms, streams=streams, **options)
    loss.backward()
    gradients = [leaf.grad.clone() for leaf in leaves if leaf.grad is not None]
    assert len(gradients) == 3
    return loss.detach(), gradients, stats


def assert_fused_is_plain(
    case: Problem,
    terms: Sequence[Term],
    streams: Mapping[str, Stream] | None = None,
    chunk: int | None = None,
    atol: float = 1e-8,
    **options: Any,
) -> tuple[Tensor, list[Tensor], TokenStats]:
    """Same value, gradients and measurements; returns the fused ones."""
    fused = run(fused_loss, case, terms, streams, chunk=chunk, **options)
    plain = run(plain_loss, case, terms, streams, **options)
    torch.testing.assert_close(fused[0], plain[0], atol=atol, rtol=atol)
    for a, b in zip(fused[1], plain[1], strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=atol)
    for name in ("logp", "entropy", "teacher_logp", "teacher_entropy", "divergence", "top_teacher", "top_student"):
        a, b = getattr(fused[2], name), getattr(plain[2], name)
        torch.testing.assert_close(a, b, atol=atol, rtol=atol, equal_nan=True)
    return fused


def gradient_to_logits(p: Tensor, q: Tensor, terms: Sequence[Term], targets: Tensor) -> Tensor:
    """Summed over N copies of one position: student p, teacher q, ``[1, V]``, -> ``[V]``."""
    v, n = p.shape[-1], len(targets)
    head = Head(torch.eye(v, dtype=p.dtype))
    hidden = p.log().repeat(n, 1).requires_grad_()
    teacher = Teacher([(1.0, q.log().repeat(n, 1), head)])
    loss, _ = fused_loss(hidden, head, targets, terms, teacher=teacher, chunk=3)
    loss.backward()
    assert hidden.grad is not None
    return hidden.grad.sum(0)

"""The work on one chunk of tokens: logits of student and teachers, every term's loss, and its gradient.

Every gradient to the tempered logits z has the form

    dL/dz = sum of coefficient * divergence gradient (`agents.losses.closed_form`) + pull * (onehot(y) - p)

where ``pull = dL/dlog p(y)`` gathers whatever depends on the target's log-probability alone. The student's
logits are made once; teachers come one after the other, so that the logits of one are held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.losses import closed_form, forms
from agents.losses.divergence import position_weight
from agents.losses.forms import Dense, Sparse, Student
from agents.losses.head import Head, TokenStats
from agents.losses.stream import Stream
from agents.losses.surrogate import importance_weights, per_token, sampled_form
from agents.losses.terms import Distill, Term, select


@dataclass
class Result:
    """What one chunk adds to the loss."""

    loss: Tensor
    """Scalar."""
    pulls: Tensor
    """[C] derivative to the target's log-probability, where a term sees nothing else."""
    gradient: Tensor | None = None
    """[C, V], to the output of the head's linear map."""


@dataclass
class Job:
    """One call of the loss: all its arguments but the tensors that get a gradient."""

    head: Head
    targets: Tensor
    terms: Sequence[Term]
    streams: Mapping[str, Stream]
    measured: str | None
    """The stream that the statistics are about."""
    old: Tensor | None
    sampler: Tensor | None
    temperature: float
    chunk: int
    measure_all: bool
    stats: TokenStats
    top: int

    def __post_init__(self) -> None:
        masks = {name: _mask(stream) for name, stream in self.streams.items()}
        self.own = {name: mask.cumsum(0) - 1 for name, mask in masks.items()}
        """By stream: token -> row of its teacher."""
        self.active = torch.zeros(len(self.targets), dtype=torch.bool, device=self.targets.device)
        """[N] bool: has a part in the loss."""
        self.heard = {name: masks[name] if name == self.measured else torch.zeros_like(self.active) for name in masks}
        """By stream, [N] bool: the teacher is needed there."""
        for term in self.terms:
            live = term.coefficients != 0
            self.active |= live
            if isinstance(term, Distill) and term.teacher in self.heard:
                self.heard[term.teacher] = self.heard[term.teacher] | live

    def chunks(self) -> Iterator[tuple[Tensor, bool, list[str]]]:
        """(token indices, has a part in the loss, streams to hear), alike within a chunk."""
        names = list(self.heard)
        code = torch.zeros_like(self.targets)
        for i, mask in enumerate(self.heard.values()):
            code += mask.long() << i
        for is_active in (True, False) if self.measure_all else (True,):
            chosen = self.active == is_active
            for which in torch.unique(code[chosen]).flip(0).tolist():
                rows = (chosen & (code == which)).nonzero()[:, 0]
                heard = [name for i, name in enumerate(names) if which >> i & 1]
                for start in range(0, len(rows), self.chunk):
                    yield rows[start : start + self.chunk], is_active, heard

    def run(self, hidden: Tensor, rows: Tensor, heard: Sequence[str], grad: bool) -> Result:
        """Measure one chunk; with ``grad`` also its loss and the gradient to the student's logits."""
        logp, cap = self.head.logits(hidden), self.head.softcap
        slope = None if cap is None or not grad else (logp / cap).square_().neg_().add_(1)
        if self.temperature != 1.0:
            logp.div_(self.temperature)
        p, y = closed_form.log_softmax_(logp), self.targets[rows, None]
        student = Student(rows, y, logp, p, logp.gather(-1, y)[:, 0])
        self.stats.logp[rows] = student.logp_y
        if self.measure_all:
            self.stats.entropy[rows] = closed_form.entropy(logp, p)

        result = Result(logp.new_zeros(()), torch.zeros_like(student.logp_y))
        for name in heard:
            self.compare(name, student, result, grad)
        if not grad:
            return result
        for term in self.terms:
            if not isinstance(term, Distill):
                self.add_pull(term, student, result, per_token)
        pulls = result.pulls[:, None]
        if result.gradient is None:
            result.gradient = p.mul_(-pulls)
        else:
            result.gradient.addcmul_(p, pulls, value=-1)
        result.gradient.scatter_add_(-1, y, pulls)
        if self.head.scale != self.temperature:
            result.gradient.mul_(self.head.scale / self.temperature)
        if slope is not None:
            result.gradient.mul_(slope)
        return result

    def compare(self, name: str, student: Student, result: Result, grad: bool) -> None:
        """Everything that one teacher has a part in."""
        rows = student.rows
        said = forms.hear(self.streams[name], self.own[name][rows], student)
        reported = next((term for term in self.terms if isinstance(term, Distill)), None)
        unreported = name == self.measured
        if unreported:
            forms.measure(self.stats, student, said, self.top, self.measure_all)
        for term in self.terms if grad else ():
            if not isinstance(term, Distill) or term.teacher != name or not bool(term.coefficients[rows].any()):
                continue
            if term.form == "full":
                value = self.add_divergence(select(term, rows), student, said, result)
                if term is reported:
                    self.stats.divergence[rows] = value
                    unreported = False
            else:
                self.add_sampled(term, student, said, result)
        if unreported and (self.measure_all or not grad):
            self.stats.divergence[rows] = forms.report(reported, student, said)

    def add_divergence(self, term: Distill, student: Student, said: Dense | Sparse, result: Result) -> Tensor:
        """Add a full-form Distill to ``result``; returns its divergence without clips, ``[C]``."""
        value, loss, gradient = forms.evaluate(term, student, said)
        rho, w = importance_weights(
            student.logp_y, _at(self.old, student.rows), _at(self.sampler, student.rows), term.is_clip
        )
        factor = term.coefficients.to(loss.dtype) * rho * w
        if term.clip is not None and term.clip_at == "position":
            factor *= position_weight(loss, term.clip)
        idle = term.coefficients == 0
        result.loss += (factor * loss).masked_fill_(idle, 0).sum()
        gradient.mul_(factor[:, None])
        if bool(idle.any()):
            gradient.masked_fill_(idle[:, None], 0)
        result.gradient = gradient if result.gradient is None else result.gradient.add_(gradient)
        return value

    def add_sampled(self, whole: Distill, student: Student, said: Dense | Sparse, result: Result) -> None:
        """Add a Distill that estimates from the sampled token."""
        live = (whole.coefficients[student.rows] != 0).nonzero()[:, 0]
        expected, teacher = forms.baseline(whole, student, said), said.logq_y[live]

        def loss(term: Distill, logp: Tensor, old: Tensor | None, sampler: Tensor | None) -> Tensor:
            rho, w = importance_weights(logp, old, sampler, term.is_clip)
            return sampled_form(term, logp, teacher, _at(expected, live)) * rho * w

        self.add_pull(whole, student, result, loss)

    def add_pull(self, whole: Term, student: Student, result: Result, function: Callable[..., Tensor]) -> None:
        """Add a term that sees the target's log-probability only: ``function(term, log p(y), old, sampler)``."""
        live = (whole.coefficients[student.rows] != 0).nonzero()[:, 0]
        if not len(live):
            return
        rows = student.rows[live]
        term = select(whole, rows)
        with torch.enable_grad():
            x = student.logp_y[live].detach().requires_grad_()
            value = function(term, x, _at(self.old, rows), _at(self.sampler, rows))
            loss = (term.coefficients.detach() * value).sum()
            if loss.requires_grad:  # else the function is a constant
                result.pulls[live] += torch.autograd.grad(loss, x)[0]
        result.loss += loss.detach()


def _mask(stream: Stream) -> Tensor:
    assert stream.taught is not None
    return stream.taught


def _at(values: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if values is None else values[rows]

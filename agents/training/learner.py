"""The learner: one optimiser step on one batch of samples, blind to the algorithm.

It forwards the student in packs, makes the loss chunk by chunk, sums gradients, clips, steps. Coefficients are
global before packing, so the gradient does not depend on how samples are packed or split.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from agents.batch import Batch, Student
from agents.engines.hf import HFEngine
from agents.losses.fused import Head, SparseTeacher, Stream, TokenStats, fused_loss, token_stats
from agents.losses.fused import Teacher as TeacherLogits
from agents.losses.terms import Distill, PolicyGradient, Term, columnwise


class OptimSettings(BaseModel):
    """AdamW and its schedule."""

    model_config = ConfigDict(extra="forbid")

    lr: float = Field(1e-5, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's moment decays")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    clip_norm: float = Field(1.0, gt=0, description="gradient norm above which gradients are scaled down")
    steps_per_batch: int = Field(1, ge=1, description="optimiser steps a rollout batch is split into")
    epochs: int = Field(1, ge=1, description="passes over a rollout batch; what the teacher read is kept for the next")


@dataclass
class StepResult:
    """What one optimiser step did."""

    loss: float
    grad_norm: float
    lr: float
    stepped: bool
    """False where nothing had a signal, or the gradient was not finite."""
    stats: TokenStats | None
    """Per-token statistics in batch order, NaN where a token carried no signal."""
    is_clip: float | None = None
    """The terms' smallest cap of the importance weights; None: none has one."""


class Learner:
    """Owns the optimiser of an engine's trainable weights."""

    def __init__(self, engine: HFEngine, settings: OptimSettings, temperature: float) -> None:
        self.engine, self.settings, self.temperature = engine, settings, temperature
        self.parameters = [p for p in engine.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.steps = 0

    def step(self, batch: Batch, terms: Sequence[Term], top: int = 0) -> StepResult:
        """One optimiser step on ``terms``; ``top`` alternatives of the teacher are recorded a token."""
        signal = _signal(terms, len(batch.targets))
        chosen = sorted(set(batch.sequence[signal].tolist()))
        everything = batch.items()
        items = [everything[i] for i in chosen]
        total, collected = 0.0, _Collector(len(batch.targets))
        for part in self.engine.packs(items):
            with torch.enable_grad():
                index = torch.cat([_span(batch, chosen[i]) for i in part.order])
                loss, stats = self.loss(batch, terms, index, self.engine.hidden(part), self.engine.head(), top)
                loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            collected.add(index, stats)
        result = self._finish(total, bool(items), collected)
        caps = [cap for term in terms if (cap := getattr(term, "is_clip", None)) is not None]
        return dataclasses.replace(result, is_clip=min(caps, default=None))

    def loss(
        self, batch: Batch, terms: Sequence[Term], index: Tensor, hidden: Tensor, head: Head, top: int = 0
    ) -> tuple[Tensor, TokenStats]:
        """What some tokens of the batch add to the loss: those at ``index``, whose hidden states are given, [n, d]."""
        return fused_loss(
            hidden,
            head,
            batch.targets[index].to(hidden.device),
            [_at(term, index, hidden.device) for term in terms],
            streams=_streams(_teachers(batch), index, hidden.device),
            old_logprobs=_take(batch.old_logprobs, index, hidden.device),
            sampler_logprobs=_take(batch.sampler_logprobs, index, hidden.device),
            temperature=self.temperature,
            top=top if batch.teachers else 0,
        )

    def _finish(self, loss: float, any_signal: bool, collected: _Collector) -> StepResult:
        lr = self.settings.lr * min(1.0, (self.steps + 1) / max(self.settings.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)) if any_signal else 0.0
        finite = norm == norm and norm != float("inf")
        stepped = any_signal and finite
        if stepped:
            self.optimizer.step()
            self.steps += 1
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss, norm, lr, stepped, collected.stats)

    @torch.no_grad()
    def logprobs(self, batch: Batch, idle: Tensor | None = None) -> Tensor:
        """[N] log-probabilities of the batch's actions under the current weights; NaN where samples are ``idle``."""
        busy = torch.ones(len(batch), dtype=torch.bool) if idle is None else ~idle
        places = batch.per_token(busy).nonzero()[:, 0]
        result = torch.full((len(batch.targets),), math.nan)
        if len(places):
            items = [item for item, read in zip(batch.items(), busy.tolist(), strict=True) if read]
            hidden = self.engine.read(items)
            targets = batch.targets[places].to(hidden.device)
            found = token_stats(hidden, self.engine.head(), targets, temperature=self.temperature)[0].cpu()
            result = result.to(found.dtype)
            result[places] = found
        return result

    @torch.no_grad()
    def student(self, batch: Batch, measure: Distill) -> Student:
        """The policy at its current weights, and its divergence from the main teacher as ``measure`` has it.

        ``measure`` needs coefficients of 0: nothing is learnt.
        """
        hidden, everything = self.engine.read(batch.items()), torch.arange(len(batch.targets))
        _, stats = fused_loss(
            hidden,
            self.engine.head(),
            batch.targets.to(hidden.device),
            [_at(measure, everything, hidden.device)],
            streams=_streams(_teachers(batch), everything, hidden.device),
            temperature=self.temperature,
        )
        return Student(stats.logp.float().cpu(), stats.entropy.float().cpu(), stats.divergence.float().cpu())


class _Collector:
    """Gathers per-token statistics of the packs into batch order."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.stats: TokenStats | None = None

    def add(self, index: Tensor, stats: TokenStats) -> None:
        if self.stats is None:
            top = 0 if stats.top_ids is None else stats.top_ids.shape[1]
            self.stats = TokenStats.empty(self.n, top, stats.logp.dtype, torch.device("cpu"))
        for field in dataclasses.fields(stats):
            whole, part = getattr(self.stats, field.name), getattr(stats, field.name)
            if whole is not None and part is not None:
                whole[index] = part.cpu()


def _signal(terms: Sequence[Term], n: int) -> Tensor:
    """[N] bool: some term has a gradient at this token."""
    signal = torch.zeros(n, dtype=torch.bool)
    for term in terms:
        active = term.coefficients != 0
        signal |= active & (term.advantages != 0) if isinstance(term, PolicyGradient) else active
    return signal


def _span(batch: Batch, i: int) -> Tensor:
    return torch.arange(int(batch.offsets[i]), int(batch.offsets[i + 1]))


def _take(values: Tensor | None, index: Tensor, device: torch.device) -> Tensor | None:
    return None if values is None else values[index].to(device)


def _at(term: Term, index: Tensor, device: torch.device) -> Term:
    """The term on some tokens, on the device of their hidden states."""
    return columnwise(term, lambda column: column[index].to(device))


def _teachers(batch: Batch) -> dict[str, tuple[TeacherLogits | SparseTeacher, Tensor]]:
    """By stream: the teacher, and its tokens, [N] bool."""
    return {name: (teacher, batch.per_token(batch.read_by(name))) for name, teacher in batch.teachers.items()}


def _streams(
    teachers: dict[str, tuple[TeacherLogits | SparseTeacher, Tensor]], index: Tensor, device: torch.device
) -> dict[str, Stream]:
    """The teachers that have a word on some tokens, on those tokens."""
    streams = {}
    for name, (teacher, taught) in teachers.items():
        here = taught[index]
        if here.any():
            row = taught.cumsum(0) - 1  # token -> row of the teacher
            streams[name] = Stream(teacher.take(row[index][here]), here.to(device))
    return streams

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
from agents.errors import SetupError
from agents.losses.fused import Head, SparseTeacher, Stream, TokenStats, fused_loss, token_stats
from agents.losses.fused import Teacher as TeacherLogits
from agents.losses.terms import Distill, PolicyGradient, Term, columnwise
from agents.training.ranks import Ranks, spans


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
    """Owns the optimiser of an engine's trainable weights.

    With ``ranks`` it is one of several that hold equal weights and are given equal batches: `step`, `logprobs` and
    `student` are collectives, each works on its share, and all results are those of the whole batch.
    """

    def __init__(
        self, engine: HFEngine, settings: OptimSettings, temperature: float, ranks: Ranks | None = None
    ) -> None:
        self.engine, self.settings, self.temperature, self.ranks = engine, settings, temperature, ranks
        self.parameters = [p for p in engine.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.steps = 0

    def step(self, batch: Batch, terms: Sequence[Term], top: int = 0, recipe: str = "") -> StepResult:
        """One optimiser step on ``terms``; ``top`` alternatives of the teacher are recorded a token.

        Raises:
            SetupError: A coefficient, or an advantage that has one, is not finite; it names ``recipe``.
        """
        _require_finite(batch, terms, recipe)
        signal = _signal(terms, len(batch.targets))
        chosen = sorted(set(batch.sequence[signal].tolist()))
        everything = batch.items()
        share = self._share(batch, chosen)
        items = [everything[i] for i in share]
        total, collected = 0.0, _Collector(len(batch.targets))
        for part in self.engine.packs(items):
            with torch.enable_grad():
                index = torch.cat([_span(batch, share[i]) for i in part.order])
                loss, stats = self.loss(batch, terms, index, self.engine.hidden(part), self.engine.head(), top)
                loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            collected.add(index, stats)
        if self.ranks is not None and chosen:
            self.ranks.sum_gradients(self.parameters)
            total = self.ranks.total(total)
            collected.empty(self.engine.head().weight.dtype, top if batch.teachers else 0)
            collected.gather(self.ranks, _tokens(batch, share), _tokens(batch, chosen))
        result = self._finish(total, bool(chosen), collected)
        caps = [cap for term in terms if (cap := getattr(term, "is_clip", None)) is not None]
        return dataclasses.replace(result, is_clip=min(caps, default=None))

    def _share(self, batch: Batch, samples: list[int]) -> list[int]:
        """Those of the batch's samples that this rank works on."""
        if self.ranks is None:
            return samples
        everything = batch.items()
        return [samples[k] for k in self.ranks.mine([everything[i] for i in samples])]

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
        busy = [i for i in range(len(batch)) if idle is None or not idle[i]]
        share, everything = self._share(batch, busy), batch.items()
        dtype = torch.promote_types(self.engine.head().weight.dtype, torch.float32)
        result, places = torch.full((len(batch.targets),), math.nan, dtype=dtype), _tokens(batch, share)
        if len(places):
            hidden = self.engine.read([everything[i] for i in share])
            targets = batch.targets[places].to(hidden.device)
            result[places] = token_stats(hidden, self.engine.head(), targets, temperature=self.temperature)[0].cpu()
        return result if self.ranks is None else self.ranks.gather(result, places, _tokens(batch, busy))

    @torch.no_grad()
    def student(self, batch: Batch, measure: Distill) -> Student:
        """The policy at its current weights, and its divergence from the main teacher as ``measure`` has it.

        ``measure`` needs coefficients of 0: nothing is learnt.
        """
        read = self.engine.read
        hidden = read(batch.items()) if self.ranks is None else self.ranks.read(read, batch.items())
        everything = torch.arange(len(batch.targets))
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

    def empty(self, dtype: torch.dtype, top: int) -> None:
        """Be ready for the stats of weights of a dtype, unless there are some already."""
        if self.stats is None:
            dtype = torch.promote_types(dtype, torch.float32)
            self.stats = TokenStats.empty(self.n, top, dtype, torch.device("cpu"))

    def gather(self, ranks: Ranks, mine: Tensor, everyone: Tensor) -> None:
        """Add what the other ranks have collected."""
        for field in dataclasses.fields(TokenStats):
            if (whole := getattr(self.stats, field.name)) is not None:
                ranks.gather(whole, mine, everyone)

    def add(self, index: Tensor, stats: TokenStats) -> None:
        self.empty(stats.logp.dtype, 0 if stats.top_ids is None else stats.top_ids.shape[1])
        for field in dataclasses.fields(stats):
            whole, part = getattr(self.stats, field.name), getattr(stats, field.name)
            if whole is not None and part is not None:
                whole[index] = part.cpu()


def _require_finite(batch: Batch, terms: Sequence[Term], recipe: str) -> None:
    """Refuse a term that would make the whole gradient NaN, before anything is forwarded.

    Where it was a teacher that overflowed, the recipe is not to blame: the step is left out, as one whose gradient is
    not finite.
    """
    if any(bool((~r.logprob.isfinite() & batch.per_token(batch.read_by(s))).any()) for s, r in batch.readings.items()):
        return
    for term in terms:
        bad = [("coefficients", term.coefficients, ~torch.isfinite(term.coefficients))]
        if isinstance(term, PolicyGradient):
            counts = (term.coefficients != 0) & ~torch.isfinite(term.advantages)
            bad.append(("advantages", term.advantages, counts))
        for name, values, wrong in bad:
            if wrong.any():
                t = int(wrong.nonzero()[0])
                sample = int(batch.sequence[t])
                raise SetupError(
                    f"recipe={recipe!r}: {name} of its {type(term).__name__} are not finite at {int(wrong.sum())} of "
                    f"{len(wrong)} tokens, first {float(values[t])} at token {t - int(batch.offsets[sample])} of "
                    f"sample {sample}; give 0 where there is nothing to learn, as agents.losses.reduction does"
                )


def _signal(terms: Sequence[Term], n: int) -> Tensor:
    """[N] bool: some term has a gradient at this token."""
    signal = torch.zeros(n, dtype=torch.bool)
    for term in terms:
        active = term.coefficients != 0
        signal |= active & (term.advantages != 0) if isinstance(term, PolicyGradient) else active
    return signal


def _span(batch: Batch, i: int) -> Tensor:
    return torch.arange(int(batch.offsets[i]), int(batch.offsets[i + 1]))


def _tokens(batch: Batch, samples: Sequence[int]) -> Tensor:
    """The tokens of some samples, [n]."""
    return spans(batch.offsets[1:], batch.lengths, samples)


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

"""TRACE: token-routed self-distillation (arXiv 2605.10194). Distil a few decisive spans, for a few steps, then GRPO.

Status: partial. Objective, schedule, coverage and clip are confirmed from a detailed note; the annotator's wording, the
list of tags and how samples are averaged are ours.

An annotator is shown an attempt y in numbered segments, marks those that decided it, S_y, at most a quarter of its
tokens, and says of what kind they are. The self-teacher is told the kind and nothing else: not where, not what, not the
attempt.

    L   = GRPO_t where t is not in S  +  (1 - lambda_k / lambda_0) GRPO_t where t is in S
          + lambda_k  1/n sum_y |S_y| / |y|  mean over S_y of D_t
    D_t = KL(q || p) on spans of correct attempts,  KL(p || q) on spans of wrong ones
    lambda_k = 0.5 for 10 steps, then linearly to 0 over 30; from step 40 on no teacher reads and nobody annotates
    q        = the policy of a while ago, copied every 10 steps

The annotator is the policy itself (``author``), or its teacher, which may be another model. A reply that is unclear
marks nothing. Tags are from closed lists (`agents.credit.spans`): no text of a span can reach the teacher. GRPO is a
mean over all tokens of the batch. Over several turns each turn is annotated by itself (our reading).

The paper cuts each vocabulary entry's part of the divergence at 0.05, which reverses the gradient of the entries that
it cuts: a token that the teacher wants much more of is pushed down. ``clip_at=entry`` replicates it, with a warning; by
default the position as a whole weighs at most ``clip`` nats. Which direction helps turns with the base model
(Qwen3-1.7B: KL(p || q) is ahead; 8B: KL(q || p)): ``key_alpha`` and ``error_alpha``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from agents.batch import MAIN, Batch, Sample
from agents.losses.reduction import sequence_mean, token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import TaughtRecipe, Texts, require_attempts
from agents.recipes.tools import StepTools
from agents.recipes.writers import mark_spans
from agents.schedules import Schedule, Scheduled
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group

if TYPE_CHECKING:
    from agents.config import TrainConfig


class TRACE(TaughtRecipe):
    """GRPO, and distillation on annotated spans while the schedule lasts."""

    name: ClassVar[str] = "trace"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "check_teacher": 0}
    gives: ClassVar[tuple[str, ...]] = ("tag",)

    teacher: TeacherSettings = TeacherSettings(kind="periodic", every=10)
    context: Context = Context(sources=["tag"], wording="paper")
    top_k: int = Field(0, ge=0, description="divergence over the student's likeliest tokens; 0: whole vocabulary")
    weight: Scheduled = Field(
        Schedule(start=0.5, kind="linear", to=0.0, hold=10, over=30), description="lambda: weight of the distillation"
    )
    coverage: float = Field(0.25, gt=0, le=1, description="largest share of an attempt's tokens that spans may cover")
    key_alpha: float = Field(0.0, ge=0, le=1, description="divergence on spans of correct attempts: 0 is KL(q || p)")
    error_alpha: float = Field(1.0, ge=0, le=1, description="divergence on spans of wrong attempts: 1 is KL(p || q)")
    clip: float | None = Field(0.05, gt=0, description="cap of a divergence, nats; null: none")
    clip_at: Literal["position", "entry"] = Field(
        "position", description="what is capped: a position, or each vocabulary entry of it (as published)"
    )
    author: Literal["policy", "teacher"] = Field("policy", description="who annotates")
    author_tokens: int = Field(128, ge=8, description="longest annotation")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")

    @model_validator(mode="after")
    def _two_directions(self) -> TRACE:
        if self.alpha != type(self).model_fields["alpha"].default:
            raise ValueError(
                f"recipe.alpha={self.alpha} with recipe=trace: there are two divergences; set recipe.key_alpha="
                f"{self.key_alpha} and recipe.error_alpha={self.error_alpha} instead"
            )
        return self

    def check_run(self, run: TrainConfig) -> None:
        """A group of one has no advantages."""
        require_attempts(run, f"recipe={self.name}")

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Words, where it annotates."""
        return super().needs(name) | ({"generate": "recipe.author='teacher'"} if self.author == "teacher" else {})

    def teaching(self) -> bool:
        """Until the schedule is over."""
        return not self.weight.is_off(self._step)

    @property
    def _first(self) -> float:
        """lambda_0: the schedule's largest value, at which spans have no policy gradient."""
        return max(self.weight.start, self.weight.to or 0.0)

    def given(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> Texts:
        """Annotate the attempts; the teacher is told the tag."""
        marks = mark_spans(samples, tools, self.author, self.coverage, self.author_tokens)
        for sample, mark in zip(samples, marks, strict=True):
            sample.notes["spans"] = mark[1] if mark else []
        tools.log["annotated"] = sum(mark is not None for mark in marks) / max(len(marks), 1)
        return {**super().given(samples, groups, tools), "tag": [mark[0] if mark else None for mark in marks]}

    def terms(self, batch: Batch) -> list[Term]:
        """GRPO with the spans turned down, and one divergence for each outcome."""
        weight = self.weight.at(self._step)
        span = self._spans(batch) if weight else torch.zeros(len(batch.targets), dtype=torch.bool)
        everything, advantages = torch.ones(len(batch.targets)), batch.per_token(batch.advantages)
        turned_down = token_mean(everything, 1 - weight / self._first * span if weight else everything)
        terms: list[Term] = [
            PolicyGradient(turned_down, advantages, self.clip_low, self.clip_high, is_clip=self.is_clip)
        ]
        correct = batch.per_token(batch.correct)
        for alpha, routed in ((self.key_alpha, span & correct), (self.error_alpha, span & ~correct)):
            if routed.any():
                share = weight * sequence_mean(everything, batch.sequence, len(batch), routed.float())
                term = self.distill(share)
                terms.append(replace(term, alpha=alpha, clip=self.clip, clip_at=self.clip_at))
        batch.log["span_share"] = float(span.float().mean()) if len(span) else 0.0
        return terms

    def _spans(self, batch: Batch) -> Tensor:
        """[N] bool: in a span of an attempt whose teacher was told its tag."""
        inside = torch.zeros(len(batch.targets), dtype=torch.bool)
        for i, sample in enumerate(batch.samples):
            start = int(batch.offsets[i])
            for first, last in sample.notes.get("spans", ()):
                inside[start + first : start + last] = True
        return inside & batch.per_token(batch.taught)

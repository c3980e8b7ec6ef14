"""CREDIT: input-specific credit for self-distillation (arXiv 2605.11613). Less of what feedback makes of any question.

Status: partial. The claim, C and lambda are the paper's; the equation is put together from notes on it.

Summed over an attempt, SDPO's token reward log q(y | x, z) - log p(y | x) is the mutual information of attempt and
feedback, which boilerplate that goes with any feedback earns, too. The same teacher, shown the same context z below
another task's question x', says how much of it is boilerplate:

    r_t = log q(y_t | x, z, y_<t) - log p(y_t | x, y_<t) - lambda 1/C sum_j log q(y_t | x'_j, z, y_<t)
    L   = - 1/N sum over taught tokens of rho_t w_t stopgrad(r_t) log p(y_t | x, y_<t)

C = 1, lambda = 0.1; larger ones erase the specific signal with the generic. lambda = 0 is SDPO's token-level advantage,
`opd` with ``form=sampled``, and the second pass is left out.

Our readings: questions are those of the other tasks of the rollout batch; over several turns x' is the other task's
history up to the same turn; where there is no other task r_t has no third part. As written, the third part is negative
for every token and so an encouragement of all; ``centre`` takes its mean away (the notes allow a constant).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.batch import MAIN, Batch, Sample
from agents.credit.tokens import centred
from agents.losses.reduction import token_mean
from agents.losses.terms import Distill, PolicyGradient, Term
from agents.recipes.advantage import SampledRecipe
from agents.recipes.base import teacher_limit
from agents.recipes.tools import StepTools
from agents.schedules import Schedule, Scheduled
from agents.teachers.contexts import Context, add_contexts
from agents.teachers.contrasts import partners
from agents.trajectory import Group


class CREDIT(SampledRecipe):
    """SDPO's token-level advantage less a contrast with other questions."""

    name: ClassVar[str] = "credit"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}}

    context: Context = Context(sources=["sibling", "feedback"], wording="paper")
    contrast: Scheduled = Field(Schedule(start=0.1), description="lambda: weight of the contrast; 0: no second pass")
    contrasts: int = Field(1, ge=1, description="C: other tasks whose question takes the place of the sample's own")
    centre: Literal["none", "sequence", "batch"] = Field(
        "none", description="whose mean is taken from the contrast; none: as written"
    )

    def streams(self) -> dict[str, str]:
        """One teacher, under the task's question and under others."""
        return dict.fromkeys([MAIN, *self._contrasted()], MAIN)

    def _contrasted(self) -> list[str]:
        off = self.contrast.is_off(self._step)
        return [] if off else [f"contrast{j}" for j in range(1, self.contrasts + 1)]

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """The context below the sample's own question, and below those of other tasks."""
        own = [s for s in samples if s.source == "policy"]
        prompts: list[Sequence[Sample | None]] = [own, *partners(own, len(self._contrasted()), tools.seed)]
        given, limit = self.given(own, groups, tools), teacher_limit(tools)
        return sum(
            add_contexts(
                self.context, own, groups, tools.chat, limit, tools.seed, stream=stream, given=given, prompts=asked
            )
            for stream, asked in zip(self.streams(), prompts, strict=True)
        )

    def terms(self, batch: Batch) -> list[Term]:
        """The sampled estimate of the reverse KL, and the contrast as an advantage of its own with the same weights."""
        taught = batch.per_token(batch.taught)
        mean = token_mean(taught)
        terms: list[Term] = [Distill(mean, 1.0, form="sampled", is_clip=self.is_clip)]
        if any(stream in batch.readings for stream in self._contrasted()):
            advantages = -self.contrast.at(self._step) * self._generic(batch, taught)
            cap = self.is_clip - 1.0
            terms.append(PolicyGradient(mean, advantages, 0.0, cap, is_clip=self.is_clip, surrogate="cispo"))
        return terms

    def _generic(self, batch: Batch, taught: Tensor) -> Tensor:
        """[N] mean of log q(y_t | x'_j, z) over the contrasts that there are; 0 where there is none."""
        total, count = torch.zeros(len(taught)), torch.zeros(len(taught))
        for stream in self._contrasted():
            if (reading := batch.readings.get(stream)) is not None:
                read = taught & batch.per_token(batch.viewed(stream))
                total += torch.where(read, reading.logprob, 0.0)
                count += read
        generic = total / count.clamp(min=1)
        batch.log["generic_logprob"] = float(generic.sum() / (count > 0).sum().clamp(min=1))
        if self.centre == "none":
            return generic
        return centred(generic, count > 0, batch.sequence, len(batch), self.centre)

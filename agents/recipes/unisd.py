"""UniSD: one interface to self-distillation with stabilisers that can be switched on one by one (arXiv 2605.06597).

Status: partial. Feature matching (the last layer's states) is not built. The agreement weight is our reading.

    L = 1/N sum_t w_t min(kappa, D_t)  +  lambda_c 1/N sum_t max(0, gamma + |l - l+| - |l - l-|)

    l, l+, l-  log-probability of the sampled token: the student's, the teacher's under its context, and under a
               corrupted one, the answer to another task
    w_t        agreement: the teacher reads under K contexts that mean the same (with examples from other tasks of the
               step); u is the standard deviation (or range) of their log-probabilities, w = exp(-beta u), of mean 1
    D          the Jensen-Shannon divergence; kappa caps a position and keeps its gradient's direction (our reading of
               the cap: a plain minimum would leave capped positions without a gradient)

The running mean of the weights (EMA) is the teacher's ``kind``: alone it was the best single part (reported), agreement
costs as many teacher passes as there are contexts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.batch import MAIN, Batch, Sample
from agents.credit.tokens import mean_one
from agents.losses.reduction import token_mean
from agents.losses.terms import Pointwise, Term
from agents.recipes.base import TaughtRecipe, teacher_limit
from agents.recipes.tools import StepTools, question_of
from agents.teachers.contexts import Context, add_contexts, without_thinking
from agents.trajectory import Group


class UniSD(TaughtRecipe):
    """Self-distillation with agreement, contrast, cap and averaging."""

    name: ClassVar[str] = "unisd"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-5}}
    gives: ClassVar[tuple[str, ...]] = ("demonstration",)
    reads_teacher: ClassVar[bool] = True

    top_k: int = Field(0, ge=0, description="divergence over the student's likeliest tokens; 0: whole vocabulary")
    contexts: int = Field(3, ge=1, description="contexts that must agree (K); 1: no agreement weight")
    beta: float = Field(1.0, ge=0, description="how strongly disagreement mutes a token")
    spread: Literal["deviation", "range"] = Field("deviation", description="measure of disagreement")
    scope: Literal["token", "sequence"] = Field("token", description="whether a token or its whole answer is muted")
    kappa: float | None = Field(0.5, gt=0, description="cap of a position's divergence, nats; null: none")
    contrast: float = Field(0.1, ge=0, description="weight of the contrast with a corrupted context; 0: not made")
    gamma: float = Field(0.5, ge=0, description="margin of the contrast, nats")

    def streams(self) -> dict[str, str]:
        """The same teacher under all contexts."""
        further = [f"agreement{k}" for k in range(2, self.contexts + 1)]
        return dict.fromkeys([MAIN, *further, *(["corrupted"] if self.contrast else [])], MAIN)

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """The main context, the same with examples from elsewhere, and the answer to another task as if to this one."""
        own = [s for s in samples if s.source == "policy"]
        given = self.given(own, groups, tools)
        limit = teacher_limit(tools)

        def show(context: Context, stream: str, more: dict[str, list[str | None]]) -> int:
            return add_contexts(context, own, groups, tools.chat, limit, tools.seed, stream=stream, given=more)

        overlong = show(self.context, MAIN, given)
        for k in range(2, self.contexts + 1):
            joined = [entry if entry == "none" else f"{entry}+demonstration" for entry in self.context.sources]
            examples: list[str | None] = [_example(groups, s.group, f"{tools.seed}:{k}") for s in own]
            show(
                self.context.model_copy(update={"sources": joined}),
                f"agreement{k}",
                given | {"demonstration": examples},
            )
        if self.contrast:
            wrong = self.context.model_copy(update={"sources": ["reference"], "allow_reference": True})
            show(wrong, "corrupted", {"reference": [_other_answer(groups, s.group, tools.seed) for s in own]})
        return overlong

    def terms(self, batch: Batch) -> list[Term]:
        """The capped divergence under the agreement weight, and the contrast."""
        taught = batch.per_token(batch.scored)
        weights = self._agreement(batch, taught)
        result: list[Term] = [self.distill(token_mean(taught.float(), weights), clip=self.kappa)]
        both = taught & batch.per_token(batch.viewed("corrupted"))
        if self.contrast and "corrupted" in batch.readings and both.any():
            constants = {"good": batch.readings[MAIN].logprob, "bad": batch.readings["corrupted"].logprob}
            coefficients = self.contrast * token_mean(both.float(), denominator=float(taught.sum()))
            result.append(Pointwise(coefficients, self._hinge, constants))
        return result

    def _hinge(self, logp: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        return (self.gamma + (logp - constants["good"]).abs() - (logp - constants["bad"]).abs()).clamp(min=0)

    def _agreement(self, batch: Batch, taught: Tensor) -> Tensor:
        """[N] w of mean 1 over the taught tokens; where one context is missing, the others decide."""
        n = len(batch)
        if self.contexts == 1 or not taught.any():
            return taught.float()
        names = [name for name in self.streams() if name != "corrupted" and name in batch.readings]
        values = torch.stack([batch.readings[name].logprob for name in names])  # NaN where one did not read
        known = values.isfinite()
        count = known.sum(0).clamp(min=1)
        if self.spread == "range":
            top = values.masked_fill(~known, -torch.inf).amax(0)
            spread = top - values.masked_fill(~known, torch.inf).amin(0)
        else:
            mean = values.masked_fill(~known, 0).sum(0) / count
            spread = ((values - mean).masked_fill(~known, 0).square().sum(0) / count).sqrt()
        spread = spread.masked_fill(~taught, 0.0)
        if self.scope == "sequence":
            total = torch.zeros(n).index_add_(0, batch.sequence, spread)
            spread = batch.per_token(total / batch.lengths.clamp(min=1))
        return mean_one(torch.exp(-self.beta * spread), taught, batch.sequence, n, "batch")


def _successes(groups: Sequence[Group], but: int) -> list[tuple[int, str]]:
    return [
        (g, without_thinking(t.turns[-1].text))
        for g, group in enumerate(groups)
        for t in group.scored()
        if g != but and t.reward >= 1.0 and t.turns
    ]


def _example(groups: Sequence[Group], but: int, seed: str) -> str | None:
    """Question and answer of a success at another task, drawn by the seed."""
    good = _successes(groups, but)
    if not good:
        return None
    g, text = random.Random(f"{seed}:{but}").choice(good)
    return f"{question_of(groups[g])}\n{text}"


def _other_answer(groups: Sequence[Group], but: int, seed: str) -> str | None:
    """An answer to another task: a success, else whatever was said."""
    good = _successes(groups, but)
    said = [(g, t.turns[-1].text) for g, group in enumerate(groups) for t in group.scored() if g != but and t.turns]
    return random.Random(f"{seed}:{but}:corrupted").choice(good or said)[1] if good or said else None

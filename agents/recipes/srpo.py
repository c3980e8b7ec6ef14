"""SRPO: sample-routed policy optimisation (arXiv 2604.02288). Correct samples to GRPO, failed ones to the teacher.

    z_i = 1 for a failed sample that has a teacher context, else 0
    u_t = exp(-beta H(q_t)),   w_t = u_t / mean of u over all routed tokens of the batch
    L   = ( sum over z = 0 of L_GRPO,t  +  sum over z = 1 of w_t D_t ) / N        one denominator for both

H is the teacher's full-vocabulary entropy in nats. Advantages come from whole groups, before routing; tokens with
zero advantage still count in N (our readings).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from agents.batch import Batch
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import TaughtRecipe


class SRPO(TaughtRecipe):
    """Correct samples to policy gradient, failed samples to distillation, entropy weights."""

    name: ClassVar[str] = "srpo"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-5, "warmup_steps": 10}}
    reads_teacher: ClassVar[bool] = True

    beta: float = Field(1.0, ge=0, description="how strongly an uncertain teacher is muted")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")
    dual_clip: float | None = Field(3.0, gt=1, description="floor of the surrogate for negative advantages")

    def idle(self, batch: Batch) -> Tensor | None:
        """Flat groups, but for failures with a context."""
        return ~(batch.taught & ~batch.correct) & (batch.advantages == 0)

    def passed_over(self, batch: Batch) -> Tensor | None:
        """Successes: their signal is the advantage."""
        return super().passed_over(batch) if self.intervention is not None else batch.taught & batch.correct

    def terms(self, batch: Batch) -> list[Term]:
        """Complementary masks, one denominator."""
        routed = batch.per_token(batch.taught & ~batch.correct)
        n = len(batch.targets)
        weights = torch.zeros(n)
        if routed.any():
            assert batch.reading is not None
            trust = torch.exp(-self.beta * batch.reading.entropy[routed])
            weights[routed] = trust / trust.mean()
        distil = token_mean(routed.float(), weights, denominator=n)
        policy = token_mean((~routed).float(), denominator=n)
        advantages = batch.per_token(batch.advantages)
        return [
            self.distill(distil),
            PolicyGradient(policy, advantages, self.clip_low, self.clip_high, self.dual_clip, is_clip=self.is_clip),
        ]

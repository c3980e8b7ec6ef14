"""SOD: step-wise on-policy distillation (arXiv 2605.07725). A turn is taught as far as it has not drifted away.

A student that took a wrong turn early acts in states where the teacher's word is worth less, and more so every turn.
How far it drifted shows in the two models' disagreement about what it wrote:

    d_k = 1/|y_k| sum_t |log p(y_kt) - log q(y_kt)|                                 no gradient
    w_1 = 1,   w_k = min( prod_{u<k} (d_u + eps) / (d_{u+1} + eps), 1 + delta )
    L   = distil_weight  sum_k w_k sum_t D_kt / sum_k w_k |y_k|  +  policy_weight L_GRPO

The product telescopes: w_k = min((d_1 + eps) / (d_k + eps), 1 + delta). Turn k is damped by exactly how much more it
diverges than the first, and comes back when it diverges less.

Our readings: turn 1 is the first turn of the trajectory that the policy took and the teacher scored; D is the reverse
KL, by any of the estimators of `agents.recipes.opd`; sampling log-probabilities stand for log p, or those from before
the first of several optimiser steps. The released code, older than the paper's last version, multiplies the sampled
token's advantage, log q - log p, by w_k and adds it to GRPO's; it does not divide by the sum of the weights. Its
setting file has delta 0.5 and its run script 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from agents.batch import Batch
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import require_attempts
from agents.recipes.opd import OPD

if TYPE_CHECKING:
    from agents.config import TrainConfig

EPSILON = 1e-6
"""Nats; keeps the ratio finite where student and teacher agree to the last digit."""


class SOD(OPD):
    """`OPD` weighted turn by turn, plus the policy gradient."""

    name: ClassVar[str] = "sod"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "batch": {"tasks": 64, "attempts": 16}}
    reads_teacher: ClassVar[bool] = True

    delta: float = Field(0.2, ge=0, description="a turn weighs at most 1 + delta times the first")
    distil_weight: float = Field(1.0, ge=0, description="weight of the distillation")
    policy_weight: float = Field(1.0, ge=0, description="weight of the policy gradient; 0: distillation alone")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")

    @model_validator(mode="after")
    def _one_weight(self) -> SOD:
        if self.intervention is not None:
            raise ValueError(
                "recipe.intervention with recipe=sod: SOD trusts turns on which student and teacher agree, judges skip "
                "them, and the product of both weights is neither. Use recipe=sage_opd for judged turns"
            )
        return self

    def check_run(self, run: TrainConfig) -> None:
        """A group of one has no advantages."""
        if self.policy_weight:
            require_attempts(run, f"recipe.policy_weight={self.policy_weight:g}", "recipe.policy_weight=0")

    def terms(self, batch: Batch) -> list[Term]:
        """Weighted distillation of the taught turns, policy gradient of all."""
        taught = batch.per_token(batch.taught).float()
        weights = batch.per_token(self._turn_weights(batch))
        distil = self.distil_weight * token_mean(taught, weights, denominator=float((taught * weights).sum()))
        policy = self.policy_weight * token_mean(torch.ones(len(batch.targets)))
        advantages = batch.per_token(batch.advantages)
        return [
            self.distill(distil),
            PolicyGradient(policy, advantages, self.clip_low, self.clip_high, is_clip=self.is_clip),
        ]

    def _turn_weights(self, batch: Batch) -> Tensor:
        """[samples] w_k, 0 where the teacher did not score."""
        weights = torch.zeros(len(batch))
        if batch.reading is None:
            return weights
        student = batch.sampler_logprobs if batch.old_logprobs is None else batch.old_logprobs
        assert student is not None, "turns of the policy have log-probabilities"
        distance = (student - batch.reading.logprob).abs()
        total = torch.zeros(len(batch)).index_add_(0, batch.sequence, distance)
        divergence = total / batch.lengths  # NaN where nothing is taught, or nothing was said
        taught = batch.taught & (batch.lengths > 0)
        for turns in batch.trajectories:
            scored = turns[taught[turns]]
            weights[scored] = step_weights(divergence[scored], self.delta)
        batch.log["step_divergence"] = float(divergence[taught].mean())
        batch.log["step_weight"] = float(weights[taught].mean())
        return weights


def step_weights(divergence: Tensor, delta: float) -> Tensor:
    """w_k of the turns of one trajectory, in order, ``[K] -> [K]``, from their divergences (nats, >= 0)."""
    return ((divergence[:1] + EPSILON) / (divergence + EPSILON)).clamp(max=1.0 + delta)

"""The blend: outcome advantages and the self-teacher on the same tokens (arXiv 2601.20802, weak models).

The paper blends advantages, A = lambda A_GRPO + (1 - lambda) A_SDPO, lambda 0.9. As the gradient of the divergence
is the expectation of the SDPO advantage over the vocabulary, that is a weighted sum of the two losses:

    L = policy_weight L_GRPO + distil_weight L_SDPO

Both are means over tokens: L_GRPO over all tokens of the batch, L_SDPO over the taught ones (our reading).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from agents.batch import Batch
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import TaughtRecipe, require_attempts

if TYPE_CHECKING:
    from agents.config import TrainConfig


class Blend(TaughtRecipe):
    """Policy gradient plus self-distillation."""

    name: ClassVar[str] = "sdpo_grpo"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-5, "warmup_steps": 10}}

    policy_weight: float = Field(0.9, ge=0, description="weight of the policy gradient")
    distil_weight: float = Field(0.1, ge=0, description="weight of the self-distillation")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")

    def check_run(self, run: TrainConfig) -> None:
        """A group of one has no advantages."""
        if self.policy_weight:
            require_attempts(run, f"recipe.policy_weight={self.policy_weight:g}", "recipe.policy_weight=0")

    def idle(self, batch: Batch) -> Tensor | None:
        """Flat groups without a context."""
        return ~batch.taught & (batch.advantages == 0)

    def terms(self, batch: Batch) -> list[Term]:
        """Both signals; the student's logits are made once."""
        everything = torch.ones(len(batch.targets))
        taught = batch.per_token(batch.taught).float()
        policy = self.policy_weight * token_mean(everything)
        distil = self.distil_weight * token_mean(taught)
        advantages = batch.per_token(batch.advantages)
        return [
            self.distill(distil),
            PolicyGradient(policy, advantages, self.clip_low, self.clip_high, is_clip=self.is_clip),
        ]

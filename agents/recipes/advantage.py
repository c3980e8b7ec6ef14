"""What recipes share that keep the policy gradient and let a teacher reshape its advantages.

Nearly every blend of reinforcement learning and distillation is one clipped surrogate that differs in the advantage:

    d_t = log q(y_t | c, y_<t) - log p(y_t | x, y_<t)                    no gradient
    L   = - 1/N sum_t w_t min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t),       A_t = f(A, d_t)

with A the group-relative advantage of `agents.recipes.grpo`. Only the sampled token's probability under the teacher is
read: no logits. Where the teacher has no context d_t is 0.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from agents.batch import MAIN, Batch
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import TaughtRecipe, require_attempts
from agents.teachers.teacher import TeacherSettings

if TYPE_CHECKING:
    from agents.config import TrainConfig


class SampledRecipe(TaughtRecipe):
    """Reads the teacher's probability of the sampled token alone; what shapes a divergence is refused."""

    reads_teacher: ClassVar[bool] = True

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """The teacher's log-probability of what was sampled."""
        return {"logprob": f"recipe={self.name}"}

    @model_validator(mode="after")
    def _no_divergence(self) -> SampledRecipe:
        for name in ("alpha", "top_k", "support", "tail", "intervention"):
            if (value := getattr(self, name)) != type(self).model_fields[name].default:
                raise ValueError(
                    f"recipe.{name}={value!r} with recipe={self.name}: it shapes a divergence over the "
                    "vocabulary, and this method has none; leave it out, or use recipe=sdpo_grpo"
                )
        return self


class AdvantageRecipe(SampledRecipe):
    """The policy gradient with a teacher's say in the advantages; the teacher is the policy as it is now."""

    teacher: TeacherSettings = TeacherSettings(kind="live")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")

    def check_run(self, run: TrainConfig) -> None:
        """A group of one has no advantages."""
        require_attempts(run, f"recipe={self.name}")

    def terms(self, batch: Batch) -> list[Term]:
        """The clipped surrogate over every token, with the advantages that the teacher reshaped."""
        advantages = self.reshaped(batch, batch.per_token(batch.advantages), batch.log_ratio())
        everything = token_mean(torch.ones(len(batch.targets)))
        return [PolicyGradient(everything, advantages, self.clip_low, self.clip_high, is_clip=self.is_clip)]

    @abstractmethod
    def reshaped(self, batch: Batch, advantages: Tensor, log_ratio: Tensor) -> Tensor:
        """A_t, [N], from the group-relative A of each token and d_t, 0 where the teacher did not read."""

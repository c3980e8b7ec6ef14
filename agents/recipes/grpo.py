"""GRPO: the group-relative policy gradient (arXiv 2402.03300), in the variant SDPO compares itself with.

    A_i   = r_i - mean_j r_j                            over the group
    rho_t = p(y_t) / p_old(y_t)
    L     = - sum_t w_t min(rho_t A_i, clip(rho_t, 1 - eps_low, 1 + eps_high) A_i) / N

w_t truncates the mismatch between sampler and trainer; N counts the tokens of the batch (token mean, DAPO,
arXiv 2503.14476). No KL to a reference policy, advantages without the standard deviation, clip-high 0.28.

Over several turns, y is all that the policy wrote in the episode, r the sum of the turns' rewards, and every turn of a
trajectory has the trajectory's advantage. What the environment or an expert wrote counts in no sum.
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
from agents.recipes.base import Recipe, require_attempts

if TYPE_CHECKING:
    from agents.config import TrainConfig


class GRPO(Recipe):
    """Group-relative policy gradient."""

    name: ClassVar[str] = "grpo"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}}

    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")
    is_clip: float = Field(2.0, gt=0, description="cap of the sampler/trainer importance weight")

    def check_run(self, run: TrainConfig) -> None:
        """A group of one has no advantages."""
        require_attempts(run, f"recipe={self.name}")

    def idle(self, batch: Batch) -> Tensor | None:
        """Flat groups."""
        return batch.advantages == 0

    def terms(self, batch: Batch) -> list[Term]:
        """The clipped surrogate over every token."""
        return [self.surrogate(batch, token_mean(torch.ones(len(batch.targets))))]

    def surrogate(self, batch: Batch, coefficients: Tensor) -> PolicyGradient:
        """The term with some ``coefficients``, [N]; its ratio is to whoever wrote a sequence, where that is known."""
        return PolicyGradient(
            coefficients, batch.per_token(batch.advantages), self.clip_low, self.clip_high,
            is_clip=self.is_clip, behaviour=batch.behaviour,
        )  # fmt: skip

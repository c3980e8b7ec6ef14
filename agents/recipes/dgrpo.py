"""dGRPO: GRPO with a teacher beside the verifier (arXiv 2605.12227), made for long contexts.

    L = L_GRPO + beta 1/N sum_t KL(p_t || q_t)                    on the same rollouts

The teacher is a stronger model that reads the student's own prompt: ``teacher.kind=external``. beta=0 is GRPO, and no
teacher is then asked.

Status: partial. The shape of the loss is confirmed, beta and whether the KL is over a top k are not: 1 and the whole
vocabulary are our readings, as is the mean over taught tokens beside GRPO's over all. Without another model the
teacher is the policy of step 0, shown the feedback (`agents.recipes.opd`), so that the recipe runs: our own device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field

from agents.batch import Batch
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import require_attempts
from agents.recipes.opd import OPD
from agents.schedules import Schedule, Scheduled

if TYPE_CHECKING:
    from agents.config import TrainConfig


class DGRPO(OPD):
    """`GRPO` plus a reverse KL to a teacher."""

    name: ClassVar[str] = "dgrpo"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}}

    beta: Scheduled = Field(Schedule(start=1.0), description="weight of the divergence; a number, or a schedule")
    clip_low: float = Field(0.2, ge=0, description="lower clip of the ratio")
    clip_high: float = Field(0.28, ge=0, description="upper clip of the ratio")

    def check_run(self, run: TrainConfig) -> None:
        """A group of one has no advantages."""
        require_attempts(run, f"recipe={self.name}", "recipe=opd")

    def teaching(self) -> bool:
        """Not where the divergence weighs nothing."""
        return not self.beta.is_off(self._step)

    def terms(self, batch: Batch) -> list[Term]:
        """Both on one batch."""
        taught = batch.per_token(batch.taught).float()
        advantages = batch.per_token(batch.advantages)
        everything = token_mean(torch.ones(len(batch.targets)))
        return [
            self.distill(self.beta.at(self._step) * token_mean(taught)),
            PolicyGradient(everything, advantages, self.clip_low, self.clip_high, is_clip=self.is_clip),
        ]

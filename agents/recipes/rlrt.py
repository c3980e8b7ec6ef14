"""RLRT: the rebellious student (arXiv 2605.10781). On correct attempts, credit what the teacher would not have said.

Status: full (two independent readings agree on the equation and its constants).

Where an attempt succeeded, tokens on which the student departs from a teacher that has seen another success are its
own reasoning. RLSD's ratio is turned over, on correct attempts alone:

    d_t = log q(y_t | x, sibling's success, y_<t) - log p(y_t | x, y_<t)
    A_t = A ( (1 - lambda) + lambda clip(e^{-sign(A) d_t}, 1 - epsilon_w, 1 + epsilon_w) )      if the reward is 1
    A_t = A                                                                                     else

lambda = 0.5. epsilon_w = 1 for base models, 0.5 for instruction-tuned and 0.2 for thinking ones: the more mature the
model, the tighter.

The gate is no detail: turned over on failures too, length and entropy grow from about step 40 until training collapses
(the paper's ablation). A sibling is another attempt of the group, never the one that is scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from agents.batch import Batch
from agents.credit.tokens import ratio_weight
from agents.recipes.advantage import AdvantageRecipe
from agents.schedules import Schedule, Scheduled
from agents.teachers.contexts import Context

EPSILON = {"base": 1.0, "instruct": 0.5, "thinking": 0.2}
"""epsilon_w by the kind of model, as published."""


class RLRT(AdvantageRecipe):
    """Policy gradient that credits, on correct attempts, what the teacher finds unlikely."""

    name: ClassVar[str] = "rlrt"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}}

    context: Context = Context(sources=["sibling"], wording="paper")
    mix: Scheduled = Field(Schedule(start=0.5), description="lambda: how much of the advantage the teacher scales")
    model_kind: Literal["base", "instruct", "thinking"] = Field(
        "instruct", description="what the policy is: epsilon_w is 1 for base, 0.5 for instruct, 0.2 for thinking"
    )
    epsilon: float | None = Field(None, ge=0, le=1, description="epsilon_w itself; null: that of model_kind")

    def teaching(self) -> bool:
        """Not where lambda is 0."""
        return not self.mix.is_off(self._step)

    def reshaped(self, batch: Batch, advantages: Tensor, log_ratio: Tensor) -> Tensor:
        """The advantage times a weight about 1 on correct attempts, as it is on others."""
        epsilon = EPSILON[self.model_kind] if self.epsilon is None else self.epsilon
        weights = ratio_weight(log_ratio, -advantages.sign(), epsilon)
        mix = self.mix.at(self._step)
        return torch.where(batch.per_token(batch.correct), advantages * ((1 - mix) + mix * weights), advantages)

"""RLSD: self-distilled RLVR (arXiv 2604.03128). The verifier gives the direction, the self-teacher the size.

Status: partial. The equation is confirmed; the schedule of lambda and epsilon_w are those of public reimplementations.

A teacher that sees the answer is matched at the price of leaking it. So it only says how much of the group-relative
advantage A a token deserves:

    d_t = log q(y_t | x, answer, y_<t) - log p(y_t | x, y_<t)
    A_t = A ( (1 - lambda) + lambda clip(e^{sign(A) d_t}, 1 - epsilon_w, 1 + epsilon_w) )
    L   = the clipped surrogate of GRPO with A_t

With epsilon_w below 1 the sign of A_t is always that of A. lambda = 0 is GRPO; it falls to 0 within 50 steps, and then
the teacher reads nothing.

Our readings: an attempt without a context keeps A; several turns have a context each. Two later papers (RLRT, AMR-SD)
find RLSD below GRPO on mathematics in text; `rlrt` is the same with the other sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from agents.batch import Batch
from agents.credit.tokens import ratio_weight
from agents.recipes.advantage import AdvantageRecipe
from agents.schedules import Schedule, Scheduled
from agents.teachers.contexts import Context


class RLSD(AdvantageRecipe):
    """Policy gradient whose size, token by token, is the teacher's evidence."""

    name: ClassVar[str] = "rlsd"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}}

    context: Context = Context(sources=["reference", "expected"], wording="paper", allow_reference=True)
    mix: Scheduled = Field(
        Schedule(start=0.5, kind="linear", to=0.0, over=50),
        description="lambda: how much of the advantage the teacher scales",
    )
    epsilon: float = Field(0.2, ge=0, lt=1, description="epsilon_w: the scale is within 1 - epsilon and 1 + epsilon")

    def teaching(self) -> bool:
        """Not where lambda is 0."""
        return not self.mix.is_off(self._step)

    def reshaped(self, batch: Batch, advantages: Tensor, log_ratio: Tensor) -> Tensor:
        """The advantage times a weight about 1."""
        weights = ratio_weight(log_ratio, advantages.sign(), self.epsilon)
        mix = self.mix.at(self._step)
        return advantages * ((1 - mix) + mix * weights)

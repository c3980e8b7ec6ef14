"""AntiSD: anti-self-distillation (arXiv 2605.11609). Away from what a teacher that knows the solution says.

Status: full (two readings agree on all constants; some of the released launcher's are named below).

d_t is how much the solution tells about the token. In mathematics it rewards what the solution implies already and
punishes deliberation, so this method climbs a divergence that self-distillation descends, in a bounded form:

    u_t   = log q(y_t | x, solution, y_<t) - log p(y_t | x, y_<t)
    phi   = (softplus(u) - log 2) / 2                                   >= -log(2) / 2
    A_t   = A - g lambda phi(u_t)            added after the group's centring; also where all rewards are equal
    g     = a gate with hysteresis on the teacher's mean entropy H: closed below 0.93 H_0, open again at H_0,
            H_0 the median of the first 5 steps

lambda = 0.5. The solution is a sibling's success, else the reference. Gates start open, H is a mean over the tokens of
the batch that the teacher read, and what it says in a step decides the next one (our readings). The released launcher
judges each sequence by itself, opens again at 1.07 H_0 (``gate.high``), cuts u at 5 nats (``limit``) and also at two
deviations, which is not built.

Ablations to take as warnings: without a context for the teacher, dead within 70 steps; without the gate, better early
and dead by step 90; climbing the unbounded reverse KL, 49.5 points; multiplying instead of adding, 6.3 points less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor

from agents.batch import MAIN, Batch
from agents.credit.shaping import soft_gain
from agents.recipes.advantage import AdvantageRecipe
from agents.schedules import Gate, GateState, Schedule, Scheduled
from agents.teachers.contexts import Context


class AntiSD(AdvantageRecipe):
    """Policy gradient minus a bounded, gated gain of the teacher's."""

    name: ClassVar[str] = "antisd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-6},
        "batch": {"tasks": 32, "attempts": 8},
        "steps": 200,
    }

    context: Context = Context(sources=["sibling", "reference"], wording="paper", allow_reference=True)
    weight: Scheduled = Field(Schedule(start=0.5), description="lambda: how strongly it moves away from the teacher")
    limit: float = Field(5.0, gt=0, description="log-ratios are cut to so many nats, as in the released code")
    gate: Gate = Gate()
    _state: GateState = PrivateAttr(default_factory=lambda: GateState(Gate()))

    @model_validator(mode="after")
    def _informed(self) -> AntiSD:
        if not self.teacher.another and "none" in self.context.sources:
            raise ValueError(
                f"recipe.context.sources={self.context.sources} with recipe.teacher.kind={self.teacher.kind!r}: moving "
                "away from a teacher that sees no more than the policy collapses within about 70 steps (the paper's "
                "ablation); give it sibling or reference"
            )
        self._state = GateState(self.gate)
        return self

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Its entropy, too."""
        return {"logprob": "recipe=antisd", "logits": "recipe.gate, which reads the teacher's entropy,"}

    def teaching(self) -> bool:
        """Not where lambda is 0; a closed gate still reads the teacher, to know when to open."""
        return not self.weight.is_off(self._step)

    def reshaped(self, batch: Batch, advantages: Tensor, log_ratio: Tensor) -> Tensor:
        """The advantage less the gain; phi is 0 where the teacher did not read."""
        read = batch.per_token(batch.taught)
        if batch.reading is not None and read.any():
            batch.log["teacher_entropy"] = float(batch.reading.entropy[read].mean())
        batch.log["gate"] = float(self._state.open)
        strength = self.weight.at(self._step) * self._state.open
        return advantages - strength * soft_gain(log_ratio, self.limit)

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """One reading of the gate."""
        self._state.read(metrics.get("teacher_entropy"))

    def state_dict(self) -> dict[str, Any]:
        """The gate's."""
        return {"gate": self._state.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._state.load_state_dict(state["gate"])

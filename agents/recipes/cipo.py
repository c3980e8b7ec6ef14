"""CIPO: correction-oriented policy optimisation (arXiv 2605.14539). Attempts become prompts: answer again, seeing one.

Status: full, but for the controller's rule, the window's bounds and the risk's weight, which are our reading; there is
no KL to a reference policy (published: 1e-4).

    J  = mean of A log p(y | x)                                      attempts y ~ p(. | x)
       + lambda mean of A' log p(y' | x, y_c)                        corrections y' ~ p(. | x, y_c) of an attempt y_c
    R' = R(x, y') - risk [R(x, y_c) = 1 and R(x, y') = 0]            a right answer must not be talked away

Both streams have a group baseline and a mean over tokens of their own, and the clipped surrogate of GRPO. A correction
is trained under the prompt that it was sampled from, which holds the attempt and does not say whether it was right.
Recycled attempts are a mixture of successes, a share rho of them, and failures, taken from tasks with a pass rate in
the window while there are enough:

    rho <- clip(rho + rate (retention - kept), rho_min, rho_max)       kept: share of recycled successes that stay right

``correction_weight=0`` is GRPO. Every task needs one answer: an environment that is in the middle of an episode cannot
judge a correction.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr, model_validator

from agents.advantages import standardised
from agents.batch import Batch, Sample
from agents.losses.reduction import token_mean
from agents.losses.terms import Term
from agents.recipes.base import require_answers, require_attempts
from agents.recipes.grpo import GRPO
from agents.recipes.tools import Attempt, StepTools, beside
from agents.teachers.hints import Hint, without_thinking
from agents.teachers.wording import reworded
from agents.trajectory import Group

if TYPE_CHECKING:
    from agents.config import TrainConfig


class CIPO(GRPO):
    """GRPO on attempts, and on corrections of them."""

    name: ClassVar[str] = "cipo"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-6},
        "sampling": {"temperature": 1.0, "max_tokens": 4096},
        "batch": {"tasks": 128, "attempts": 8},
        "steps": 500,
    }

    normalise_advantages: bool = Field(True, description="divide the advantages of each stream by their deviation")
    correction_weight: float = Field(1.0, ge=0, description="lambda: of the corrections beside the attempts")
    risk: float = Field(0.5, ge=0, description="what a correction loses that spoils a right answer")
    prompts: int | None = Field(None, ge=1, description="attempts recycled a step; null: as many as tasks")
    corrections: int | None = Field(None, ge=2, description="corrections of each; null: as many as attempts a task")
    window: tuple[float, float] = Field((0.1, 0.9), description="pass rates of the tasks whose attempts go first")
    rho: float = Field(0.5, ge=0, le=1, description="share of successes among recycled attempts, at first")
    rho_bounds: tuple[float, float] = Field((0.1, 0.9), description="rho_min and rho_max")
    rho_rate: float = Field(0.1, ge=0, description="how far rho moves a step for a retention that is missed by 1")
    retention: float = Field(0.95, ge=0, le=1, description="share of recycled successes that should stay right")

    _rho: float = PrivateAttr(default=-1.0)

    @model_validator(mode="after")
    def _ordered(self) -> CIPO:
        low, high = self.rho_bounds
        if not 0 <= low <= self.rho <= high <= 1:
            raise ValueError(f"recipe.rho={self.rho} must lie within recipe.rho_bounds={self.rho_bounds}, in [0, 1]")
        if not 0 <= self.window[0] <= self.window[1] <= 1:
            raise ValueError(f"recipe.window={self.window} must be two pass rates in [0, 1], the lower one first")
        self._rho = self.rho
        return self

    def check_run(self, run: TrainConfig) -> None:
        """Both streams compare."""
        super().check_run(run)
        if self.correction_weight and self.corrections is None:
            require_attempts(run, f"recipe.correction_weight={self.correction_weight:g}", "recipe.corrections")

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """Attempts, and corrections of some of them, sampled now."""
        own = super().samples(groups, tools)
        if not self.correction_weight or tools.environments is None:
            return own
        require_answers(groups, f"recipe={self.name}", "shows the policy its whole attempt and asks for another")
        chosen = self._recycled(own, groups, random.Random(f"{tools.seed}:recycled"))
        each = self.corrections or max(len(group.trajectories) for group in groups)
        requests = [
            (s.group, reworded("paper", s.messages, Hint(notes=(("own", without_thinking(s.text)),)))) for s in chosen
        ]
        judged = tools.attempt([request for request in requests for _ in range(each)])
        made = [judged[k : k + each] for k in range(0, len(judged), each)]
        kept = [float(a.reward >= 1) for s, group in zip(chosen, made, strict=True) if s.reward >= 1
                for a in group if a.scored]  # fmt: skip
        tools.log |= {"rho": self._rho, "recycled": float(len(chosen))}
        tools.log |= {"kept": sum(kept) / len(kept)} if kept else {}
        first = max((len(group.trajectories) for group in groups), default=0)
        streams = [
            self._corrections(s, group, first + k * each) for k, (s, group) in enumerate(zip(chosen, made, strict=True))
        ]
        return beside(own, [correction for stream in streams for correction in stream])

    def _recycled(self, own: Sequence[Sample], groups: Sequence[Group], draw: random.Random) -> list[Sample]:
        """Attempts to correct: rho of them successes, as far as there are any; tasks within the window first."""
        rates = [sum(t.reward >= 1 for t in g.scored()) / max(len(g.scored()), 1) for g in groups]
        said = [s for s in own if without_thinking(s.text)]
        order = draw.sample(said, k=len(said))
        order.sort(key=lambda s: not self.window[0] <= rates[s.group] <= self.window[1])
        wanted = self.prompts or len(groups)
        right, wrong = [s for s in order if s.reward >= 1], [s for s in order if s.reward < 1]
        share = min(round(self._rho * wanted), len(right))
        failures = wrong[: wanted - share]
        return right[: wanted - len(failures)] + failures

    def _corrections(self, recycled: Sample, group: Sequence[Attempt], first: int) -> list[Sample]:
        """One group: its own baseline, risk-averse."""
        scored = [attempt for attempt in group if attempt.scored]
        spoilt = self.risk if recycled.reward >= 1 else 0.0
        rewards = [attempt.reward - spoilt * (attempt.reward <= 0) for attempt in scored]
        values = standardised(rewards, self.normalise_advantages) if scored else []
        return [
            a.reply.sample(
                a.group, first + k, "correction", reward=a.reward, feedback=a.feedback, advantage=value
            )
            for k, (a, value) in enumerate(zip(scored, values, strict=True))
        ]  # fmt: skip

    def terms(self, batch: Batch) -> list[Term]:
        """The surrogate on both streams, a mean over tokens of each."""
        own, corrections = batch.per_token(batch.made_by("policy")), batch.per_token(batch.made_by("correction"))
        weighed = token_mean(own.float()) + self.correction_weight * token_mean(corrections.float())
        return [self.surrogate(batch, weighed)]

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """More successes are recycled where too many of them are talked away."""
        if (kept := metrics.get("kept")) is not None:
            moved = self._rho + self.rho_rate * (self.retention - kept)
            self._rho = min(max(moved, self.rho_bounds[0]), self.rho_bounds[1])

    def state_dict(self) -> dict[str, Any]:
        """rho."""
        return {"rho": self._rho}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self._rho = float(state["rho"])

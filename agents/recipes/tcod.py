"""TCOD: a temporal curriculum for on-policy distillation (arXiv 2604.24005). Few turns first, more as training goes on.

    k(n) = min(k_start + floor(n / eta), k_max)                     depth at training step n, from 0

    front to back   the student acts in the first k(n) turns, then the episode is cut
    back to front   the expert's plan is replayed until k(n) of its actions are left; then the student acts for k(n)
                    turns, and only these are learnt from

    L = that of `agents.recipes.opd`, the reverse KL to the teacher on the student's turns

The depth is a function of the step alone, so a resumed run goes on where it was.

Our readings: ``k_max`` None is the environment's own limit. Back to front, a student that strays is cut after k(n)
turns as well: the depth is what the method controls. A sequence of the mean is a turn, as in the released code,
whose rows are turns: front to back takes the mean over turns of the mean over their tokens, which keeps turns from
growing shorter, back to front the mean over tokens. Tokens without a teacher are left out of the mean over tokens; a
turn without one counts as 0 in the mean over turns, as in `agents.recipes.sdpo`. The paper replays recorded successes
of the teacher; here the environment's planner says the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from agents.batch import Batch
from agents.losses.reduction import sequence_mean, token_mean
from agents.losses.terms import Term
from agents.recipes.opd import OPD
from agents.rollout import Drive

if TYPE_CHECKING:
    from agents.config import TrainConfig


class TCOD(OPD):
    """`OPD` whose episodes grow."""

    name: ClassVar[str] = "tcod"

    direction: Literal["front_to_back", "back_to_front"] = Field(
        "front_to_back",
        description="front_to_back: the first turns, then the episode is cut; back_to_front: the last ones, after the "
        "expert's",
    )
    k_start: int = Field(1, ge=1, description="turns of the student at the start")
    eta: int = Field(5, ge=1, description="training steps until it gets one turn more")
    k_max: int | None = Field(None, ge=1, description="most turns of the student; None: the environment's limit")
    mean: Literal["auto", "turn", "token"] = Field(
        "auto", description="mean over tokens, or over turns of the mean over their tokens; auto: turn if front_to_back"
    )

    @model_validator(mode="after")
    def _grows(self) -> TCOD:
        if self.k_max is not None and self.k_max < self.k_start:
            raise ValueError(f"recipe.k_max={self.k_max} is below recipe.k_start={self.k_start}: the depth only grows")
        return self

    def check_run(self, run: TrainConfig) -> None:
        """The first depth must fit into the run's own limit."""
        if run.rollout.turns is not None and run.rollout.turns < self.k_start:
            raise ValueError(
                f"rollout.turns={run.rollout.turns} ends episodes before the student has had its "
                f"recipe.k_start={self.k_start} turns: raise the one or lower the other"
            )

    def depth(self, step: int) -> int:
        """k(n), turns, at training step ``step`` (from 0)."""
        k = self.k_start + step // self.eta
        return k if self.k_max is None else min(k, self.k_max)

    def drive(self, step: int) -> Drive:
        """The student's share of the episode."""
        k = self.depth(step)
        return Drive(student_turns=k, last_turns=k if self.direction == "back_to_front" else None)

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence on every taught token."""
        taught = batch.per_token(batch.taught).float()
        by_turn = self.mean == "turn" or (self.mean == "auto" and self.direction == "front_to_back")
        coefficients = sequence_mean(taught, batch.sequence, len(batch)) if by_turn else token_mean(taught)
        return [self.distill(coefficients)]

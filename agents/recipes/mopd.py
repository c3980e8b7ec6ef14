"""MOPD: on-policy distillation with peers (arXiv 2605.12652). The teacher grades an attempt beside its siblings.

    c_i = template(x, successes of the group without i, failures of the group without i)
    q_i = q(. | c_i, y_<t)
    L   = 1/N sum_i sum_t D(p_t, q_{i,t})              D: reverse KL for mathematics, the paper says, JSD elsewhere

``peers="imitate"`` shows one success, ``peers="contrast"`` a success and a failure. An attempt is taught where
another attempt of its group succeeded; its own text is never shown, for it is what is scored.

Status: partial. How peers are chosen, how far they are cut, and what happens without a success could not be
confirmed. Our readings: a random other success, the same for all that may see it, and never the shortest; the cut is
``context.max_tokens``; without a success nothing is taught, and without a failure the success is shown alone. The
paper names the attempt itself among what the template gets: here it is only what the teacher scores. The mean is over
taught tokens. The teacher is the policy of step 0, or another model (``teacher.kind=external``), which sees the
peers, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from agents.batch import Batch, Sample
from agents.losses.reduction import token_mean
from agents.losses.terms import Term
from agents.recipes.base import TaughtRecipe, require_attempts
from agents.recipes.tools import StepTools
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group

if TYPE_CHECKING:
    from agents.config import TrainConfig

_SHOWN = {"imitate": ["sibling"], "contrast": ["sibling+failure"]}


class MOPD(TaughtRecipe):
    """Reverse KL to a teacher that sees what other attempts did."""

    name: ClassVar[str] = "mopd"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}}

    teacher: TeacherSettings = TeacherSettings(kind="frozen")
    context: Context = Context(sources=_SHOWN["contrast"])
    peers: Literal["imitate", "contrast"] = Field(
        "contrast", description="what the teacher sees: a success, or a success and a failure"
    )
    alpha: float = Field(1.0, ge=0, le=1, description="divergence: 1 reverse KL, 0 forward KL, between: JSD")
    top_k: int = Field(0, ge=0, description="divergence over the student's likeliest tokens; 0: whole vocabulary")

    @model_validator(mode="after")
    def _shown(self) -> MOPD:
        if self.context.sources not in _SHOWN.values():
            raise ValueError(
                f"recipe.context.sources={self.context.sources} with recipe=mopd: recipe.peers={self.peers!r} says "
                "what the teacher sees; leave the sources out"
            )
        self.context = self.context.model_copy(update={"sources": _SHOWN[self.peers]})
        return self

    def check_run(self, run: TrainConfig) -> None:
        """There must be others to see."""
        require_attempts(run, f"recipe={self.name}")
        if self.peers == "contrast" and run.batch.attempts < 3:
            raise ValueError(
                f"recipe.peers='contrast' shows an attempt two others, but batch.attempts is {run.batch.attempts}: "
                "give at least 3, or set recipe.peers=imitate"
            )

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """Peers, for the turns of attempts beside which another one succeeded."""
        right = [{a for a, t in enumerate(g.trajectories) if t.scored and t.reward >= 1.0} for g in groups]
        beside = [s for s in samples if s.source == "policy" and right[s.group] - {s.attempt}]
        return super().views(beside, groups, tools)

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence on every taught token, mean over them."""
        taught = batch.per_token(batch.taught).float()
        return [self.distill(token_mean(taught))]

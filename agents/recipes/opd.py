"""OPD: on-policy distillation, turn by turn (MiniLLM, arXiv 2306.08543; GKD, arXiv 2306.13649; agents: TCOD).

The student acts; the teacher says, at every token that the student sampled, what it would have said:

    h_k   history of turn k, the environment's words included             s_k   what the teacher sees in its place
    l_t   = sum_v p(v | h_k, y_<t) ( log p(v | h_k, y_<t) - log q(v | s_k, y_<t) )          reverse KL
    L     = 1/N sum over the response tokens of all turns of  rho_t w_t l_t

Four estimators of l: the whole vocabulary (``form=full``, ``top_k=0``), the student's likeliest tokens
(``top_k=100``), the sampled token alone, stopgrad(log p - log q) log p (``form=sampled``: what TCOD, slime and verl
ship, with KL coefficient 1), or that with a control variate (``form=baseline``: `agents.recipes.vopd`). rho and w
correct for stale and mismatched samplers. N counts tokens that the teacher scored (our reading; with
``context.sources=[none]`` these are all).

An external teacher (``teacher.kind=external``) sees the student's own prompt, s_k = h_k; a self-teacher needs to see
more than the student, by default the feedback that followed, or else what came after. The settings of the run are
those of TCOD's ALFWorld configurations (arXiv 2604.24005).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from agents.batch import MAIN, Batch
from agents.losses.reduction import token_mean
from agents.losses.terms import Distill, Term
from agents.recipes.base import TaughtRecipe
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings


class OPD(TaughtRecipe):
    """Reverse KL to the teacher on every token the student sampled."""

    name: ClassVar[str] = "opd"
    run_defaults: ClassVar[Mapping[str, Any]] = {
        "optim": {"lr": 1e-6, "clip_norm": 1.0},
        "sampling": {"temperature": 1.0, "max_tokens": 512},
        "batch": {"tasks": 16, "attempts": 1},
        "eval": {"temperature": 0.4},
        "steps": 250,
    }

    teacher: TeacherSettings = TeacherSettings(kind="frozen")
    context: Context = Context(sources=["feedback", "rest"], wording="turn")
    alpha: float = Field(1.0, ge=0, le=1, description="divergence: 1 reverse KL, 0 forward KL, between: JSD")
    top_k: int = Field(0, ge=0, description="divergence over the student's likeliest tokens; 0: whole vocabulary")
    form: Literal["full", "sampled", "baseline"] = Field(
        "full",
        description="full: over the vocabulary or top_k; sampled: on the sampled token alone; baseline: that, less its "
        "expectation",
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_for_external(cls, given: Any) -> Any:
        """Another model sees the student's prompt unless something else is asked for."""
        if isinstance(given, dict) and "context" not in given and another_model(given.get("teacher")):
            return {**given, "context": Context(sources=["none"])}
        return given

    @model_validator(mode="after")
    def _possible(self) -> OPD:
        if self.form == "sampled" and (self.alpha != 1.0 or self.top_k):
            raise ValueError(
                f"recipe.form='sampled' estimates the whole reverse KL: it needs recipe.alpha=1 and recipe.top_k=0, "
                f"not recipe.alpha={self.alpha} and recipe.top_k={self.top_k}"
            )
        if self.form == "baseline" and self.alpha != 1.0:
            raise ValueError(
                f"recipe.form='baseline' estimates the reverse KL: it needs recipe.alpha=1, not {self.alpha}"
            )
        if self.form != "full" and self.support == "teacher":
            raise ValueError(
                f"recipe.form={self.form!r} sees the sampled token alone: leave out recipe.support='teacher'"
            )
        if not self.teacher.another and set(self.context.sources) == {"none"}:
            raise ValueError(
                f"recipe.teacher.kind={self.teacher.kind!r} with recipe.context.sources=['none']: a self-teacher that "
                "sees what the student sees is the student; let it see more, or set recipe.teacher.kind=external"
            )
        return self

    def terms(self, batch: Batch) -> list[Term]:
        """The divergence on every token of every turn that the teacher scored, mean over tokens."""
        taught = batch.per_token(batch.taught).float()
        return [self.distill(token_mean(taught))]

    def distill(self, coefficients: Tensor, **changes: Any) -> Distill:
        """The divergence of the settings, by the estimator that ``form`` names."""
        return super().distill(coefficients, **{"form": self.form, **changes})

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """A teacher's word on the sampled token alone, where that is the estimator."""
        return {"logprob": "recipe.form='sampled'"} if self.form == "sampled" else super().needs(name)


def another_model(teacher: Any) -> bool:
    """Whether settings of a teacher, not yet validated, mean a model that is not the policy."""
    kind = teacher.get("kind") if isinstance(teacher, Mapping) else getattr(teacher, "kind", None)
    return kind in ("external", "server")

"""A recipe: which tokens get which signal, and how much. One short file a method.

A recipe never sees logits, micro-batches or the optimiser. It is given the rollout's groups and one optimiser
batch of samples, and returns loss terms: objects with one coefficient a token, whose sum over tokens is the loss.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from agents.advantages import group_advantages
from agents.batch import Batch, Sample, samples_of
from agents.chat import Chat
from agents.credit.intervention import Intervention
from agents.losses.terms import Term
from agents.rollout import Drive
from agents.teachers.contexts import Context
from agents.teachers.teacher import Teacher, TeacherSettings
from agents.trajectory import Group

if TYPE_CHECKING:
    from agents.config import TrainConfig


class Recipe(BaseModel):
    """Base of all recipes; fields are the method's settings, with their published values as defaults."""

    model_config = ConfigDict(extra="forbid")

    name: ClassVar[str]
    run_defaults: ClassVar[Mapping[str, Any]] = {}
    """Published settings of the run around the method (learning rate, batch), below what a user sets."""

    normalise_advantages: bool = Field(False, description="divide group advantages by their standard deviation")

    def drive(self, step: int) -> Drive:
        """Who acts, and how far, in the rollout of training step ``step`` (from 0); by default the policy alone."""
        return Drive()

    def expert(self) -> TeacherSettings | None:
        """The external model that acts and advises in rollouts; by default the environment's planner does."""
        return None

    def check_run(self, run: TrainConfig) -> None:
        """Raise `ValueError`, naming both settings, where this method cannot work with the run around it."""

    def samples(self, groups: Sequence[Group], chat: Chat, limit: int = sys.maxsize, seed: str = "") -> list[Sample]:
        """The sequences to train on; by default every turn of every scored trajectory in which the policy acted.

        A sequence that the recipe makes itself may have at most ``limit`` tokens, prompt and action together. ``seed``,
        another one each step, is for whatever it draws.
        """
        return samples_of(groups)

    def advantages(self, groups: Sequence[Group]) -> dict[tuple[int, int, int], float]:
        """Advantage of each turn of each scored trajectory, by (group, attempt, turn); by default the trajectory's."""
        whole = group_advantages(groups, self.normalise_advantages)
        return {
            (g, a, t): advantage
            for (g, a), advantage in whole.items()
            for t in range(len(groups[g].trajectories[a].turns))
        }

    @abstractmethod
    def terms(self, batch: Batch) -> list[Term]:
        """The loss of one optimiser batch."""

    def loss(self, batch: Batch) -> list[Term]:
        """What the learner minimises: `terms`, and what every recipe of a kind does to them."""
        return self.terms(batch)


class TaughtRecipe(Recipe):
    """A recipe with a self-teacher."""

    teacher: TeacherSettings = TeacherSettings(kind="ema", rate=0.05, temperature=1.0)
    context: Context = Context()
    alpha: float = Field(
        0.5, ge=0, le=1, description="divergence: 0 forward KL, 1 reverse KL, between: generalised JSD"
    )
    top_k: int = Field(100, ge=0, description="divergence over the student's likeliest tokens; 0: whole vocabulary")
    tail: bool = Field(True, description="with top_k: one bucket for the rest, instead of renormalising")
    is_clip: float = Field(2.0, gt=0, description="cap of the importance weights")
    intervention: Intervention | None = Field(
        None, description="teach only on the turns that need it, for example '{judge: {kind: rule}}'; null: on all"
    )
    reads_teacher: ClassVar[bool] = False
    """Whether `terms` looks at ``batch.reading``."""

    @property
    def needs_reading(self) -> bool:
        """Whether anything looks at ``batch.reading``."""
        return self.reads_teacher or (self.intervention is not None and self.intervention.reads_teacher)

    def annotate(self, samples: Sequence[Sample], groups: Sequence[Group], teacher: Teacher, chat: Chat) -> None:
        """Look at the turns before anything is scored, and label them in place where there is an `intervention`."""
        if self.intervention is not None:
            self.intervention.annotate(samples, groups, teacher, chat)

    def passed_over(self, batch: Batch) -> Tensor | None:
        """`Batch.passed_over`: the turns that a judge skips, where nothing else looks at the teacher there."""
        if self.intervention is None or self.reads_teacher:
            return None
        return batch.taught & self.intervention.skipped(batch)

    def loss(self, batch: Batch) -> list[Term]:
        """`terms`, the divergence on the turns that need it where there is an `intervention`."""
        terms = self.terms(batch)
        return terms if self.intervention is None else self.intervention.apply(batch, terms)


def require_attempts(run: TrainConfig, setting: str, instead: str = "") -> None:
    """Raise `ValueError` where ``setting`` compares attempts and there is one a task; ``instead``: a way out."""
    if run.batch.attempts < 2:
        raise ValueError(
            f"{setting} compares attempts at one task, but batch.attempts is {run.batch.attempts}: give at least 2"
            + (f", or set {instead}" if instead else "")
        )

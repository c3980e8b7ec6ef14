"""A recipe: which tokens get which signal, and how much. One short file a method.

A recipe never sees logits, micro-batches or the optimiser. It is given the rollout's groups and one optimiser
batch of samples, and returns loss terms: objects with one coefficient a token, whose sum over tokens is the loss.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from torch import Tensor

from agents.advantages import group_advantages
from agents.batch import MAIN, Batch, Sample, samples_of, split
from agents.chat import Chat
from agents.credit.intervention import Intervention
from agents.engines.base import Engine
from agents.engines.hf import HFEngine
from agents.errors import SetupError
from agents.losses.terms import Distill, Term
from agents.recipes.tools import StepTools
from agents.rollout import Drive, Opening
from agents.teachers.abilities import require
from agents.teachers.contexts import Context, add_contexts
from agents.teachers.hints import NOTES, many_turns
from agents.teachers.teacher import Teacher, TeacherSettings, make_teachers
from agents.trajectory import Group

if TYPE_CHECKING:
    from agents.config import TrainConfig


Texts = dict[str, list[str | None]]
"""By source of a context, one text for each sample; None where there is none."""


class Recipe(BaseModel):
    """Base of all recipes; fields are the method's settings, with their published values as defaults."""

    model_config = ConfigDict(extra="forbid")

    name: ClassVar[str]
    """What runs are called by; where a class gives none, its own name in lower case."""
    run_defaults: ClassVar[Mapping[str, Any]] = {}
    """Published settings of the run around the method (learning rate, batch), below what a user sets."""

    _step: int = PrivateAttr(default=0)

    normalise_advantages: bool = Field(False, description="divide group advantages by their standard deviation")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()

    def drive(self, step: int) -> Drive:
        """Who acts, and how far, in the rollout of training step ``step`` (from 0); by default the policy alone."""
        return Drive()

    def expert(self) -> TeacherSettings | None:
        """The external model that acts and advises in rollouts; by default the environment's planner does."""
        return None

    def sampler(self, engine: HFEngine, teachers: Mapping[str, Teacher]) -> Engine | None:
        """What rollouts sample from, where that is not the policy of ``engine`` as it is; None: it is.

        It reports the log-probabilities of what it samples from, which importance weights then are relative to.
        """
        return None

    def replay(self, step: int) -> list[Group] | None:
        """Groups to train on in step ``step`` in place of a new rollout; None: make one."""
        return None

    def open(self, directory: Path) -> None:
        """Told where the run is written, before `load_state_dict` and the first step: for what is too long for it."""

    def teachers(self) -> dict[str, TeacherSettings]:
        """Other models, or earlier ages of the policy, that the recipe asks or that teach, by name."""
        return {}

    def make_teachers(self, engine: HFEngine) -> dict[str, Teacher]:
        """`teachers`, made."""
        return make_teachers(engine, self.teachers())

    def evaluated_with(self) -> Opening | None:
        """How conversations begin in held-out evaluations, where not as the environment has it."""
        return None

    def found(self) -> dict[str, Any]:
        """What a finished run learnt beside weights, as plain data, for ``summary.json``."""
        return {}

    def check_run(self, run: TrainConfig) -> None:
        """Raise `ValueError`, naming both settings, where this method cannot work with the run around it."""

    def begin(self, step: int) -> None:
        """Told before training step ``step`` (from 0): what schedules go by."""
        self._step = step

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """Told the numbers of a step that is over: what gates and controllers go by."""

    def state_dict(self) -> dict[str, Any]:
        """What `begin` and `observe` left behind, and any other memory, as plain data: kept in checkpoints."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The sequences to train on; by default every turn of every scored trajectory in which the policy acted.

        A recipe may make further ones, or others, with ``tools``; of at most ``tools.limit`` tokens, prompt and action
        together.
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

    def batches(self, samples: Sequence[Sample], steps: int) -> list[list[Sample]]:
        """The samples of each optimiser step: by default at most ``steps`` of them, about equally large."""
        return split(samples, steps)

    @abstractmethod
    def terms(self, batch: Batch) -> list[Term]:
        """The loss of one optimiser batch."""

    def idle(self, batch: Batch) -> Tensor | None:
        """[samples] bool: what has no part in the loss, whatever is read, so that nothing of it need be; None: unknown.

        Asked before the first of several optimiser steps, whose `Batch.old_logprobs` are NaN there.
        """
        return None

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
    support: Literal["student", "teacher"] = Field(
        "student", description="with top_k: whose likeliest tokens; a server knows the teacher's alone"
    )
    tail: bool = Field(True, description="with top_k: one bucket for the rest, instead of renormalising")
    is_clip: float = Field(2.0, gt=0, description="cap of the importance weights")
    intervention: Intervention | None = Field(
        None, description="teach only on the turns that need it, for example '{judge: {kind: rule}}'; null: on all"
    )
    gives: ClassVar[tuple[str, ...]] = ()
    """The sources of contexts (`agents.teachers.hints.NOTES`) whose texts this recipe makes, in `given`."""
    reads_teacher: ClassVar[bool] = False
    """Whether `terms` looks at ``batch.readings``."""
    reads_student: ClassVar[bool] = False
    """Whether `terms` looks at ``batch.student``: one more forward pass of the policy."""

    def teachers(self) -> dict[str, TeacherSettings]:
        """Whose weights teach, by name; the first is the main one, `MAIN`, which judges are, too."""
        return {MAIN: self.teacher}

    def streams(self) -> dict[str, str]:
        """Which teacher, by its name, reads which view of a sample: one stream of numbers each."""
        return {MAIN: MAIN}

    @model_validator(mode="after")
    def _same_number(self) -> Self:
        k = self.teacher.top_k
        if self.teacher.kind == "server" and self.support == "teacher" and self.top_k not in (0, k):
            raise ValueError(
                f"recipe.top_k={self.top_k} with recipe.support='teacher': the server is asked for "
                f"recipe.teacher.top_k={k} tokens; give both the same number"
            )
        return self

    @property
    def few(self) -> bool:
        """Whether the divergence is over some of the teacher's tokens, and needs no other of its numbers."""
        return self.support == "teacher" and (self.top_k > 0 or self.teacher.kind == "server")

    def distill(self, coefficients: Tensor, **changes: Any) -> Distill:
        """The divergence of the settings, with these coefficients, [N]; ``changes``: of other fields of `Distill`."""
        support = "teacher" if self.few else "student"
        plain = {"alpha": self.alpha, "top_k": self.top_k or None, "tail": self.tail, "is_clip": self.is_clip}
        return Distill(coefficients, **{**plain, "support": support, **changes})

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """What a teacher must be able to do (`agents.teachers.abilities`), and the setting that asks for it."""
        if name not in self.streams().values():
            return {}
        if self.few:
            return {"top_k": "recipe.support='teacher'"}
        return {"logits": f"recipe.top_k={self.top_k}{' of the student' if self.top_k else ''}"}

    def make_teachers(self, engine: HFEngine) -> dict[str, Teacher]:
        """`teachers`, made; what they can do is compared with `needs` before and after, for a server may disappoint.

        Raises:
            SetupError: A teacher cannot be had, or cannot do what is needed.
        """
        self.check_teachers()
        made = make_teachers(engine, self.teachers())
        self.check_teachers(made)
        return made

    def check_teachers(self, made: Mapping[str, Teacher] | None = None) -> None:
        """Compare `needs` with what the teachers' settings promise, or with what they turned out to be able to do.

        Raises:
            SetupError: One of them cannot do what is needed.
        """
        judges = self.intervention is not None and self.intervention.judge.kind == "teacher"
        for name, settings in self.teachers().items():
            needs = self.needs(name)
            if judges and name == MAIN:
                needs = {"generate": "recipe.intervention.judge.kind='teacher'", **needs}
            who = "recipe.teacher" if name == MAIN else f"recipe.teachers.{name}"
            require(settings, needs, who, made[name].abilities if made else None)

    def teaching(self) -> bool:
        """Whether the teachers have a say in this step; where not, no context is made and none of them reads."""
        return True

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """Let the samples' teachers see something (`Sample.show`); returns how many views were too long.

        By default the main one sees what `context` finds, for the turns of the rollout.
        """
        own = [s for s in samples if s.source == "policy"]
        return add_contexts(
            self.context,
            own,
            groups,
            tools.chat,
            teacher_limit(tools),
            tools.seed,
            given=self.given(own, groups, tools),
        )

    def given(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> Texts:
        """Texts of the context's sources that the groups do not hold, one for each sample: what `gives` promises."""
        if "reference" not in self.context.parts:
            return {}
        golds = {g: tools.gold(g) for g in {s.group for s in samples}}
        return {"reference": [golds[s.group] for s in samples]}

    @model_validator(mode="after")
    def _given(self) -> TaughtRecipe:
        if lacking := [part for part in self.context.parts if part in NOTES and part not in self.gives]:
            raise ValueError(
                f"recipe.context.sources={self.context.sources}: recipe={self.name} makes no text called "
                f"{', '.join(map(repr, lacking))}; it makes {', '.join(self.gives) or 'none'}"
            )
        return self

    def measure(self, tokens: int) -> Distill:
        """The divergence that ``batch.student.gap`` holds, for so many tokens; its coefficients are 0."""
        return self.distill(torch.zeros(tokens))

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


def teacher_limit(tools: StepTools, name: str = MAIN) -> int:
    """Longest sequence that a teacher can read, in tokens."""
    teacher = tools.teachers.get(name)
    return tools.limit if teacher is None else min(tools.limit, teacher.context_length)


def require_attempts(run: TrainConfig, setting: str, instead: str = "") -> None:
    """Raise `ValueError` where ``setting`` compares attempts and there is one a task; ``instead``: a way out."""
    if run.batch.attempts < 2:
        raise ValueError(
            f"{setting} compares attempts at one task, but batch.attempts is {run.batch.attempts}: give at least 2"
            + (f", or set {instead}" if instead else "")
        )


def require_answers(groups: Sequence[Group], setting: str, why: str) -> None:
    """Raise `SetupError` where episodes have several turns, and ``setting`` only works with one answer a task."""
    if any(map(many_turns, groups)):
        raise SetupError(
            f"{setting} {why}, but these are episodes of several turns: use an environment whose tasks have one answer "
            "(env.id, or env.kwargs='{max_turns: 1}' where it takes that)"
        )

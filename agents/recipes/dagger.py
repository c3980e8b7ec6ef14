"""DAgger for language agents (arXiv 2605.12913): go where the policy goes, and learn there what an expert would do.

    beta_i = max(beta_floor, beta_start - beta_decay (i - 1))           iteration i = 1, 2, ...
    each turn is acted by the expert with probability beta_i, else by the policy
    L = - 1/N sum over visited states x, over tokens t of the expert's action a*(x):  log p(a*_t | x, a*_<t)

The expert is the environment's planner, or an external model. Every visited state is labelled, also where the expert
acted. beta = 1 throughout (``beta_decay=0``) is behaviour cloning of the expert: the warm start of a small model that
does not yet know the commands.

What differs from the paper: it gathers 512 episodes an iteration and trains three epochs on the data of all iterations
so far. Here an iteration is ``iteration_steps`` training steps, and each step learns from its own episodes only: data
kept from earlier policies would have to be part of what a resumed run restores. Its second variant, in which the expert
finishes an episode that the policy began, is not built. It samples at temperature 0.7; likelihoods here are those at
the sampling temperature, hence 1.

Our own device: with ``hinted`` above 0, so large a share of the samples is learnt with the teacher's context in the
prompt, in the words that the self-teacher of other recipes will see. A small model learns to read hints that way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator

from agents.batch import Batch, Sample
from agents.chat import Chat
from agents.losses.reduction import token_mean
from agents.losses.terms import Likelihood, Term
from agents.recipes.base import Recipe
from agents.recipes.tools import StepTools
from agents.rollout import Drive
from agents.teachers.contexts import Context, add_contexts
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group, Turn


class DAgger(Recipe):
    """Likelihood of the expert's actions, in the states that a mixture of expert and policy visits."""

    name: ClassVar[str] = "dagger"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 3e-6}, "batch": {"tasks": 16, "attempts": 1}}

    beta_start: float = Field(1.0, ge=0, le=1, description="share of turns that the expert acts, in iteration 1")
    beta_decay: float = Field(0.2, ge=0, le=1, description="how much of it goes with each iteration; 0: never")
    beta_floor: float = Field(0.6, ge=0, le=1, description="where it stops falling")
    iteration_steps: int = Field(32, ge=1, description="training steps of an iteration: 512 episodes of 16 a step")
    teacher: TeacherSettings | None = Field(
        None,
        description="a model as expert: '{kind: external, model: ...}'; null: the environment's planner",
    )
    hinted: float = Field(0.0, ge=0, le=1, description="share of samples whose prompt holds the teacher's context")
    context: Context = Context(sources=["plan"], wording="turn", allow_reference=True)

    @model_validator(mode="after")
    def _falls(self) -> DAgger:
        if self.beta_start < self.beta_floor:
            raise ValueError(
                f"recipe.beta_start={self.beta_start:g} is below recipe.beta_floor={self.beta_floor:g}, but the "
                "expert's share only falls: lower the floor"
            )
        if self.teacher is not None and not self.teacher.another:
            raise ValueError(
                f"recipe.teacher.kind={self.teacher.kind!r} with recipe=dagger: the policy itself is no expert; give "
                "an external model or a server, or leave recipe.teacher out and let the environment's planner advise"
            )
        if self.hinted and self.context.reveals and not self.context.allow_reference:
            raise ValueError(
                f"recipe.hinted={self.hinted:g} with recipe.context.sources={self.context.sources} shows the "
                "reference, but recipe.context.allow_reference is false: set it to true"
            )
        return self

    def beta(self, step: int) -> float:
        """The expert's share of the turns at training step ``step`` (from 0)."""
        return max(self.beta_floor, self.beta_start - self.beta_decay * (step // self.iteration_steps))

    def drive(self, step: int) -> Drive:
        """The mixture, and the expert's word at every turn."""
        return Drive(expert_share=self.beta(step), advise=True)

    def expert(self) -> TeacherSettings | None:
        """The model of ``teacher``, else the environment's planner."""
        return self.teacher

    def samples(self, groups: Sequence[Group], tools: StepTools) -> list[Sample]:
        """The expert's action in every state of every scored trajectory; states where it has none are left out."""
        chat, limit, seed = tools.chat, tools.limit, tools.seed
        samples = [
            Sample(
                turn.prompt_ids, _label(turn, chat), None, turn.messages, turn.advice,
                trajectory.reward, turn.feedback, g, a, t,
            )
            for g, group in enumerate(groups)
            for a, trajectory in enumerate(group.trajectories)
            if trajectory.scored
            for t, turn in enumerate(trajectory.turns)
            if turn.advice
        ]  # fmt: skip
        samples = [s for s in samples if len(s.prompt_ids) + len(s.action_ids) <= limit]
        if self.hinted:
            # A coin for each turn: every k-th one would be the same turns of all episodes of a length.
            chosen = [s for s in samples if _coin(seed, s) < self.hinted]
            add_contexts(self.context, chosen, groups, chat, limit, seed)
            for sample in chosen:
                if sample.teacher_ids is not None:
                    sample.prompt_ids, sample.teacher_ids = sample.teacher_ids, None
        return samples

    def terms(self, batch: Batch) -> list[Term]:
        """Negative log-likelihood, mean over the tokens of the batch."""
        return [Likelihood(token_mean(torch.ones(len(batch.targets))))]


def _label(turn: Turn, chat: Chat) -> list[int]:
    """The expert's action as ids: those it acted with, else its words written down."""
    return turn.action_ids if turn.source == "expert" else chat.written(turn.advice or "")


def _coin(seed: str, sample: Sample) -> float:
    """A number in [0, 1) that depends on nothing but the step and the turn's place in it."""
    return random.Random(f"{seed}:{sample.group}:{sample.attempt}:{sample.turn}:hinted").random()

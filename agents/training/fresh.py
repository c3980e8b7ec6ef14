"""A learner that can go back to where it began, in place of loading the model again: for many short runs in a row."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from agents.config import TrainConfig
from agents.engines.hf import HFEngine
from agents.recipes.tools import StepTools
from agents.rollout import Drive, Environments
from agents.training import checkpoints
from agents.training.learner import Learner
from agents.training.metrics import step_metrics
from agents.training.step import Outcome, Update
from agents.training.trainer import load_sampler
from agents.trajectory import Group


class FreshLearner:
    """The policy's optimiser, its teachers and its recipe, and a copy of the trainable weights as they are now.

    `reset` brings the weights back to the bit, the optimiser without moments, warm-up and the recipe's memory to their
    start, and teachers that are shadows of the policy to these weights and to their first batch. What is not trained
    was never changed: an external model, or what lies below adapters.
    """

    def __init__(self, config: TrainConfig, engine: HFEngine, environments: Environments) -> None:
        self.config, self.engine, self.environments = config, engine, environments
        self.learner = Learner(engine, config.optim, config.sampling.temperature)
        self.version = 0
        """Another one wherever the weights are others."""
        self.sampler = load_sampler(config, engine, lambda: self.version)
        """What samples the policy, with its weights of now."""
        recipe = config.recipe
        self.teachers = recipe.make_teachers(engine)
        self._weights = [p.detach().clone() for p in self.learner.parameters]
        self._teachers = {
            name: copy.deepcopy({key: value for key, value in teacher.state_dict().items() if key != "shadow"})
            for name, teacher in self.teachers.items()
        }
        self._begin()

    def _begin(self) -> None:
        self.recipe = self.config.recipe.model_copy(deep=True)
        self.update = Update(self.recipe, self.engine, self.learner, self.teachers, self.config.sampling)

    @torch.no_grad()
    def reset(self) -> None:
        """Everything as it was when this was made."""
        for parameter, value in zip(self.learner.parameters, self._weights, strict=True):
            parameter.copy_(value)
        self.learner.optimizer.zero_grad(set_to_none=True)
        self.learner.optimizer.state.clear()
        self.learner.steps = 0
        trainable = [n for n, p in self.engine.model.named_parameters() if p.requires_grad]
        first = dict(zip(trainable, self._weights, strict=True))
        for name, teacher in self.teachers.items():
            teacher.load_state_dict({**copy.deepcopy(self._teachers[name]), "shadow": first})
        self.version += 1
        self._begin()

    def begin(self, step: int) -> Drive:
        """Before the rollout of a step: who acts in it."""
        self.recipe.begin(step)
        return self.recipe.drive(step)

    def learn(self, groups: Sequence[Group], task: int, step: int, seed: str) -> tuple[Outcome, dict[str, Any]]:
        """One update on the attempts of one batch, and its numbers."""
        tools = StepTools(
            self.engine.chat,
            limit=self.engine.context_length,
            seed=seed,
            step=step,
            sampling=self.config.sampling,
            engine=self.engine,
            sampler=self.sampler,
            teachers=self.teachers,
            environments=self.environments,
            tasks=[task],
        )
        done = self.update.learn(groups, tools)
        self.version += 1
        metrics = step_metrics(groups, done.samples, done.results) | tools.log
        metrics["overlong_contexts"], metrics["teacher_failed"] = done.overlong, done.failed
        self.recipe.observe(metrics)
        for teacher in self.teachers.values():
            teacher.observe(metrics)
        return done, metrics

    def save(self, directory: Path, step: int) -> None:
        """Write the state before ``step`` (`agents.training.checkpoints`)."""
        checkpoints.save(directory, step, self.learner, self.teachers, self.recipe)

    def restore(self, directory: Path) -> int:
        """Start from the newest checkpoint, else from the beginning; returns the step to go on with."""
        self.reset()
        newest = checkpoints.latest(directory)
        self.version += newest is not None
        return checkpoints.restore(newest, self.learner, self.teachers, self.recipe) if newest else 0

    def require_space(self, directory: Path) -> None:
        """Raise `SetupError` where the disk has no room for a checkpoint."""
        checkpoints.require_space(directory, checkpoints.state_bytes(self.learner, self.teachers))

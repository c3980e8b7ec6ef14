"""Resume state: written whole or not at all, so that a run killed at any instant continues from the last one.

A checkpoint ``checkpoints/step-N`` holds what step N starts from: trainable weights, optimiser, teachers (fp32), the
recipe's own memory and counters. Random state is not stored, because every step draws from generators seeded by
(seed, step). One is kept; with `AlarmSettings.action` "rollback", as many as an alarm may want to go back to.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from agents.errors import SetupError
from agents.recipes.base import Recipe
from agents.teachers.teacher import Teacher
from agents.training.learner import Learner


def save(
    directory: Path,
    step: int,
    learner: Learner,
    teachers: Mapping[str, Teacher],
    recipe: Recipe | None = None,
    reach: int = 0,
) -> None:
    """Write the state before ``step``, then remove older ones.

    With ``reach`` those of the last ``reach`` steps stay, and the newest one that is older still.
    """
    state = {
        "step": step,
        "weights": {n: p.detach() for n, p in learner.engine.model.named_parameters() if p.requires_grad},
        "optimizer": learner.optimizer.state_dict(),
        "learner_steps": learner.steps,
        "teachers": {name: teacher.state_dict() for name, teacher in _distinct(teachers).items()},
        "recipe": recipe.state_dict() if recipe else {},
    }
    target, scratch = directory / f"step-{step:06d}", directory / f"step-{step:06d}.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    require_space(directory, state_bytes(learner, teachers))
    try:
        scratch.mkdir(parents=True)
        torch.save(state, scratch / "state.pt")
        os.replace(scratch, target)
    except (OSError, RuntimeError) as error:  # torch reports a short write as RuntimeError
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SetupError(
            f"the checkpoint of step {step} could not be written to {directory} ({error}). Free some space, or set "
            "save_every=0; the run continues from the checkpoint before it."
        ) from error
    kept = target if reach == 0 else latest(directory, step - reach + 1)
    for old in directory.glob("step-*"):
        if kept is not None and old.name < kept.name:
            shutil.rmtree(old, ignore_errors=True)


def latest(directory: Path, before: int | None = None) -> Path | None:
    """The newest complete checkpoint, of the steps below ``before``."""
    complete = sorted(p for p in directory.glob("step-*") if p.suffix != ".tmp" and (p / "state.pt").is_file())
    fitting = [p for p in complete if before is None or step_of(p) < before]
    return fitting[-1] if fitting else None


def step_of(checkpoint: Path) -> int:
    """The step that starts from it."""
    return int(checkpoint.name.removeprefix("step-"))


def kept_at_once(reach: int, every: int) -> int:
    """How many checkpoints there are at most, the one that is being written included."""
    return 2 if reach == 0 else 2 + -(-reach // every)


def restore(checkpoint: Path, learner: Learner, teachers: Mapping[str, Teacher], recipe: Recipe | None = None) -> int:
    """Load a checkpoint into the learner, the teachers and the recipe; returns the step to start with."""
    state: dict[str, Any] = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True, mmap=True)
    with torch.no_grad():
        for name, parameter in learner.engine.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(state["weights"][name])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.steps = int(state["learner_steps"])
    for name, teacher in _distinct(teachers).items():
        teacher.load_state_dict(state["teachers"][name])
    if recipe:
        recipe.load_state_dict(state["recipe"])
    return int(state["step"])


def state_bytes(learner: Learner, teachers: Mapping[str, Teacher]) -> int:
    """Size of a checkpoint: weights, two Adam moments, what the teachers save."""
    weights = sum(p.numel() * p.element_size() for p in learner.parameters)
    return 3 * int(weights) + sum(teacher.state_bytes for teacher in _distinct(teachers).values())


def _distinct(teachers: Mapping[str, Teacher]) -> dict[str, Teacher]:
    """Each teacher once, by the first of its names."""
    first: dict[int, str] = {}
    for name, teacher in teachers.items():
        first.setdefault(id(teacher), name)
    return {name: teachers[name] for name in first.values()}


def require_space(directory: Path, needed: int) -> None:
    """Raise `SetupError` where the disk has less than ``needed`` bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < needed * 1.05:
        raise SetupError(
            f"{directory} needs {needed / 1e9:.1f} GB for a checkpoint and the disk has {free / 1e9:.1f} GB. Free some "
            "space, point run_dir at another disk, or set save_every=0 and save_final=false."
        )


def clear(directory: Path) -> None:
    """Remove the resume state of a finished run."""
    for old in directory.glob("step-*"):
        shutil.rmtree(old, ignore_errors=True)

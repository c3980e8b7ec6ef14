"""What a discovery is made from: its settings, the published constants, its tasks, and what does not fit together."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import rfenvs
from agents import recipes
from agents.config import TrainConfig, load, merged
from agents.errors import SetupError
from agents.recipes.base import TaughtRecipe
from agents.rollout import Environments, task_order
from agents.training.dialogue import Template
from rfenvs.registry import make

Method = Literal["sdpo", "best_of_k", "multi_turn"]

RECIPE = "sdpo_rich"
"""Reverse KL, top 20 and a tail, EMA 0.01, learning rate 1e-6: the published constants, which test time shares."""
PROTOCOL: Mapping[str, Any] = {
    "batch": {"tasks": 1, "attempts": 16},
    "optim": {"steps_per_batch": 1},
    "sampling": {"temperature": 1.0},
    "eval": {"tasks": 0},
    "check_teacher": 0,
}
"""Of SDPO's test-time experiments: 16 attempts at one task, one update. Above a recipe or file, below the command."""
_NAMED = 2000
"""Ids that are looked through for near misses of a wrong one."""


class DiscoverySettings(BaseModel):
    """What a discovery depends on beside the settings of a training run."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[int] = Field(description="the tasks, by index in env.split")
    method: Method = Field("sdpo", description="sdpo: updates between batches; best_of_k, multi_turn: no updates")
    budget: int = Field(2750, ge=1, description="scored attempts at a task, under one seed")
    seeds: int = Field(1, ge=1, description="runs of each task, each with fresh weights")
    template: Template = Field("feedback_only", description="multi_turn: what earlier attempts become in the prompt")
    prompt_tokens: int | None = Field(
        None, ge=1, description="multi_turn: longest prompt, oldest feedback is dropped; none: what the model can read"
    )


def configure(source: str, overrides: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a recipe or file, under the test-time protocol, under what the user gives.

    The reference stays hidden from the teacher unless ``overrides`` say otherwise: what an environment gives away is
    not discovered.

    Raises:
        SetupError: A setting is wrong.
    """
    given = merged(PROTOCOL, overrides)
    if isinstance(given.get("recipe"), str):
        given["recipe"] = {"name": given["recipe"]}
    config = load(source, given)
    if isinstance(config.recipe, TaughtRecipe):
        config = load(source, merged({"recipe": {"context": {"allow_reference": False}}}, given))
    if config.batch.tasks != 1:
        raise SetupError(f"batch.tasks={config.batch.tasks}: discover works on one task at a time, so it must be 1")
    return config


def check(config: TrainConfig, settings: DiscoverySettings) -> None:
    """Refuse what cannot work, before a model is loaded.

    Raises:
        SetupError: Settings do not fit together.
    """
    recipe, attempts = config.recipe, config.batch.attempts
    if settings.budget < attempts:
        raise SetupError(
            f"--budget {settings.budget} is below batch.attempts={attempts}: not one batch could be made. Give a "
            "larger budget, or a smaller batch with --batch.attempts"
        )
    if settings.method == "multi_turn":
        return
    drive = recipe.drive(0)
    if drive.asks_planner or drive.last_turns or drive.expert_share or recipe.expert():
        raise SetupError(
            f"recipe={type(recipe).name!r} lets an expert act: its solutions would be no discovery. Use {_taught()}"
        )
    if settings.method == "best_of_k":
        return
    if not isinstance(recipe, TaughtRecipe):
        raise SetupError(
            f"recipe={type(recipe).name!r} has no teacher, and before the first success there is nothing else to learn "
            f"from. Use {_taught()}; or --method best_of_k, which learns nothing"
        )
    if set(recipe.context.parts) == {"sibling"}:
        raise SetupError(
            f"recipe.context.sources={recipe.context.sources}: before the first success there is no sibling to learn "
            "from, and after it the run is over. Name 'feedback'"
        )


def _taught() -> str:
    usable = []
    for name in recipes.names():
        kind = recipes.get(name)
        if issubclass(kind, TaughtRecipe) and "feedback" in kind.model_fields["context"].default.parts:
            usable.append(name)
    return f"one that learns from feedback ({', '.join(usable)})"


def find_tasks(config: TrainConfig, ids: Sequence[str], count: int | None) -> list[int]:
    """Indices of the tasks that the command line names: ids or indices, or ``count`` drawn by the seed.

    Raises:
        SetupError: There are no such tasks, or none at all.
    """
    env = config.env
    try:
        environments = Environments(env.id, env.split, env.kwargs)
    except SetupError as error:
        if _empty(config):
            raise SetupError(
                f"env.id={env.id!r} with env.kwargs={env.kwargs} has no tasks in split {env.split!r}"
            ) from error
        raise
    try:
        total = environments.num_tasks()
        if not ids and count is None:
            raise SetupError("which task? Give --task ID, once or several times, or --tasks N for N drawn by the seed")
        if ids and count is not None:
            raise SetupError("--task names tasks and --tasks draws some: give one of the two")
        if not ids:
            if not 1 <= (count or 0) <= total:
                raise SetupError(f"--tasks {count}: split {env.split!r} of {env.id} has {total} tasks")
            return task_order(total, config.seed, 0, count or 0)
        return list(dict.fromkeys(_index(environments, name, total) for name in ids))
    finally:
        environments.close()


def _empty(config: TrainConfig) -> bool:
    """Whether the environment can be made and has no task in the split; it cannot be reset then."""
    try:
        env = make(config.env.id, config.env.split, **config.env.kwargs)
    except (TypeError, ValueError, FileNotFoundError):
        return False
    with contextlib.closing(env):
        return env.num_tasks(config.env.split) == 0


def _index(environments: Environments, name: str, total: int) -> int:
    env, split = environments.take(1)[0].unwrapped, environments.split
    ours = isinstance(env, rfenvs.TextEnv)
    if isinstance(env, rfenvs.TextEnv):
        try:
            return env.task_index(split, name)
        except KeyError:
            pass
    if name.isdecimal():
        if int(name) < total:
            return int(name)
        raise SetupError(f"--task {name}: split {split!r} of {environments.id} has tasks 0 to {total - 1}")
    if not ours:
        raise SetupError(f"--task {name!r}: {environments.id} has no ids of tasks; give a number, which is its seed")
    near = difflib.get_close_matches(name, _ids(environments, name, total), n=3, cutoff=0.6)
    hint = f" Did you mean {', '.join(near)}?" if near else f" The first is {describe(environments, 0)['id']}."
    raise SetupError(
        f"--task {name!r}: no such task in split {split!r} of {environments.id} with "
        f"env.kwargs={environments.kwargs}.{hint}"
    )


def _ids(environments: Environments, name: str, total: int) -> list[str]:
    """Ids that somebody may have meant: of the first tasks, and of those whose number stands in the name."""
    first = list(range(min(total, _NAMED)))
    meant = [int(found) for found in re.findall(r"(?<![0-9A-Za-z])[0-9]{1,10}(?![0-9A-Za-z])", name)]
    return [describe(environments, i)["id"] for i in dict.fromkeys([*meant, *first]) if i < total]


def describe(environments: Environments, task: int) -> dict[str, Any]:
    """Id and index of a task; other authors' environments have their seeds as ids."""
    env = environments.take(1)[0].unwrapped
    id = env.get_task(task).id if isinstance(env, rfenvs.TextEnv) else str(task)
    return {"id": id, "index": task}


def default_directory(config: TrainConfig, settings: DiscoverySettings) -> Path:
    """Where a discovery is written unless somebody says otherwise."""
    name = config.env.id.rpartition("/")[2].lower()
    return Path("runs") / f"discover-{name}-{settings.method}-s{config.seed}"

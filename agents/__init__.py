"""Train language-model policies against any registered environment by on-policy self-distillation.

    run = agents.train("sdpo", env="rfenvs/ToolCall-v0", model="smollm2-135m", steps=12)
    run.summary["held_out"]

Importing this package is light; torch is loaded when something is trained. Import it before torch: its threads then
share a busy machine (``GOMP_SPINCOUNT``, unless it or ``OMP_WAIT_POLICY`` is set).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents import recipes

if "OMP_WAIT_POLICY" not in os.environ:
    # GNU OpenMP, which torch brings, reads this as it is loaded. On a core that another process wants, a thread that
    # waits for its fellows spins their time away: a step of `make train` took 221 s, and now 27 s.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from agents.recipes.base import Recipe
    from agents.training.trainer import Run

__all__ = ["recipes", "train"]
__rfenvs__ = True
"""Tells this package from the OpenAI SDK, which also imports as ``agents``."""


def train(
    recipe: str | Recipe | type[Recipe],
    *,
    env: str | None = None,
    env_kwargs: dict[str, Any] | None = None,
    model: str | Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Run:
    """Train ``model`` on ``env`` with ``recipe``; the same as ``rfenvs train``.

    Args:
        recipe: a recipe's name, a packaged or own configuration file, or a `Recipe`
            (`recipes.get` gives the class of a name; called, it takes the method's settings).
        env: a registered Gymnasium id; default ``rfenvs/ToolCall-v0``.
        env_kwargs: arguments of the environment.
        model: a Hugging Face directory or hub id, or ``smollm2-135m``, the default; or
            `agents.config.ModelSettings` as a mapping.
        overrides: settings of `agents.config.TrainConfig`, nested ones as mappings: ``optim={"lr": 2e-5}``.

    Raises:
        SetupError: a setting is wrong; nothing was started.
    """
    from agents.config import build, load, merged
    from agents.training.trainer import Trainer

    settings: dict[str, Any] = {}
    if env is not None:
        settings["env"] = {"id": env}
    if env_kwargs is not None:
        settings = merged(settings, {"env": {"kwargs": env_kwargs}})
    if model is not None:
        settings["model"] = {"name": model} if isinstance(model, str) else dict(model)
    settings = merged(settings, overrides)
    if isinstance(recipe, type):
        recipe = recipe()
    config = load(recipe, settings) if isinstance(recipe, str) else build({"recipe": recipe, **settings})
    return Trainer(config).run()

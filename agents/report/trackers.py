"""Copies of the training curves in other tools; the run directory stays the record."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

PROJECT = "rfenvs"


class Tracker(Protocol):
    """Receives what a run measures. ``start`` comes first and once, ``finish`` last, also after an error."""

    def start(self, run_dir: Path, config: dict[str, Any]) -> None:
        """Begin a run named after ``run_dir``, with its complete configuration."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record the numbers of one step; names such as ``train/reward`` group them."""

    def finish(self) -> None:
        """Write out what is pending."""


class TensorBoard:
    """Event files in ``<run directory>/tensorboard``."""

    def __init__(self) -> None:
        self._module = _require("torch.utils.tensorboard", package="tensorboard", name="tensorboard")
        self._writer: Any = None

    def start(self, run_dir: Path, config: dict[str, Any]) -> None:
        """Open the event file and note the configuration as text."""
        self._writer = self._module.SummaryWriter(str(run_dir / "tensorboard"))
        rows = "".join(f"| {key} | `{value}` |\n" for key, value in _flatten(config).items())
        self._writer.add_text("config", "| setting | value |\n|---|---|\n" + rows)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Add one scalar a metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


class Trackio:
    """A run in the local Trackio project ``rfenvs``."""

    def __init__(self) -> None:
        self._module = _require("trackio", package="trackio", name="trackio")
        self._started = False

    def start(self, run_dir: Path, config: dict[str, Any]) -> None:
        """Begin the Trackio run."""
        self._module.init(project=PROJECT, name=run_dir.name, config=_flatten(config))
        self._started = True

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Log one step."""
        self._module.log(metrics, step=step)

    def finish(self) -> None:
        """Finish the Trackio run."""
        if self._started:
            self._module.finish()


class WandB:
    """A run in the Weights & Biases project ``rfenvs``; ``WANDB_MODE=offline`` keeps it local."""

    def __init__(self) -> None:
        self._module = _require("wandb", package="wandb", name="wandb")
        self._run: Any = None

    def start(self, run_dir: Path, config: dict[str, Any]) -> None:
        """Begin the run."""
        self._run = self._module.init(project=PROJECT, name=run_dir.name, dir=str(run_dir), config=config)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Log one step."""
        self._run.log(metrics, step=step)

    def finish(self) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()


TRACKERS: dict[str, type[TensorBoard] | type[Trackio] | type[WandB]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WandB,
}


def make_trackers(names: Iterable[str]) -> list[Tracker]:
    """The trackers that the setting ``trackers`` names, in that order, each package imported now.

    Raises ValueError for an unknown name and ImportError for a package that is not installed, so that both
    come to light before anything is trained.
    """
    names = list(names)
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"trackers: unknown name {name!r}; choose from {', '.join(sorted(TRACKERS))}")
    return [TRACKERS[name]() for name in names]


def _require(module: str, *, package: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"trackers: {name!r} needs the package {package} (pip install {package}), or take it off the list"
        ) from error


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat

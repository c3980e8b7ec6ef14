"""Traces: attempts as rows of JSON, the same in a run directory and in an evaluation; and grading them once more.

A row is a line of `trajectories.jsonl` (`docs/run-directory.md`). `regrade` needs no model: it resets the environment
to the row's task and gives it the row's actions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfenvs
from agents.errors import SetupError
from agents.report.metrics import TRAJECTORIES_FILE, iter_jsonl
from agents.trajectory import Trajectory, Turn
from rfenvs.registry import make


def attempt_row(group: int, attempt: int, task: Mapping[str, Any], trajectory: Trajectory) -> dict[str, Any]:
    """One attempt as a row; ids and log-probabilities of tokens are left out."""
    return {
        "group": group,
        "attempt": attempt,
        "task": dict(task),
        "reward": trajectory.reward,
        "scored": trajectory.scored,
        "stop_reason": trajectory.stop_reason,
        "turns": [_turn_row(turn) for turn in trajectory.turns],
    }


def _turn_row(turn: Turn) -> dict[str, Any]:
    return {
        "messages": turn.messages,
        "text": turn.text,
        "source": turn.source,
        "reward": turn.reward,
        "finish_reason": turn.finish_reason,
        "feedback": turn.feedback,
    }


@dataclass(frozen=True, slots=True)
class Source:
    """The environment that a row was made with."""

    id: str
    split: str
    kwargs: str
    """JSON."""


@dataclass(frozen=True, slots=True)
class Regraded:
    """A row before and after."""

    old: dict[str, Any]
    new: dict[str, Any]

    @property
    def changed(self) -> bool:
        """Whether the reward, or whether there is one, is another now."""
        before, after = self.old, self.new
        return bool(before["scored"] != after["scored"] or abs(before["reward"] - after["reward"]) > 1e-9)

    def __str__(self) -> str:
        was, now = (f"{row['reward']:g}" if row["scored"] else "unscored" for row in (self.old, self.new))
        return f"{self.new['task']['id']} attempt {self.new['attempt']}: {was} -> {now}"


def traces(path: Path) -> Iterator[tuple[Source, dict[str, Any]]]:
    """Rows of a trace file, of a run directory or of an evaluation's, each with the environment that made it.

    Raises:
        SetupError: There are no traces, or nothing says which environment they are from.
    """
    file = path / TRAJECTORIES_FILE if path.is_dir() else path
    if not file.is_file():
        raise SetupError(f"{path}: no traces here; give {TRAJECTORIES_FILE}, or the directory that holds it")
    config = file.parent / "config.json"
    stored = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    made_by = stored.get("config", stored).get("env", {})
    for _, row in iter_jsonl(file):
        env = {**made_by, **row.get("env", {})}
        id, task = env.get("id") or row["task"].get("env_id"), row["task"]
        if not id or "id" not in task:
            raise SetupError(f"{file}: a row does not say which environment and task it is of")
        kwargs = json.dumps(env.get("kwargs") or {}, sort_keys=True)
        yield Source(id, task.get("split") or env.get("split", "train"), kwargs), row


def regrade(path: Path, kwargs: Mapping[str, Any] | None = None) -> Iterator[Regraded]:
    """Grade stored attempts again, in the order of the file.

    Args:
        path: A trace file, or the directory that holds one.
        kwargs: Arguments of the environment in place of those that the attempts were made with.

    Raises:
        SetupError: The environment or a task is not there any more.
    """
    made: dict[Source, rfenvs.TextEnv] = {}
    try:
        for source, row in traces(path):
            if source not in made:
                settings = {**json.loads(source.kwargs), **(kwargs or {})}
                try:
                    made[source] = make(source.id, source.split, **settings)
                except (TypeError, ValueError, FileNotFoundError) as error:
                    raise SetupError(f"{source.id} with {settings}: {error}") from error
            yield Regraded(row, _replay(made[source], row))
    finally:
        for env in made.values():
            env.close()


def _replay(env: rfenvs.TextEnv, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        _, info = env.reset(options={"task_id": row["task"]["id"]})
    except ValueError as error:
        raise SetupError(f"task {row['task']['id']!r}: {error} The data are others than those of the trace.") from error
    task = info["task"]
    trajectory = Trajectory([], stop_reason=row["stop_reason"], scored=row["scored"])
    for old in row["turns"]:
        action = rfenvs.Action(old["text"], finish_reason=old.get("finish_reason"))
        _, reward, terminated, truncated, info = env.step(action)
        turn = Turn([], [], [], old["text"], old["messages"], float(reward), info["feedback"])
        turn.finish_reason = old.get("finish_reason", "stop")
        trajectory.turns.append(turn)
        trajectory.scored, trajectory.stop_reason = info["scored"], info["stop_reason"]
        if terminated or truncated:
            break
    fresh = attempt_row(row.get("group", 0), row.get("attempt", 0), task, trajectory)
    return {**{key: row[key] for key in ("step", "env") if key in row}, **fresh}

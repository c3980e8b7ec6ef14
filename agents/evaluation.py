"""`rfenvs eval`: attempts of any policy at an environment's tasks, kept as traces; interrupted, it continues.

The directory holds `config.json` (what was asked for), `trajectories.jsonl` (a row an attempt) and `summary.json`.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rfenvs
from agents.errors import SetupError
from agents.policies import Policy, play
from agents.report.metrics import TRAJECTORIES_FILE, MetricsWriter, jsonable, read_jsonl
from agents.rollout import Environments, rollout, task_order
from agents.traces import attempt_row
from agents.training.evaluate import Estimate, estimate
from rfenvs.registry import make

if TYPE_CHECKING:
    from agents.config import TrainConfig

_TASKS_AT_ONCE = 16


class Evaluation:
    """One evaluation and its directory.

    Args:
        directory: Where its files go.
        settings: What it depends on: attempts of other settings are never mixed in.

    Raises:
        SetupError: The directory holds an evaluation with other settings.
    """

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.directory, self.settings = directory, settings
        file = directory / "config.json"
        if file.is_file() and (old := json.loads(file.read_text(encoding="utf-8"))) != jsonable(settings):
            other = ", ".join(key for key in {**old, **settings} if old.get(key) != jsonable(settings.get(key)))
            raise SetupError(f"{directory} holds an evaluation with another {other}; use --fresh, or another --out")
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(jsonable(settings), indent=1), encoding="utf-8")
        self.rows: dict[tuple[int, int, bool], dict[str, Any]] = {
            (row["task"]["index"], row["attempt"], row["greedy"]): row
            for row in read_jsonl(directory / TRAJECTORIES_FILE)
        }
        self._writer = MetricsWriter(directory)

    def missing(self, tasks: Sequence[int], attempts: int, greedy: bool = False) -> list[tuple[int, int]]:
        """(task, attempt) pairs that are still to be made."""
        return [(t, a) for t in tasks for a in range(attempts) if (t, a, greedy) not in self.rows]

    def add(self, rows: Sequence[dict[str, Any]], greedy: bool = False) -> None:
        """Keep some attempts: they are on the disk when this returns."""
        rows = [{"step": 0, **row, "env": self.settings["env"], "greedy": greedy} for row in rows]
        self._writer.log_trajectories(jsonable(row) for row in rows)
        self.rows.update({(row["task"]["index"], row["attempt"], greedy): row for row in rows})

    def estimate(self, tasks: Sequence[int], greedy: bool = False) -> Estimate:
        """Mean reward over the attempts that could be scored, with its interval."""
        rewards: dict[int, list[float]] = {task: [] for task in tasks}
        for (task, _, sampled_greedily), row in self.rows.items():
            if task in rewards and sampled_greedily == greedy and row["scored"]:
                rewards[task].append(row["reward"])
        return estimate(list(rewards.values()))

    def finish(self, tasks: Sequence[int]) -> dict[str, Any]:
        """Write the summary: estimates, what could not be scored, and what was complained about first."""
        rows = [row for (task, _, _), row in self.rows.items() if task in set(tasks)]
        summary = {
            "sampled": self.estimate(tasks).to_dict(),
            "greedy": self.estimate(tasks, greedy=True).to_dict(),
            "unscored": sum(not row["scored"] for row in rows),
            "stop_reasons": dict(Counter(row["stop_reason"] for row in rows).most_common()),
            "feedback": dict(Counter(map(_first_complaint, rows)).most_common()),
        }
        text = json.dumps(jsonable(summary), indent=1)
        (self.directory / "summary.json").write_text(text, encoding="utf-8")
        self._writer.close()
        return summary


def _first_complaint(row: dict[str, Any]) -> str:
    items = row["turns"][-1]["feedback"] if row["turns"] else []
    worst = next((entry for entry in items if entry["severity"] != "info"), None)
    return "none" if worst is None else str(worst["data"].get("code") or worst["kind"])


def tasks_of(config: TrainConfig) -> list[int]:
    """The tasks of an evaluation: `eval.tasks` of `eval.split`, drawn by `eval.seed`.

    Raises:
        SetupError: There is no such environment or split.
    """
    environments = Environments(config.env.id, config.eval.split, config.env.kwargs)
    total = environments.num_tasks()
    environments.close()
    return task_order(total, config.eval.seed, 0, min(config.eval.tasks, total))


def sample_text(
    config: TrainConfig, policy: Policy, evaluation: Evaluation, tasks: Sequence[int], attempts: int, workers: int
) -> Iterator[int]:
    """Attempts of a policy outside this process, `workers` at a time; yields after each how many were made."""
    local = threading.local()
    made: list[rfenvs.TextEnv] = []

    def one(pair: tuple[int, int]) -> dict[str, Any]:
        if not hasattr(local, "env"):
            local.env = make(config.env.id, config.eval.split, **config.env.kwargs)
            made.append(local.env)
        task, attempt = pair
        described, trajectory = play(
            local.env, policy, task, config.eval.seed * 1000 + attempt, config.rollout.history, config.rollout.turns
        )
        return attempt_row(task, attempt, described, trajectory)

    try:
        with ThreadPoolExecutor(workers) as threads:
            for row in threads.map(one, evaluation.missing(tasks, attempts)):
                evaluation.add([row])
                yield 1
    finally:
        for env in made:
            env.close()


def sample_model(config: TrainConfig, engine: Any, evaluation: Evaluation, tasks: Sequence[int]) -> Iterator[int]:
    """`eval.attempts` sampled attempts and a greedy one at each task by a model in this process, in batches."""
    environments = Environments(config.env.id, config.eval.split, config.env.kwargs, config.env.workers)
    sampling = config.eval_sampling()
    argmax = sampling.model_copy(update={"temperature": 0.0})
    for greedy, attempts, how in ((False, config.eval.attempts, sampling), (True, 1, argmax)):
        wanted = {task for task, _ in evaluation.missing(tasks, attempts, greedy)}
        todo = [task for task in tasks if task in wanted]
        for start in range(0, len(todo), _TASKS_AT_ONCE):
            batch = todo[start : start + _TASKS_AT_ONCE]
            seed = random.Random(f"{config.eval.seed}:{batch}").getrandbits(62)
            groups = rollout(engine, engine.chat, environments, batch, attempts, how, seed, settings=config.rollout)
            pairs = [(task, a) for task in batch for a in range(attempts)]
            made = [(group.task, t) for group in groups for t in group.trajectories]
            evaluation.add(
                [attempt_row(i, a, described, t) for (i, a), (described, t) in zip(pairs, made, strict=True)], greedy
            )
            yield len(made)
    environments.close()

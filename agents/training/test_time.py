"""Test-time self-distillation: one hard task at a time, attempts and updates in turn, until it is solved.

    for task, seed:                                  # fresh weights for each
        until a full reward, or the budget is used:
            groups = attempts at the task, a batch
            recipe learns from what the environment said of them

Source: SDPO (arXiv 2601.20802), test-time self-distillation and discovery@k. Until the first success only feedback
drives learning, and at the first success a run is over. Beside it, on the same budget and with the same sampler:
attempts without updates (``best_of_k``), and a conversation without updates that is told all feedback so far
(``multi_turn``).

Our reading: attempts that could not be scored are neither failures nor successes. They have no number, use no budget,
and are made again; a run in which a whole batch of attempts in a row could not be scored is stopped, and counts for no
more attempts than it has.
"""

from __future__ import annotations

import json
import platform
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from agents.batch import samples_of
from agents.config import TrainConfig
from agents.errors import SetupError
from agents.recipes.base import TaughtRecipe
from agents.report.metrics import jsonable
from agents.rollout import Environments, rollout
from agents.teachers.hints import Sources
from agents.traces import attempt_row
from agents.training.dialogue import Asking, Dialogue, Remembering, question_of
from agents.training.discovery_console import DiscoveryConsole
from agents.training.discovery_log import ATTEMPTS, RUNS, UPDATES, DiscoveryLog
from agents.training.discovery_setup import DiscoverySettings, check, default_directory, describe
from agents.training.discovery_summary import summarise
from agents.training.fresh import FreshLearner
from agents.training.metrics import step_metrics
from agents.training.trainer import differences, load_engine, load_sampler
from agents.trajectory import Group, Message

SIDE_BY_SIDE = 32
"""Conversations of ``multi_turn`` that share forward passes."""


@dataclass
class Progress:
    """Where one run is: one task under one seed."""

    number: int
    task: int
    seed: int
    scored: int = 0
    unscored: int = 0
    unscored_in_a_row: int = 0
    found: int | None = None
    """Number of the first attempt with full reward, from 1."""
    solution: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    dialogue: Dialogue = field(default_factory=lambda: Dialogue("feedback_only"))

    def count(self, row: dict[str, Any]) -> None:
        """Take a row of ``attempts.jsonl`` into account."""
        if row["number"] is None:
            self.unscored += 1
            self.unscored_in_a_row += 1
            return
        self.scored, self.unscored_in_a_row = row["number"], 0
        self.dialogue.add(row["turns"][-1]["text"], row["told"])
        if self.found is None and row["reward"] >= 1:
            self.found, self.solution = row["number"], solution_text(row)


class Discovery:
    """Runs of one method on some tasks, in one directory. Interrupted, it continues when built again.

    Raises:
        SetupError: The settings do not fit together, or the directory holds a discovery with other ones.
    """

    def __init__(self, config: TrainConfig, settings: DiscoverySettings) -> None:
        self.config, self.settings = config, settings
        self.directory = config.run_dir or default_directory(config, settings)
        check(config, settings)
        self.console = DiscoveryConsole()
        self.log = DiscoveryLog(self.directory)
        self.environments = Environments(config.env.id, config.env.split, config.env.kwargs, config.env.workers)
        self.runs = [(task, config.seed + k) for task in settings.tasks for k in range(settings.seeds)]
        self.remembering: Remembering | None = None
        self.allow_reference = isinstance(config.recipe, TaughtRecipe) and config.recipe.context.allow_reference

    def run(self) -> dict[str, Any]:
        """Work through all runs, and return the summary; what was finished before is not repeated."""
        self._claim()
        size = SIDE_BY_SIDE if self.settings.method == "multi_turn" else 1
        units = [range(k, min(k + size, len(self.runs))) for k in range(0, len(self.runs), size)]
        finished = self.log.finished()
        todo = [unit for unit in units if not finished.issuperset(unit)]
        if todo:
            self._load()
        done = sum(len(unit) for unit in units) - sum(len(unit) for unit in todo)
        with self.console.progress(len(self.runs), done, self.settings.budget):
            for unit in todo:
                self._unit(unit)
        self.environments.close()
        if todo:
            getattr(self.sampler, "close", lambda: None)()
        summary = summarise(self.directory)
        path = self.directory / "summary.json"
        path.with_suffix(".tmp").write_text(json.dumps(jsonable(summary), indent=1))
        path.with_suffix(".tmp").replace(path)
        shutil.rmtree(self.directory / "checkpoints", ignore_errors=True)
        self.console.summary(summary, self.directory)
        return summary

    # ---- set up

    def _claim(self) -> None:
        """Write config.json, or find that it is this very discovery that was interrupted."""
        path = self.directory / "config.json"
        mine = {
            "config": self.config.model_dump(mode="json", exclude={"run_dir", "trackers"}),
            "discover": self.settings.model_dump(mode="json"),
        }
        if path.is_file():
            theirs = json.loads(path.read_text())
            if differing := differences({name: theirs.get(name) for name in mine}, mine):
                raise SetupError(
                    f"{self.directory} holds other settings: {'; '.join(differing)}. Choose another --out, or start "
                    "over with --fresh."
                )
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        libraries = {name: version(name) for name in ("torch", "transformers", "gymnasium", "pydantic")}
        about: dict[str, Any] = {
            "method": self.settings.method,
            "recipe": type(self.config.recipe).name,
            "env": self.config.env.id,
            "model": self.config.model.name,
            **mine,
            "tasks": [describe(self.environments, task) for task in self.settings.tasks],
            "libraries": {"python": platform.python_version(), **libraries},
        }
        path.with_suffix(".tmp").write_text(json.dumps(about, indent=1))
        path.with_suffix(".tmp").replace(path)

    def _load(self) -> None:
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        learns = self.settings.method == "sdpo"
        self.engine = load_engine(config, train=learns)
        self.learner = FreshLearner(config, self.engine, self.environments) if learns else None
        self.sampler = self.learner.sampler if self.learner else load_sampler(config, self.engine, lambda: 0)
        if self.learner is not None and self._saves():
            self.learner.require_space(self.directory)

    def _saves(self) -> bool:
        every = self.config.save_every
        return bool(every) and self.settings.budget > every * self.config.batch.attempts

    # ---- runs

    def _unit(self, unit: Sequence[int]) -> None:
        """One run, or the conversations that are held side by side, from where they were left to their end."""
        runs, step = self._resume(unit)
        while alive := [run for run in runs if self._stopped(run) is None]:
            started = time.perf_counter(), time.process_time()
            if self.settings.method == "multi_turn":
                groups = self._converse(unit, alive, step)
            else:
                groups = self._sample(alive[0], step)
            rows = [row for run, group in zip(alive, groups, strict=True) for row in self._rows(run, group, step)]
            for row in rows:
                runs[row["run"] - unit[0]].count(row)
            metrics = self._learn(alive[0], groups, step, rows)
            self.log.add(ATTEMPTS, rows)
            spent = time.perf_counter() - started[0], time.process_time() - started[1]
            updates = []
            for run, group in zip(alive, groups, strict=True):
                numbers = metrics or step_metrics([group], [], [])
                seconds, cpu = (value / len(alive) for value in spent)
                run.seconds, run.cpu_seconds = run.seconds + seconds, run.cpu_seconds + cpu
                about = {"run": run.number, "step": step, "attempts": run.scored, "unscored": run.unscored}
                updates.append({**about, **numbers, "seconds": seconds, "cpu_seconds": cpu})
            self.log.add(UPDATES, updates)
            step += 1
            if self.learner is not None and self._saves() and step % self.config.save_every == 0:
                self.learner.save(self._checkpoints(unit), step)
            if self.settings.method != "multi_turn" or step % self.config.batch.attempts == 0:
                for run, numbers in zip(alive, updates, strict=True):
                    self.console.batch(self._name(run), run.scored, self.settings.budget, numbers)
        self._end(runs)
        shutil.rmtree(self._checkpoints(unit), ignore_errors=True)

    def _resume(self, unit: Sequence[int]) -> tuple[list[Progress], int]:
        """The unit's runs as they were left, and the step they go on with. Rows that will be made again are dropped."""
        every = self.config.save_every
        step = written = self.log.whole_steps(unit)
        if self.settings.method == "multi_turn":
            step = written // every * every if every else 0
        elif self.learner is not None:
            step = self.learner.restore(self._checkpoints(unit))
        self.log.drop(lambda row: row["run"] in unit and row.get("step", step) >= step)
        runs = [Progress(number, *self.runs[number], dialogue=Dialogue(self.settings.template)) for number in unit]
        for row in self.log.rows(ATTEMPTS):
            if row["run"] in unit:
                runs[row["run"] - unit[0]].count(row)
        for row in self.log.rows(UPDATES):
            if row["run"] in unit:
                run = runs[row["run"] - unit[0]]
                run.seconds, run.cpu_seconds = run.seconds + row["seconds"], run.cpu_seconds + row["cpu_seconds"]
        if step:
            self.console.say(f"resuming {self._name(runs[0])} at batch {step}")
        return runs, step

    def _stopped(self, run: Progress) -> str | None:
        """Why a run is over; None while it is not."""
        if run.found is not None:
            return "solved"
        if run.scored >= self.settings.budget:
            return "budget"
        return "unscored" if run.unscored_in_a_row >= self.config.batch.attempts else None

    def _sample(self, run: Progress, step: int) -> list[Group]:
        attempts = min(self.config.batch.attempts, self.settings.budget - run.scored)
        drive = self.learner.begin(step) if self.learner is not None else None
        return rollout(
            self.sampler, self.engine.chat, self.environments, [run.task], attempts, self.config.sampling,
            self._seed(run, step), drive=drive, settings=self.config.rollout,
        )  # fmt: skip

    def _converse(self, unit: Sequence[int], alive: Sequence[Progress], step: int) -> list[Group]:
        """One attempt of each conversation; they share forward passes, so what is drawn depends on who is there."""
        every = self.config.save_every
        if self.remembering is None or step == 0 or (every and step % every == 0):
            self.remembering = Remembering(self.sampler)
        room = self.sampler.context_length - self.config.sampling.max_tokens
        limit = min(room, self.settings.prompt_tokens or room)
        prompts: list[list[Message] | None] = [
            run.dialogue.messages(question_of(self.environments, run.task), self.engine.chat, limit) for run in alive
        ]
        seed = random.Random(f"{self.runs[unit[0]]}:{step}").getrandbits(63)
        return rollout(
            self.remembering, self.engine.chat, Asking(self.environments, prompts),  # type: ignore[arg-type]
            [run.task for run in alive], 1, self.config.sampling, seed, settings=self.config.rollout,
        )  # fmt: skip

    def _learn(
        self, run: Progress, groups: list[Group], step: int, rows: Sequence[dict[str, Any]]
    ) -> dict[str, Any] | None:
        """One update of the recipe, where there is one and the run goes on; numbers of the step.

        What the teacher saw is noted in the ``rows`` of the attempts.
        """
        if self.learner is None or self._stopped(run) is not None:
            return None
        done, metrics = self.learner.learn(groups, run.task, step, f"{run.seed}:{run.task}:{step}")
        for sample in done.samples:
            if sample.source == "policy":
                rows[sample.attempt]["turns"][sample.turn]["teacher_messages"] = sample.teacher_messages
        return metrics

    def _rows(self, run: Progress, group: Group, step: int) -> Iterator[dict[str, Any]]:
        """Rows of ``attempts.jsonl``; only scored attempts have a number."""
        number = run.scored
        samples = samples_of([group])
        sources = Sources.of(samples, [group], self.allow_reference, 500, "")
        told = {s.attempt: sources.episode(["feedback"], s).feedback or "" for s in samples}
        for a, trajectory in enumerate(group.trajectories):
            number += trajectory.scored
            row = attempt_row(run.number, a, group.task, trajectory)
            if self.settings.method == "multi_turn":  # the prompt is the question and what earlier rows were told
                row["turns"] = [{**turn, "messages": []} for turn in row["turns"]]
            about = {"run": run.number, "seed": run.seed, "step": step}
            yield {**about, "number": number if trajectory.scored else None, "told": told.get(a, ""), **row}

    def _end(self, runs: Sequence[Progress]) -> None:
        rows = []
        for run in runs:
            task = describe(self.environments, run.task)
            row: dict[str, Any] = {"run": run.number, "task": task["id"], "index": run.task, "seed": run.seed}
            row |= {"stopped": self._stopped(run), "found": run.found, "attempts": run.scored}
            row |= {"unscored": run.unscored, "seconds": run.seconds, "cpu_seconds": run.cpu_seconds}
            if run.found is not None:
                row["solution"] = self.log.solution(task["id"], run.seed, run.solution)
            rows.append(row)
        self.log.add(RUNS, rows)
        for row in rows:
            self.console.ended(row)

    def _seed(self, run: Progress, step: int) -> int:
        return random.Random(f"{run.seed}:{run.task}:{step}").getrandbits(63)

    def _checkpoints(self, unit: Sequence[int]) -> Path:
        return self.directory / "checkpoints" / f"run-{unit[0]}"

    def _name(self, run: Progress) -> str:
        return f"{describe(self.environments, run.task)['id']} seed {run.seed}"


def solution_text(row: dict[str, Any]) -> str:
    """What solved the task: the answer, or the actions of the episode, one after the other."""
    return "\n".join(turn["text"] for turn in row["turns"])

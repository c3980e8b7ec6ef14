"""The loop: tasks to groups to a batch to an optimiser step, again and again, with everything written down.

for step:
    groups = rollout(policy, tasks)          # attempts, rewards, feedback
    update.learn(groups)                     # `agents.training.step`
"""

from __future__ import annotations

import json
import math
import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from agents.batch import MAIN, Batch
from agents.config import TrainConfig
from agents.engines.base import Engine
from agents.engines.hf import HFEngine
from agents.engines.vllm import VLLMEngine
from agents.engines.vllm_setup import require as require_vllm
from agents.errors import SetupError
from agents.models import resolve
from agents.recipes.base import TaughtRecipe
from agents.recipes.tools import StepTools
from agents.recorded import ROLLOUTS_FILE
from agents.report.metrics import MetricsWriter, jsonable, read_jsonl, truncate_to_step
from agents.report.trackers import make_trackers
from agents.rollout import Environments, rollout, task_order
from agents.teachers.abilities import require
from agents.teachers.teacher import make_teacher
from agents.training import checkpoints
from agents.training.agreement import require_agreement
from agents.training.alarms import alarms, stop
from agents.training.check import check_teacher
from agents.training.console import Console
from agents.training.evaluate import Evaluation, evaluate
from agents.training.learner import Learner, StepResult
from agents.training.metrics import cut_warning, health, schedule, step_metrics
from agents.training.records import trajectory_rows
from agents.training.step import Update
from agents.trajectory import Group


@dataclass
class Run:
    """A finished run."""

    directory: Path
    config: TrainConfig
    summary: dict[str, Any]


class Trainer:
    """One run, in one process, from a configuration to a summary. Interrupted, it continues when built again."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.directory = config, config.directory()
        self.console = Console()
        if (self.directory / "summary.json").is_file():
            return  # `run` only reports
        if config.threads:
            torch.set_num_threads(config.threads)
        try:
            self.trackers = make_trackers(config.trackers)
        except (ValueError, ImportError) as error:
            raise SetupError(str(error)) from error
        self.environments = Environments(config.env.id, config.env.split, config.env.kwargs, config.env.workers)
        self.held_out = (
            Environments(config.env.id, config.eval.split, config.env.kwargs, config.env.workers)
            if config.eval.tasks
            else None
        )
        self.engine = load_engine(config, train=True)
        self.learner = Learner(self.engine, config.optim, config.sampling.temperature)
        self.sampler = load_sampler(config, self.engine, lambda: self.learner.steps)
        recipe = config.recipe
        self.teachers = recipe.make_teachers(self.engine)
        self.update = Update(recipe, self.engine, self.learner, self.teachers, config.sampling, config.record_tokens)
        settings = recipe.expert()
        if settings:
            require(settings, {"generate_from_prefix": f"acting in rollouts (recipe={recipe.name})"})
        self.expert = make_teacher(self.engine, settings, beside=self.teachers.get(MAIN)) if settings else None
        if config.save_every:
            count = checkpoints.kept_at_once(self._reach, config.save_every)
            size = checkpoints.state_bytes(self.learner, self.teachers)
            checkpoints.require_space(self.directory / "checkpoints", count * size)

    def run(self) -> Run:
        """Train to the end and return the summary; a run that already ended is not repeated."""
        finished = self.directory / "summary.json"
        self._claim()
        if finished.is_file():
            self.console.say(f"{self.directory} is finished; --fresh starts it again")
            summary = json.loads(finished.read_text())
            self.console.summary(summary, self.directory)
            return Run(self.directory, self.config, summary)
        self.config.recipe.open(self.directory)
        start = self._resume()
        if self.config.note:
            self.console.say(self.config.note)
        with MetricsWriter(self.directory) as self.writer:
            for tracker in self.trackers:
                tracker.start(self.directory, self.config.model_dump(mode="json"))
            if start == 0:
                self._check_teacher()
            self.history = [r for r in read_jsonl(self.directory / "metrics.jsonl") if r["kind"] == "train"]
            if start == 0 and self._reach:
                self._save(0)  # the weights that an alarm of the first steps goes back to
            with self.console.progress(self.config.steps, start):
                done, stopped = self._train(start)
                self._evaluate(done)
            summary = self._finish(done, stopped)
            for tracker in self.trackers:
                tracker.finish()
        self.environments.close()
        getattr(self.sampler, "close", lambda: None)()
        self.console.summary(summary, self.directory)
        return Run(self.directory, self.config, summary)

    def _train(self, start: int) -> tuple[int, dict[str, Any] | None]:
        """Steps from ``start`` to the end, or to an alarm that ends the run: how many are done, and what it was."""
        config = self.config
        for step in range(start, config.steps):
            if step == 0 or (config.eval.every and step % config.eval.every == 0):
                self._evaluate(step)
            self._step(step)
            if stopped := self._halt(step):
                return step + 1, stopped
            if config.save_every and (step + 1) % config.save_every == 0:
                self._save(step + 1)
        return config.steps, None

    def _halt(self, step: int) -> dict[str, Any] | None:
        """Whether an alarm ends the run here; with a rollback, the weights are then those of an earlier checkpoint.

        Steps of a run that goes back are not repeated (our reading): from the same weights, the same settings lead to
        the same place.
        """
        settings = self.config.alarms
        found = stop(self.history, settings)
        if found is None:
            return None
        weights = step + 1
        if settings.action == "rollback":
            checkpoint = checkpoints.latest(self.directory / "checkpoints", found.first)
            if checkpoint is None:  # the alarm is about the weights that the run began with
                checkpoint = checkpoints.latest(self.directory / "checkpoints", 1)
            assert checkpoint is not None
            weights = checkpoints.restore(checkpoint, self.learner, self.teachers, self.config.recipe)
        row = {
            "name": found.alarm.name,
            "action": settings.action,
            "message": found.alarm.message,
            "step": step,
            "first": found.first,
            "weights_of_step": weights,
        }
        self.writer.log(step, "stop", row)
        ends = "the run ends here"
        if settings.action == "rollback":
            ends += f" with the weights from before step {weights}"
        self.console.warn(f"step {step}: alarm {found.alarm.name} since step {found.first}: {ends}")
        return row

    @property
    def _reach(self) -> int:
        """Steps back that a checkpoint may be wanted from."""
        return self.config.alarms.patience if self.config.alarms.action == "rollback" else 0

    # ---- the run directory

    def _claim(self) -> None:
        """Write config.json, or find that it is this very run that was interrupted."""
        path = self.directory / "config.json"
        # A run that was moved, or is watched by another tracker, is still the same run.
        mine = self.config.model_dump(mode="json", exclude={"run_dir", "trackers"})
        if path.is_file():
            theirs = json.loads(path.read_text())["config"]
            if differing := differences(theirs, mine):
                raise SetupError(
                    f"{self.directory} holds a run with other settings: {'; '.join(differing)}. Choose another "
                    "--run_dir, or start over with --fresh."
                )
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        packages = ("torch", "transformers", "gymnasium", "pydantic")
        libraries = {name: version(name) for name in packages}
        about = {
            "recipe": type(self.config.recipe).name,
            "env": self.config.env.id,
            "model": self.config.model.name,
            "config": mine,
            "libraries": {"python": platform.python_version(), **libraries},
        }
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(about, indent=2))
        scratch.replace(path)

    def _resume(self) -> int:
        checkpoint = checkpoints.latest(self.directory / "checkpoints")
        start = 0
        if checkpoint:
            start = checkpoints.restore(checkpoint, self.learner, self.teachers, self.config.recipe)
        dropped = sum(
            truncate_to_step(self.directory / name, start)
            for name in ("metrics.jsonl", "trajectories.jsonl", ROLLOUTS_FILE)
            if (self.directory / name).is_file()
        )
        if checkpoint or dropped:
            self.console.say(f"resuming {self.directory} at step {start} of {self.config.steps}")
        return start

    def _save(self, step: int) -> None:
        checkpoints.save(
            self.directory / "checkpoints", step, self.learner, self.teachers, self.config.recipe, self._reach
        )

    # ---- one step

    def _step(self, step: int) -> None:
        config, recipe = self.config, self.config.recipe
        recipe.begin(step)
        wall, cpu = time.perf_counter(), time.process_time()
        tasks = task_order(self.environments.num_tasks(), config.seed, step * config.batch.tasks, config.batch.tasks)
        seed = random.Random(f"{config.seed}:{step}").getrandbits(63)
        drive = recipe.drive(step)
        if expert := self.expert:
            drive = replace(drive, expert=lambda prompts, seed: expert.generate(prompts, config.sampling, seed))
        replayed, other = recipe.replay(step), recipe.sampler(self.engine, self.teachers)
        groups = replayed or rollout(
            other or self.sampler,
            self.engine.chat,
            self.environments,
            tasks,
            config.batch.attempts,
            config.sampling,
            seed,
            drive=drive,
            settings=config.rollout,
        )
        if replayed:
            tasks = [int(group.task["index"]) for group in groups]
        tools = StepTools(
            self.engine.chat,
            limit=self.engine.context_length,
            seed=f"{config.seed}:{step}",
            step=step,
            sampling=config.sampling,
            engine=self.engine,
            sampler=self.sampler,
            teachers=self.teachers,
            environments=self.environments,
            tasks=tasks,
        )
        done = self.update.learn(groups, tools)
        metrics = step_metrics(groups, done.samples, done.results) | tools.log | schedule(drive)
        metrics["overlong_contexts"], metrics["teacher_failed"] = done.overlong, done.failed
        if replayed or other is not None:
            metrics["off_policy"] = 1
        if replayed:  # nothing was generated
            metrics |= {"generations": 0, "tokens": 0, "replayed": 1}
        metrics["seconds"] = time.perf_counter() - wall
        metrics["cpu_seconds"] = time.process_time() - cpu
        recipe.observe(metrics)
        for teacher in self.teachers.values():
            teacher.observe(metrics)
        self._record(step, metrics, groups, done.results)

    def _record(
        self,
        step: int,
        metrics: dict[str, Any],
        groups: Sequence[Group],
        results: list[tuple[Batch, StepResult]],
    ) -> None:
        self.writer.log(step, "train", metrics)
        decode = self.engine.tokenizer.decode if self.config.record_tokens else None
        self.writer.log_trajectories(trajectory_rows(step, groups, results, decode))
        self.history.append(jsonable(metrics))
        for alarm in alarms(self.history):
            self.writer.log(step, "alarm", alarm._asdict())
            self.console.warn(f"step {step}: {alarm.message}")
        if metrics["skipped"]:
            self.console.warn(
                f"step {step}: {metrics['skipped']} of {metrics['generations']} attempts are not counted: the prompt "
                f"fills the context of {self.sampler.context_length} tokens, or the environment could not score them"
            )
        if warning := cut_warning(metrics["stop_reasons"], self.sampler.context_length, self.config.rollout):
            self.console.warn(f"step {step}: {warning}")
        if metrics["overlong_contexts"]:
            self.console.warn(
                f"step {step}: {metrics['overlong_contexts']} turns are not taught: with the hint, their prompts "
                "exceed the context of the model; recipe.context.max_tokens and max_observation shorten hints"
            )
        if metrics["teacher_failed"]:
            self.console.warn(
                f"step {step}: {metrics['teacher_failed']} turns are not taught: the teacher's server gave no scores"
            )
        if lost := sum(not math.isfinite(result.grad_norm) for _, result in results):
            self.console.warn(
                f"step {step}: {lost} of {len(results)} optimiser steps were left out: their gradient is not finite. "
                "Look for a teacher or a dtype that overflows (model.dtype, recipe.teacher.dtype)"
            )
        elif not any(result.stepped for _, result in results):
            self.console.warn(
                f"step {step}: nothing to learn from (no successes to compare, no teacher context, every turn "
                "skipped); weights unchanged"
            )
        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
        for tracker in self.trackers:
            tracker.log(step, {f"train/{k}": v for k, v in numbers.items()})
        self.console.step(step, metrics)

    # ---- before, between and after

    def _check_teacher(self) -> None:
        recipe, config = self.config.recipe, self.config
        teacher = self.teachers.get(MAIN)
        if not (teacher and isinstance(recipe, TaughtRecipe) and config.check_teacher):
            return
        self.console.say("checking the teacher")
        attempts = min(config.batch.attempts, 8)
        result = check_teacher(
            self.engine, teacher, recipe, self.environments,
            tasks=config.check_teacher, attempts=attempts, sampling=config.sampling, seed=config.seed + 1,
            settings=config.rollout, sampler=self.sampler,
        )  # fmt: skip
        self.writer.log(0, "teacher", result.to_dict())
        self.console.teacher(result)

    def _evaluate(self, step: int) -> None:
        if self.held_out is None:
            return
        settings = self.config.eval
        self.console.say(f"evaluating on {settings.tasks} held-out tasks")
        result = evaluate(
            self.sampler, self.engine.chat, self.held_out,
            tasks=settings.tasks, attempts=settings.attempts, sampling=self.config.eval_sampling(), seed=settings.seed,
            settings=self.config.rollout, opening=self.config.recipe.evaluated_with(),
        )  # fmt: skip
        generations = sum(row["generations"] for row in self.history)
        for row in _eval_rows(result, settings.split, settings.temperature):
            self.writer.log(step, "eval", {**row, "generations": generations, "cpu_seconds": result.cpu_seconds})
        for tracker in self.trackers:
            tracker.log(step, {"eval/sampled": result.sampled.mean, "eval/greedy": result.greedy.mean})
        self.console.evaluation(step, result)

    def _finish(self, done: int, stopped: dict[str, Any] | None) -> dict[str, Any]:
        rows = read_jsonl(self.directory / "metrics.jsonl")
        evals, train = [r for r in rows if r["kind"] == "eval"], [r for r in rows if r["kind"] == "train"]
        summary: dict[str, Any] = {
            "recipe": type(self.config.recipe).name,
            "env": self.config.env.id,
            "model": self.config.model.name,
            "steps": done,
            "generations": sum(r["generations"] for r in train),
            "skipped": sum(r["skipped"] for r in train),
            "feedback": dict(sum((Counter(r.get("feedback", {})) for r in train), Counter())),
            "tokens": sum(r["tokens"] for r in train),
            "train_seconds": sum(r["seconds"] for r in train),
            "train_cpu_seconds": sum(r["cpu_seconds"] for r in train),
            "alarms": sum(r["kind"] == "alarm" for r in rows),
        }
        if found := self.config.recipe.found():
            summary["found"] = found
        if stopped:
            summary["stopped"] = stopped
        if self.config.note:
            summary["note"] = self.config.note
        for name, greedy in (("held_out", False), ("held_out_greedy", True)):
            chosen = [r for r in evals if (r["temperature"] == 0) == greedy]
            if chosen:
                keys = ("mean", "low", "high", "n", "tasks")
                before, after = ({k: r[k] for k in keys} for r in (chosen[0], chosen[-1]))
                summary[name] = {"before": before, "after": after}
        if self.config.save_final:
            final = self.directory / "checkpoints" / "final"
            weights = sum(p.numel() * p.element_size() for p in self.engine.model.parameters())
            checkpoints.require_space(final.parent, weights)
            self.engine.model.save_pretrained(final)
            self.engine.tokenizer.save_pretrained(final)
        path = self.directory / "summary.json"
        path.with_suffix(".tmp").write_text(json.dumps(jsonable(summary), indent=2))
        path.with_suffix(".tmp").replace(path)
        checkpoints.clear(self.directory / "checkpoints")
        return summary


def load_engine(config: TrainConfig, train: bool = False) -> HFEngine:
    """The policy that a configuration names; to `train` all of its weights they must be in float32.

    A bfloat16 weight of 0.02 has neighbours 1e-4 away: a step of the size of the learning rate is rounded to nothing.
    Adapters are in float32 whatever the model is in.
    """
    if config.engine.kind == "vllm":
        require_vllm()  # before anything is loaded
    model = config.model
    dtype = model.dtype
    if train and not model.lora_rank:
        if dtype in ("bfloat16", "float16"):
            raise SetupError(
                f"model.dtype={dtype!r} with model.lora_rank=0: steps of optim.lr={config.optim.lr:g} are lost when "
                "weights are rounded to it. Set model.dtype=float32, or train adapters with model.lora_rank=64"
            )
        dtype = "float32"
    engine = HFEngine.load(
        resolve(model.name),
        dtype=dtype,
        device=model.device,
        attention=model.attention,
        budget=model.pack_tokens,
        rows=model.sample_rows,
        layout=model.layout,
        template=model.template,
        reuse=model.reuse_tokens,
    )
    if model.lora_rank:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(config.seed)  # the adapters' initial values
        adapters = LoraConfig(
            r=model.lora_rank, lora_alpha=model.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        engine.model = get_peft_model(engine.model, adapters).eval()
    if model.gradient_checkpointing:
        engine.recompute_activations()
    return engine


def load_sampler(config: TrainConfig, engine: HFEngine, version: Callable[[], int]) -> Engine:
    """Who samples what ``engine`` holds: itself, or a copy in vLLM that follows its weights, counted by ``version``.

    Raises `SetupError` where vLLM cannot be used, or where its copy does not speak like the original.
    """
    if config.engine.kind == "transformers":
        return engine
    sampler = VLLMEngine.load(resolve(config.model.name), config.engine, config.model.template)
    sampler.stop_ids = engine.stop_ids
    sampler.follow(engine.model, version)
    require_agreement(sampler, engine, config.sampling.temperature)
    return sampler


def load_policy(config: TrainConfig) -> HFEngine | VLLMEngine:
    """The policy, only to be sampled from."""
    if config.engine.kind == "transformers":
        return load_engine(config)
    return VLLMEngine.load(resolve(config.model.name), config.engine, config.model.template)


def _eval_rows(result: Evaluation, split: str, temperature: float) -> list[dict[str, Any]]:
    pairs = ((temperature, result.sampled, result.groups), (0.0, result.greedy, result.greedy_groups))
    return [{"split": split, "temperature": t, **e.to_dict(), **health(groups)} for t, e, groups in pairs]


def differences(theirs: Any, mine: Any, prefix: str = "") -> list[str]:
    """Which settings differ, in words: ``optim.lr was 0.001 and is 0.5``."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        names = sorted({*theirs, *mine})
        return [d for n in names for d in differences(theirs.get(n), mine.get(n), f"{prefix}.{n}" if prefix else n)]
    return [] if theirs == mine else [f"{prefix} was {theirs!r} and is {mine!r}"]

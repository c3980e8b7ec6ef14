"""The loop: tasks to groups to a batch to an optimiser step, again and again, with everything written down.

for step:
    groups  = rollout(policy, tasks)                 # attempts, rewards, feedback
    samples = recipe.samples(groups) + contexts      # what the teacher may see
    for batch of samples:
        teacher reads, recipe annotates, learner steps
    teacher follows
"""

from __future__ import annotations

import json
import math
import platform
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.batch import Batch, Sample, split
from agents.config import TrainConfig
from agents.engines.hf import HFEngine
from agents.errors import SetupError
from agents.history import RolloutSettings
from agents.losses.fused import TokenStats
from agents.models import resolve
from agents.recipes.base import TaughtRecipe
from agents.report.metrics import MetricsWriter, jsonable, read_jsonl, truncate_to_step
from agents.report.trackers import make_trackers
from agents.rollout import Drive, Environments, rollout, task_order
from agents.teachers.contexts import add_contexts
from agents.teachers.teacher import Teacher, read_teacher
from agents.traces import attempt_row
from agents.training import checkpoints
from agents.training.alarms import alarms, repetition
from agents.training.check import check_teacher
from agents.training.console import Console
from agents.training.evaluate import Evaluation, evaluate
from agents.training.learner import Learner, StepResult
from agents.trajectory import Group, Trajectory


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
        recipe = config.recipe
        self.teacher = Teacher(self.engine, recipe.teacher) if isinstance(recipe, TaughtRecipe) else None
        settings = recipe.expert()
        self.expert = Teacher(self.engine, settings, beside=self.teacher) if settings else None
        if config.save_every:
            checkpoints.require_space(
                self.directory / "checkpoints", checkpoints.state_bytes(self.learner, self.teacher)
            )

    def run(self) -> Run:
        """Train to the end and return the summary; a run that already ended is not repeated."""
        finished = self.directory / "summary.json"
        self._claim()
        if finished.is_file():
            self.console.say(f"{self.directory} is finished; --fresh starts it again")
            summary = json.loads(finished.read_text())
            self.console.summary(summary, self.directory)
            return Run(self.directory, self.config, summary)
        start = self._resume()
        if self.config.note:
            self.console.say(self.config.note)
        with MetricsWriter(self.directory) as self.writer:
            for tracker in self.trackers:
                tracker.start(self.directory, self.config.model_dump(mode="json"))
            if start == 0:
                self._check_teacher()
            self.history = [r for r in read_jsonl(self.directory / "metrics.jsonl") if r["kind"] == "train"]
            with self.console.progress(self.config.steps, start):
                for step in range(start, self.config.steps):
                    if step == 0 or (self.config.eval.every and step % self.config.eval.every == 0):
                        self._evaluate(step)
                    self._step(step)
                    if self.config.save_every and (step + 1) % self.config.save_every == 0:
                        checkpoints.save(self.directory / "checkpoints", step + 1, self.learner, self.teacher)
                self._evaluate(self.config.steps)
            summary = self._finish()
            for tracker in self.trackers:
                tracker.finish()
        self.environments.close()
        self.console.summary(summary, self.directory)
        return Run(self.directory, self.config, summary)

    # ---- the run directory

    def _claim(self) -> None:
        """Write config.json, or find that it is this very run that was interrupted."""
        path = self.directory / "config.json"
        # A run that was moved, or is watched by another tracker, is still the same run.
        mine = self.config.model_dump(mode="json", exclude={"run_dir", "trackers"})
        if path.is_file():
            theirs = json.loads(path.read_text())["config"]
            if differing := _differences(theirs, mine):
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
        start = checkpoints.restore(checkpoint, self.learner, self.teacher) if checkpoint else 0
        dropped = sum(
            truncate_to_step(self.directory / name, start)
            for name in ("metrics.jsonl", "trajectories.jsonl")
            if (self.directory / name).is_file()
        )
        if checkpoint or dropped:
            self.console.say(f"resuming {self.directory} at step {start} of {self.config.steps}")
        return start

    # ---- one step

    def _step(self, step: int) -> None:
        config, recipe = self.config, self.config.recipe
        wall, cpu = time.perf_counter(), time.process_time()
        tasks = task_order(self.environments.num_tasks(), config.seed, step * config.batch.tasks, config.batch.tasks)
        seed = random.Random(f"{config.seed}:{step}").getrandbits(63)
        drive = recipe.drive(step)
        if expert := self.expert:
            drive = replace(drive, expert=lambda prompts, seed: expert.generate(prompts, config.sampling, seed))
        groups = rollout(
            self.engine,
            self.engine.chat,
            self.environments,
            tasks,
            config.batch.attempts,
            config.sampling,
            seed,
            drive=drive,
            settings=config.rollout,
        )
        samples = recipe.samples(groups, self.engine.chat, self.engine.context_length)
        overlong = 0
        if isinstance(recipe, TaughtRecipe):
            limit = self.teacher.context_length if self.teacher else self.engine.context_length
            overlong = add_contexts(recipe.context, samples, groups, self.engine.chat, limit, f"{config.seed}:{step}")
            if self.teacher:
                recipe.annotate(samples, groups, self.teacher, self.engine.chat)
        results = self._learn(samples, groups) if samples else []
        if self.teacher and any(result.stepped for _, result in results):
            self.teacher.update()
        metrics = _metrics(groups, samples, results)
        metrics["overlong_contexts"] = overlong
        metrics |= _schedule(drive)
        metrics["seconds"] = time.perf_counter() - wall
        metrics["cpu_seconds"] = time.process_time() - cpu
        self._record(step, metrics, groups, results)

    def _learn(self, samples: list[Sample], groups: Sequence[Group]) -> list[tuple[Batch, StepResult]]:
        recipe, parts = self.config.recipe, min(self.config.optim.steps_per_batch, len(samples))
        advantages = recipe.advantages(groups)
        batches = [Batch(part) for part in split(samples, parts)]
        for batch in batches:
            batch.advantages = torch.tensor([advantages[s.group, s.attempt, s.turn] for s in batch.samples])
            if len(batches) > 1:
                batch.old_logprobs = self.learner.logprobs(batch)
        results = []
        for batch in batches:
            taught = [s for s in batch.samples if s.teacher_ids is not None]
            if self.teacher and taught:
                items = [(s.teacher_ids or [], s.action_ids) for s in taught]
                batch.teacher = self.teacher.logits(items, self.config.sampling.temperature)
                if isinstance(recipe, TaughtRecipe) and recipe.needs_reading:
                    batch.reading = read_teacher(batch)
            top = self.config.record_tokens
            results.append((batch, self.learner.step(batch, recipe.loss(batch), top)))
            batch.teacher = None
        return results

    def _record(
        self,
        step: int,
        metrics: dict[str, Any],
        groups: Sequence[Group],
        results: list[tuple[Batch, StepResult]],
    ) -> None:
        self.writer.log(step, "train", metrics)
        self.writer.log_trajectories(self._rows(step, groups, results))
        self.history.append(metrics)
        for alarm in alarms(self.history):
            self.writer.log(step, "alarm", alarm._asdict())
            self.console.warn(f"step {step}: {alarm.message}")
        if metrics["skipped"]:
            self.console.warn(
                f"step {step}: {metrics['skipped']} of {metrics['generations']} attempts are not counted: the prompt "
                f"fills the context of {self.engine.context_length} tokens, or the environment could not score them"
            )
        if warning := cut_warning(metrics["stop_reasons"], self.engine.context_length, self.config.rollout):
            self.console.warn(f"step {step}: {warning}")
        if metrics["overlong_contexts"]:
            self.console.warn(
                f"step {step}: {metrics['overlong_contexts']} turns are not taught: with the hint, their prompts "
                "exceed the context of the model; recipe.context.max_tokens and max_observation shorten hints"
            )
        if not any(result.stepped for _, result in results):
            self.console.warn(
                f"step {step}: nothing to learn from (no successes to compare, no teacher context, every turn "
                "skipped); weights unchanged"
            )
        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
        for tracker in self.trackers:
            tracker.log(step, {f"train/{k}": v for k, v in numbers.items()})
        self.console.step(step, metrics)

    def _rows(
        self, step: int, groups: Sequence[Group], results: list[tuple[Batch, StepResult]]
    ) -> list[dict[str, Any]]:
        """The step's trajectories as written to trajectories.jsonl."""
        taught: dict[tuple[int, int, int], dict[str, Any]] = {}
        for batch, result in results:
            for i, sample in enumerate(batch.samples):
                span = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
                extra: dict[str, Any] = {"teacher_messages": sample.teacher_messages}
                if sample.label is not None:
                    extra |= {"label": sample.label, "label_reason": sample.label_reason}
                recorded = self.config.record_tokens and result.stats is not None and sample.logprobs is not None
                if recorded and result.stats is not None:
                    extra["tokens"] = _tokens(self.engine, sample.action_ids, result.stats, span)
                taught[sample.group, sample.attempt, sample.turn] = extra
        rows = []
        for g, group in enumerate(groups):
            for a, trajectory in enumerate(group.trajectories):
                row = attempt_row(g, a, group.task, trajectory)
                for t, turn in enumerate(row["turns"]):
                    turn |= {"teacher_messages": None, **taught.get((g, a, t), {})}
                rows.append({"step": step, **row})
        return rows

    # ---- before, between and after

    def _check_teacher(self) -> None:
        recipe, config = self.config.recipe, self.config
        if not (self.teacher and isinstance(recipe, TaughtRecipe) and config.check_teacher):
            return
        self.console.say("checking the teacher")
        attempts = min(config.batch.attempts, 8)
        result = check_teacher(
            self.engine, self.teacher, recipe, self.environments,
            tasks=config.check_teacher, attempts=attempts, sampling=config.sampling, seed=config.seed + 1,
            settings=config.rollout,
        )  # fmt: skip
        self.writer.log(0, "teacher", result.to_dict())
        self.console.teacher(result)

    def _evaluate(self, step: int) -> None:
        if self.held_out is None:
            return
        settings = self.config.eval
        self.console.say(f"evaluating on {settings.tasks} held-out tasks")
        result = evaluate(
            self.engine, self.engine.chat, self.held_out,
            tasks=settings.tasks, attempts=settings.attempts, sampling=self.config.eval_sampling(), seed=settings.seed,
            settings=self.config.rollout,
        )  # fmt: skip
        generations = step * self.config.batch.tasks * self.config.batch.attempts
        for row in _eval_rows(result, settings.split, settings.temperature):
            self.writer.log(step, "eval", {**row, "generations": generations, "cpu_seconds": result.cpu_seconds})
        for tracker in self.trackers:
            tracker.log(step, {"eval/sampled": result.sampled.mean, "eval/greedy": result.greedy.mean})
        self.console.evaluation(step, result)

    def _finish(self) -> dict[str, Any]:
        rows = read_jsonl(self.directory / "metrics.jsonl")
        evals, train = [r for r in rows if r["kind"] == "eval"], [r for r in rows if r["kind"] == "train"]
        summary: dict[str, Any] = {
            "recipe": type(self.config.recipe).name,
            "env": self.config.env.id,
            "model": self.config.model.name,
            "steps": self.config.steps,
            "generations": sum(r["generations"] for r in train),
            "skipped": sum(r["skipped"] for r in train),
            "feedback": dict(sum((Counter(r.get("feedback", {})) for r in train), Counter())),
            "tokens": sum(r["tokens"] for r in train),
            "train_seconds": sum(r["seconds"] for r in train),
            "train_cpu_seconds": sum(r["cpu_seconds"] for r in train),
            "alarms": sum(r["kind"] == "alarm" for r in rows),
        }
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


def _metrics(
    groups: Sequence[Group], samples: Sequence[Sample], results: Sequence[tuple[Batch, StepResult]]
) -> dict[str, Any]:
    scored = [t for g in groups for t in g.scored()]
    turns = [turn for t in scored for turn in t.turns if turn.source == "policy"]
    attempts = sum(len(g.trajectories) for g in groups)
    tokens = sum(len(turn.action_ids) for turn in turns)
    flat = sum(len({t.reward for t in g.scored()}) <= 1 for g in groups)
    gaps = [_finite(r.stats.divergence) for _, r in results if r.stats is not None]
    gap = torch.cat(gaps) if gaps else torch.zeros(0)
    steps = [r for _, r in results]
    said = {name for batch, _ in results for name in batch.log}
    return {
        "reward": _mean([t.reward for t in scored]),
        "loss": _mean([r.loss for r in steps if r.stepped]),
        "teacher_gap": float(gap.mean()) if len(gap) else None,
        # Minus the mean log-probability of what was sampled: an unbiased estimate of the entropy.
        "entropy": _mean([-x for turn in turns for x in turn.logprobs]),
        "length": _mean([float(t.tokens) for t in scored]),
        "truncated": _mean([float(turn.finish_reason == "length") for turn in turns]),
        "repetition": _mean([repetition(turn.action_ids) for turn in turns]),
        "zero_variance": flat / len(groups),
        "taught": _mean([float(s.teacher_ids is not None) for s in samples]),
        "generations": attempts,
        "skipped": attempts - len(scored),
        "feedback": feedback_kinds(scored),
        "stop_reasons": dict(Counter(t.stop_reason for t in scored).most_common()),
        "turns": _mean([float(len(t.turns)) for t in scored]),
        "tokens": tokens,
        "grad_norm": _mean([r.grad_norm for r in steps]),
        "lr": steps[-1].lr if steps else None,
        "optimizer_steps": sum(r.stepped for r in steps),
        **{name: _mean([b.log[name] for b, _ in results if name in b.log]) for name in sorted(said)},
    }


def cut_warning(stops: Mapping[str, int], context_length: int, settings: RolloutSettings) -> str:
    """What to say of episodes that this run ended before the environment did; empty if there are none."""
    total, said = sum(stops.values()), []
    if full := stops.get("context_overflow"):
        said.append(
            f"{full} of {total} episodes ended because their history fills the context of {context_length} tokens "
            f"(context_overflow); show less of it with rollout.history (now {settings.history})"
        )
    if spent := stops.get("rollout_turns"):
        said.append(f"{spent} of {total} episodes ended at rollout.turns={settings.turns} (rollout_turns)")
    return "; ".join(said)


def _schedule(drive: Drive) -> dict[str, float]:
    """What of a drive is not the default: numbers that a recipe's schedule gave this step."""
    plain = Drive()
    return {
        name: value
        for name in ("expert_share", "student_turns", "last_turns")
        if (value := getattr(drive, name)) != getattr(plain, name)
    }


def feedback_kinds(attempts: Sequence[Trajectory]) -> dict[str, int]:
    """Attempts by the kind of the first complaint about their last turn; ``none`` where there was none.

    What the environment adds (the answer was cut off, the turns are used up) counts where nothing else was said.
    """
    kinds = []
    for attempt in attempts:
        said = [e for e in attempt.turns[-1].feedback if e["severity"] != "info"]
        said.sort(key=lambda entry: entry["source"] == "env")
        kinds.append(said[0]["kind"] if said else "none")
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _tokens(engine: HFEngine, ids: list[int], stats: TokenStats, span: slice) -> list[dict[str, Any]]:
    rows = []
    texts = [engine.tokenizer.decode([i]) for i in ids]
    for k, text in zip(range(span.start, span.stop), texts, strict=True):
        row: dict[str, Any] = {"text": text}
        for name, values in (
            ("logp", stats.logp),
            ("teacher_logp", stats.teacher_logp),
            ("gap", stats.divergence),
        ):
            number = float(values[k])
            row[name] = round(number, 4) if math.isfinite(number) else None
        if stats.top_ids is not None and stats.top_teacher is not None and stats.top_student is not None:
            triples = zip(
                stats.top_ids[k].tolist(),
                stats.top_teacher[k].tolist(),
                stats.top_student[k].tolist(),
                strict=True,
            )
            row["top"] = [[engine.tokenizer.decode([i]), round(q, 4), round(p, 4)] for i, q, p in triples if i >= 0]
        rows.append(row)
    return rows


def _eval_rows(result: Evaluation, split: str, temperature: float) -> list[dict[str, Any]]:
    pairs = ((temperature, result.sampled), (0.0, result.greedy))
    return [{"split": split, "temperature": t, **e.to_dict()} for t, e in pairs]


def _finite(values: Tensor) -> Tensor:
    return values[torch.isfinite(values)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _differences(theirs: Any, mine: Any, prefix: str = "") -> list[str]:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        names = sorted({*theirs, *mine})
        return [d for n in names for d in _differences(theirs.get(n), mine.get(n), f"{prefix}.{n}" if prefix else n)]
    return [] if theirs == mine else [f"{prefix} was {theirs!r} and is {mine!r}"]

"""CPU time, wall time and peak memory of one SDPO optimisation step, against TRL's experimental SDPOTrainer.

    python benchmarks/step_time.py [--quick] [--json PATH]

The same model, prompts, group size, length limit, divergence and optimiser on both sides; a step is everything from
sampling to the teacher's update. Every attempt has a teacher context, so both train on the same number of
sequences. Each variant runs in a fresh process, with one thread; the first step is not counted.

Needs: pip install --no-deps trl==1.16.0 && pip install datasets accelerate
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.config import build
from agents.models import resolve
from agents.recipes.grpo import GRPO
from agents.recipes.sdpo import SDPO
from agents.rollout import Environments, task_order
from agents.training.trainer import Trainer
from benchmarks.common import HARDWARE, ROOT, emit, in_fresh_process, markdown_table, measure

MODEL = "smollm2-135m"
ENV: dict[str, Any] = {"id": "rfenvs/ToolCall-v0", "kwargs": {"level": 1}}
ALPHA, RATE, LR, DECAY, CLIP, TOP_K = 0.5, 0.05, 1e-5, 0.01, 1.0, 100


@dataclass(frozen=True)
class Size:
    """How much work a step is."""

    tasks: int = 8
    attempts: int = 8
    max_tokens: int = 16
    steps: int = 4
    long_steps: int = 2
    """Steps of the variants that take minutes a step."""
    micro: int = 16
    """Sequences a forward pass of TRL; the rest of the batch is accumulated."""
    forced_tasks: int = 2
    """Prompts of the variants whose answers all have one length."""


QUICK = Size(tasks=2, attempts=4, max_tokens=6, steps=2, micro=4, forced_tasks=1)


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    title: str
    method: str = "sdpo"
    top_k: int = TOP_K
    layout: str = "tree"
    peer: bool = False
    length: int = 0
    """Tokens of every answer: what ends an answer is ignored until then. 0: answers end by themselves."""
    epochs: int = 1

    @property
    def long(self) -> bool:
        """Whether a step takes minutes."""
        return self.peer or self.layout == "padded" or bool(self.length)

    def sized(self, size: Size) -> Size:
        """How much work a step of this variant is."""
        steps = size.long_steps if self.long else size.steps
        if not self.length:
            return replace(size, steps=steps)
        return replace(size, steps=steps, tasks=size.forced_tasks, max_tokens=self.length)


VARIANTS = {
    "ours_top": Variant("rfenvs SDPO, top 100 + tail"),
    "ours_full": Variant("rfenvs SDPO, full vocabulary", top_k=0),
    "ours_grpo": Variant("rfenvs GRPO", method="grpo"),
    "trl_top": Variant("TRL SDPO, top 100 + tail", peer=True),
    "trl_full": Variant("TRL SDPO, full vocabulary", top_k=0, peer=True),
    "ours_top_padded": Variant("rfenvs SDPO, top 100 + tail, padded rows", layout="padded"),
    **{
        f"{method}_{length}_{epochs}": Variant(
            f"{method.upper()}, {length} tokens" + (f", {epochs} epochs" if epochs > 1 else ""),
            method=method,
            length=length,
            epochs=epochs,
        )
        for length, epochs in ((16, 1), (64, 1), (128, 1), (64, 2))
        for method in ("sdpo", "grpo")
    },
}
COMPARISONS = (
    ("TRL / rfenvs, top 100 + tail", "trl_top", "ours_top"),
    ("TRL / rfenvs, full vocabulary", "trl_full", "ours_full"),
    ("TRL / rfenvs without prefix trees, top 100 + tail", "trl_top", "ours_top_padded"),
    ("rfenvs: padded rows / prefix trees", "ours_top_padded", "ours_top"),
    ("rfenvs: SDPO top 100 / GRPO", "ours_top", "ours_grpo"),
    ("rfenvs: SDPO full vocabulary / GRPO", "ours_full", "ours_grpo"),
    ("SDPO / GRPO, 16 tokens", "sdpo_16_1", "grpo_16_1"),
    ("SDPO / GRPO, 64 tokens", "sdpo_64_1", "grpo_64_1"),
    ("SDPO / GRPO, 128 tokens", "sdpo_128_1", "grpo_128_1"),
    ("SDPO / GRPO, 64 tokens, 2 epochs", "sdpo_64_2", "grpo_64_2"),
)


@dataclass
class Clock:
    """Seconds of each step, and how much of it was sampling; also what was forwarded."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    sampling_cpu: list[float] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    action_tokens: list[int] = field(default_factory=list)
    teacher_tokens: list[int] = field(default_factory=list)
    taught: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    def start(self) -> None:
        """A step begins (the previous one, if any, was stopped)."""
        self._cpu, self._wall, self._sampling, self._positions = time.process_time(), time.perf_counter(), 0.0, 0

    def stop(self) -> None:
        """The step is over."""
        self.cpu.append(time.process_time() - self._cpu)
        self.wall.append(time.perf_counter() - self._wall)
        self.sampling_cpu.append(self._sampling)
        self.positions.append(self._positions)

    def sample(self, function: Any, *arguments: Any) -> Any:
        """Call ``function``, which samples."""
        begin = time.process_time()
        result = function(*arguments)
        self._sampling += time.process_time() - begin
        return result

    def forward(self, positions: int) -> None:
        """That many positions go through the student or the teacher to be scored."""
        self._positions += positions


class AnySibling(SDPO):
    """SDPO in which every sibling counts as a success: the threshold of 1 is met by shifting all rewards by 1."""

    def samples(self, groups: Any, *rest: Any) -> Any:
        for group in groups:
            for trajectory in group.trajectories:
                trajectory.turns[-1].reward += 1.0
        return super().samples(groups, *rest)


class EverySignal(GRPO):
    """GRPO without flat groups, which it would skip: rewards are told apart by a little."""

    def samples(self, groups: Any, *rest: Any) -> Any:
        for group in groups:
            for attempt, trajectory in enumerate(group.trajectories):
                trajectory.turns[-1].reward += 1e-3 * attempt
        return super().samples(groups, *rest)


class TimedTrainer(Trainer):
    """Our trainer as it is, with a clock."""

    def attach(self, clock: Clock, variant: Variant) -> None:
        """Count into ``clock`` from now on."""
        self.clock = clock
        engine, learner = self.engine, self.learner
        generate, nodes, padded, step = engine.generate, engine._nodes, engine._padded, learner.step

        def timed(*arguments: Any, **options: Any) -> Any:
            return clock.sample(functools.partial(generate, **options), *arguments)

        def counted(tree: Any, start: int, stop: int, *more: Any) -> Any:
            clock.forward(stop - start)
            return nodes(tree, start, stop, *more)

        def counted_rows(rows: Any) -> Any:
            clock.forward(rows.ids.numel())
            return padded(rows)

        def described(batch: Any, *arguments: Any) -> Any:
            clock.prompt_tokens.append(sum(len(s.prompt_ids) for s in batch.samples))
            clock.action_tokens.append(len(batch.targets))
            clock.teacher_tokens.append(sum(len(s.teacher_ids or []) for s in batch.samples))
            clock.taught.append(sum(s.teacher_ids is not None for s in batch.samples))
            if variant.length and set(batch.lengths.tolist()) != {variant.length}:
                raise RuntimeError(f"answers of {sorted(set(batch.lengths.tolist()))} tokens, not {variant.length}")
            return step(batch, *arguments)

        engine.generate, engine._nodes, engine._padded = timed, counted, counted_rows  # type: ignore[method-assign]
        learner.step = described  # type: ignore[method-assign]

    def _step(self, step: int) -> None:
        self.clock.start()
        super()._step(step)
        self.clock.stop()


def ours(variant: Variant, size: Size, scratch: Path) -> tuple[Clock, Any]:
    """Our steps: a run with evaluation, checkpoints and the check of the teacher turned off."""
    if variant.method == "sdpo":
        recipe: Any = AnySibling(alpha=ALPHA, top_k=variant.top_k, teacher={"kind": "ema", "rate": RATE})
    else:
        recipe = EverySignal()
    config = build(
        {
            "recipe": recipe,
            "env": ENV,
            "model": {"name": MODEL, "dtype": "float32", "device": "cpu", "layout": variant.layout},
            "sampling": {"max_tokens": size.max_tokens},
            "batch": {"tasks": size.tasks, "attempts": size.attempts},
            "optim": {"lr": LR, "weight_decay": DECAY, "clip_norm": CLIP, "warmup_steps": 0, "epochs": variant.epochs},
            "eval": {"tasks": 0},
            "steps": size.steps,
            "run_dir": str(scratch),
            "save_every": 0,
            "save_final": False,
            "check_teacher": 0,
            "threads": 1,
        }
    )
    trainer, clock = TimedTrainer(config), Clock()
    trainer.attach(clock, variant)
    if variant.length:
        trainer.engine.stop_ids = set()
    _touch(trainer.engine.model)
    return clock, trainer.run


def trl(variant: Variant, size: Size, scratch: Path) -> tuple[Clock, Any]:
    """TRL's steps, its settings at ours where it has a choice."""
    os.environ.update(TRL_EXPERIMENTAL_SILENCE="1", HF_HUB_OFFLINE="1")
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    import rfenvs

    environments = Environments(ENV["id"], "train", ENV["kwargs"])
    (env,) = environments.take(1)
    rows = []
    for task in task_order(environments.num_tasks(), 0, 0, size.tasks * size.steps):
        _, info = env.reset(options={"task_index": task})
        rows.append({"prompt": list(info["messages"]), "task": task})

    def reward(completions: Any, task: list[int], **_: Any) -> list[float]:
        rewards = []
        for index, completion in zip(task, completions, strict=True):
            env.reset(options={"task_index": index})
            rewards.append(float(env.step(rfenvs.Action(completion[0]["content"]))[1]))
        return rewards

    clock = Clock()

    class Watch(TrainerCallback):
        """Added last, so that the step ends after the teacher's update."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.stop()
            clock.start()

        def on_teacher_context_built(self, *_: Any, **payload: Any) -> None:
            actions = int(payload["completion_mask"].sum())
            clock.action_tokens.append(actions)
            clock.teacher_tokens.append(int(payload["teacher_attention_mask"].sum()) - actions)
            clock.taught.append(int(payload["self_distillation_mask"].sum()))

    class Timed(SDPOTrainer):  # type: ignore[misc]
        def _generate(self, prompt_ids: Any) -> Any:
            clock.prompt_tokens.append(sum(map(len, prompt_ids)))
            return clock.sample(super()._generate, prompt_ids)

        def _forward_logits(self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int) -> Any:
            clock.forward(input_ids.numel())
            return super()._forward_logits(model, input_ids, attention_mask, logits_to_keep)

    sequences, micro = size.tasks * size.attempts, size.micro
    directory = resolve(MODEL)
    arguments = SDPOConfig(
        output_dir=str(scratch),
        model_init_kwargs={"dtype": "float32"},
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=sequences // micro,
        generation_batch_size=sequences,
        num_generations=size.attempts,
        max_completion_length=size.max_tokens,
        max_prompt_length=None,
        temperature=1.0,
        max_steps=size.steps,
        shuffle_dataset=False,
        learning_rate=LR,
        lr_scheduler_type="constant",
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        optim="adamw_torch_fused",
        distillation_mode="topk_logits" if variant.top_k else "full_logits",
        distillation_topk=variant.top_k or None,
        distillation_add_tail=True,
        distillation_alpha=ALPHA,
        teacher_model_kind="ema",
        teacher_update_rate=RATE,
        success_reward_threshold=0.0,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Timed(
        model=directory,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(directory),
    )
    trainer.add_callback(Watch())
    _touch(trainer.model)
    _touch(trainer.teacher_model)
    return clock, trainer.train


def _touch(model: Any) -> None:
    """Read every weight, so that those mapped from a file are resident before memory is measured."""
    for parameter in model.parameters():
        parameter.sum()


def child(name: str, size: Size) -> None:
    """Measure one variant in this process."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(1)
    variant = VARIANTS[name]
    with tempfile.TemporaryDirectory() as scratch:
        clock, train = (trl if variant.peer else ours)(variant, size, Path(scratch))
        _, cost = measure(train)
        if torch.get_num_threads() != 1:
            raise RuntimeError("the trainer changed the number of threads")
    emit(cost, **asdict(clock), peak_bytes=_peak())


def _peak() -> int:
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run(name: str, size: Size) -> dict[str, Any]:
    """One measured row: medians of the steps after the first."""
    size = VARIANTS[name].sized(size)
    found = in_fresh_process("step_time.py", ["--child", name, json.dumps(asdict(size))])
    sequences = size.tasks * size.attempts
    if VARIANTS[name].method == "sdpo" and set(found["taught"]) != {sequences}:
        raise RuntimeError(f"{name}: {found['taught']} of {sequences} attempts have a teacher context")
    training = [total - sampling for total, sampling in zip(found["cpu"], found["sampling_cpu"], strict=True)]
    return {
        "variant": name,
        "title": VARIANTS[name].title,
        "cpu_seconds": median(found["cpu"][1:]),
        "sampling_cpu_seconds": median(found["sampling_cpu"][1:]),
        "training_cpu_seconds": median(training[1:]),
        "wall_seconds": median(found["wall"][1:]),
        "extra_peak_bytes": found["extra_peak_bytes"],
        "peak_bytes": found["peak_bytes"],
        "positions": mean(found["positions"][1:]),
        "action_tokens": mean(found["action_tokens"][1:]),
        "prompt_tokens": found["prompt_tokens"],
        "steps": {key: found[key] for key in ("cpu", "sampling_cpu", "wall", "teacher_tokens", "taught")},
    }


def check_same_prompts(rows: Sequence[dict[str, Any]]) -> None:
    """Every variant was shown prompts of the same lengths, step by step."""
    natural = [row["prompt_tokens"] for row in rows if not VARIANTS[row["variant"]].length]
    for lengths in zip(*natural, strict=False):
        if len(set(lengths)) != 1:
            raise RuntimeError(f"prompts differ: {[(row['variant'], row['prompt_tokens']) for row in rows]}")


FIELDS = {
    "CPU": "cpu_seconds",
    "CPU without sampling": "training_cpu_seconds",
    "wall": "wall_seconds",
    "extra peak": "extra_peak_bytes",
    "peak": "peak_bytes",
}


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every comparison whose two sides were measured."""
    by = {row["variant"]: row for row in rows}
    return [
        {"comparison": title, **{key: by[above][key] / by[below][key] for key in FIELDS.values()}}
        for title, above, below in COMPARISONS
        if above in by and below in by
    ]


def render(rows: Sequence[dict[str, Any]]) -> str:
    """Both tables."""
    measured = [
        [
            row["title"],
            f"{row['cpu_seconds']:.1f} s",
            f"{row['sampling_cpu_seconds']:.1f} s",
            f"{row['training_cpu_seconds']:.1f} s",
            f"{row['wall_seconds']:.1f} s",
            f"{row['extra_peak_bytes'] / 1e9:.2f} GB",
            f"{row['peak_bytes'] / 1e9:.2f} GB",
            f"{row['positions']:,.0f}",
            f"{row['action_tokens']:,.0f}",
        ]
        for row in rows
    ]
    header = ("one step", "CPU", "sampling", "the rest", "wall", "extra peak", "peak", "positions", "sampled tokens")
    compared = [[row["comparison"], *(f"{row[key]:.2f}" for key in FIELDS.values())] for row in ratios(rows)]
    return markdown_table(header, measured) + "\n" + markdown_table(("ratio", *FIELDS), compared)


PREAMBLE = """# Time and memory of an SDPO step

One optimisation step, sampling to teacher update: SmolLM2-135M-Instruct, all weights, float32, one thread of a
{hardware}. `python benchmarks/step_time.py`; {versions}.

Both sides: ToolCall level 1, the same {tasks} prompts a step x {attempts} attempts (mean prompt {prompt:.0f} tokens),
at most {max_tokens} new tokens, temperature 1; a sibling's answer as demonstration, in the paper's wording; JSD
(alpha {alpha}), EMA teacher {rate}, AdamW (fused), one optimiser step a rollout batch. TRL's `SDPOTrainer` runs in
micro-batches of {micro} with accumulation, and without gradient checkpointing (its default would cost more time).

- *CPU*: seconds of process time, the primary figure; median of {counted} steps
  ({long_counted} where a step takes minutes: TRL, padded rows) after a first one that is not counted.
- *Sampling*: generating the attempts. *The rest*: grading, teacher, student, optimiser, records.
- *Extra peak*: highest resident memory of the whole run, less that before its first step, when every SDPO variant
  holds the weights of student and teacher, and GRPO those of the policy. *Peak*: absolute.
- *Positions*: tokens that go through student and teacher to be scored, padding included.
- Every attempt has a teacher context, on both sides (any sibling counts as a success), and in GRPO every attempt has
  an advantage: no variant gains from sequences that it may skip.
- Attempts are drawn at random, so the numbers of sampled tokens differ between rows.
- Ours records its usual metrics and trajectories, the teacher's alternatives at every token included.
- Short answers, 8 attempts at one prompt, and a system message that all prompts share are a good case for prefix
  trees; the row with padded rows shows our step without them.

"""


def document(rows: Sequence[dict[str, Any]], size: Size, found: dict[str, Any]) -> str:
    """The page."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items() if number)
    sequences = size.tasks * size.attempts
    text = PREAMBLE.format(
        **asdict(size),
        hardware=HARDWARE,
        versions=versions,
        alpha=ALPHA,
        rate=RATE,
        counted=size.steps - 1,
        long_counted=size.long_steps - 1,
        prompt=mean(rows[0]["prompt_tokens"]) / sequences,
    )
    return text + render(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small step, nothing written by default")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, help="some variants; nothing written by default")
    parser.add_argument("--child", nargs=2, metavar=("VARIANT", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Size(**json.loads(options.child[1])))
        return

    size = QUICK if options.quick else Size()
    peer = importlib.util.find_spec("trl") is not None
    target = options.json
    if target is None and not (options.quick or options.only):
        target = ROOT / "docs" / "benchmarks" / "step_time.json"
    rows: list[dict[str, Any]] = []
    for name in options.only or VARIANTS:
        if VARIANTS[name].peer and not peer:
            print(f"skipped {name}: trl is not installed", flush=True)
            continue
        row = run(name, size)
        peak = row["peak_bytes"] / 1e9
        print(f"{name:16} {row['cpu_seconds']:.1f} CPU-s, {row['wall_seconds']:.1f} s, {peak:.2f} GB", flush=True)
        rows.append(row)
        check_same_prompts(rows)
        if target is not None:
            write(target, rows, size, peer)
    print("\n" + render(rows))


def write(target: Path, rows: Sequence[dict[str, Any]], size: Size, peer: bool) -> None:
    """The results so far, as JSON and as a page beside it."""
    packages = ("torch", "transformers", "trl") if peer else ("torch", "transformers")
    found = {
        "hardware": HARDWARE,
        "threads": 1,
        "dtype": "float32",
        "model": MODEL,
        "env": ENV,
        "size": asdict(size),
        "settings": {"alpha": ALPHA, "top_k": TOP_K, "tail": True, "ema_rate": RATE, "lr": LR},
        "versions": {name: version(name) for name in packages},
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({**found, "rows": rows, "ratios": ratios(rows)}, indent=2) + "\n")
    target.with_suffix(".md").write_text(document(rows, size, found))


if __name__ == "__main__":
    main()

"""What a run shows a person: a progress bar on a terminal, one line a step elsewhere. Everything goes to stderr."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from agents.training.check import TeacherCheck
    from agents.training.evaluate import Evaluation


class Console:
    """Prints progress; holds no state that matters."""

    def __init__(self) -> None:
        self._console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._task: Any = None

    def say(self, text: str) -> None:
        """A plain line."""
        self._console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """A line that should be read."""
        self._console.print(f"warning: {text}", style="yellow", markup=False)

    @contextmanager
    def progress(self, steps: int, start: int) -> Iterator[None]:
        """Shows steps until the block ends."""
        self._started, self._first, self._steps = time.monotonic(), start, steps
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=self._console) as self._progress:
            self._task = self._progress.add_task("", total=steps, completed=start, shown="")
            yield
        self._progress = None

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """One training step is done."""
        names = (("reward", "reward"), ("loss", "loss"), ("teacher_gap", "gap"))
        shown = "  ".join(f"{label} {metrics[n]:.3f}" for n, label in names if metrics.get(n) is not None)
        if self._progress:
            self._progress.update(self._task, completed=step + 1, shown=shown)
            return
        done = step + 1 - self._first
        left = (time.monotonic() - self._started) / done * (self._steps - step - 1)
        self.say(f"step {step + 1}/{self._steps}  {shown}  {metrics['seconds']:.1f} s  {left / 60:.1f} min left")

    def teacher(self, check: TeacherCheck) -> None:
        """The result of a teacher check."""
        what = "turns" if check.episodes else "attempts"
        compared = f"success: student {check.student_success:.0%}"
        if check.asked:
            compared += f"; on plan: student {check.student_on_plan:.0%}, teacher {check.teacher_on_plan:.0%}"
        elif not check.episodes:
            compared += f", teacher {check.teacher_success:.0%}"
        self.say(
            f"  {compared} ({check.taught} of {check.attempts} {what} have a context)\n"
            f"  log q(y) - log p(y): good {what} {_nats(check.gap_good)}, bad {_nats(check.gap_bad)}\n"
            f"  entropy: student {check.student_entropy:.2f}, teacher {check.teacher_entropy:.2f} nats a token"
        )
        for warning in check.warnings():
            self.warn(warning)

    def evaluation(self, step: int, result: Evaluation) -> None:
        """A held-out evaluation."""
        self.say(f"held-out success after step {step}: {result.sampled}, greedy {result.greedy}")

    def summary(self, summary: Mapping[str, Any], directory: Path) -> None:
        """The end of a run."""
        for name, label in (("held_out", "held-out success"), ("held_out_greedy", "  greedy")):
            if name in summary and summary[name]["before"]["mean"] is not None:
                texts = [
                    "{mean:.1%} [{low:.1%}, {high:.1%}]".format(**summary[name][when]) for when in ("before", "after")
                ]
                self.say(f"{label}: {texts[0]} before, {texts[1]} after (95% intervals)")
        self.say(f"{summary['generations']} attempts, {summary['train_seconds'] / 60:.1f} minutes of training")
        said = sorted(summary.get("feedback", {}).items(), key=lambda pair: -pair[1])
        if total := sum(count for _, count in said):
            self.say(f"first complaint about an attempt: {', '.join(f'{kind} {n / total:.0%}' for kind, n in said)}")
        if stopped := summary.get("stopped"):
            of = f", with the weights from before step {stopped['weights_of_step']}"
            self.say(
                f"ended by the alarm {stopped['name']} at step {stopped['step']}"
                f"{of if stopped['action'] == 'rollback' else ''}: {stopped['message']}"
            )
        if summary.get("skipped"):
            self.say(f"{summary['skipped']} attempts were not scored and not counted")
        if "note" in summary:
            self.say(summary["note"])
        self.say(f"written to {directory}; look at it with: rfenvs report {directory}")


def _nats(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:+.2f} nats"

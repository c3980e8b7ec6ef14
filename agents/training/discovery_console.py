"""What a discovery shows a person: progress bars on a terminal, one line a batch elsewhere. All of it on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class DiscoveryConsole:
    """Prints progress; holds no state that matters."""

    def __init__(self) -> None:
        self._console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None

    def say(self, text: str) -> None:
        """A plain line."""
        self._console.print(text, markup=False)

    @contextmanager
    def progress(self, runs: int, done: int, budget: int) -> Iterator[None]:
        """Two bars until the block ends: the runs, and the attempts of the run that is at work."""
        self._runs, self._done = runs, done
        if not self._console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(),
                   TextColumn("{task.fields[shown]}"))  # fmt: skip
        with Progress(*columns, console=self._console) as self._progress:
            self._all = self._progress.add_task("runs", total=runs, completed=done, shown="")
            self._one = self._progress.add_task("attempts", total=budget, shown="")
            yield
        self._progress = None

    def batch(self, name: str, attempts: int, budget: int, numbers: Mapping[str, Any]) -> None:
        """One batch of attempts was made, and learnt from where the method learns."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in numbers["feedback"].items())
        reward = "" if numbers["reward"] is None else f"reward {numbers['reward']:.3f}"
        gap = "" if numbers.get("teacher_gap") is None else f"gap {numbers['teacher_gap']:.3f}"
        shown = "  ".join(filter(None, [reward, gap, kinds]))
        if self._progress:
            self._progress.update(self._one, completed=attempts, shown=f"{name}  {shown}")
            return
        self.say(f"{name}  attempts {attempts}/{budget}  {shown}  {numbers['seconds']:.1f} s")

    def ended(self, run: Mapping[str, Any]) -> None:
        """A run is over."""
        self._done += 1
        how = {
            "solved": f"solved at attempt {run['found']}: {run.get('solution')}",
            "budget": f"not solved in {run['attempts']} attempts",
            "unscored": f"stopped after {run['attempts']} attempts: the next ones could not be scored",
        }[run["stopped"]]
        self.say(f"[{self._done}/{self._runs}] {run['task']} seed {run['seed']} {how}")
        if self._progress:
            self._progress.update(self._all, completed=self._done)

    def summary(self, summary: Mapping[str, Any], directory: Path) -> None:
        """The end of a discovery."""
        self.say(f"{summary['method']}: {summary['solved']} of {summary['runs']} runs solved")
        for point in summary["discovery"]:
            if point["mean"] is not None and point["n"]:
                self.say(f"  discovery@{point['k']:<5} {point['mean']:.1%} [{point['low']:.1%}, {point['high']:.1%}]")
        if summary["unscored"]:
            self.say(f"{summary['unscored']} attempts could not be scored; they are neither failures nor successes")
        self.say(f"written to {directory}; report.html in it shows what was tried")

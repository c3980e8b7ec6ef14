"""The files of a discovery: every attempt, every update, and how each run ended; resumed after a kill.

A run is one task under one seed. Its rows carry its number ``run``, and the batch ``step`` they were made in. A run is
finished when it has a row in ``runs.jsonl``, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.report.metrics import jsonable, read_jsonl

ATTEMPTS, UPDATES, RUNS = "attempts.jsonl", "updates.jsonl", "runs.jsonl"


class DiscoveryLog:
    """Appends whole lines, each flushed; `drop` takes back what is going to be made again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a file."""
        text = "".join(json.dumps(jsonable(row)) + "\n" for row in rows)
        with open(self.directory / name, "ab") as file:
            file.write(text.encode())

    def rows(self, name: str) -> list[dict[str, Any]]:
        """All rows of a file."""
        return read_jsonl(self.directory / name)

    def finished(self) -> set[int]:
        """Runs that came to their end."""
        return {row["run"] for row in self.rows(RUNS)}

    def whole_steps(self, runs: Sequence[int]) -> int:
        """Steps of some runs, side by side, that are all on the disk: the attempts, and an update row of each."""
        made, learnt = (
            {(row["step"], row["run"]) for row in self.rows(name) if row["run"] in runs} for name in (ATTEMPTS, UPDATES)
        )
        last = max((step for step, _ in learnt), default=-1)
        return last + all((step, run) in learnt for step, run in made if step == last) if learnt else 0

    def drop(self, gone: Callable[[dict[str, Any]], bool], names: Sequence[str] = (ATTEMPTS, UPDATES, RUNS)) -> None:
        """Remove rows, and whatever a kill tore; each file is replaced in one move."""
        for name in names:
            path = self.directory / name
            if not path.exists():
                continue
            kept = [row for row in self.rows(name) if not gone(row)]
            partial = path.with_name(name + ".partial")
            text = "".join(json.dumps(row) + "\n" for row in kept)
            partial.write_bytes(text.encode())
            os.replace(partial, path)

    def solution(self, task: str, seed: int, text: str) -> str:
        """Keep a solution; returns the file's name within the directory."""
        path = self.directory / "solutions" / f"{file_name(task)}-{seed}.txt"
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(text.encode("utf-8", "replace"))
        os.replace(partial, path)
        return f"solutions/{path.name}"


def file_name(task: str) -> str:
    """A task's id as a file's name: itself where that is one, else what is left of it and a hash.

    >>> file_name("L1-train-17-d6a0343a"), file_name("trial/T20 1")
    ('L1-train-17-d6a0343a', 'trial_T20_1-b86860f7')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", task).lstrip(".")[:100]
    return plain if plain == task else f"{plain}-{hashlib.sha256(task.encode()).hexdigest()[:8]}"

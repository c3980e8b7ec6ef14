"""Rollouts that are kept and trained on again: one JSON line a step, beside the run's other logs.

A row holds the groups, what their teacher saw and said, and whose word that was: scores of one teacher must not be
taken for another's. A resumed run drops the rows that it will write again (`agents.report.metrics.truncate_to_step`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from agents.batch import MAIN, Sample, View
from agents.errors import SetupError
from agents.report.metrics import iter_jsonl, jsonable, parse_row
from agents.teachers.reading import read
from agents.teachers.teacher import Teacher
from agents.trajectory import Group, Trajectory, Turn

ROLLOUTS_FILE = "rollouts.jsonl"

SCORES = "teacher_logprobs"
"""`Sample.notes`: the teacher's log-probability of each action token, nats."""


def score(samples: Sequence[Sample], teacher: Teacher, sampling_temperature: float) -> list[Sample]:
    """Note what the teacher says of the samples' actions under its view, in place; returns those that it could score.

    The others lose their view: they are not taught.
    """
    if not samples:
        return []
    items = [(s.teacher_ids or [], s.action_ids) for s in samples]
    said = teacher.score(items, sampling_temperature)
    failed = set(said.failed)
    for i in failed:
        samples[i].show(MAIN, None)
    scored = [s for i, s in enumerate(samples) if i not in failed]
    if said.logits is not None:
        targets = torch.tensor([i for s in scored for i in s.action_ids])
        values = torch.split(read(said.logits, targets).logprob, [len(s.action_ids) for s in scored])
        for sample, logprobs in zip(scored, values, strict=True):
            sample.notes[SCORES] = logprobs.tolist()
    return scored


@dataclass
class Rollout:
    """One step's."""

    groups: list[Group]
    views: dict[tuple[int, int, int], tuple[View, list[float]]]
    """By (group, attempt, turn): what the teacher saw, and its log-probability of each action token."""

    def restore(self, samples: Sequence[Sample]) -> None:
        """Show the samples' teacher what it saw, and note what it said, in place."""
        for sample in samples:
            if known := self.views.get((sample.group, sample.attempt, sample.turn)):
                view, sample.notes[SCORES] = known
                sample.show(MAIN, view)


class Recorded:
    """Rollouts by step; in a file, or without a path in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._lines: dict[int, str] = {}
        self._offsets: dict[int, int] | None = None
        """Where each step's line begins; read when it is first needed, after a resumed run has cut the file."""

    def add(self, step: int, groups: Sequence[Group], samples: Sequence[Sample], teacher: Mapping[str, Any]) -> None:
        """Keep the groups of a step, and of the samples that have them the teacher's views and scores."""
        row = {
            "step": step,
            "teacher": dict(teacher),
            "groups": [asdict(group) for group in groups],
            "views": [
                {"at": [s.group, s.attempt, s.turn], **asdict(view), "logprobs": s.notes[SCORES]}
                for s in samples
                if SCORES in s.notes and (view := s.view(MAIN))
            ],
        }
        line = json.dumps(jsonable(row), allow_nan=False)
        if self.path is None:
            self._lines[step] = line
            return
        where = self._where(self.path)
        with open(self.path, "ab") as file:
            where[step] = file.seek(0, os.SEEK_END)
            file.write(line.encode() + b"\n")

    def steps(self) -> list[int]:
        """Those that are there, in the order of the file."""
        return list(self._lines if self.path is None else self._where(self.path))

    def _where(self, path: Path) -> dict[int, int]:
        if self._offsets is None:
            self._offsets = {int(row["step"]): offset for offset, row in iter_jsonl(path)}
        return self._offsets

    def _row(self, step: int) -> dict[str, Any] | None:
        if self.path is None:
            line = self._lines.get(step)
            return None if line is None else parse_row(line.encode())
        offset = self._where(self.path).get(step)
        if offset is None:
            return None
        with open(self.path, "rb") as file:
            file.seek(offset)
            return parse_row(file.readline())

    def read(self, step: int, teacher: Mapping[str, Any]) -> Rollout:
        """What `add` kept of a step.

        Raises:
            SetupError: There is no such step, or another teacher scored it.
        """
        row = self._row(step)
        where = self.path or "memory"
        if row is None:
            raise SetupError(f"{where} holds no rollout of step {step}: it was cut or moved; start over with --fresh")
        if row["teacher"] != jsonable(dict(teacher)):
            raise SetupError(
                f"{where} holds scores of the teacher {row['teacher']}, but recipe.teacher is {dict(teacher)}: its "
                "word is another's. Set recipe.teacher to the recorded one, or record anew"
            )
        views = {tuple(view["at"]): (View(view["messages"], view["ids"]), view["logprobs"]) for view in row["views"]}
        return Rollout([_group(group) for group in row["groups"]], views)


def _group(row: dict[str, Any]) -> Group:
    trajectories = [Trajectory(**{**t, "turns": [Turn(**turn) for turn in t["turns"]]}) for t in row["trajectories"]]
    return Group(row["task"], trajectories)

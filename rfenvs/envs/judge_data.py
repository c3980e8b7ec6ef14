"""Where the tasks of `rfenvs/Judge-v0` come from: rows with a rubric, in the layout here or in BiGGen-Bench's."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rfenvs.datasets import DataFile, DatasetSpec, Source, locate
from rfenvs.graders.rubric import Rubric, read_rubric
from rfenvs.rows import DataError, Row, check_row, read_rows
from rfenvs.tasks import Message, digest, plain_text

SPEC = DatasetSpec(
    id="biggen",
    hub_id="prometheus-eval/prometheus-eval",
    host="github",
    revision="dcfb44272d5d0414832f5dbb8c2a05ebc2614234",
    files=(
        DataFile(
            "BiGGen-Bench/sample_evals.json",  # 695 rows, in an object by their ids, which `rows` does not count
            size=2_897_498,
            sha256="5481962b402bada5b161049947bea39a1a75902d7e8c150f2de356a091dad258",
        ),
    ),
    licence="Apache-2.0",
    columns={},
    sample=Path(__file__).parent / "samples" / "judge.jsonl",
    split_rule="the hash of the id: 4 of 5 rows in train, the others in test; a row may say its own `split`",
)
"""BiGGen-Bench's tasks with rubrics. The file's responses and scores are placeholders, and are not read."""

SPLITS = ("train", "test")
_OURS: dict[str, type | tuple[type, ...]] = {"prompt": (str, list), "rubric": (list, dict)}
_BIGGEN: dict[str, type | tuple[type, ...]] = {
    "id": str, "system_prompt": str, "input": str, "reference_answer": str, "score_rubric": dict,
}  # fmt: skip
_TEST_SHARE = 20


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """A request and what its answers are judged by."""

    id: str
    messages: tuple[Message, ...]
    rubric: Rubric
    reference: str
    """An answer of full marks; empty where the data hold none."""
    near_misses: tuple[str, ...]
    """Answers that are known to be worth less than full marks."""
    split: str

    @property
    def prompt(self) -> str:
        """What the policy is shown, as plain text."""
        return plain_text(self.messages)


class TaskRow(NamedTuple):
    """A task, and the row that it was made of."""

    line: int
    values: dict[str, Any]
    task: JudgeTask


@dataclass(frozen=True, slots=True)
class Dataset:
    """Tasks, and where they come from."""

    tasks: tuple[JudgeTask, ...]
    revision: str
    source: Source

    def split(self, name: str) -> tuple[JudgeTask, ...]:
        """The tasks of a split.

        Raises:
            DataError: There is none.
        """
        tasks = tuple(task for task in self.tasks if task.split == name)
        if not tasks:
            raise DataError(
                f'No task falls into the split {name!r} (of {len(self.tasks)}): give the rows a "split", "train" or '
                f'"test".'
            )
        return tasks


def load(data: str | os.PathLike[str] | None, *, keyword: bool) -> Dataset:
    """Load tasks.

    Args:
        data: A `.jsonl` or `.json` file, `"hub"`, `"sample"`, or None for the best there is (`rfenvs.datasets`).
        keyword: Whether they are to be judged by keyword rules: then None means the sample, since no public data set
            has such rules.

    Raises:
        DataError: A file is damaged or of another layout.
        DataUnavailable: `data="hub"`, and it cannot be had.
        FileNotFoundError: `data` is a path, and nothing is there.
    """
    located = locate(SPEC, "sample" if data is None and keyword else data, [entry.path for entry in SPEC.files])
    (path,) = located.paths
    stat = path.stat()
    return Dataset(_tasks(path, stat.st_size, stat.st_mtime_ns), located.revision, located.source)


@functools.lru_cache(maxsize=4)
def _tasks(path: Path, size: int, mtime_ns: int) -> tuple[JudgeTask, ...]:
    return tuple(row.task for row in read(path))


def read(path: Path) -> Iterator[TaskRow]:
    """Read a file's tasks; ids that come again get a number.

    Raises:
        DataError: A row is of neither layout, or its rubric is not valid.
    """
    seen: dict[str, int] = {}
    for row in _rows(path):
        try:
            task = _biggen(path.name, row) if "score_rubric" in row.values else _ours(path.name, row)
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path.name}, row {row.line}: {error}.") from error
        seen[task.id] = seen.get(task.id, 0) + 1
        if seen[task.id] > 1:
            task = JudgeTask(
                f"{task.id}#{seen[task.id]}", task.messages, task.rubric, task.reference, task.near_misses, task.split
            )
        yield TaskRow(row.line, row.values, task)


def _rows(path: Path) -> Iterator[Row]:
    """Rows of a file; BiGGen-Bench's own is an object of rows by their ids."""
    if path.suffix == ".json":
        try:
            values = json.loads(path.read_bytes())
        except ValueError:
            values = None  # lines of JSON, or damaged: `read_rows` finds out
        if isinstance(values, dict) and values and all(isinstance(entry, dict) for entry in values.values()):
            yield from (Row(number, None, entry) for number, entry in enumerate(values.values(), 1))
            return
    yield from read_rows(path, {})


def _ours(name: str, row: Row) -> JudgeTask:
    values = row.values
    check_row(name, row.line, values, _OURS)
    rubric = read_rubric(values["rubric"])
    messages = _messages(values["prompt"])
    reference = _text(values, "reference")
    near_misses = values.get("near_misses", [])
    if not isinstance(near_misses, list) or not all(isinstance(entry, str) for entry in near_misses):
        raise ValueError('"near_misses" is to be a list of strings')
    id = _text(values, "id") or digest(list(messages), rubric.model_dump(), reference)
    split = _text(values, "split") or _split(id)
    if split not in SPLITS:
        raise ValueError(f'"split" is {split!r}, and should be one of {", ".join(SPLITS)}')
    return JudgeTask(id, messages, rubric, reference, tuple(near_misses), split)


def _biggen(name: str, row: Row) -> JudgeTask:
    values = row.values
    check_row(name, row.line, values, _BIGGEN)
    messages = ({"role": "system", "content": values["system_prompt"]}, {"role": "user", "content": values["input"]})
    rubric = read_rubric(values["score_rubric"])
    shown = messages if values["system_prompt"].strip() else messages[1:]
    return JudgeTask(values["id"], shown, rubric, values["reference_answer"], (), _split(values["id"]))


def _messages(prompt: str | list[Any]) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    for entry in prompt:
        valid = isinstance(entry, dict) and entry.keys() == {"role", "content"}
        if not valid or not all(isinstance(value, str) for value in entry.values()):
            raise ValueError('"prompt" is to be a string, or a list of {"role": str, "content": str}')
    if not prompt or not any(entry["content"].strip() for entry in prompt):
        raise ValueError('"prompt" is empty')
    return tuple(dict(entry) for entry in prompt)


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f'"{key}" is to be a string, got {type(value).__name__}')
    return value


def _split(id: str) -> str:
    bucket = int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big") % 100
    return "test" if bucket < _TEST_SHARE else "train"

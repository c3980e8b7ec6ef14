"""Where the tasks, databases and policies come from; all files of one domain and one policy are read together."""

from __future__ import annotations

import functools
import json
import os
import pickle
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import ValidationError

from rfenvs.dataset_spec import DataFile, DatasetSpec, sha256
from rfenvs.datasets import Located, Source, locate
from rfenvs.envs.tau2.mock import MockDb, MockUserDb, MockWorld
from rfenvs.envs.tau2.phone_records import PhoneDb
from rfenvs.envs.tau2.rows import TaskRow, check_names, obstacle
from rfenvs.envs.tau2.telecom import TelecomWorld
from rfenvs.envs.tau2.telecom_records import TelecomDb
from rfenvs.envs.tau2.toolkit import World
from rfenvs.rows import DataError, read_rows
from rfenvs.tasks import digest

Domain = Literal["telecom", "mock"]
TaskSet = Literal["base", "small", "full"]
Policy = Literal["manual", "workflow"]

_REVISION = "a2c024725189473d2d7cea3a5cfdbcc67478e41f"
_SAMPLES = Path(__file__).parents[1] / "samples" / "tau2"


def _spec(domain: Domain, files: Sequence[tuple[str, int | None, int, str]]) -> DatasetSpec:
    return DatasetSpec(
        id=f"tau2_{domain}",
        hub_id="sierra-research/tau2-bench",
        revision=_REVISION,
        files=tuple(
            DataFile(f"data/tau2/domains/{domain}/{name}", rows=rows, size=size, sha256=hash)
            for name, rows, size, hash in files
        ),
        licence="MIT",
        columns={"id": str},
        sample=_SAMPLES / domain / "tasks.json",
        host="github",
        split_rule="split_tasks.json" if domain == "telecom" else "every task is in both splits",
    )


TELECOM = _spec(
    "telecom",
    (
        ("db.toml", None, 9628, "562d647ef9d7df8df91eafd8ee76036e707c8f9e32aaedc4a7fde06975aea2c0"),
        ("user_db.toml", None, 933, "4886107ea0c16f8e16d74bef91cfb557de61822afe9361f5a9b241806aea2e4c"),
        ("main_policy_solo.md", None, 5200, "781296ae5419169cb64aac0c4fa2aa6129c78f3c1592f64abd80df6fbabb7042"),
        ("tech_support_manual.md", None, 17589, "015a3ee49ec8c199c5e1a059c922081937b92cf3a5ea74fedbc4357816f389ba"),
        (
            "tech_support_workflow_solo.md",
            None,
            15470,
            "b174d1f9705b5d7df49468daf99560a5633f86d23e10499a1166a7753706a412",
        ),
        ("split_tasks.json", None, 356149, "605b488bb9a6acb3c7f4505240a855fdc8681d09aadb16a8f38b2efcfc5c3aec"),
        ("tasks.json", 2285, 13977063, "37e562e1ae3242577407e1303b1548bc64e7ea68e37d36173e6747990ceaf8a4"),
        ("tasks_small.json", 20, 83833, "c8ea6f75adc18a8ad363974292cbd26b6e8b0e348ec87d265a4188e0088a8f24"),
    ),
)
"""The telecom domain."""
MOCK = _spec(
    "mock",
    (
        ("db.json", None, 281, "8661f80b4c693bb15ef2fe6781d24a5765240d61fc74387c770133953f9113ea"),
        ("user_db.json", None, 203, "78d424b5177e430b7f483787a956ad3a6a0880e8e5b312be8e373b15c876d51f"),
        ("policy_solo.md", None, 224, "2608375977bdeedd9cf34ab437b213403c8e97e9929d5094338355a994ac0c86"),
        ("tasks.json", 10, 14134, "0d8bcd14798bf2e6e082432147f62570c57b0897b4e4e388c95bb02ecbe5d8cf"),
    ),
)
"""The mock domain."""
SPECS: Mapping[Domain, DatasetSpec] = {"telecom": TELECOM, "mock": MOCK}


@dataclass(frozen=True)
class Dataset:
    """Tasks that solo mode can play, and what they play with."""

    policy: str
    rows: tuple[TaskRow, ...]
    splits: Mapping[str, tuple[int, ...]]
    """Numbers of the rows of each split."""
    excluded: Mapping[str, str]
    """Ids of tasks that were left out, with the reason."""
    revision: str
    source: Source
    _world: bytes = field(repr=False)

    def world(self) -> World:
        """A world of one's own, before any task's initial state."""
        world: World = pickle.loads(self._world)  # our own bytes; several times faster than a deep copy
        return world


@functools.lru_cache(maxsize=8)
def load(domain: Domain, data: str | None, task_set: TaskSet, policy: Policy) -> Dataset:
    """Read everything of one domain.

    Args:
        domain: `"telecom"` or `"mock"`.
        data: See `rfenvs.datasets`. A folder may also hold the files side by side; a path may also be a file of tasks,
            with the other files next to it.
        task_set: Which of the telecom tasks.
        policy: Which form of the telecom policy for technical support.

    Raises:
        DataError: A file is damaged or of another layout.
        DataUnavailable: `data="hub"` and no hub.
        FileNotFoundError: A file is missing.
    """
    located, files = _find(domain, data, _names(domain, task_set, policy))
    tasks = list(files)[-1]
    world = _world(domain, files)
    rows, excluded, seen = [], {}, set()
    for row in read_rows(files[tasks], SPECS[domain].columns):
        try:
            task = TaskRow.model_validate(row.values)
            check_names(world, task)
        except ValidationError as error:
            raise DataError(f"{tasks}, row {row.line}: {_first(error)}.") from error
        except LookupError as error:
            raise DataError(f"{tasks}, row {row.line}: {error.args[0]}") from error
        if task.id in seen:
            raise DataError(f"{tasks}, row {row.line}: the id {task.id!r} is given twice.")
        seen.add(task.id)
        if reason := obstacle(task):
            excluded[task.id] = reason
        else:
            rows.append(task)
    splits = _splits(rows, files.get("split_tasks.json"), task_set)
    if not all(splits.values()):
        raise DataError(f"{tasks}: no task is left that solo mode can play, task_set={task_set!r}.")
    return Dataset(
        policy=_policy(files),
        rows=tuple(rows),
        splits=splits,
        excluded=excluded,
        revision=located.revision,
        source=located.source,
        _world=pickle.dumps(world, pickle.HIGHEST_PROTOCOL),
    )


def _names(domain: Domain, task_set: TaskSet, policy: Policy) -> list[str]:
    """The files to read, the tasks last."""
    if domain == "mock":
        return ["db.json", "user_db.json", "policy_solo.md", "tasks.json"]
    support = "tech_support_manual.md" if policy == "manual" else "tech_support_workflow_solo.md"
    tasks = ["tasks_small.json"] if task_set == "small" else ["split_tasks.json", "tasks.json"]
    return ["db.toml", "user_db.toml", "main_policy_solo.md", support, *tasks]


def _find(domain: Domain, data: str | None, names: list[str]) -> tuple[Located, dict[str, Path]]:
    """Where the named files are: under their paths in the repository, or side by side."""
    spec = SPECS[domain]
    path = None if data in (None, "hub", "sample") else Path(str(data))
    if path is not None and path.is_file():
        names = [name for name in names if not name.startswith(("tasks", "split_tasks"))] + [path.name]
        path = path.parent
    if path is not None and any((path / name).is_file() for name in names):
        known = {PurePosixPath(entry.path).name: entry for entry in spec.files}
        files = tuple(replace(known.get(name, DataFile(name)), path=name) for name in names)
        spec = replace(spec, files=files)
        located = locate(spec, os.fspath(path), names)
    else:
        full = {PurePosixPath(entry.path).name: entry.path for entry in spec.files}
        located = locate(spec, data, [full[name] for name in names])
    if located.source == "sample":
        folder = spec.sample.parent
        names = [name if (folder / name).is_file() else "tasks.json" for name in names]
        paths = [folder / name for name in names]
        revision = f"sample:{digest([sha256(path) for path in paths])}"
        located = replace(located, paths=tuple(paths), revision=revision)
    return located, dict(zip(names, located.paths, strict=True))


def _world(domain: Domain, files: Mapping[str, Path]) -> World:
    try:
        if domain == "mock":
            return MockWorld(
                MockDb.model_validate(_read(files["db.json"])), MockUserDb.model_validate(_read(files["user_db.json"]))
            )
        return TelecomWorld(
            TelecomDb.model_validate(_read(files["db.toml"])), PhoneDb.model_validate(_read(files["user_db.toml"]))
        )
    except ValidationError as error:
        raise DataError(f"The database of {domain}: {_first(error)}.") from error


def _read(path: Path) -> Any:
    """A file that holds one object."""
    text = path.read_text(encoding="utf-8")
    try:
        return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise DataError(f"{path.name}: not {path.suffix[1:].upper()}, or cut off ({error}).") from error


def _policy(files: Mapping[str, Path]) -> str:
    texts = [path.read_text(encoding="utf-8").strip() for name, path in files.items() if name.endswith(".md")]
    return "\n\n".join(texts)


def _splits(rows: Sequence[TaskRow], split_file: Path | None, task_set: TaskSet) -> dict[str, tuple[int, ...]]:
    """`base`: the data set's own train and test; `full`: all but the test tasks for training; else all in both."""
    everything = tuple(range(len(rows)))
    if split_file is None:
        return {"train": everything, "test": everything}
    named = _read(split_file)
    test = set(named["test"])
    train = {row.id for row in rows} - test if task_set == "full" else set(named["train"])
    return {
        name: tuple(number for number in everything if rows[number].id in ids)
        for name, ids in (("train", train), ("test", test))
    }


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"

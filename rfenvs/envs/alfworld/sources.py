"""Where games come from: made by the generator, or read from official files."""

from __future__ import annotations

import bisect
import functools
import os
from pathlib import Path
from typing import Protocol, cast

from rfenvs.dataset_spec import DATA_DIR
from rfenvs.envs.alfworld import files, generator
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, TaskType
from rfenvs.envs.alfworld.scenes import Difficulty, Split
from rfenvs.rows import DataError
from rfenvs.tasks import digest

GENERATED, OFFICIAL = "generated", "official"
_SHORT = dict(zip(("pick", "look", "clean", "heat", "cool", "two"), TASK_TYPES, strict=True))


class Games(Protocol):
    """The games of a split, each made or read when it is asked for."""

    source: str
    """`procedural` or `file`."""
    revision: str
    """Changes whenever an index may give another game."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Game: ...

    def id(self, index: int) -> str:
        """The id of a game."""
        ...

    def find(self, id: str) -> int:
        """The index of a game; KeyError where there is none of this id."""
        ...


def task_types(names: str) -> tuple[TaskType, ...]:
    """The types that `task_type` asks for, in the official order.

    >>> task_types("two, pick")
    ('pick_and_place_simple', 'pick_two_obj_and_place')

    Raises:
        ValueError: There is no such type, or it is not a str.
    """
    if names == "all":
        return TASK_TYPES
    wanted = {_SHORT.get(name.strip(), name.strip()) for name in names.split(",")} if isinstance(names, str) else set()
    if not wanted or wanted - set(TASK_TYPES):
        known = ", ".join(f"{short} ({full})" for short, full in _SHORT.items())
        raise ValueError(f"task_type={names!r}: use 'all', or names with commas of {known}.")
    return tuple(name for name in TASK_TYPES if name in wanted)


class Generated:
    """Games of the generator, those of the wanted types."""

    source = "procedural"
    revision = "generated:1"

    def __init__(self, split: Split, types: tuple[TaskType, ...], difficulty: Difficulty) -> None:
        self._split, self._difficulty = split, difficulty
        self._indices = sorted(i for type in types for i in generator.indices(split, type))

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Game:
        return _generated(self._split, self._indices[index], self._difficulty)

    def id(self, index: int) -> str:
        """The id of a game, which has to be made for it."""
        return self[index].id

    def find(self, id: str) -> int:
        """The index of a game, from the number at the end of its id."""
        number = id.rpartition("-")[2]
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise KeyError(id)
        index = bisect.bisect_left(self._indices, int(number))
        if index == len(self) or self._indices[index] != int(number) or self.id(index) != id:
            raise KeyError(id)
        return index


@functools.lru_cache(maxsize=1024)
def _generated(split: Split, index: int, difficulty: Difficulty) -> Game:
    return generator.numbered(split, index, difficulty)


class Official:
    """Games of a folder or file in one of the layouts of `files`; those without a split are in every split.

    Raises:
        DataError: There is none of this split and these types, or two have the same id.
    """

    source = "file"

    def __init__(self, path: Path, split: str, types: tuple[TaskType, ...]) -> None:
        rows = files.read_games(path, None, types).rows
        self._rows = [row for row in rows if row.split in (split, "")]
        if not self._rows:
            has = ", ".join(sorted({row.split for row in rows}))
            raise DataError(f"{path}: no games of split {split!r} among {len(rows)}; it has {has}.")
        self._indices: dict[str, int] = {}
        for index, row in enumerate(self._rows):
            if self._indices.setdefault(row.id, index) != index:
                raise DataError(f"{path}: two games of split {split!r} have the id {row.id!r}; leave one out.")
        self.revision = f"file:{digest([row.id for row in self._rows])}"

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Game:
        return self._rows[index].game()

    def id(self, index: int) -> str:
        """The id of a game, without reading the game."""
        return self._rows[index].id

    def find(self, id: str) -> int:
        """The index of a game."""
        return self._indices[id]


def games(data: str | None, split: str, types: tuple[TaskType, ...], difficulty: Difficulty) -> Games:
    """The games that the arguments of the environment ask for.

    A folder is looked at once a process, a file again when it has changed.

    Raises:
        FileNotFoundError: The path, or every place where official games are looked for, is empty.
        DataError: There are no such games in it.
    """
    if data is None or data == GENERATED:
        return _generator(cast(Split, split), types, difficulty)
    path = (official_folder() if data == OFFICIAL else Path(data)).resolve()
    return _read(path, path.stat().st_mtime_ns if path.is_file() else 0, split, types)


_generator = functools.lru_cache(maxsize=64)(Generated)


@functools.lru_cache(maxsize=64)
def _read(path: Path, mtime_ns: int, split: str, types: tuple[TaskType, ...]) -> Official:
    return Official(path, split, types)


def official_folder() -> Path:
    """Where the official games are: as told by a variable of ours or of alfworld's, or where alfworld puts them.

    Raises:
        FileNotFoundError: Nowhere.
    """
    places = [
        Path(root) / name
        for variable, name in ((DATA_DIR, "alfworld"), ("ALFWORLD_DATA", ""))
        if (root := os.environ.get(variable))
    ]
    places.append(Path.home() / ".cache" / "alfworld")
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"data={OFFICIAL!r}: no ALFWorld games in {', '.join(map(str, places))}. Get them with `pip install alfworld` "
        f"and `alfworld-download`, or give data=<path>, or set {DATA_DIR} to a folder that holds alfworld/json_2.1.1; "
        f"data={GENERATED!r} needs none."
    )

"""Where games come from: made by the generator, or read from official files."""

from __future__ import annotations

import bisect
import functools
import os
import threading
from pathlib import Path
from typing import Protocol

from rfenvs.dataset_spec import DATA_DIR
from rfenvs.envs.alfworld import generator
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, TaskType
from rfenvs.envs.alfworld.scenes import Difficulty, Split

GENERATED, OFFICIAL = "generated", "official"
_SHORT = dict(zip(("pick", "look", "clean", "heat", "cool", "two"), TASK_TYPES, strict=True))
_lock = threading.Lock()


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
        ValueError: There is no such type.
    """
    if names == "all":
        return TASK_TYPES
    wanted = {_SHORT.get(name.strip(), name.strip()) for name in names.split(",")}
    for name in wanted - set(TASK_TYPES):
        known = ", ".join(f"{short} ({full})" for short, full in _SHORT.items())
        raise ValueError(f"task_type={name!r}: use 'all', or names of {known}.")
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


@functools.lru_cache(maxsize=64)
def games(data: str | None, split: Split, types: tuple[TaskType, ...], difficulty: Difficulty) -> Games:
    """The games that the arguments of the environment ask for; looked up once a process."""
    if data is None or data == GENERATED:
        return Generated(split, types, difficulty)
    raise NotImplementedError

"""`epochs`: the tasks of a split in a seeded order, again and again, without ever listing them."""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, overload

from rfenvs.registry import num_tasks

_ROUNDS = 8
_MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
_WORD = 2**64 - 1


def epochs(id: str, split: str, seed: int = 0, *, start: int = 0, **kwargs: Any) -> Iterator[Epoch]:
    """Iterate without end over epochs, each of which visits every task of the split once.

        for epoch in itertools.islice(rfenvs.epochs("rfenvs/ToolCall-v0", "test", seed=0), 3):
            for task_index in epoch: ...

    Args:
        id: A registered environment.
        split: One of its splits.
        seed: Equal seeds give equal orders, on every machine.
        start: First epoch, to go on where an earlier run stopped.
        **kwargs: The environment's own arguments.
    """
    tasks = num_tasks(id, split, **kwargs)
    return (Epoch(tasks, seed, number) for number in itertools.count(start))


class Epoch(Sequence[int]):
    """A permutation of `range(tasks)`, computed entry by entry in constant memory.

    A Feistel network over the smallest domain of an even number of bits that holds all tasks; an entry that falls
    outside is sent through it again (cycle walking: Black and Rogaway 2002, "Ciphers with arbitrary finite domains").

    Args:
        tasks: Number of tasks.
        seed: Any integer.
        number: Which epoch.

    >>> sorted(Epoch(5, seed=0))
    [0, 1, 2, 3, 4]
    >>> len(Epoch(2**31 - 1, seed=0)[10:20])
    10
    """

    def __init__(self, tasks: int, seed: int = 0, number: int = 0) -> None:
        if tasks < 0:
            raise ValueError(f"tasks={tasks}: use 0 or more.")
        self.tasks, self.seed, self.number = tasks, seed, number
        self._bits = max(1, ((tasks - 1).bit_length() + 1) // 2)
        self._mask = 2**self._bits - 1
        digest = hashlib.blake2b(f"epoch|{tasks}|{seed}|{number}".encode(), digest_size=8 * _ROUNDS).digest()
        self._keys = [int.from_bytes(digest[i : i + 8], "big") for i in range(0, 8 * _ROUNDS, 8)]

    def __len__(self) -> int:
        return self.tasks

    @overload
    def __getitem__(self, position: int) -> int: ...
    @overload
    def __getitem__(self, position: slice) -> list[int]: ...
    def __getitem__(self, position: int | slice) -> int | list[int]:
        if isinstance(position, slice):
            return [self._at(i) for i in range(*position.indices(self.tasks))]
        where = operator.index(position)
        if not -self.tasks <= where < self.tasks:
            raise IndexError(f"position {where} is out of range: the epoch has {self.tasks} tasks.")
        return self._at(where % self.tasks)

    def __iter__(self) -> Iterator[int]:
        return map(self._at, range(self.tasks))

    def __repr__(self) -> str:
        return f"Epoch(tasks={self.tasks}, seed={self.seed}, number={self.number})"

    def _at(self, position: int) -> int:
        bits, mask = self._bits, self._mask
        while True:
            left, right = position >> bits, position & mask
            for key in self._keys:
                mixed = ((right + 1) * _MIX[0] + key) & _WORD
                mixed = ((mixed ^ (mixed >> 32)) * _MIX[1]) & _WORD
                left, right = right, left ^ ((mixed >> 40) & mask)
            position = left << bits | right
            if position < self.tasks:
                return position

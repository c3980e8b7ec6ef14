"""Prefix trees: what several sequences share is forwarded once.

Attempts at one task share their prompt, prompts share their system message, turn k of an episode contains turn
k-1. `pack` lays sequences out as one row of tree nodes with an ancestor mask: node j is visible from node i
exactly where j lies on the path from the root to i, so each sequence sees what it would see alone.

    abcX, abcY, abD   ->   ids       a b c X Y D
                           position  0 1 2 3 3 2
                           paths     [0 1 2 3], [0 1 2 4], [0 1 5]

Memory of the mask is quadratic in the nodes of a pack, hence the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Pack:
    """Some sequences as one tree: ``nodes`` distinct tokens."""

    ids: Tensor
    """[nodes] token ids."""
    positions: Tensor
    """[nodes] depth in the tree: the position each token has in its sequence."""
    visible: Tensor
    """[nodes, nodes] bool: row attends to column."""
    paths: list[Tensor]
    """Per sequence, the node of each of its tokens: [length]."""
    order: list[int]
    """Per sequence, its index in the caller's list."""


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    n = min(len(a), len(b))
    differs = np.flatnonzero(np.asarray(a[:n]) != np.asarray(b[:n]))
    return int(differs[0]) if len(differs) else n


def pack(sequences: Sequence[Sequence[int]], budget: int) -> Iterator[Pack]:
    """Pack ``sequences`` into trees of at most ``budget`` nodes each (a longer sequence gets a pack of its own).

    Sequences are sorted, so that neighbours share the longest prefixes. Empty sequences are not allowed.
    """
    order = sorted(range(len(sequences)), key=lambda i: list(sequences[i]))
    start, used, previous = 0, 0, -1
    for k, i in enumerate(order):
        shared = common_prefix(sequences[previous], sequences[i]) if k > start else 0
        new = len(sequences[i]) - shared
        if k > start and used + new > budget:
            yield _tree(sequences, order[start:k])
            start, used, new = k, 0, len(sequences[i])
        used, previous = used + new, i
    if order:
        yield _tree(sequences, order[start:])


def _tree(sequences: Sequence[Sequence[int]], order: list[int]) -> Pack:
    ids: list[int] = []
    depths: list[int] = []
    paths: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    starts: list[tuple[int, int]] = []
    for k, i in enumerate(order):
        sequence = sequences[i]
        shared = common_prefix(sequences[order[k - 1]], sequence) if k else 0
        new = np.arange(len(ids), len(ids) + len(sequence) - shared)
        paths.append(np.concatenate([paths[-1][:shared], new]) if k else new)
        starts.append((shared, len(sequence)))
        ids.extend(sequence[shared:])
        depths.extend(range(shared, len(sequence)))
    visible = np.zeros((len(ids), len(ids)), dtype=bool)
    for path, (shared, length) in zip(paths, starts, strict=True):
        if length > shared:
            # The rows of the new nodes: every earlier node of the path, and themselves.
            rows = path[shared:]
            visible[np.ix_(rows, path)] = np.arange(length)[None] <= np.arange(shared, length)[:, None]
    return Pack(
        torch.tensor(ids),
        torch.tensor(depths),
        torch.from_numpy(visible),
        [torch.from_numpy(path) for path in paths],
        order,
    )

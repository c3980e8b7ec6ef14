"""Prefix trees: what several sequences share is forwarded once.

Attempts at one task share their prompt, prompts share their system message, turn k of an episode contains turn
k-1, and a teacher's prompt for turn k is a branch off it. `Tree` lays sequences out depth first, so that a subtree
is a run of nodes, and node j is visible from node i exactly where i lies in j's subtree: each sequence sees what it
would see alone.

    abcX, abcY, abD   ->   ids    a b c X Y D
                           depths 0 1 2 3 3 2
                           ends   6 6 5 4 5 6
                           nodes  [0 1 2 3], [0 1 2 4], [0 1 5]

A tree may also be forwarded a run of nodes at a time. All that nodes from ``start`` on can see of the nodes before
it is the path from the root to ``start``: that much is kept in the cache, the branches that were passed are not. So
no node is forwarded twice, whatever the size of a run, and a mask has run x (path + run) entries. Runs that end where
a branch ends save the attention of many short branches to each other, which a mask only hides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ids = npt.NDArray[np.int32]


@dataclass
class Tree:
    """Some sequences as one forest of ``len(tree)`` distinct tokens, depth first."""

    ids: Tensor
    """[nodes] token ids."""
    depths: Tensor
    """[nodes] the position each token has in its sequence."""
    ends: Tensor
    """[nodes] one past the last node of each node's subtree."""
    nodes: list[Tensor]
    """Per sequence, the node of each of its tokens, from its ``starts`` on."""
    order: list[int]
    """Per sequence, the caller's index."""

    def __len__(self) -> int:
        return len(self.ids)

    def runs(self, least: int, most: int) -> Iterator[tuple[int, int]]:
        """(first node, one past the last) of runs that cover the tree, of at most ``most`` nodes.

        A run ends where a branch does, at the shallowest such place between ``least`` and twice as many nodes, or at
        the first one after. Below a long path, which every run sees again, runs are at least half as long as the path.
        """
        depths = self.depths.numpy()
        ends = np.flatnonzero(depths[1:] <= depths[:-1]) + 1
        start = 0
        while start < len(self):
            size = max(least, int(depths[start]) // 2)
            first, last, limit = np.searchsorted(ends, [start + size, start + 2 * size + 1, start + most + 1])
            near = ends[first : max(last, first + 1)]
            near = near[: max(0, limit - first)]
            stop = int(near[depths[near].argmin()]) if len(near) else start + most
            yield start, min(stop, len(self))
            start = stop

    def visible(self, start: int, stop: int, past: Tensor) -> Tensor | None:
        """[stop - start, len(past) + stop - start] bool: which keys nodes ``start`` to ``stop`` attend to.

        The keys are those of ``past``, the path to ``start``, and of the nodes themselves. None where the nodes are
        one path from the root, which is what a model attends to anyway.
        """
        if not len(past) and bool((self.ends[start:stop] >= stop).all()):
            return None
        rows = torch.arange(start, stop)
        seen = rows[:, None] < self.ends[torch.cat([past, rows])]
        seen[:, len(past) :].tril_()
        return seen

    def on_path(self, keys: Tensor, node: int) -> Tensor:
        """[keys] bool: which of ``keys``, all before ``node``, ``node`` attends to."""
        return self.ends[keys] > node


@dataclass
class Rows:
    """Some sequences padded on the right; a sequence that begins another one lies in its row."""

    ids: Tensor
    """[rows, width] token ids."""
    mask: Tensor
    """[rows, width] 1 where there is a token."""
    nodes: list[Tensor]
    """Per sequence, where its tokens lie in the flattened rows, from its ``starts`` on."""
    order: list[int]
    """Per sequence, the caller's index."""


class Sequences:
    """Sequences, by the caller's index, in an order in which neighbours share the longest prefixes. None is empty.

    ``starts`` is the first token of each whose node anybody asks for; left out, its first.
    """

    def __init__(self, sequences: Mapping[int, Sequence[int] | Ids], starts: Mapping[int, int] | None = None) -> None:
        self.ids: dict[int, Ids] = {i: np.asarray(s, dtype=np.int32) for i, s in sequences.items()}
        self.starts = starts or dict.fromkeys(self.ids, 0)
        keys = {i: ids.astype(">u4").tobytes() for i, ids in self.ids.items()}  # bytes in the order of the ids
        order = sorted(keys, key=keys.__getitem__)
        self.chains: list[list[int]] = []
        """Runs of the order in which each sequence begins the next: the turns of one episode, equal samples."""
        for k, i in enumerate(order):
            if k and keys[i].startswith(keys[order[k - 1]]):
                self.chains[-1].append(i)
            else:
                self.chains.append([i])

    def trees(self, budget: int) -> Iterator[Tree]:
        """Trees of at most ``budget`` nodes, or of one path where that alone is longer: a chain is never cut."""
        group: list[list[int]] = []
        used = 0
        for chain in self.chains:
            last = self.ids[chain[-1]]
            new = len(last) - (common_prefix(self.ids[group[-1][-1]], last) if group else 0)
            if group and used + new > budget:
                yield self._tree(group)
                group, used, new = [], 0, len(last)
            group.append(chain)
            used += new
        if group:
            yield self._tree(group)

    def _tree(self, chains: Sequence[Sequence[int]]) -> Tree:
        ids, depths, nodes = [], [], []
        path = np.zeros(0, dtype=np.int64)
        last: Ids = np.zeros(0, dtype=np.int32)
        ends = np.zeros(sum(len(self.ids[chain[-1]]) for chain in chains), dtype=np.int64)
        used = 0
        for chain in chains:
            sequence = self.ids[chain[-1]]
            shared = common_prefix(last, sequence)
            ends[path[shared:]] = used
            ids.append(sequence[shared:])
            depths.append(np.arange(shared, len(sequence)))
            path = np.concatenate([path[:shared], np.arange(used, used + len(sequence) - shared)])
            used, last = used + len(sequence) - shared, sequence
            nodes += [torch.from_numpy(path[self.starts[i] : len(self.ids[i])].copy()) for i in chain]
        ends[path] = used
        return Tree(
            torch.from_numpy(np.concatenate(ids)).long(),
            torch.from_numpy(np.concatenate(depths)),
            torch.from_numpy(ends[:used].copy()),
            nodes,
            [i for chain in chains for i in chain],
        )

    def rows(self, budget: int) -> Iterator[Rows]:
        """Padded rows, one a chain, of like lengths: at most ``budget`` tokens, or a single row."""
        group: list[list[int]] = []
        for chain in sorted(self.chains, key=lambda c: len(self.ids[c[-1]])):
            if group and (len(group) + 1) * len(self.ids[chain[-1]]) > budget:
                yield self._padded(group)
                group = []
            group.append(chain)
        if group:
            yield self._padded(group)

    def _padded(self, chains: Sequence[Sequence[int]]) -> Rows:
        width = max(len(self.ids[chain[-1]]) for chain in chains)
        ids = torch.zeros(len(chains), width, dtype=torch.long)
        mask = torch.zeros(len(chains), width, dtype=torch.long)
        nodes = []
        for row, chain in enumerate(chains):
            sequence = self.ids[chain[-1]]
            ids[row, : len(sequence)] = torch.from_numpy(sequence)
            mask[row, : len(sequence)] = 1
            nodes += [row * width + torch.arange(self.starts[i], len(self.ids[i])) for i in chain]
        return Rows(ids, mask, nodes, [i for chain in chains for i in chain])


def common_prefix(a: Sequence[int] | Ids, b: Sequence[int] | Ids) -> int:
    """Length of the common prefix."""
    n = min(len(a), len(b))
    differs = np.flatnonzero(np.asarray(a[:n]) != np.asarray(b[:n]))
    return int(differs[0]) if len(differs) else n

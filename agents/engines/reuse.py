"""Keys and values of conversations that go on: what was forwarded at one turn is not forwarded again at the next.

Rows are found by their exact ids, so that nothing is ever taken for something else. They are those of one set of
weights: a `Memory` lives as long as a rollout, in which nothing is trained, and forgets everything where other weights
ask it all the same.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.engines.tree import common_prefix

Layers = list[tuple[Tensor, Tensor]]
"""Keys and values [heads, tokens, size] of one row, layer by layer."""


DEFAULT_BYTES = 1 << 30
"""What a `Memory` may take where nobody says how many tokens: a fraction of what training takes anyway."""


class Memory:
    """Rows of earlier calls; where there are too many, those that were put longest ago are forgotten.

    Args:
        limit: Most tokens that are remembered, over all rows; None: as many as fit into `DEFAULT_BYTES`.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self.tokens = limit, 0
        self._rows: OrderedDict[bytes, Layers] = OrderedDict()
        self._weights = b""

    def belong_to(self, weights: bytes) -> None:
        """Forget everything if it was made by weights of another `fingerprint`."""
        if weights != self._weights:
            self._rows.clear()
            self._weights, self.tokens = weights, 0

    def put(self, ids: Sequence[int], layers: Layers) -> None:
        """Remember a row of ``ids``; one that is longer than all that may be remembered is not."""
        if self.limit is None:
            self.limit = DEFAULT_BYTES * len(ids) // sum(keys.nbytes + values.nbytes for keys, values in layers)
        self._forget(_key(ids))
        if len(ids) > self.limit:
            return
        self._rows[_key(ids)] = layers
        self.tokens += len(ids)
        while self.tokens > self.limit:
            self._forget(next(iter(self._rows)))

    def take(self, prompts: Sequence[Sequence[int]], least: int) -> list[tuple[int, Layers]]:
        """For each prompt the longest row that it begins with, shorter than itself, and that row's length; or (0, []).

        What is taken is remembered no longer. Rows of at most ``least`` tokens are left.
        """
        lengths = sorted({n for key in self._rows if (n := len(key)) > least * _WIDTH}, reverse=True)
        found = []
        for prompt in prompts:
            key = _key(prompt)
            begins = (key[:n] for n in lengths if n < len(key))
            found.append(next((begin for begin in begins if begin in self._rows), b""))
        rows = [(len(key) // _WIDTH, self._rows.get(key, [])) for key in found]
        for key in found:
            self._forget(key)
        return rows

    def _forget(self, key: bytes) -> None:
        if self._rows.pop(key, None) is not None:
            self.tokens -= len(key) // _WIDTH


class Beginnings(Memory):
    """A memory for prompts that begin alike and end differently: also the beginning of a row is taken.

    They come round in the same order, so that the row which was put longest ago is wanted next: what does not fit is not
    remembered, and nothing is forgotten for it.
    """

    def put(self, ids: Sequence[int], layers: Layers) -> None:
        """Remember a row of ``ids``, where there is room for it."""
        if self.limit is None or self.tokens + len(ids) <= self.limit:
            super().put(ids, layers)

    def take(self, prompts: Sequence[Sequence[int]], least: int) -> list[tuple[int, Layers]]:
        """For each prompt the most that it shares with a row, without its own last token, and how much; or (0, []).

        Rows of which something is taken are remembered no longer. At most ``least`` tokens are left.
        """
        rows = [(list(memoryview(key).cast("q")), layers) for key, layers in self._rows.items()]
        found: list[tuple[int, Layers]] = []
        used = set()
        for prompt in prompts:
            shared = [min(common_prefix(prompt, ids), len(prompt) - 1) for ids, _ in rows]
            n, best = max(((n, k) for k, n in enumerate(shared)), default=(0, 0))
            if n <= least:
                found.append((0, []))
                continue
            used.add(best)
            found.append((n, [(keys[:, :n], values[:, :n]) for keys, values in rows[best][1]]))
        for k in used:
            self._forget(_key(rows[k][0]))
        return found


_WIDTH = array("q").itemsize


def _key(ids: Sequence[int]) -> bytes:
    return array("q", ids).tobytes()


def fingerprint(model: torch.nn.Module) -> bytes:
    """Some numbers of each weight: an optimiser's step changes them all, and torch does not count every such change."""
    some = [p.detach().reshape(-1)[:: 1 + p.numel() // 16].cpu().double() for p in model.parameters()]
    return torch.cat(some).numpy().tobytes()


def is_plain(cache: Any) -> bool:
    """Whether a cache is the keys and values of every token and nothing else: no window, no recurrent state."""
    from transformers.cache_utils import DynamicLayer

    from agents.engines.growing import GrowingLayer

    kinds = {type(layer) for layer in getattr(cache, "layers", [])}
    return bool(kinds) and kinds <= {DynamicLayer, GrowingLayer}


def row_of(cache: Any, row: int, mask: Tensor) -> Layers:
    """A copy of one row of a batched cache; ``mask`` [tokens] is 1 where it holds a token of the row."""
    kept = mask.bool()
    return [(layer.keys[row][:, kept], layer.values[row][:, kept]) for layer in cache.layers]


def joined(rows: Sequence[tuple[int, Layers]]) -> tuple[Any, Tensor]:
    """Rows of several lengths as one cache [B, heads, W, size], padded on the left, with its mask [B, W]."""
    from transformers import DynamicCache

    width = max(n for n, _ in rows)
    some = next(layers for n, layers in rows if n)
    mask = torch.zeros(len(rows), width, dtype=torch.long, device=some[0][0].device)
    cache = DynamicCache()
    for k, pair in enumerate(some):
        batch = [like.new_zeros(len(rows), like.shape[0], width, like.shape[2]) for like in pair]
        for b, (n, layers) in enumerate(rows):
            if n:
                mask[b, width - n :] = 1
                for whole, part in zip(batch, layers[k], strict=True):
                    whole[b, :, width - n :] = part
        cache.update(batch[0], batch[1], k)
    return cache, mask

"""A cache of keys and values with room behind them: a token that is decoded is written, not appended.

Concatenation copies the whole cache once a token, which costs the more the longer answers are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM = 128
"""Most tokens that space is taken for ahead."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A `DynamicLayer` whose ``keys`` and ``values`` [B, heads, tokens, size] are the filled part of larger tensors.

    ``room`` is how many tokens more they have space for, whenever they have to be moved. Not for gradients: it
    writes in place.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self._space: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, layer: Any, room: int) -> GrowingLayer:
        """What ``layer`` holds; moved when it first grows."""
        result = cls(room)
        result.dtype, result.device, result.is_initialized = layer.keys.dtype, layer.keys.device, True
        result.keys, result.values = layer.keys, layer.values
        return result

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append [B, heads, new, size]; returns all keys and values."""
        filled, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if self._space is None or self._space[0].shape[-2] < end:
            self._move(slice(None), end - filled)
        assert self._space is not None
        for space, new in zip(self._space, (key_states, value_states), strict=True):
            space[..., filled:end, :] = new
        self.keys, self.values = (space[..., :end, :] for space in self._space)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; one may come several times."""
        self._move(indices, 0)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row ``repeats`` times, in place of once."""
        self._move(torch.arange(len(self.keys), device=self.keys.device).repeat_interleave(repeats), 0)

    def _move(self, rows: Tensor | slice, new: int) -> None:
        filled = self.keys.shape[-2]
        capacity = filled + new + self.room if self._space is None or new else self._space[0].shape[-2]
        spaces = []
        for old in (self.keys, self.values):
            kept = old[rows]
            space = kept.new_empty(*kept.shape[:2], capacity, kept.shape[3])
            space[..., :filled, :] = kept
            spaces.append(space)
        self._space = spaces[0], spaces[1]
        self.keys, self.values = (space[..., :filled, :] for space in spaces)


def give_room(cache: Any, tokens: int) -> None:
    """Let a cache of plain layers grow by ``tokens`` without being copied each time, as far as `ROOM` goes."""
    cache.layers = [GrowingLayer.of(layer, min(tokens, ROOM)) for layer in cache.layers]

"""`Text`: a Gymnasium text space that holds any Unicode text.

`gymnasium.spaces.Text` describes text by a list of allowed characters. Listing all of Unicode costs seconds
and tens of megabytes, so this subclass keeps the parent's small printable list for sampling and decides
membership by a rule instead: a `str` of allowed length that UTF-8 can encode, which excludes lone
surrogates only.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any, NoReturn, cast

from gymnasium import spaces
from gymnasium.spaces import utils as space_utils
from gymnasium.vector.utils import shared_memory as vector_memory

_NON_ASCII = "é", "ß", "ж", "中", "✓", "🙂"


class Text(spaces.Text):
    """Any Unicode text of `min_length` to `max_length` code points; the empty string is legal by default.

    Args:
        max_length: Longest text, in code points. Nothing of this size is ever allocated.
        min_length: Shortest text, in code points.
        seed: Seed of `sample`.

    >>> "naïve ✓\\n" in Text(), "\\ud800" in Text()
    (True, False)
    """

    _sample_length = 24

    def __init__(self, max_length: int = 2**31 - 1, *, min_length: int = 0, seed: int | None = None) -> None:
        super().__init__(max_length, min_length=min_length, charset=string.printable, seed=seed)

    def contains(self, x: Any) -> bool:
        """Whether `x` is a `str` of allowed length that UTF-8 can encode."""
        if not isinstance(x, str) or not self.min_length <= len(x) <= self.max_length:
            return False
        try:
            x.encode("utf-8")
        except UnicodeEncodeError:
            return False
        return True

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draw a short text, one in two with characters outside ASCII. Masks are refused."""
        if mask is not None or probability is not None:
            raise ValueError("rfenvs.Text has no character list to mask: sample() takes no mask.")
        longest = max(self.min_length, min(self.max_length, self._sample_length))
        length = int(self.np_random.integers(self.min_length, longest + 1))
        alphabet = self.character_list + (_NON_ASCII if self.np_random.integers(2) else ())
        return "".join(alphabet[i] for i in self.np_random.integers(len(alphabet), size=length))

    def __repr__(self) -> str:
        return f"Text({self.min_length}, {self.max_length}, charset=unicode)"

    def __eq__(self, other: object, /) -> bool:
        return isinstance(other, Text) and self.min_length == other.min_length and self.max_length == other.max_length

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_np_flattenable(self) -> bool:
        """False: there is no fixed-size array for arbitrary text."""
        return False


def _refuse_shared_memory(space: Text, *args: Any, **kwargs: Any) -> NoReturn:
    raise ValueError(
        "AsyncVectorEnv(shared_memory=True) cannot carry text: it would return the same constant string for "
        "every observation. Pass shared_memory=False (for gymnasium.make_vec: "
        "vector_kwargs={'shared_memory': False})."
    )


def _refuse_flatten(space: Text, *args: Any, **kwargs: Any) -> NoReturn:
    raise ValueError(
        "Text of arbitrary length and characters has no flat array form, so FlattenObservation and its kin "
        "do not apply. Tokenise the text instead, in a wrapper of your own."
    )


def _register(generic: object, refusal: Callable[..., NoReturn]) -> None:
    cast(Any, generic).register(Text, refusal)


_register(vector_memory.create_shared_memory, _refuse_shared_memory)
for _function in (space_utils.flatdim, space_utils.flatten, space_utils.flatten_space, space_utils.unflatten):
    _register(_function, _refuse_flatten)

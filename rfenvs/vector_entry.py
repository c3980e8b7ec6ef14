"""Vector entry points by id: with `"rfenvs.vector_entry:rfenvs/ToolCall-v0"`, `gymnasium.make_vec` uses our `make_vec`.

Gymnasium calls a vector entry point without telling it the id, and a spec can be pickled and written as JSON only
where entry points are strings: so the attribute's name is the id. It works for ids of your own too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from rfenvs.vector import TextVectorEnv, make_vec


def __getattr__(name: str) -> Callable[..., TextVectorEnv]:
    if name.startswith("__"):
        raise AttributeError(name)
    return functools.partial(make_vec, name)

"""reasoning-gym's verifiers; those of algebra run in a process with a deadline."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any

from rfenvs.graders.procedural import ALGEBRA, Entry
from rfenvs.graders.processes import Refused, call

VERIFY_S = 10.0
"""Longest time for one answer, in seconds."""
_KEPT = ("source_dataset", "integrand", "variable", "variables", "polynomial_expr")
_lock = threading.Lock()


def verify(name: str, answer: str | None, entry: Entry) -> float:
    """The score that reasoning-gym gives.

    Raises:
        TimeoutError: An algebraic answer took longer than `VERIFY_S`.
        Exception: Whatever the verifier raises.
    """
    if name not in ALGEBRA:
        return float(_scorer(name).score_answer(answer, entry))
    metadata = {key: str(value) for key, value in entry["metadata"].items() if key in _KEPT}
    plain = {"question": entry["question"], "answer": entry["answer"], "metadata": metadata}
    try:
        result = call(f"{__name__}:verify_here", {"name": name, "answer": answer, "entry": plain}, VERIFY_S)
    except Refused as error:
        raise ValueError(str(error)) from error
    return float(result)


def verify_here(payload: Mapping[str, Any]) -> float:
    """What the process does."""
    return float(_scorer(payload["name"]).score_answer(payload["answer"], payload["entry"]))


def warm() -> None:
    """Import everything before the first answer's clock runs."""
    for name in ALGEBRA:
        _scorer(name)


@functools.cache
def _scorer(name: str) -> Any:
    """A small data set, whose `score_answer` is the verifier."""
    import reasoning_gym

    with _lock:
        return reasoning_gym.create_dataset(name, seed=1, size=10)

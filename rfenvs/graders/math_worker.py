"""Comparisons that need computer algebra, in processes that are killed when one takes too long (`processes`)."""

from __future__ import annotations

import atexit
import importlib.util
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rfenvs.graders import processes
from rfenvs.graders.math_compare import Comparison, Outcome, decide

MEMORY_BYTES = processes.MEMORY_BYTES


class Pool(processes.Pool):
    """A few workers that know algebra, for all threads of this process."""

    def __init__(self, size: int = processes.WORKERS) -> None:
        super().__init__(__name__, size)

    def compare(self, gold: str, answer: str, timeout_s: float) -> Comparison:
        """Compare in a free worker; a timeout and a death are outcomes, and the next call finds a new worker."""
        try:
            found = self.call(f"{__name__}:compare_here", {"gold": gold, "answer": answer}, timeout_s)
        except TimeoutError:
            return Comparison(Outcome.TIMEOUT)
        except (processes.WorkerDied, processes.Refused):
            return Comparison(Outcome.CRASHED)
        return Comparison(**{**found, "outcome": Outcome(found["outcome"])})


def compare_here(payload: Mapping[str, str]) -> dict[str, Any]:
    """What the process does."""
    from rfenvs.graders.math_algebra import leaf

    try:
        return asdict(decide(payload["gold"], payload["answer"], leaf))
    except RecursionError:
        return asdict(Comparison(Outcome.UNPARSABLE, bad_token=payload["answer"].strip()[:40]))


def warm() -> None:
    """Import sympy and math-verify before the first comparison's clock runs."""
    from rfenvs.graders import math_algebra

    math_algebra.warm()


_shared: Pool | None = None
_guard = threading.Lock()


def shared() -> Pool:
    """The pool of this process, made on first use.

    Raises:
        ImportError: math-verify is not installed.
    """
    global _shared
    with _guard:
        if _shared is None:
            if importlib.util.find_spec("math_verify") is None or importlib.util.find_spec("sympy") is None:
                raise ImportError('This answer needs computer algebra: pip install "rfenvs[math]".')
            _shared = Pool()
            atexit.register(_shared.close)
        return _shared


def _after_fork() -> None:
    global _shared, _guard
    _guard = threading.Lock()
    if _shared is not None:
        atexit.unregister(_shared.close)
        _shared.forget()
        _shared = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""Calls moved off the event loop: each owner has one thread, so that its calls run one after the other."""

from __future__ import annotations

import contextvars
import functools
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Result = TypeVar("Result")

_threads: weakref.WeakKeyDictionary[object, ThreadPoolExecutor] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


async def offload(owner: object, call: Callable[[], Result]) -> Result:
    """Run `call` in the thread of `owner` and wait for it without blocking the event loop.

    Where the waiting task is cancelled, a call that has not begun never runs; one that has begun runs to its end, its
    result is dropped, and the owner's next call waits for it. The thread ends with `release`, or with its owner.
    """
    import asyncio  # slow to import, and only those who await need them
    from concurrent.futures import ThreadPoolExecutor

    with _lock:
        thread = _threads.get(owner)
        if thread is None:
            thread = _threads[owner] = ThreadPoolExecutor(1, thread_name_prefix="rfenvs-async")
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(thread, functools.partial(context.run, call))


def release(owner: object) -> None:
    """End the thread of `owner`, where it has one, after the call that it is at."""
    with _lock:
        thread = _threads.pop(owner, None)
    if thread is not None:
        thread.shutdown(wait=False, cancel_futures=True)

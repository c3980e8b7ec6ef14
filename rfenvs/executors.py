"""Where the jobs of a vector environment run: in the caller's thread, or in threads of their own."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

Job = Callable[[], Any]
Outcome = tuple[int, Any, BaseException | None]
"""Number of a job, and its result or what it raised."""
_Inbox = SimpleQueue[tuple[int, Job, SimpleQueue[Outcome]] | None]


class Executor(ABC):
    """Runs numbered jobs. One thread may use it at a time."""

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """Run all jobs; returns their results in order.

        The first exception is raised, in threads after every job has ended.
        """

    @abstractmethod
    def submit(self, number: int, job: Job) -> None:
        """Accept a job for `take`."""

    @abstractmethod
    def take(self, block: bool) -> Outcome | None:
        """A submitted job that has ended; None where none has, and `block` is False."""

    @abstractmethod
    def close(self) -> None:
        """Drop the jobs that have not begun, and wait for those that have."""


class Inline(Executor):
    """Runs jobs in the caller's thread; a submitted job runs when its result is taken."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[int, Job]] = deque()

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """Run the jobs one after the other."""
        return [job() for job in jobs]

    def submit(self, number: int, job: Job) -> None:
        """Keep the job for later."""
        self._jobs.append((number, job))

    def take(self, block: bool) -> Outcome | None:
        """Run the oldest job where `block` is True."""
        return _attempt(*self._jobs.popleft()) if block else None

    def close(self) -> None:
        """Drop all jobs."""
        self._jobs.clear()


class Threads(Executor):
    """Runs jobs in up to `workers` threads, which start with the first job and end with `close` or with this object."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._inbox: _Inbox = SimpleQueue()
        self._done: SimpleQueue[Outcome] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """Run the jobs at once, as far as there are threads."""
        self._start()
        done: SimpleQueue[Outcome] = SimpleQueue()
        for number, job in enumerate(jobs):
            self._inbox.put((number, job, done))
        results: list[Any] = [None] * len(jobs)
        errors: dict[int, BaseException] = {}
        for _ in jobs:
            number, results[number], error = done.get()
            if error is not None:
                errors[number] = error
        if errors:
            raise errors[min(errors)]
        return results

    def submit(self, number: int, job: Job) -> None:
        """Start the job as soon as a thread is free."""
        self._start()
        self._inbox.put((number, job, self._done))

    def take(self, block: bool) -> Outcome | None:
        """Whatever ended first."""
        return self._done.get() if block or not self._done.empty() else None

    def close(self) -> None:
        """End the threads."""
        while not self._inbox.empty():
            self._inbox.get()
        _stop(self._inbox, len(self._threads))
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _start(self) -> None:
        if self._threads:
            return
        for number in range(self.workers):
            thread = threading.Thread(target=_work, args=(self._inbox,), name=f"rfenvs-vector-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        weakref.finalize(self, _stop, self._inbox, self.workers).atexit = False


def _attempt(number: int, job: Job) -> Outcome:
    try:
        return number, job(), None
    except BaseException as error:  # handed to whoever asks for the result
        return number, None, error


def _work(inbox: _Inbox) -> None:
    """What a thread does until it is told to stop; it holds nothing but the queue between two jobs."""
    while (entry := inbox.get()) is not None:
        number, job, done = entry
        done.put(_attempt(number, job))
        del entry, job, done


def _stop(inbox: _Inbox, count: int) -> None:
    for _ in range(count):
        inbox.put(None)

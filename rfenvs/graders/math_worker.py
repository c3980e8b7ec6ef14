"""Processes that compare answers with computer algebra, and that are killed when one takes too long.

Each is a fresh interpreter started through `subprocess`, spoken to by pipes in JSON lines. So it may be used from any
thread, after a fork, and inside daemonic processes; it needs no `__main__` guard and touches no signal of its user.
A worker imports sympy once, before its first task; that start is not part of any task's time. It ends with its user: at
exit, or when its pipe closes because the user was killed; should it be busy then, its own timer ends it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from rfenvs.graders.math_compare import Comparison, Outcome, decide

WORKERS = 2
MEMORY_BYTES = 2 * 2**30
START_S = 120.0
"""Longest time a worker may take to import sympy, in seconds; a few on a quiet machine."""
_GRACE_S = 1.0
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from rfenvs.graders.math_worker import main; main()"


class WorkerDied(Exception):
    """The process ended, or its pipe closed."""


class Worker:
    """One process; not for two threads at once."""

    def __init__(self) -> None:
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        self._ready = False
        self._unread = b""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def compare(self, gold: str, answer: str, timeout_s: float) -> Comparison:
        """Compare, or kill the process.

        Raises:
            TimeoutError: Nothing came back in time; the process was killed.
            WorkerDied: The process ended.
        """
        try:
            if not self._ready:
                self._receive(START_S)
                self._ready = True
            request = json.dumps({"gold": gold, "answer": answer, "timeout_s": timeout_s})
            self._send(request.encode() + b"\n")
            reply = json.loads(self._receive(timeout_s))
        except BaseException:  # a signal handler of the caller's may raise anywhere: what is half said is not said
            self.kill()
            raise
        return Comparison(**{**reply, "outcome": Outcome(reply["outcome"])})

    def _send(self, data: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            while data:
                data = data[stdin.write(data) or 0 :]
        except (BrokenPipeError, ValueError) as error:
            raise WorkerDied from error

    def _receive(self, timeout_s: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + timeout_s
        poll = select.poll()  # unlike select, for file numbers beyond 1,023 too
        poll.register(stdout, select.POLLIN)
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if poll.poll(left * 1000):
                chunk = os.read(stdout.fileno(), 65536)
                if not chunk:
                    raise WorkerDied
                self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def kill(self) -> None:
        """End the process at once, and wait for its end."""
        self._process.kill()
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close this side of the pipes; the process sees that and ends."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Pool:
    """A few workers for all threads of this process, each started when it is first needed."""

    def __init__(self, size: int = WORKERS) -> None:
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._closed = False

    def compare(self, gold: str, answer: str, timeout_s: float) -> Comparison:
        """Compare in a free worker; a timeout and a death are outcomes, and the next call finds a new worker."""
        with self._free:
            worker = self._take()
            try:
                comparison = worker.compare(gold, answer, timeout_s)
            except TimeoutError:
                comparison = Comparison(Outcome.TIMEOUT)
            except WorkerDied:
                comparison = Comparison(Outcome.CRASHED)
            except BaseException:
                self._drop(worker)
                raise
            if not worker.lives or comparison.outcome is Outcome.CRASHED:
                self._drop(worker)
                worker = self._start()  # imports while nobody waits
            with self._lock:
                self._idle.append(worker)
            return comparison

    def warm(self) -> None:
        """Start one worker ahead of time, without waiting for it."""
        with self._lock:
            if not self._all:
                self._idle.append(self._start_locked())

    def pids(self) -> list[int]:
        """Processes of this pool."""
        with self._lock:
            return sorted(worker.pid for worker in self._all)

    def close(self) -> None:
        """Kill all workers."""
        with self._lock:
            workers, self._all, self._idle = self._all, set(), []
        for worker in workers:
            worker.kill()

    def _take(self) -> Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.lives:
                    return worker
                worker.kill()
                self._all.discard(worker)
            return self._start_locked()

    def _start(self) -> Worker:
        with self._lock:
            return self._start_locked()

    def _start_locked(self) -> Worker:
        worker = Worker()
        self._all.add(worker)
        return worker

    def _drop(self, worker: Worker) -> None:
        worker.kill()
        with self._lock:
            self._all.discard(worker)

    def _forget(self) -> None:
        """In a forked child: the workers are the parent's."""
        for worker in self._all:
            worker.forget()


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
        _shared._forget()
        _shared = None


os.register_at_fork(after_in_child=_after_fork)


def main() -> None:
    """The worker: says that it is ready, then answers a line with a line until its input ends."""
    import resource
    import signal

    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)  # whatever a library prints must not be taken for a reply
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    from rfenvs.graders.math_algebra import leaf, warm

    warm()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies.write(b"ready\n")
    for line in requests:
        request: dict[str, Any] = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["timeout_s"] + _GRACE_S)  # should the parent be gone
        try:
            comparison = decide(request["gold"], request["answer"], leaf)
        except RecursionError:
            comparison = Comparison(Outcome.UNPARSABLE, bad_token=request["answer"].strip()[:40])
        except MemoryError:
            comparison = Comparison(Outcome.CRASHED)
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(json.dumps(asdict(comparison)).encode() + b"\n")

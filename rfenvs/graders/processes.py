"""Processes that grade, and that are killed when one takes too long: for computer algebra, which nothing else stops.

Each is a fresh interpreter started through `subprocess`, spoken to by pipes in JSON lines. So they may be used from any
thread, after a fork, and inside daemonic processes; they need no `__main__` guard and touch no signal of their user. A
worker imports its module once, before its first task; that start is not part of any task's time. It ends with its user:
at exit, or when its pipe closes because the user was killed; should it be busy then, its own timer ends it.

What it is asked to do is a function of trusted code; only the payload comes from outside, and it is JSON.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from typing import Any

WORKERS = 2
MEMORY_BYTES = 2 * 2**30
START_S = 120.0
"""Longest time a worker may take to import its module, in seconds; a few on a quiet machine."""
_GRACE_S = 1.0
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from rfenvs.graders.processes import main; main()"


class WorkerDied(Exception):
    """The process ended, or its pipe closed: it ran out of memory, or something killed it."""


class Refused(Exception):
    """The function raised; `name` is the exception's type."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


class Worker:
    """One process; not for two threads at once."""

    def __init__(self, preload: str) -> None:
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, path, preload],
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
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def call(self, function: str, payload: Any, timeout_s: float) -> Any:
        """Call `module:function` with the payload, or kill the process.

        Raises:
            TimeoutError: Nothing came back in time; the process was killed.
            WorkerDied: The process ended.
            Refused: The function raised.
        """
        try:
            if not self._ready:
                self._receive(START_S)
                self._ready = True
            request = {"function": function, "payload": payload, "timeout_s": timeout_s}
            self._send(json.dumps(request).encode() + b"\n")
            reply = json.loads(self._receive(timeout_s))
        except BaseException:  # a signal handler of the caller's may raise anywhere: what is half said is not said
            self.kill()
            raise
        if "raised" in reply:
            if reply["raised"][0] == MemoryError.__name__:
                self.kill()
                raise WorkerDied("out of memory")
            raise Refused(*reply["raised"])
        return reply["result"]

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
                raise TimeoutError(f"no verdict within {timeout_s:g} s")
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
    """A few workers for all threads of this process, each started when it is first needed.

    Args:
        preload: A module that a worker imports, and whose `warm()` it calls, if there is one, before its first task.
        size: Most workers.
    """

    def __init__(self, preload: str, size: int = WORKERS) -> None:
        self._preload = preload
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()

    def call(self, function: str, payload: Any, timeout_s: float) -> Any:
        """As `Worker.call`, in a free worker; after a death the next one imports while nobody waits."""
        with self._free:
            worker = self._take()
            try:
                return worker.call(function, payload, timeout_s)
            finally:
                if not worker.alive:
                    self._drop(worker)
                    worker = self._start()
                with self._lock:
                    self._idle.append(worker)

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

    def forget(self) -> None:
        """In a forked child: the workers are the parent's."""
        for worker in self._all:
            worker.forget()

    def _take(self) -> Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.kill()
                self._all.discard(worker)
            return self._start_locked()

    def _start(self) -> Worker:
        with self._lock:
            return self._start_locked()

    def _start_locked(self) -> Worker:
        worker = Worker(self._preload)
        self._all.add(worker)
        return worker

    def _drop(self, worker: Worker) -> None:
        worker.kill()
        with self._lock:
            self._all.discard(worker)


_pools: dict[str, Pool] = {}
_guard = threading.Lock()


def shared(preload: str) -> Pool:
    """The pool of this process for a module, made on first use and closed at exit."""
    with _guard:
        if preload not in _pools:
            _pools[preload] = Pool(preload)
            atexit.register(_pools[preload].close)
        return _pools[preload]


def call(function: str, payload: Any, timeout_s: float) -> Any:
    """Call `module:function` with a JSON payload in a process that is killed after `timeout_s` seconds.

    Raises:
        TimeoutError, WorkerDied, Refused: See `Worker.call`.
    """
    return shared(function.partition(":")[0]).call(function, payload, timeout_s)


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()
    for pool in _pools.values():
        atexit.unregister(pool.close)
        pool.forget()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def main() -> None:
    """The worker: says that it is ready, then answers a line with a line until its input ends."""
    import pkgutil
    import resource
    import signal

    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)  # whatever a library prints must not be taken for a reply
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    preload = importlib.import_module(sys.argv[2])
    if warm := getattr(preload, "warm", None):
        warm()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies.write(b"ready\n")
    for line in requests:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["timeout_s"] + _GRACE_S)  # should the user be gone
        reply: dict[str, Any]
        try:
            reply = {"result": pkgutil.resolve_name(request["function"])(request["payload"])}
        except Exception as error:  # the caller decides what it means
            reply = {"raised": [type(error).__name__, str(error)[:500]]}
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(json.dumps(reply).encode() + b"\n")

"""The worker processes: bounded, killed, restarted, never leaked, from wherever they are used."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rfenvs.graders import math_worker
from rfenvs.graders.math_compare import Outcome, compare
from rfenvs.graders.math_worker import Pool

ROOT = Path(__file__).resolve().parent.parent
SLOW = (r"\gcd(2^{300000}-1,2^{200000}-1)", "1")
"""A pair that nothing but a kill ends."""
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("math_verify") is None, reason="needs rfenvs[math]"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


@pytest.fixture
def pool():
    pool = Pool(size=2)
    yield pool
    pool.close()


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone_within(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(map(lives, pids)):
            return True
        time.sleep(0.02)
    return False


def test_one_worker_serves_many_comparisons(pool: Pool):
    outcomes = [pool.compare("x^2", f"x^{{{n}}}", 5).outcome for n in range(1, 6)]
    assert outcomes == [Outcome.UNEQUAL, Outcome.EQUAL, Outcome.UNEQUAL, Outcome.UNEQUAL, Outcome.UNEQUAL]
    assert len(pool.pids()) == 1


def test_the_import_does_not_count_as_time_of_the_first_comparison(pool: Pool):
    assert pool.compare("x+1", "1+x", timeout_s=0.25).outcome is Outcome.EQUAL


def test_a_timeout_kills_and_the_next_comparison_finds_another_worker(pool: Pool):
    pool.compare("x", "x+0", 5)
    (before,) = pool.pids()
    start = time.monotonic()
    assert pool.compare(*SLOW, timeout_s=0.5).outcome is Outcome.TIMEOUT
    assert time.monotonic() - start < 1.5
    assert not lives(before)
    assert before not in pool.pids()
    assert pool.compare("x+1", "1+x", 5).outcome is Outcome.EQUAL


def test_a_worker_that_dies_gives_no_verdict(pool: Pool):
    pool.compare("x", "x+0", 5)
    (pid,) = pool.pids()
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    killer.start()
    assert pool.compare(*SLOW, timeout_s=20).outcome is Outcome.CRASHED
    assert pool.compare("x+1", "1+x", 5).outcome is Outcome.EQUAL


def test_a_worker_that_died_while_idle_is_replaced(pool: Pool):
    pool.compare("x", "x+0", 5)
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGKILL)
    assert gone_within([pid], 5)
    assert pool.compare("x+1", "1+x", 5).outcome is Outcome.EQUAL
    assert pid not in pool.pids()


def test_memory_is_bounded():
    code = (
        "import resource\n"
        "from rfenvs.graders import math_worker\n"
        "pool = math_worker.Pool(1); pool.compare('x', 'x+0', 5)\n"
        "print(resource.prlimit(pool.pids()[0], resource.RLIMIT_AS)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) == math_worker.MEMORY_BYTES


def test_timeouts_are_not_remembered(monkeypatch: pytest.MonkeyPatch):
    asked = []

    class Never:
        def compare(self, gold: str, answer: str, timeout_s: float):
            asked.append((gold, answer))
            return math_worker.Comparison(Outcome.TIMEOUT if len(asked) < 3 else Outcome.EQUAL)

    monkeypatch.setattr(math_worker, "shared", Never)
    found = [compare(gold="x+y+z", answer="z+y+x+0").outcome for _ in range(5)]
    assert found == [Outcome.TIMEOUT, Outcome.TIMEOUT, Outcome.EQUAL, Outcome.EQUAL, Outcome.EQUAL]
    assert len(asked) == 3


def test_eight_threads_share_two_workers(pool: Pool):
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: pool.compare("x^2-1", f"(x-1)(x+{n % 3})", 10).outcome, range(60)))
    assert found == [Outcome.EQUAL if n % 3 == 1 else Outcome.UNEQUAL for n in range(60)]
    assert len(pool.pids()) <= 2


def test_the_callers_alarm_survives():
    """math-verify's own timeouts cancel it."""
    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        start = time.monotonic()
        assert compare(gold="a^2-b^2", answer="(a-b)(a+b)").outcome is Outcome.EQUAL
        compare(gold=SLOW[0], answer="17", timeout_s=2)
        assert rang
        assert 0.9 < rang[0] - start < 1.9
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_exception_from_a_signal_handler_does_not_mix_up_answers(pool: Pool):
    class Ring(Exception):
        pass

    def ring(*_: object) -> None:
        raise Ring

    pool.compare("x", "x+0", 5)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Ring):
            pool.compare(*SLOW, timeout_s=20)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert pool.compare("x+1", "1+x", 10).outcome is Outcome.EQUAL
    assert pool.compare("x+1", "2+x", 10).outcome is Outcome.UNEQUAL


def test_close_ends_all(pool: Pool):
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda n: pool.compare("x", f"x+{n}", 5), range(4)))
    pids = pool.pids()
    assert pids
    pool.close()
    assert not any(map(lives, pids))


CHILD = """
import os, sys, time
from rfenvs.graders import math_worker
from rfenvs.graders.math_compare import compare
assert compare(gold="x+1", answer="1+x").outcome == "equal"
print(*math_worker.shared().pids(), flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["", "sys.exit(3)", "raise ValueError", "os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_workers_end_with_their_user(then: str):
    done = subprocess.run([sys.executable, "-c", CHILD.format(then=then)], cwd=ROOT, capture_output=True, text=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids
    assert gone_within(pids, 5)


def test_a_busy_worker_ends_when_its_user_is_killed():
    then = f"compare(gold={SLOW[0]!r}, answer='1', timeout_s=1.0)"
    user = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(then=then)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert user.stdout is not None
    pids = [int(pid) for pid in user.stdout.readline().split()]
    time.sleep(0.3)
    user.kill()
    user.wait()
    user.stdout.close()
    assert gone_within(pids, 6)


def test_a_forked_child_starts_its_own_and_leaves_the_parents_alone():
    assert compare(gold="p+q", answer="q+p").outcome is Outcome.EQUAL
    before = math_worker.shared().pids()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            found = compare(gold="p+q+1", answer="1+q+p").outcome
            own = math_worker.shared().pids()
            os.write(writing, " ".join(map(str, own)).encode())
            code = 0 if found is Outcome.EQUAL and not set(own) & set(before) else 2
        os._exit(code)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    own = [int(pid) for pid in os.read(reading, 100).split()]
    os.close(reading)
    assert os.waitstatus_to_exitcode(status) == 0
    assert gone_within(own, 5)
    assert all(map(lives, before))
    assert compare(gold="p+q+2", answer="2+q+p").outcome is Outcome.EQUAL


def in_daemon(connection) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: compare(gold="r+s", answer=f"s+r+{n}").outcome.value, range(4)))
    connection.send((found, math_worker.shared().pids()))
    time.sleep(60)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_daemonic_processes_have_workers_that_end_with_them(method: str):
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=in_daemon, args=(there,), daemon=True)
    process.start()
    assert here.poll(60)
    found, pids = here.recv()
    assert found == ["equal", "unequal", "unequal", "unequal"]
    process.terminate()
    process.join()
    assert gone_within(pids, 5)


def test_nothing_that_the_worker_prints_is_taken_for_a_reply(pool: Pool):
    answer = r"\text{\print}"
    assert pool.compare("x", answer, 5).outcome in (Outcome.UNEQUAL, Outcome.UNPARSABLE)
    assert pool.compare("x+1", "1+x", 5).outcome is Outcome.EQUAL

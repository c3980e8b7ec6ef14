"""Answers made to run away: bounded in time and memory from every place, and never "wrong" for want of time."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rfenvs.graders import math_worker
from rfenvs.graders.math_compare import NeedsAlgebra, Outcome, _by_text, compare
from tests.math_hostile import ANSWERS, BOTH, GOLDS

TIMEOUT_S = 1.0
START_S = 12.0
"""A new worker after a kill, on a machine with other work."""
PAIRS = [(GOLDS[number % len(GOLDS)], answer) for number, answer in enumerate(ANSWERS)] + list(BOTH)
pytestmark = pytest.mark.skipif(importlib.util.find_spec("math_verify") is None, reason="needs rfenvs[math]")


def judge(pair: tuple[str, str]) -> tuple[str, float]:
    math_worker.shared()
    start = time.monotonic()
    outcome = compare(gold=pair[0], answer=pair[1], timeout_s=TIMEOUT_S).outcome
    return outcome.value, time.monotonic() - start


def check(found: list[tuple[str, float]], waiting: int = 1) -> None:
    equal = [pair for pair, (outcome, _) in zip(PAIRS, found, strict=True) if outcome == "equal"]
    assert set(equal) <= TRULY_EQUAL
    slowest = max(seconds for _, seconds in found)
    assert slowest < (2 * TIMEOUT_S + START_S) * waiting, slowest
    assert not [pair for pair, (outcome, _) in zip(PAIRS, found, strict=True) if outcome == "crashed"]


TRULY_EQUAL = {
    (r"\{x : x^5-x-1 > 0\}", r"\{x : x^5 > x+1\}"),
    ("5", "5" + "\u200b" * 500),
    ("5", "\n" * 500 + "5"),
}


def test_there_are_sixty_and_more():
    assert len(PAIRS) >= 60


def test_text_alone_is_quick_to_read():
    """What happens before the worker cannot be killed, so it has to be fast by itself."""
    slowest = 0.0
    for gold in GOLDS:
        for answer in ANSWERS:
            start = time.process_time()
            with contextlib.suppress(NeedsAlgebra):
                _by_text(gold, answer[:2000])
            slowest = max(slowest, time.process_time() - start)
    assert slowest < 1.0


@pytest.mark.slow
def test_from_the_main_thread():
    """In a process of its own: the peak is that of all children, and other tests have had larger ones."""
    code = (
        "import resource, tests.test_math_hostile as t\nt.check([t.judge(pair) for pair in t.PAIRS])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < math_worker.MEMORY_BYTES


@pytest.mark.slow
def test_from_eight_threads_at_once():
    with ThreadPoolExecutor(8) as threads:
        check(list(threads.map(judge, PAIRS)), waiting=5)


def in_daemon(connection) -> None:
    connection.send([judge(pair) for pair in PAIRS])


@pytest.mark.slow
def test_inside_a_daemonic_process():
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=in_daemon, args=(there,), daemon=True)
    process.start()
    assert here.poll(280)
    check(here.recv())
    process.terminate()
    process.join()


@pytest.mark.parametrize(
    "pair",
    [
        ("5", "9^{9^{9^{9}}}"),
        ("5", "((10!)!)!"),
        ("x^2-1", r"\sqrt{2^{1000001}}"),
        ("5", r"3^{10^{12}} \mod 7"),
        ("5", "1e999999999"),
        ("(1,2)", "0." + "3" * 1900),
    ],
)
def test_large_numbers_are_decided_without_being_computed(pair: tuple[str, str]):
    judge(("x", "x+0"))
    outcome, seconds = judge(pair)
    assert outcome in (Outcome.UNEQUAL, Outcome.UNPARSABLE)
    assert seconds < TIMEOUT_S


def test_what_cannot_be_decided_is_not_called_wrong():
    assert judge(("9^{9^{9^9}}+1", "9^{9^{9^9}}+2"))[0] == Outcome.TIMEOUT
    assert judge((r"\gcd(2^{300000}-1,2^{200000}-1)", "17"))[0] == Outcome.TIMEOUT

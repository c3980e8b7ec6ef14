"""Many episodes of every id in one process: memory, threads and processes stay where they are."""

import gc
import itertools
import logging
import threading
from pathlib import Path

import pytest
from every_id import answers, make, play

import rfenvs

MIB = 2**20
WARM_UP = 50


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def children() -> set[str]:
    """Process ids of the living children of this process."""
    lists = [task / "children" for task in Path("/proc/self/task").iterdir()]
    return {pid for path in lists if path.exists() for pid in path.read_text().split()}


def play_some(id: str, episodes: int, start: int) -> None:
    """Episodes over cycling tasks with gold, wrong and junk actions; every 50th in a new environment."""
    env = make(id, max_turns=3)
    total = env.num_tasks(env.split)
    for number in range(start, start + episodes):
        if number % 50 == 49:
            env.close()
            env = make(id, max_turns=3)
        index = number % min(total, 200)
        plans = answers(env, index)
        for _ in play(env, index, plans[number // 7 % len(plans)]):
            pass
    env.close()


def check(id: str, episodes: int, limit: int) -> None:
    play_some(id, WARM_UP, start=0)
    gc.collect()
    threads, processes, before = threading.active_count(), children(), resident_bytes()
    play_some(id, episodes, start=WARM_UP)
    gc.collect()
    assert resident_bytes() - before < limit
    assert threading.active_count() <= threads
    assert len(children()) <= len(processes)


@pytest.fixture(autouse=True)
def no_records() -> object:
    """pytest keeps every log record of a test, which is no leak of the environment."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_a_hundred_episodes_leave_nothing_behind(id: str) -> None:
    check(id, 100, limit=5 * MIB)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_a_thousand_episodes_leave_nothing_behind(id: str) -> None:
    check(id, 1000, limit=10 * MIB)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_vector_environments_that_come_and_go_leave_nothing_behind(executor: str) -> None:
    def use() -> None:
        env = rfenvs.make_vec("rfenvs/ToolCall-v0", 8, executor=executor, max_turns=2)  # type: ignore[arg-type]
        env.reset(seed=0)
        env.step(["junk"] * 8)
        env.send(["junk"] * 8)
        env.recv(3)
        env.close()

    for _ in itertools.repeat(None, 30):
        use()
    gc.collect()
    threads, before = threading.active_count(), resident_bytes()
    for _ in itertools.repeat(None, 100):
        use()
    gc.collect()
    assert threading.active_count() == threads
    assert resident_bytes() - before < 5 * MIB

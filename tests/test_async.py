"""`areset` and `astep`: the event loop stays free, and cancelling leaves an environment that can be used."""

import asyncio
import copy
import gc
import os
import sys
import threading
import time

import gymnasium
import pytest
from every_id import make, some_actions

import rfenvs
from rfenvs import Action, Task, TextEnv, Verdict


class Slow(TextEnv):
    blocking = True
    default_max_turns = 10

    def __init__(self, seconds: float = 0.05) -> None:
        super().__init__()
        self.seconds = seconds
        self.acting = 0
        self.most = 0
        self.done: list[str] = []

    def num_tasks(self, split: str) -> int:
        return 10

    def task(self, split: str, index: int) -> Task:
        return Task(prompt=f"task {index}", reference="yes")

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        self.acting += 1
        self.most = max(self.most, self.acting)
        time.sleep(self.seconds)
        self.acting -= 1
        self.done.append(action)
        return Verdict(0.0, observation=f"{action} on {task.prompt}")


@pytest.mark.parametrize("id", rfenvs.list_ids())
def test_async_equals_sync(id: str) -> None:
    plain, other = make(id), make(id)
    actions = some_actions(plain, 0, 1, seed=3)

    async def play() -> list:
        options = {"task_index": 0}
        return [await other.areset(seed=1, options=options), await other.astep(actions[0])]

    assert asyncio.run(play()) == [plain.reset(seed=1, options={"task_index": 0}), plain.step(actions[0])]
    plain.close()
    other.close()


def test_many_environments_wait_at_once() -> None:
    envs = [Slow(0.1) for _ in range(40)]

    async def play() -> None:
        await asyncio.gather(*(env.areset() for env in envs))
        await asyncio.gather(*(env.astep("x") for env in envs))

    started = time.perf_counter()
    asyncio.run(play())
    assert time.perf_counter() - started < 2, "one after the other it takes 4 s"


def test_calls_of_one_environment_never_overlap() -> None:
    env = Slow()

    async def play() -> None:
        await env.areset()
        await asyncio.gather(*(env.astep(str(i)) for i in range(4)))

    asyncio.run(play())
    assert env.most == 1
    assert env.done == ["0", "1", "2", "3"]


def test_after_a_cancelled_step_a_reset_starts_clean() -> None:
    env = Slow(1.0)  # "queued" is cancelled long before "begun" is over, however busy the machine

    async def play() -> tuple:
        await env.areset(options={"task_index": 1})
        for wait in (0.01, 0.0):
            first, second = asyncio.ensure_future(env.astep("begun")), asyncio.ensure_future(env.astep("queued"))
            await asyncio.sleep(wait)
            first.cancel()
            second.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
            _, info = await env.areset(options={"task_index": 2})
            assert info["turn"] == 0
        return await env.astep("after")

    observation, *_, info = asyncio.run(play())
    assert observation == "after on task 2"
    assert info["turn"] == 1
    assert "queued" not in env.done


def test_errors_arrive_and_a_timeout_does_not_break_the_loop() -> None:
    env = Slow()

    async def play() -> None:
        with pytest.raises(gymnasium.error.ResetNeeded):
            await env.astep("x")
        with pytest.raises(ValueError, match="task_index=99"):
            await env.areset(options={"task_index": 99})
        await env.areset()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(env.astep("x"), 0.01)
        await env.areset()

    asyncio.run(play())


def test_the_thread_ends_with_close_and_with_the_environment() -> None:
    def ours() -> int:
        return sum(thread.name.startswith("rfenvs-async") for thread in threading.enumerate())

    def settled(count: int) -> bool:
        deadline = time.monotonic() + 5
        while ours() != count and time.monotonic() < deadline:
            time.sleep(0.01)
        return ours() == count

    gc.collect()
    assert settled(0), "earlier tests' environments"
    before = ours()
    for forget in (False, True):
        env = Slow()
        asyncio.run(env.areset())
        assert ours() == before + 1
        if not forget:
            env.close()
            env.close()
        del env
        assert settled(before)


def test_an_environment_can_be_copied_after_async_use() -> None:
    env = make("rfenvs/ToolCall-v0")
    asyncio.run(env.areset(seed=4))
    twin = copy.deepcopy(env)
    assert twin.step("x") == env.step("x")
    env.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own() -> None:
    env = Slow()
    asyncio.run(env.areset(seed=1))
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(asyncio.wait_for(env.areset(seed=1), 10))
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    assert os.waitpid(child, 0)[1] == 0

"""What a step costs above a bare `gymnasium.Env`, with and without feedback.

    python benchmarks/env_step.py [--json FILE]

Aims: at most 10 us above the bare environment without feedback, at most 25 us with one item.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium

import rfenvs
from rfenvs import Action, Task, Text, TextEnv, Verdict, item

STEPS = 2000
REPEATS = 15


class Bare(gymnasium.Env[str, str]):
    """As little as an environment can do."""

    observation_space = Text()
    action_space = Text()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict]:
        super().reset(seed=seed)
        return "prompt", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "reply", 0.0, False, False, {}


class Quiet(TextEnv):
    """Our base class; the grader replies but has nothing to complain about."""

    default_max_turns = 10**9

    def num_tasks(self, split: str) -> int:
        return 1

    def task(self, split: str, index: int) -> Task:
        return Task(prompt="prompt", reference="answer")

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        return Verdict(0.0, observation="reply")


class Speaking(Quiet):
    """The same with one feedback item a step."""

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        return Verdict(0.0, [item("wrong_answer", "The city is not what the request asks for.", span=(3, 9))])


def step_us(env: gymnasium.Env[str, str]) -> float:
    """Best microseconds a step over several runs: the least disturbed one."""
    times = []
    for _ in range(REPEATS):
        env.reset(seed=0)
        start = time.perf_counter()
        for _ in range(STEPS):
            env.step("action")
        times.append((time.perf_counter() - start) / STEPS * 1e6)
    return min(times)


def episode_us(make: Callable[[], gymnasium.Env[str, str]]) -> float:
    """Median microseconds of a reset and a graded step."""
    env = make()
    times = []
    for index in range(500):
        start = time.perf_counter()
        env.reset(options={"task_index": index})
        env.step('weather(city="Nowhere")')
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


def import_ms(module: str) -> float:
    """Milliseconds that importing `module` takes after gymnasium, at best."""
    code = f"import gymnasium, time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(5)
    ]
    return min(map(float, runs)) * 1e3


def main() -> None:
    """Measure, print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the figures to this file")
    args = parser.parse_args()
    bare, quiet, speaking = step_us(Bare()), step_us(Quiet()), step_us(Speaking())
    figures = {
        "bare_us": bare,
        "quiet_us": quiet,
        "feedback_us": speaking,
        "quiet_overhead_us": quiet - bare,
        "feedback_overhead_us": speaking - bare,
        "import_ms": import_ms("rfenvs"),
    }
    print(f"bare gymnasium.Env            {bare:8.2f} us a step")
    for name, cost, aim in (("no feedback", quiet, 10), ("one feedback item", speaking, 25)):
        print(f"TextEnv, {name:<20} {cost:8.2f} us, {cost - bare:+.2f} (aim {aim}), {cost / bare:.0f}x")
    for level in (1, 2, 3, 4):
        cost = episode_us(lambda level=level: gymnasium.make("rfenvs/ToolCall-v0", level=level))
        figures[f"toolcall_{level}_us"] = cost
        print(f"ToolCall-v0, level {level}          {cost:8.0f} us a whole episode: reset, grade, feedback")
    print(f"import rfenvs after gymnasium {figures['import_ms']:8.0f} ms (aim 50)")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"rfenvs": len(rfenvs.list_ids()), **figures}, file, indent=2)


if __name__ == "__main__":
    main()

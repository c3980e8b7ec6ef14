"""Vector environments: overhead a step, waiting at once, and stragglers; beside Gymnasium's and gem's.

    python benchmarks/vector.py [--quick]

The environment does nothing: 2 KB of text as observation, and an info that is empty or holds one feedback item with 50
token ids. So the figures are what the vector environments themselves cost. Contenders take turns, round by round; the
figure is the best round.

Aims: inline at most 2x Gymnasium's Sync, and 4x faster than gem's Sync with feedback; threads: 32 environments that
wait 10 ms each step within 1.2x of 10 ms; as-completed near the mean of skewed step times, not their maximum.

Needs: pip install --no-deps gem-llm==0.1.0
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium
from common import HARDWARE, ROOT, markdown_table
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import rfenvs
from rfenvs import Text, TextVectorEnv

OBSERVATION = "All work and no play makes a dull text. " * 51
ITEM = {**dict.fromkeys(rfenvs.FEEDBACK_SCHEMA["properties"], ""), "token_ids": list(range(50)), "data": {}}
OURS, OURS_MERGED, OURS_THREADS = "rfenvs inline", "rfenvs inline, merged infos", "rfenvs threads"
GYM, GYM_ASYNC, GEM, GEM_ASYNC = "Gymnasium Sync", "Gymnasium Async", "gem Sync", "gem Async"


class Idle(gymnasium.Env[str, str]):
    """As little as an environment can do, after a wait."""

    observation_space = action_space = Text()

    def __init__(self, feedback: bool = False, wait: float = 0.0, slow: float = 0.0, seed: int = 0) -> None:
        self.feedback, self.wait, self.slow = feedback, wait, slow
        self.rng = random.Random(seed)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return OBSERVATION, {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.wait:
            time.sleep(self.slow if self.rng.random() < 1 / 16 else self.wait)
        return OBSERVATION, 0.0, False, False, {"feedback": [copy_item()]} if self.feedback else {}


def copy_item() -> dict[str, Any]:
    """A fresh item, as a grader makes it."""
    return {**ITEM, "token_ids": ITEM["token_ids"][:]}


def gem_vector(kind: str) -> Any:
    """A class of gem's, or None where gem is not installed."""
    try:
        if kind == GEM:
            from gem.vector.sync_vector_env import SyncVectorEnv as cls
        else:
            from gem.vector.async_vector_env import AsyncVectorEnv as cls
    except ImportError:
        return None
    return cls


def build(kind: str, envs: list[Callable[[], Idle]]) -> Any:
    """A vector environment of that kind, reset; None where its library is missing."""
    n = len(envs)
    made: Any
    if kind in (OURS, OURS_MERGED, OURS_THREADS):
        queue = list(envs)
        made = TextVectorEnv(
            lambda: queue.pop(0)(),
            n,
            executor="threads" if kind == OURS_THREADS else "inline",
            infos="gymnasium" if kind == OURS_MERGED else "list",
        )
    elif kind == GYM:
        made = SyncVectorEnv(envs, autoreset_mode=AutoresetMode.DISABLED)
    elif kind == GYM_ASYNC:
        made = AsyncVectorEnv(envs, shared_memory=False, autoreset_mode=AutoresetMode.DISABLED)
    else:
        cls = gem_vector(kind)
        if cls is None:
            return None
        made = cls(["idle"] * n, envs)
    made.reset(seed=0)
    return made


def best_times(kinds: list[str], envs: Callable[[], list[Callable[[], Idle]]], steps: int, rounds: int) -> dict:
    """Seconds of one vector step, by kind: the best round of each."""
    made = {kind: build(kind, envs()) for kind in kinds}
    made = {kind: env for kind, env in made.items() if env is not None}
    best: dict[str, float] = {}
    for _ in range(rounds):
        for kind, env in made.items():
            actions = ["action"] * env.num_envs
            env.step(actions)
            start = time.perf_counter()
            for _ in range(steps):
                env.step(actions)
            seconds = (time.perf_counter() - start) / steps
            best[kind] = min(best.get(kind, seconds), seconds)
    for kind, env in made.items():
        if kind == GEM_ASYNC:
            env.thread_pool_executer.shutdown()
        elif kind != GEM:
            env.close()
    return best


def overhead(quick: bool) -> dict[str, dict[str, float]]:
    """Microseconds an environment step, by setting and kind."""
    figures: dict[str, dict[str, float]] = {}
    for n in (8, 64):
        for feedback in (False, True):
            kinds = [OURS, OURS_MERGED, GYM, GEM, OURS_THREADS, GEM_ASYNC] + ([GYM_ASYNC] if n == 8 else [])
            make = functools.partial(Idle, feedback)
            seconds = best_times(kinds, lambda n=n, make=make: [make] * n, 30 if quick else 100, 5 if quick else 15)
            setting = f"N={n}, {'feedback' if feedback else 'no info'}"
            figures[setting] = {kind: value / n * 1e6 for kind, value in seconds.items()}
    return figures


def waiting(quick: bool) -> dict[str, float]:
    """Milliseconds of a vector step in which 32 environments wait 10 ms each."""
    make = functools.partial(Idle, True, 0.01, 0.01)
    kinds = [OURS_THREADS, GYM_ASYNC, GEM_ASYNC]
    seconds = best_times(kinds, lambda: [make] * 32, 5 if quick else 20, 3 if quick else 10)
    return {kind: value * 1e3 for kind, value in seconds.items()}


def stragglers(quick: bool) -> dict[str, float]:
    """Milliseconds for as many steps as there are environments, where 1 in 16 takes 50 ms and the others 5 ms."""
    n, steps = 32, 10 if quick else 40

    def envs() -> list[Callable[[], Idle]]:
        return [functools.partial(Idle, True, 0.005, 0.05, seed) for seed in range(n)]

    figures = {"mean of the step times": 5 * 15 / 16 + 50 / 16}
    env = build(OURS_THREADS, envs())
    start = time.perf_counter()
    env.send(["action"] * n)
    received = 0
    while received < n * steps:
        chosen, _ = env.recv()
        received += len(chosen)
        env.send(dict.fromkeys(chosen, "action"))
    figures["rfenvs as completed"] = (time.perf_counter() - start) / received * n * 1e3
    env.close()
    for kind in (OURS_THREADS, GYM_ASYNC, GEM_ASYNC):
        env = build(kind, envs())
        if env is None:
            continue
        start = time.perf_counter()
        for _ in range(steps):
            env.step(["action"] * n)
        figures[f"{kind}, all together"] = (time.perf_counter() - start) / steps * 1e3
        if kind == GEM_ASYNC:
            env.thread_pool_executer.shutdown()
        else:
            env.close()
    return figures


def report(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    settings = figures["overhead_us"]
    kinds = [OURS, OURS_MERGED, GYM, GEM, OURS_THREADS, GEM_ASYNC, GYM_ASYNC]
    rows = [[kind, *(f"{settings[s][kind]:.2f}" if kind in settings[s] else "" for s in settings)] for kind in kinds]
    parts = [
        "# Vector environments\n",
        f"`python benchmarks/vector.py` on a {HARDWARE}. The environment does nothing; the figures are what the "
        "vector environments cost.\n",
        "Microseconds an environment step:\n",
        markdown_table(["", *settings], rows),
    ]
    with_feedback = settings["N=64, feedback"]
    parts.append(f"With feedback, N=64: inline takes {with_feedback[OURS] / with_feedback[GYM]:.2f}x Gymnasium's Sync.")
    if GEM in with_feedback:
        parts[-1] += f" gem's Sync takes {with_feedback[GEM] / with_feedback[OURS]:.1f}x ours."
    parts += [
        "\nMilliseconds a vector step of 32 environments that wait 10 ms each:\n",
        markdown_table(["", "ms"], [[kind, f"{value:.2f}"] for kind, value in figures["waiting_ms"].items()]),
        "Milliseconds for 32 steps of 32 environments, where one step in 16 takes 50 ms and the others 5 ms:\n",
        markdown_table(["", "ms"], [[kind, f"{value:.1f}"] for kind, value in figures["stragglers_ms"].items()]),
    ]
    return "\n".join(parts)


def main() -> None:
    """Measure, print, and write the figures to docs/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and write nothing")
    args = parser.parse_args()
    figures = {
        "overhead_us": overhead(args.quick),
        "waiting_ms": waiting(args.quick),
        "stragglers_ms": stragglers(args.quick),
    }
    text = report(figures)
    print(text)
    if not args.quick:
        folder = ROOT / "docs" / "benchmarks"
        (folder / "vector.md").write_text(text, encoding="utf-8")
        (folder / "vector.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What tests over every registered id share: how to make one offline, and answers of known and unknown worth."""

from __future__ import annotations

import random
from collections.abc import Iterator

import gymnasium
from test_rfenvs_gymnasium import KWARGS

import rfenvs

JUNK = "", " \n", "I don't know.", "}{)(][", "<|im_end|>", "word " * 50, "é✓🙂\x00\ud800", "```python\ndef (\n```"


def offline(id: str) -> dict:
    """Arguments with which the environment needs no download."""
    return {key: value for key, value in KWARGS.get(id, [{}])[0].items() if key != "max_turns"}


def make(id: str, **kwargs: object) -> rfenvs.TextEnv:
    return gymnasium.make(id, **{**offline(id), **kwargs}).unwrapped


def answers(env: rfenvs.TextEnv, index: int) -> list[list[str]]:
    """Action sequences for a task: the gold one, wrong ones, junk; the last action repeats until the end."""
    task = env.get_task(index)
    golds = env.gold_actions(task)
    return [*([golds] if golds else []), *([wrong] for wrong in env.wrong_answers(task)), *([junk] for junk in JUNK)]


def play(env: gymnasium.Env, index: int, actions: list[str]) -> Iterator[tuple]:
    """What reset and each step return."""
    yield env.reset(seed=index, options={"task_index": index})
    for turn in range(1000):
        result = env.step(actions[min(turn, len(actions) - 1)])
        yield result
        if result[2] or result[3]:
            return
    raise AssertionError("no end after 1000 turns")


def some_actions(env: rfenvs.TextEnv, index: int, turns: int, seed: int) -> list[str]:
    """Actions for an episode, gold at the start or not."""
    rng = random.Random(seed)
    chosen = rng.choice(answers(env, index))
    return (list(chosen) + [rng.choice(JUNK) for _ in range(turns)])[:turns]

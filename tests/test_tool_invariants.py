"""What holds for any text in the environments of tool calls and of procedural tasks."""

import concurrent.futures
import importlib.util
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfenvs.env import TextEnv
from rfenvs.registry import make

ENVS: dict[str, dict[str, Any]] = {
    "rfenvs/ToolCall-v0": {"level": 3, "max_turns": 2},
    "rfenvs/ToolAlpaca-v0": {"data": "sample", "leak_level": 3, "max_turns": 2},
    "rfenvs/BFCL-v0": {"data": "sample", "category": "irrelevance", "leak_level": 3, "max_turns": 2},
    "rfenvs/BFCL-MultiTurn-v0": {"data": "sample", "leak_level": 3, "max_turns": 2},
}
if importlib.util.find_spec("reasoning_gym"):
    ENVS["rfenvs/ReasoningGym-v0"] = {"task": "gcd,coin_flip,complex_arithmetic,mini_sudoku,countdown", "max_turns": 2}
PIECES = (
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "Action: ", "Action Input: ", "```",
    "`", "{", "}", "[", "]", "(", ")", '"', "'", ",", ":", "=", "\n", " ", "\\", "name", '"arguments"', "null", "nan",
    "1e99999", "-1", "\u200b", "\ufeff", "é", "\U0001f600", "\ud800", "\0", "None", "function", "tool_calls",
)  # fmt: skip


def play(env: TextEnv, index: int, texts: list[str]) -> list[Any]:
    env.reset(options={"task_index": index})
    steps = []
    for text in texts:
        steps.append(env.step(text))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


@pytest.mark.parametrize("id", ENVS)
@settings(max_examples=60, deadline=None)  # the first task of each kind takes a second to make
@given(
    texts=st.lists(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=40), min_size=2),
    index=st.integers(0, 3),
)
def test_any_text_gets_a_verdict(id: str, texts: list[str], index: int) -> None:
    env, other = make(id, "test", **ENVS[id]), make(id, "test", **ENVS[id])
    steps = play(env, index, texts)
    assert steps == play(other, index, texts) == play(env, index, texts)
    for observation, reward, terminated, _, info in steps:
        assert info["scored"]
        assert 0.0 <= reward <= 1.0
        assert reward < 1.0 or (terminated and not info["feedback"])
        assert info["feedback"] or observation or reward == 1.0
        json.dumps([observation, info], allow_nan=False).encode()
        for entry in info["feedback"]:
            assert entry["data"]["code"]
            assert entry["visibility"] != "policy" or entry["leak_level"] < 3


@pytest.mark.parametrize("id", ENVS)
def test_threads_share_nothing(id: str) -> None:
    def results(_: int) -> str:
        env = make(id, "test", **ENVS[id])
        gold = [env.gold_actions(env.get_task(index)) for index in range(4)]
        return json.dumps([play(env, index, [*actions[:1], "x"]) for index, actions in enumerate(gold)])

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(results, range(8)))) == 1

"""Whatever a model writes is graded: scored, paid between 0 and 1, told why where it fails, and twice the same."""

import functools
from typing import get_args

import pytest
from every_id import make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rfenvs
from rfenvs import TextEnv
from rfenvs.feedback import LeakLevel

FRAGMENTS = (
    "<answer>", "</answer>", "<think>", "</think>", "\\boxed{", "}", "A", "(B)", "**", "```json\n", "```", '{"name":',
    '{"verdicts": []}', "[]", "null", '"', "\\u0000", "=", "->", " + ", "2H2O", "^", "_{2}", "<sup>", "\x1f", "1e999",
    "-", "call(", ")", "Action:", "Action Input:", "\n", "\t", "\x00", "\ud800", "İ", "ﬁ", "\u0301", "\u200b", "🙂",
    "９", "٣",
)  # fmt: skip
REPLIES = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=30).map("".join)


@functools.cache
def env_of(id: str) -> TextEnv:
    return make(id)


@pytest.mark.parametrize("id", [id for id in rfenvs.list_ids() if not env_of(id).blocking])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(reply=REPLIES, index=st.integers(0, 9), cut_off=st.booleans(), leak_level=st.sampled_from(get_args(LeakLevel)))
def test_any_text_is_graded(id: str, reply: str, index: int, cut_off: bool, leak_level: int) -> None:
    env = env_of(id)
    env.leak_level = leak_level
    action = rfenvs.Action(reply, finish_reason="length" if cut_off else "stop")
    results = []
    for _ in range(2):
        env.reset(seed=index, options={"task_index": index % env.num_tasks("train")})
        results.append(env.step(action))
    assert results[0] == results[1]
    _, reward, terminated, truncated, info = results[0]
    assert info["scored"]
    assert 0.0 <= reward <= 1.0
    assert all(entry["leak_level"] <= leak_level for entry in info["feedback"])
    if terminated and reward >= 1.0:
        assert rfenvs.feedback_text(info, "log") == ""
    elif terminated or truncated:
        assert rfenvs.feedback_text(info, "log")
    for entry in info["feedback"]:
        span = entry["span"]
        assert span is None or 0 <= span[0] <= span[1] <= len(reply)

"""`rfenvs/Math-v0` against replies that leave the work to the grader, wear it out, or say the answer in other words."""

from __future__ import annotations

import doctest
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rfenvs.env import TextEnv
from rfenvs.envs import math as math_env
from rfenvs.envs import math_asked
from rfenvs.graders.math_compare import Comparison, Outcome, is_comparable
from rfenvs.registry import make

pytest.importorskip("math_verify")

PROBLEMS = {
    "aime": ("The ratio is $m/n$ in lowest terms. Find $m+n$.", "55"),
    "plain": ("The ratio is m/n in lowest terms. Find m + n.", "55"),
    "equation": ("If $2x=10$, find $x$.", "5"),
    "millions": ("How many million people live there?", "10"),
    "people": ("How many people live there?", "10000000"),
    "integral": (r"Evaluate $\int_0^1 2x\,dx$.", "1"),
    "remainder": (r"What is the remainder when $7^{99}$ is divided by 5?", "3"),
    "simplify": (r"Simplify $\sqrt{75}-\sqrt{12}$.", r"3\sqrt{3}"),
    "factor": (r"Factor \[x^2-4.\]", "(x-2)(x+2)"),
    "angle": (r"For $0 \le t \le \pi/2$, find the largest $t$.", r"\frac{\pi}{2}"),
    "percent": ("What percentage is it?", "25"),
    "choose": ("In how many ways can three of ten be chosen?", "120"),
}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> TextEnv:
    path = tmp_path_factory.mktemp("asked") / "problems.jsonl"
    rows = [{"problem": problem, "answer": gold} for problem, gold in PROBLEMS.values()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return make("rfenvs/Math-v0", "test", dataset="local", data=str(path), timeout_s=4.0)


def play(env: Any, name: str, answer: str) -> tuple[float, list[str], dict[str, Any]]:
    env.reset(options={"task_index": list(PROBLEMS).index(name)})
    _, reward, _, _, info = env.step(f"\\boxed{{{answer}}}")
    return reward, [entry["data"]["code"] for entry in info["feedback"]], info


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("aime", "m+n = 55"),
        ("aime", "m + n = 23 + 32 = 55"),
        ("plain", "m+n=55"),
        ("equation", "x = 5"),
        ("millions", r"10 \text{ million}"),
        ("millions", "10"),
        ("people", "10 million"),
        ("people", r"10\text{ million people}"),
        ("integral", r"\int_0^1 2x\,dx = 1"),
        ("percent", r"25\%"),
        ("choose", r"\binom{10}{3} = 120"),
        ("choose", r"\binom{10}{3}"),
        ("choose", r"\frac{10 \cdot 9 \cdot 8}{6}"),
        ("angle", r"\pi/2"),
        ("factor", "(x+2)(x-2)"),
    ],
)
def test_the_answer_in_the_words_of_the_question_earns_one(env: TextEnv, name: str, answer: str) -> None:
    assert play(env, name, answer)[0] == 1.0


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("aime", "m-n = 55"),
        ("aime", "m+n = 54"),
        ("equation", "2x = 5"),
        ("equation", "2x = 10"),
        ("millions", "10 billion"),
        ("people", "10"),
        ("people", r"10 \text{ thousand}"),
        ("people", r"10 \text{ billion}"),
    ],
)
def test_and_something_else_in_such_words_does_not(env: TextEnv, name: str, answer: str) -> None:
    reward, codes, _ = play(env, name, answer)
    assert reward == 0.0
    assert codes


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("integral", r"\int_0^1 2x\,dx"),
        ("integral", r"\int_0^1 2t \, dt"),
        ("remainder", r"7^{99} \mod 5"),
        ("simplify", r"\sqrt{75} - \sqrt{12}"),
        ("factor", "x^2 - 4"),
        ("choose", r"\sum_{k=1}^{120} 1"),
        ("choose", r"\lfloor 120.5 \rfloor"),
    ],
)
def test_a_question_is_no_answer(env: TextEnv, name: str, answer: str) -> None:
    """Equal to the gold, but nothing was worked out."""
    reward, codes, info = play(env, name, answer)
    assert (reward, codes, info["scored"]) == (0.0, ["unfinished"], True)


def test_an_answer_that_wears_the_comparison_out_earns_zero(env: TextEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a model could have its failures not counted."""
    reward, codes, info = play(env, "simplify", r"\int_0^\infty \frac{\sin x}{x^{3/2}+x^7}dx")
    assert (reward, codes, info["scored"]) == (0.0, ["too_costly"], True)
    monkeypatch.setattr(math_env, "compare", lambda **_: Comparison(Outcome.CRASHED))
    assert play(env, "simplify", "x")[1] == ["too_costly"]
    monkeypatch.setattr(math_env, "is_comparable", lambda *_: False)
    reward, codes, info = play(env, "simplify", "x")
    assert (codes, info["scored"]) == (["crashed"], False), "nor can the gold be compared: the machine is to blame"


def test_whether_a_gold_is_comparable_is_found_out_anew() -> None:
    assert is_comparable("x^2", 5.0)
    assert not is_comparable(r"\int_0^\infty \frac{\sin x}{x^{3/2}+x^7}dx", 0.2)


PIECES = st.sampled_from(
    [
        *r"0123456789+-*/^_=<>(){}[]|,.;:!%$&~# \n√５²\"",
        *(r"\frac", r"\boxed{", r"\text{", r"\pm", r"\pmod", r"\cup", r"\{", r"\}", r"\mid", r"\infty", r"\approx"),
        *(r"\le", r"\sqrt", "or", " million", "m+n", "</think>"),
        "\ud800",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(PROBLEMS)), st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20))
def test_any_reply_is_graded_explained_and_graded_alike_again(env: Any, name: str, answer: str) -> None:
    reward, codes, info = play(env, name, answer)
    assert info["scored"]
    assert reward in (0.0, 1.0)
    assert reward == 1.0 or codes
    assert all(entry["leak_level"] <= 1 for entry in info["feedback"])
    again = play(env, name, answer)
    assert again[:2] == (reward, codes)
    assert again[2]["feedback"] == info["feedback"]


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(math_asked).attempted >= 6
    assert not doctest.testmod(math_asked).failed

"""`rfenvs/Math-v0`: what earns the reward, what is said otherwise, and that nothing gives the answer away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import rfenvs
from rfenvs import Action
from rfenvs.dataset_spec import DataFile, sha256
from rfenvs.envs import math as math_env
from rfenvs.envs import math_data
from rfenvs.envs.math_data import LAYOUTS, SOURCES, Entry, clean_gold, load
from rfenvs.graders.math_compare import Comparison, Outcome, check_gold, compare
from rfenvs.graders.math_feedback import is_absurd
from rfenvs.registry import make
from rfenvs.rows import DataError, read_rows

TEST_DATA = Path(os.environ.get("RFENVS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
ID = "rfenvs/Math-v0"
pytest.importorskip("math_verify")

PROBLEMS = {
    "number": "42",
    "fraction": r"\frac{3}{4}",
    "surd": r"2\sqrt{3}",
    "interval": "[1, 3)",
    "set": r"\{1, 2, 3\}",
    "tuple": "(1, 2)",
    "expression": "x^2 + x",
    "percent": r"15\%",
    "unit": r"24\text{ cm}",
    "text": r"\text{Friday}",
}


def local(tmp_path: Path, golds: dict[str, Any], **columns: Any) -> str:
    path = tmp_path / "problems.jsonl"
    rows = [{"problem": f"The {name}?", "answer": gold, **columns} for name, gold in golds.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    return local(tmp_path_factory.mktemp("math"), PROBLEMS)


def play(data: str, name: str, action: str, **kwargs: Any) -> tuple[float, dict[str, Any]]:
    env = make(ID, "test", dataset="local", data=data, **{"leak_level": 2, **kwargs})
    env.reset(options={"task_index": list(PROBLEMS).index(name)})
    _, reward, _, _, info = env.step(action)
    return reward, info


def codes(info: dict[str, Any]) -> list[str]:
    return [entry["data"].get("code", "") for entry in info["feedback"]]


# What earns the reward.


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_gold_earns_one_without_a_word(own: str, name: str) -> None:
    reward, info = play(own, name, f"So it is \\boxed{{{PROBLEMS[name]}}}.")
    assert (reward, info["feedback"]) == (1.0, [])
    assert info["metrics"]["equal"] == info["metrics"]["has_box"] == 1.0


@pytest.mark.parametrize(
    ("name", "answer", "other"),
    [
        ("number", "42.", False),
        ("fraction", "0.75", True),
        ("fraction", r"\frac{6}{8}", True),
        ("surd", r"\sqrt{12}", True),
        ("set", r"\{3, 1, 2\}", None),
        ("expression", "x(x + 1)", None),
        ("percent", "15 \\%", False),
        ("text", "friday", None),
    ],
)
def test_another_form_earns_one_too_and_only_the_teacher_hears_of_it(own, name, answer, other) -> None:
    reward, info = play(own, name, f"\\boxed{{{answer}}}")
    assert reward == 1.0
    assert rfenvs.feedback_text(info, "log") == ""
    assert set(codes(info)) <= {"other_form"}
    assert all(entry["visibility"] == "teacher" and entry["severity"] == "info" for entry in info["feedback"])
    if other is not None:
        assert codes(info) == ["other_form"] * other


@pytest.mark.parametrize(
    ("name", "answer", "more"),
    [
        ("number", "43", {"near_miss": "off_by_one"}),
        ("number", "-42", {"near_miss": "sign"}),
        ("number", "50", {"near_miss": "too_large"}),
        ("number", "7", {"near_miss": "too_small"}),
        ("fraction", r"\frac{4}{3}", {"near_miss": "reciprocal"}),
        ("number", "(1, 2)", {"wrong_kind": None}),
        ("interval", "[1, 3]", {}),
        ("set", "5", {"wrong_kind": None}),
        ("set", r"\{1, 2\}", {"near_miss": "missing_elements"}),
        ("set", r"\{1, 2, 3, 4\}", {"near_miss": "extra_elements"}),
        ("tuple", "(2, 1)", {"near_miss": "order"}),
        ("expression", "x^2 - x", {}),
        ("percent", "15", {"wrong_form": "percent"}),
        ("unit", r"24\text{ m}", {"wrong_form": "unit"}),
        ("text", "Monday", {}),
        ("surd", r"3\sqrt{2}", None),
    ],
)
def test_a_near_miss_earns_nothing_and_hears_its_kind_or_relation(own, name, answer, more) -> None:
    reward, info = play(own, name, f"\\boxed{{{answer}}}")
    assert reward == 0.0
    assert info["metrics"]["unequal"] == 1.0
    assert codes(info)[0] == "not_equal"
    if more is not None:
        assert set(codes(info)) - {"not_equal"} == more.keys()
        for entry in info["feedback"][1:]:
            assert entry["data"].get("relation") == more[entry["data"]["code"]]
    levels = {"not_equal": 0, "wrong_kind": 1, "wrong_form": 1, "near_miss": 2}
    assert all(entry["leak_level"] == levels[entry["data"]["code"]] for entry in info["feedback"])


def test_less_leak_says_less(own: str) -> None:
    said = [codes(play(own, "number", r"\boxed{43}", leak_level=level)[1]) for level in (0, 1, 2, 3)]
    assert said == [["not_equal"], ["not_equal"], ["not_equal", "near_miss"], ["not_equal", "near_miss", "expected"]]
    kinds = [codes(play(own, "set", r"\boxed{5}", leak_level=level)[1]) for level in (0, 1)]
    assert kinds == [["not_equal"], ["not_equal", "wrong_kind"]]


def test_only_the_highest_level_states_the_answer_and_only_to_the_teacher(own: str) -> None:
    _, info = play(own, "number", r"\boxed{43}", leak_level=3)
    (reference,) = [entry for entry in info["feedback"] if entry["kind"] == "reference"]
    assert reference["text"] == "Expected: 42"
    assert (reference["visibility"], reference["reveals_reference"]) == ("teacher", True)


# Answers that are none.


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("The answer is 42.", ["no_box"]),
        ("", ["no_box"]),
        (r"\boxed{42", ["unclosed_box"]),
        (r"\boxed{42} or \boxed{", ["unclosed_box"]),
        (r"\boxed{ }", ["empty_box"]),
        (r"<think>\boxed{42}</think> that is it, as was found above", ["box_in_thinking"]),
        (r"\boxed{3 +* 4}", ["unparsable"]),
        (r"\boxed{" + "1+" * 2000 + "1}", ["too_costly"]),
        (r"\boxed{3} no, \boxed{4}", ["not_equal", "near_miss", "several_boxes"]),
        (r"6 * 7 = 43, so \boxed{43}", ["not_equal", "near_miss", "arithmetic_slip"]),
        ("6 * 7 = 43, and that is the final answer to this question", ["no_box", "arithmetic_slip"]),
        (r"<think>6 * 7 = 43</think> \boxed{43}", ["not_equal", "near_miss"]),
    ],
)
def test_every_failure_is_named(own: str, action: str, expected: list[str]) -> None:
    reward, info = play(own, "number", action)
    assert reward == 0.0
    assert info["scored"]
    assert codes(info) == expected
    for entry in info["feedback"]:
        if entry["span"] is not None:
            assert 0 <= entry["span"][0] <= entry["span"][1] <= len(action)


def test_spans_point_at_what_is_meant(own: str) -> None:
    action = r"é 6 * 7 = 43, so \boxed{43}"
    _, info = play(own, "number", action)
    spans = {entry["data"]["code"]: action[slice(*entry["span"])] for entry in info["feedback"]}
    assert spans == {"not_equal": "43", "near_miss": "43", "arithmetic_slip": "6 * 7 = 43"}
    _, info = play(own, "number", action := r"so \boxed{2 + \frac{1}}")
    assert codes(info) == ["unparsable"]
    assert action[slice(*info["feedback"][0]["span"])] in action[10:]


def test_a_slip_never_states_the_right_value(own: str) -> None:
    _, info = play(own, "number", r"6 * 7 = 43, so \boxed{43}")
    assert all("42" not in entry["text"] + repr(entry["data"]) for entry in info["feedback"])


def test_a_slip_is_counted_but_not_held_against_a_right_answer(own: str) -> None:
    reward, info = play(own, "number", r"6 * 7 = 43, so \boxed{42}")
    assert (reward, info["feedback"]) == (1.0, [])
    assert (info["metrics"]["steps_checked"], info["metrics"]["steps_wrong"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6 times 7 is", ["truncated", "no_box"]), (r"so \boxed{4", ["truncated", "unclosed_box"])],
)
def test_a_reply_that_was_cut_off_hears_so(own: str, text: str, expected: list[str]) -> None:
    _, info = play(own, "number", Action(text, finish_reason="length"))
    assert codes(info) == expected
    assert info["stop_reason"] == "max_tokens"


def test_a_whole_box_before_the_cut_counts(own: str) -> None:
    assert play(own, "number", Action(r"\boxed{42} because", finish_reason="length"))[0] == 1.0


@pytest.mark.parametrize("action", ["#### 42", "Answer: 42", "The answer is $42$.", "thus\n42", r"\boxed{42}"])
def test_other_ways_to_state_an_answer_count_on_request(own: str, action: str) -> None:
    assert play(own, "number", action, answer="any")[0] == 1.0
    assert play(own, "number", action)[0] == (1.0 if "boxed" in action else 0.0)


# No verdict is no zero.


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.CRASHED])
def test_a_comparison_without_a_verdict_is_not_scored(own: str, outcome: Outcome, monkeypatch) -> None:
    monkeypatch.setattr(math_env, "compare", lambda **_: Comparison(outcome))
    reward, info = play(own, "expression", r"\boxed{x^2 + y}")
    assert (reward, info["scored"], info["stop_reason"]) == (0.0, False, "env_error")
    assert codes(info) == [outcome.value]
    assert info["feedback"][0]["visibility"] == "log"
    assert info["metrics"][outcome.value] == 1.0
    reward, info = play(own, "expression", r"\boxed{9^{9^{9^9}}}")
    assert (reward, info["scored"], codes(info)) == (0.0, True, ["too_costly"])


@pytest.mark.parametrize(
    ("answer", "absurd"),
    [
        ("9^{9^{9^9}}", True),
        ("9^9^9^9", True),
        ("2^{1000000}", True),
        ("10^{10^9}", True),
        ("12345678!", True),
        ("(10!)!", True),
        ("x" * 2001, True),
        ("(" * 31 + "1" + ")" * 31, True),
        ("2^{1000}", False),
        ("x^{y^2}", False),
        ("2004!", False),
        (r"\frac{1}{2}", False),
        ("e^{-x^2}", False),
    ],
)
def test_absurdity_is_a_matter_of_the_text_alone(answer: str, absurd: bool) -> None:
    assert is_absurd(answer) is absurd


def test_every_metric_of_an_outcome_is_exclusive(own: str) -> None:
    for action in (r"\boxed{42}", r"\boxed{1}", r"\boxed{3 +* 4}", "none at all"):
        _, info = play(own, "number", action)
        assert sum(info["metrics"][name] for name in math_env._OUTCOMES) == 1.0


# Turns.


def test_a_retry_sees_what_was_wrong_and_may_succeed(own: str) -> None:
    env = make(ID, "test", dataset="local", data=own, max_turns=3)
    env.reset(options={"task_index": 0})
    observation, reward, terminated, truncated, info = env.step(r"6 * 7 = 41 so \boxed{41}")
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert observation.splitlines() == [
        'The final answer "41" is not correct.',
        'Check this step, it does not hold: "6 * 7 = 41".',
    ]
    assert info["messages"] == [{"role": "user", "content": observation}]
    _, reward, terminated, _, info = env.step(r"\boxed{42}")
    assert (reward, terminated, info["stop_reason"]) == (1.0, True, "completed")


# Data.


def test_the_sample_is_what_computation_says() -> None:
    rows = [row.values for row in read_rows(SOURCES["gsm8k"].spec.sample, LAYOUTS[0].columns)]
    assert len(rows) == 40
    assert {row["split"] for row in rows} == {"train", "test"}
    for row, value in zip(rows, computed(), strict=True):
        check_gold(row["answer"])
        assert compare(gold=row["answer"], answer=value).outcome is Outcome.EQUAL, (row["problem"], value)
        assert len(row["wrong"]) >= 3
        for wrong in row["wrong"]:
            assert compare(gold=row["answer"], answer=wrong).outcome is Outcome.UNEQUAL, (row["problem"], wrong)


def computed() -> Iterator[str]:
    """The answers of the sample, each from its problem by a computation of its own."""
    import sympy as sp

    x, n, a, b = sp.symbols("x n a b")
    half = sp.Rational(1, 2)

    def values(found: Any) -> str:
        return r"\{" + ", ".join(map(sp.latex, sorted(found))) + r"\}"

    def interval(found: Any) -> str:
        return str(sp.latex(found)).replace(r"\left", "").replace(r"\right", "")

    yield str(14 * 18 - 197)
    yield str(sum(range(7, 101, 7)))
    yield str(sum(360 % d == 0 for d in range(1, 361)))
    yield str(3**50 % 7)
    yield str(Fraction(3, 8) + Fraction(5, 12))
    yield str(Fraction(sum(i + j == 9 for i in range(1, 7) for j in range(1, 7)), 36))
    yield str(1 / (Fraction(1, 6) + Fraction(1, 9)))
    yield str(Fraction("0.125") * Fraction("0.4"))
    yield str(Fraction(1, 8) - Fraction(1, 4))
    yield str(3 * 60 // 4)
    yield sp.latex(sp.sqrt(75) - sp.sqrt(12))
    yield sp.latex(sp.sqrt(4**2 + 6**2))
    yield sp.latex(6 * sp.sqrt(3) / 4 * 2**2)
    yield sp.latex(sp.radsimp(1 / (sp.sqrt(5) - 2)))
    yield sp.latex(2 * sp.pi * sp.sqrt(9))
    yield interval(sp.solveset(abs(x - 3) <= 5, x, sp.S.Reals))
    yield interval(sp.solveset(sp.diff(x**2 - 6 * x + 1) < 0, x, sp.S.Reals))
    yield interval(sp.Intersection(sp.solveset(4 - x >= 0, x, sp.S.Reals), sp.solveset(x + 1 > 0, x, sp.S.Reals)))
    yield interval(sp.solveset(x**2 > 9, x, sp.S.Reals))
    yield values(sp.solve(x**2 - 7 * x + 10))
    yield values(sp.primefactors(420))
    yield values([sp.Integer(k) for k in range(-50, 50) if k != -1 and 12 % (k + 1) == 0 and sp.isprime(12 // (k + 1))])
    yield values(sp.solve(x**3 - 4 * x))
    solved = sp.solve([2 * a + b - 11, a - b - 1])
    yield f"({solved[a]}, {solved[b]})"
    yield f"({half * (-3 + 7)}, {sp.latex(half * (5 + 2))})"
    yield f"(2, {2 * 2**2 - 8 * 2 + 3})"
    yield str(tuple(sp.Matrix([1, 2, 3]).cross(sp.Matrix([4, 5, 6]))))
    yield sp.latex(sp.factor(x**2 - 5 * x - 14))
    yield sp.latex(sp.diff(x**2 * sp.exp(x)))
    yield sp.latex(sp.expand((a - 2 * b) ** 2))
    yield sp.latex(a + sp.log(4, 2))
    yield sp.latex(sp.factor(sp.summation(2 * x - 1, (x, 1, n))))
    slope = sp.Rational(8 - 2, 3 - 1)
    yield f"y = {sp.latex(slope * x + 2 - slope)}"
    yield rf"{Fraction(92 - 80, 80) * 100}\%"
    yield rf"{(1 - Fraction(12, 10) * Fraction(8, 10)) * 100}\%"
    yield rf"{Fraction(42) / Fraction('1.75')}\text{{ km/h}}"
    yield rf"{sp.sqrt(5**2 + 12**2)}\text{{ cm}}"
    yield rf"{180 - 47 - 68}^\circ"
    yield str(sp.latex(sp.Matrix([[1, 2], [0, 3]]) ** 2, mat_delim="", mat_str="pmatrix"))
    days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    yield days[(days.index("Wednesday") + 30) % 7]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("answer", ["box", "any"])
def test_the_sample_validates(split: str, answer: str) -> None:
    report = rfenvs.validate(ID, split, 40, data="sample", answer=answer, max_turns=2)
    assert report.ok, str(report)


@pytest.mark.parametrize("level", [0, 2, 3])
def test_no_level_leaks_a_canary(level: int) -> None:
    report = rfenvs.validate(ID, "test", 12, data="sample", leak_level=level)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("raw", "integers", "gold"),
    [
        ("2 + 3 = <<2+3=5>>5\n#### 5", False, "5"),
        ("#### 1,200", False, "1200"),
        ("#### -3", False, "-3"),
        (r"\boxed{204}", True, "204"),
        (r"It is $\boxed{\frac{1}{2}}$.", False, r"\frac{1}{2}"),
        ("025", True, "25"),
        ("000", True, "0"),
        ("100", True, "100"),
        ("27.0", True, "27"),
        ("27.0", False, "27.0"),
        ("0.5", True, "0.5"),
        ("-04", True, "-4"),
    ],
)
def test_gold_answers_are_cleaned(raw: str, integers: bool, gold: str) -> None:
    assert clean_gold(raw, integers=integers) == gold


def dapo_row(problem: str, answer: str, index: str) -> dict[str, Any]:
    content = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        f"$Answer (without quotes) where $Answer is the answer to the problem.\n\n{problem}\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    return {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": content}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule"},
        "extra_info": {"index": index},
    }


def test_dapo_rows_are_unwrapped_and_repeats_dropped(tmp_path: Path) -> None:
    path = tmp_path / "dapo.jsonl"
    rows = [dapo_row("What is $6 \\cdot 7$?", "42", str(k)) for k in range(3)] + [dapo_row("And $1+1$?", "2", "9")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = load("dapo17k", "train", str(path))
    assert [(p.text, p.gold) for p in found.problems] == [("What is $6 \\cdot 7$?", "42"), ("And $1+1$?", "2")]


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"question": "?", "answer": "x\n#### 7"}, "7"),
        ({"problem": "?", "solution": r"so \boxed{204}"}, "204"),
        ({"problem": "?", "answer": 27.0}, "27"),
        ({"problem": "?", "answer": 27}, "27"),
    ],
)
def test_every_layout_is_recognised(tmp_path: Path, row: dict[str, Any], gold: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    assert load("local", "train", str(path)).problems[0].gold == gold


def test_rows_say_which_split_they_belong_to_and_repeats_keep_their_own_ids(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"problem": "1+1?", "answer": "2", "split": "train"}] * 2 + [{"problem": "2+2?", "answer": "4"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    train, test = load("local", "train", str(path)), load("local", "test", str(path))
    assert (len(train.problems), len(test.problems)) == (3, 1)
    assert len({problem.id for problem in train.problems}) == 3


def test_answers_that_cannot_be_graded_are_left_out_and_named(tmp_path: Path) -> None:
    path = local(tmp_path, {"good": "5", "empty": " ", "broken": r"\frac{1}{2"})
    found = load("local", "train", path)
    assert [problem.gold for problem in found.problems] == ["5"]
    assert [("empty" in reason or "brace" in reason) for _, reason in found.excluded] == [True, True]
    with pytest.raises(DataError, match="no problem has an answer"):
        load("local", "train", local(tmp_path, {"empty": ""}))


def test_unknown_layouts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": "1+1", "output": "2"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no known layout"):
        load("local", "train", str(path))


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"dataset": "aime24"}, "evaluation data"),
        ({"dataset": "math500", "split": "train"}, "evaluation data"),
        ({"dataset": "dapo17k", "split": "test"}, "has only train"),
        ({"dataset": "gsm9k"}, "use one of"),
        ({"dataset": "local"}, "needs data="),
        ({"answer": "last"}, "'box' or 'any'"),
        ({"timeout_s": 0}, "positive"),
    ],
)
def test_settings_that_cannot_work_are_refused(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        math_env.MathEnv(**kwargs)


def test_the_test_file_under_another_name_is_not_trained_on(tmp_path: Path, monkeypatch) -> None:
    path = local(tmp_path, {"number": "42"})
    spec = replace(
        SOURCES["gsm8k"].spec, files=(DataFile("train.jsonl"), DataFile("test.jsonl", sha256=sha256(Path(path))))
    )
    entry = Entry(spec, MappingProxyType({"train": ("train.jsonl",), "test": ("test.jsonl",)}))
    monkeypatch.setattr(math_data, "SOURCES", {"gsm8k": entry})
    assert load("gsm8k", "test", path).problems
    with pytest.raises(ValueError, match="is the test file of gsm8k"):
        load("gsm8k", "train", path)


def test_a_split_that_is_not_there_is_refused_later_too() -> None:
    with pytest.raises(ValueError, match="evaluation data"):
        math_env.MathEnv(split="test", dataset="aime24").num_tasks("train")


@pytest.mark.parametrize(
    ("dataset", "name", "rows"),
    [
        ("aime24", "aime24.jsonl", 30),
        ("amc23", "amc23.jsonl", 40),
        ("gsm8k", "gsm8k_test.jsonl", 1319),
        pytest.param("math500", "math500.jsonl", 500, marks=pytest.mark.slow),
    ],
)
def test_every_public_gold_equals_itself_and_survives_validation(dataset: str, name: str, rows: int) -> None:
    path = TEST_DATA / "math" / name
    if not path.exists():
        pytest.skip(f"{name} is missing: set RFENVS_TEST_DATA")
    env = make(ID, "test", dataset=dataset, data=str(path))
    assert env.num_tasks("test") == rows
    for index, row in enumerate(read_rows(path, {})):
        written = row.values["answer"]
        if dataset == "gsm8k":
            written = written.rpartition("####")[2].replace(",", "").strip()
        gold = env.get_task(index).reference.removeprefix(r"\boxed{").removesuffix("}")
        assert gold == written or Fraction(gold) == Fraction(written)
    assert len({env.get_task(index).id for index in range(rows)}) == rows
    for index in range(rows):
        env.reset(options={"task_index": index})
        _, reward, _, _, info = env.step(env.gold_actions(env.get_task(index))[0])
        assert (reward, info["feedback"]) == (1.0, []), env.get_task(index).reference
    report = rfenvs.validate(ID, "test", min(rows, 100), dataset=dataset, data=str(path))
    assert report.ok, str(report)


# Percentages.


def grade_own(tmp_path, problem: str, gold: str, answer: str) -> tuple[float, list[str]]:
    path = tmp_path / f"{len(problem)}.jsonl"
    path.write_text(json.dumps({"problem": problem, "answer": gold}) + "\n")
    env = math_env.MathEnv(dataset="local", data=str(path))
    env.reset(options={"task_index": 0})
    _, reward, *_, info = env.step(f"\\boxed{{{answer}}}")
    return reward, [entry["data"]["code"] for entry in info["feedback"]]


@pytest.mark.parametrize(("gold", "answer"), [("50", "50\\%"), ("50\\%", "50"), ("12.5", "12.5%")])
def test_the_sign_is_free_where_a_percentage_is_asked_for(tmp_path, gold, answer):
    assert grade_own(tmp_path, "What percentage of her weekend does she spend?", gold, answer)[0] == 1.0
    assert grade_own(tmp_path, "How many hours does she spend?", gold, answer) == (0.0, ["not_equal", "wrong_form"])
    assert grade_own(tmp_path, "What percentage is it? Give the percent sign.", gold, answer)[0] == 0.0

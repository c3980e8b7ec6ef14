"""`rfenvs/BFCL-v0`: its data, verdicts and feedback, and where they differ from the leaderboard's own checker."""

import copy
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bfcl_peer import checker, data_folder

import rfenvs
from rfenvs.envs.bfcl import BFCLEnv
from rfenvs.envs.bfcl_data import CATEGORIES, KNOWN_BAD, SPEC, Question, load, same_answer
from rfenvs.envs.samples.make_bfcl import rows
from rfenvs.feedback import feedback_text
from rfenvs.graders.call_schema import from_bfcl
from rfenvs.graders.tool_calls import Call, grade_calls
from rfenvs.registry import make
from rfenvs.rows import DataError, read_rows

ID = "rfenvs/BFCL-v0"
DATA = Path(os.environ.get("RFENVS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "bfcl"
SIZES = {"simple_python": 400, "multiple": 200, "parallel": 200, "irrelevance": 240}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="RFENVS_TEST_DATA/bfcl is not here")


def env_of(category: str = "simple_python", data: str = "sample", **kwargs: object) -> BFCLEnv:
    env = make(ID, "test", data=data, category=category, **kwargs)
    assert isinstance(env, BFCLEnv)
    return env


def reply(env: BFCLEnv, words: str, text: str) -> tuple[float, dict]:
    """Answer the question that holds `words`."""
    prompts = [env.get_task(i).messages[-1]["content"] for i in range(env.num_tasks("test"))]
    [index] = [i for i, prompt in enumerate(prompts) if words in prompt]
    env.reset(options={"task_index": index})
    _, reward, _, _, info = env.step(text)
    return reward, info


def codes(info: dict) -> list[str]:
    return [entry["data"]["code"] for entry in info["feedback"]]


def test_the_sample_is_what_its_script_writes() -> None:
    assert SPEC.sample.read_text(encoding="utf-8") == "".join(json.dumps(row) + "\n" for row in rows())
    assert 20 <= len(rows()) <= 40


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("leak_level", [0, 1, 3])
def test_the_sample_is_valid(category: str, leak_level: int) -> None:
    for split in rfenvs.splits(ID):
        report = rfenvs.validate(ID, split, 99, data="sample", category=category, leak_level=leak_level)
        assert report.ok, report
        assert report.flagged == (report.tasks if "irrelevance" in category else 0)


@needs_data
@pytest.mark.parametrize("category", SIZES)
def test_real_data_are_valid(category: str) -> None:
    report = rfenvs.validate(ID, "test", 999, data=str(DATA), category=category)
    assert report.ok, report
    assert report.tasks == SIZES[category]
    assert report.flagged == (240 if category == "irrelevance" else 0)
    revision = env_of(category, str(DATA)).data_revision
    assert revision == SPEC.revision, "the files are those of the pinned commit"


def test_what_the_policy_sees() -> None:
    env = env_of()
    _, info = env.reset(options={"task_index": 0})
    system, user = info["messages"]
    assert user["content"] == "How large is a garden bed that is 4 metres long and 2.5 metres wide?"
    assert '"name": "garden.bed_area"' in system["content"]
    [tool] = info["tools"]
    assert tool["parameters"]["properties"]["length"]["type"] == "number"
    assert tool["parameters"]["type"] == "object"


ACCEPTED = [
    ("simple_python", "garden bed", "garden.bed_area(length=4, width=2.5)"),
    ("simple_python", "garden bed", "[garden.bed_area(length=4.0, width=2.5, rounded=False)]"),
    (
        "simple_python",
        "ferry",
        'ferry.book(origin="OBAN", destination="craignure", date="2026/05/04", seats=3, deck="open")',
    ),
    ("simple_python", "painting", 'paint.litres(wall={"width": 5, "height": 2.4}, coats=2, colour="")'),
    ("simple_python", "How far is it", "geometry.distance(start=(1, 2), end=(4.0, 6.0))"),
    (
        "simple_python",
        "rye",
        'bakery.order(items=[{"name": "Rye loaves", "number": 2}, {"name": "rolls", "number": 6}], name="Ines")',
    ),
    ("parallel", "factorials", "math.factorial(n=9)\nmath.factorial(n=4)\nmath.factorial(n=6)"),
    ("parallel", "two timers", 'kitchen_timer(minutes=10, label="tea")\nkitchen_timer(minutes=10)'),
    ("multiple", "5!", '{"tool_calls": [{"function": {"name": "math.factorial", "arguments": "{\\"n\\": 5}"}}]}'),
    ("irrelevance", "Night Watch", "Rembrandt, but I have no tool to look it up."),
]


@pytest.mark.parametrize(("category", "question", "text"), ACCEPTED)
def test_what_is_accepted(category: str, question: str, text: str) -> None:
    reward, info = reply(env_of(category), question, text)
    assert (reward, info["feedback"]) == (1.0, [])


SAID = [
    ("simple_python", "garden bed", "garden_bed_area(length=4, width=2.5)", ["unknown_tool"]),
    ("simple_python", "garden bed", 'garden.bed_area(length="4", width=2.5)', ["type"]),
    ("simple_python", "garden bed", "garden.bed_area(length=4)", ["missing"]),
    ("simple_python", "garden bed", "garden.bed_area(length=4, width=2)", ["wrong_value"]),
    ("simple_python", "garden bed", "garden.bed_area(length=4, width=2.5, height=1)", ["unexpected"]),
    (
        "simple_python",
        "garden bed",
        "garden.bed_area(length=4, width=2.5)\ngarden.bed_area(length=4, width=2.5)",
        ["count", "extra_call"],
    ),
    ("simple_python", "garden bed", "It is 10 square metres.", ["syntax"]),
    (
        "simple_python",
        "ferry",
        'ferry.book(origin="Oban", destination="Craignure", date="2026-05-04", seats=3)',
        ["left_out"],
    ),
    ("simple_python", "ferry", 'ferry.book(origin="a", destination="b", date="c", seats=3, deck="top")', ["enum"]),
    ("simple_python", "painting", 'paint.litres(wall={"width": 5}, coats=2)', ["wrong_value"]),
    (
        "simple_python",
        "painting",
        'paint.litres(wall={"width": 5, "height": 2.4}, coats=2, colour="red")',
        ["wrong_value"],
    ),
    ("multiple", "5!", "math.gcd(numbers=[5])", ["wrong_tool"]),
    ("irrelevance", "Night Watch", "kitchen_timer(minutes=5)", ["wrong_tool"]),
    ("irrelevance", "Night Watch", "kitchen_timer(seconds=5)", ["missing", "unexpected"]),
    ("irrelevance", "Night Watch", "kitchen_timer(minutes=", ["syntax"]),
    ("irrelevance", "Night Watch", " \n", ["empty"]),
]


@pytest.mark.parametrize(("category", "question", "text", "expected"), SAID)
def test_what_is_said(category: str, question: str, text: str, expected: list) -> None:
    reward, info = reply(env_of(category, leak_level=3), question, text)
    assert reward == 0.0
    assert codes(info) == [*expected, "expected"]
    *items, reference = info["feedback"]
    assert all(entry["leak_level"] == (entry["kind"] == "wrong_answer") for entry in items)
    assert (reference["kind"], reference["visibility"], reference["leak_level"]) == ("reference", "teacher", 3)
    quiet = reply(env_of(category, leak_level=0), question, text)[1]["feedback"]
    assert all(entry["leak_level"] == 0 for entry in quiet)
    assert quiet


def test_a_call_where_none_fits_is_told_as_any_wrong_tool_is() -> None:
    said = [
        feedback_text(reply(env_of(category), question, f"{call}")[1])
        for category, question, call in (
            ("irrelevance", "Night Watch", "kitchen_timer(minutes=5)"),
            ("multiple", "Heat the oven", "kitchen_timer(minutes=5)"),
        )
    ]
    assert said == ["ToolError: kitchen_timer is not the tool that the request needs."] * 2


def test_a_system_message_of_the_question_joins_ours(tmp_path: Path) -> None:
    row = copy.deepcopy(rows()[0])
    row["question"][0].insert(0, {"role": "system", "content": "Speak plainly."})
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row))
    _, info = env_of(data=str(path)).reset(seed=1)
    assert [message["role"] for message in info["messages"]] == ["system", "user"]
    assert info["messages"][0]["content"].endswith("Speak plainly.")


def test_answers_may_stand_in_a_file_beside_the_questions(tmp_path: Path) -> None:
    row = copy.deepcopy(rows()[1])
    answer = {"id": row["id"], "ground_truth": row.pop("ground_truth")}
    (tmp_path / "possible_answer").mkdir()
    for folder, content in ((tmp_path, row), (tmp_path / "possible_answer", answer)):
        (folder / "BFCL_v4_simple_python.json").write_text(json.dumps(content) + "\n")
    for data in (tmp_path, tmp_path / "BFCL_v4_simple_python.json"):
        assert env_of(data=str(data)).get_task(0).reference == "math.factorial(n=7)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ground_truth": None}, "no list of accepted calls"),
        ({"question": ["x"]}, "must be a list of turns"),
        ({"function": "x"}, 'column "function" must be list'),
        ({"id": "multiple_1"}, "no questions of the category simple_python"),
    ],
)
def test_broken_rows(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({**rows()[0], **change}))
    with pytest.raises(DataError, match=message):
        load("simple_python", path)


def test_golds_that_break_the_schema_are_flagged_without_quoting_them(tmp_path: Path) -> None:
    row = {**copy.deepcopy(rows()[1]), "ground_truth": [{"math.factorial": {"n": ["secret"]}}]}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row))
    [question] = load("simple_python", path).questions
    assert question.flags == ("known_bad: the answer breaks the schema of math.factorial: n (type)",)


def test_type_words() -> None:
    words = {
        "dict": "object",
        "float": "number",
        "tuple": "array",
        "any": None,
        "String": "string",
        "ArrayList": "array",
    }
    for word, kind in words.items():
        assert from_bfcl({"type": word}).get("type") == kind
    assert from_bfcl({"type": "string", "default": None})["type"] == ["string", "null"]
    assert from_bfcl({"type": "array", "items": {"type": "float"}})["items"] == {"type": "number"}


def test_accepted_objects() -> None:
    assert same_answer({"a": "x", "b": [1, 2]}, {"a": ["X"], "b": [[1, 2]], "c": ["", 3]})
    assert not same_answer({"a": "x"}, {"a": ["X"], "b": [1]})
    assert not same_answer({"a": "x", "z": 1}, {"a": ["X"]})
    assert same_answer([{"a": 1}, {"a": 2}], [{"a": [1]}, {"a": [2]}])
    assert not same_answer([{"a": 2}, {"a": 1}], [{"a": [1]}, {"a": [2]}])


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="category='java': use one of simple_python"):
        env_of("java")


# Against the leaderboard's own checker.


def mutants(question: Question, accepted: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The gold and calls near it, in the leaderboard's form, each with what was changed."""
    calls = [{call.name: call.arguments} for call in question.gold]
    yield "nothing", calls
    yield "order", calls[::-1]
    yield "a call twice", calls + calls[:1]
    yield "a call lost", calls[1:]
    for i, call in enumerate(question.gold):
        options = next(iter(accepted[i].values()))

        def put(arguments: dict[str, Any], name: str = call.name, i: int = i) -> list[dict[str, Any]]:
            return [*calls[:i], {name: arguments}, *calls[i + 1 :]]

        yield "name", put(call.arguments, f"{call.name}_")
        yield "argument added", put({**call.arguments, "zz": 1})
        for name, value in call.arguments.items():
            yield "argument dropped", put({key: v for key, v in call.arguments.items() if key != name})
            for what, other in _near(value):
                yield what, put({**call.arguments, name: other})
        for name, values in options.items():
            for value in values:
                yield "empty text" if value == "" else "another option", put({**call.arguments, name: value})


def _near(value: Any) -> Iterator[tuple[str, Any]]:
    yield "null", None
    yield "as text", str(value)
    yield "in a list", [value]
    if isinstance(value, bool):
        yield "negated", not value
        yield "as integer", int(value)
    elif isinstance(value, int):
        yield "one more", value + 1
        yield "as float", float(value)
    elif isinstance(value, float):
        yield "a half more", value + 0.5
        yield "cut to an integer", int(value)
    elif isinstance(value, str):
        yield "upper case", value.upper()
        yield "punctuation", value.replace(" ", "_") + "."
        yield "a letter more", value + "q"
    elif isinstance(value, list):
        yield "reversed", value[::-1]
        yield "longer", value + value[:1]
        yield "empty list", []
        yield "as floats", [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in value]
    elif isinstance(value, dict):
        yield "key added", {**value, "zz": 1}
        for key in value:
            yield "key dropped", {k: v for k, v in value.items() if k != key}


# Whole numbers written as floats; an argument left out at its default; calls that only greedy pairing mixes up.
WE_ACCEPT = {"as float", "as floats", "argument dropped", "order"}
# Nothing, written as an empty list or text, for an argument that may be left out and takes something else.
WE_REFUSE = {"empty list", "empty text"}


@pytest.mark.peer
def test_verdicts_are_those_of_the_leaderboard_but_for_a_documented_few() -> None:
    check = checker()
    folder = data_folder()
    if check is None or folder is None:
        pytest.skip("pip install --no-deps bfcl-eval==2026.3.23, or BFCL_EVAL_SRC names a folder with it unpacked")
    compared, differ, golds = 0, Counter[tuple[str, bool]](), 0
    for category in CATEGORIES:
        if "irrelevance" in category:
            continue
        raw = {row.values["id"]: row.values for row in read_rows(folder / f"BFCL_v4_{category}.json", {})}
        answers = {
            row.values["id"]: row.values["ground_truth"]
            for row in read_rows(folder / "possible_answer" / f"BFCL_v4_{category}.json", {})
        }
        for question in load(category, folder).questions:
            golds += 1
            accepted = answers[question.id]
            for what, calls in mutants(question, accepted):
                theirs = check(raw[question.id]["function"], calls, accepted, category)
                read = [Call(*next(iter(call.items()))) for call in calls]
                ours = not grade_calls(read, question.expected, question.tools, reference_wins=True).problems
                compared += 1
                if ours != theirs and not question.flags:
                    differ[what, ours] += 1
                if what == "nothing" and not question.flags:
                    assert ours, question.id
                    assert theirs, question.id
    assert golds == 2351
    assert compared > 60_000
    assert {what for what, ours in differ if ours} <= WE_ACCEPT, differ
    assert {what for what, ours in differ if not ours} <= WE_REFUSE, differ
    assert sum(count for (what, _), count in differ.items() if "float" not in what) < 60, differ


@pytest.mark.peer
def test_the_flagged_questions_are_those_whose_answers_break_their_tools_schemas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = data_folder()
    if folder is None:
        pytest.skip("pip install --no-deps bfcl-eval==2026.3.23, or BFCL_EVAL_SRC names a folder with it unpacked")
    flagged = {q.id for category in CATEGORIES for q in load(category, folder).questions if q.expected and q.flags}
    assert flagged == set(KNOWN_BAD)

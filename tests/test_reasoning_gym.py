"""reasoning-gym's tasks: safe, deterministic, and paid only for answers."""

from __future__ import annotations

import concurrent.futures
import random
import time
from fractions import Fraction

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rfenvs
from rfenvs.graders import processes
from rfenvs.graders.procedural import ALGEBRA, ARITHMETIC, EVALUATED, Sum, evaluate, gold_of, score
from rfenvs.graders.procedural_hints import hint
from rfenvs.graders.processes import NotStarted

pytest.importorskip("reasoning_gym")

from rfenvs.envs.reasoning_gym import _known
from rfenvs.graders.procedural_worker import _scorer

ID = "rfenvs/ReasoningGym-v0"
NO_GOLD = {"boxnet", "rush_hour"}


def make(**kwargs):
    return gymnasium.make(ID, **kwargs)


def step(answer: str, **kwargs):
    env = make(**kwargs)
    env.reset(options={"task_index": 0})
    _, reward, _, _, info = env.step(answer)
    return reward, info["feedback"]


def test_every_usable_task_is_offered():
    assert len(_known()) == 105
    assert "composite" not in _known()


@pytest.mark.parametrize("name", _known())
def test_gold_pays_and_junk_does_not(name: str):
    report = rfenvs.validate(ID, "test", 1, task=name)
    assert report.ok, report
    assert report.without_reference == (name in NO_GOLD)


@pytest.mark.slow
@pytest.mark.parametrize("name", _known())
def test_gold_pays_and_junk_does_not_over_many_tasks(name: str):
    for split in ("train", "test"):
        report = rfenvs.validate(ID, split, 25, task=name)
        assert report.ok, report


@pytest.mark.parametrize("name", _known())
def test_a_task_is_a_function_of_its_index(name: str):
    from rfenvs.envs import reasoning_gym

    first = rfenvs.get_task(ID, "train", 3, task=name)
    reasoning_gym._entry.cache_clear()
    random.seed(99)
    state = random.getstate()
    again = rfenvs.get_task(ID, "train", 3, task=name)
    assert (again.id, again.prompt, again.reference) == (first.id, first.prompt, first.reference)
    assert random.getstate() == state, "the program's own random numbers are left alone"
    assert rfenvs.get_task(ID, "test", 3, task=name).id != first.id


# Answers are data.


@pytest.mark.parametrize("name", sorted(EVALUATED | ARITHMETIC | ALGEBRA))
@pytest.mark.parametrize(
    "attack",
    [
        "__import__('pathlib').Path('{}').touch()",
        "(lambda: __import__('pathlib').Path('{}').touch())()",
        "[x for x in [__import__('pathlib').Path('{}').touch()]]",
        "sympify(\"__import__('pathlib').Path('{}').touch()\")",
        "open('{}','w').close()",
    ],
)
def test_no_answer_is_ever_run(tmp_path, name: str, attack: str):
    trace = tmp_path / "trace"
    reward, feedback = step(f"<answer>{attack.format(trace)}</answer>", task=name)
    assert not trace.exists()
    assert reward == 0.0
    assert feedback


def test_the_verifiers_would_run_them(tmp_path):
    """What the gate is for: should reasoning-gym mend this, the gate can go."""
    trace = tmp_path / "trace"
    entry = _scorer("spiral_matrix")[0]
    _scorer("spiral_matrix").score_answer(f"__import__('pathlib').Path('{trace}').touch()", entry)
    assert trace.exists()


def test_a_list_is_still_accepted_where_the_verifier_accepts_one():
    task = rfenvs.get_task(ID, "test", 0, task="spiral_matrix")
    numbers = task.data["gold"].split()
    reward, _ = step(f"<answer>[{', '.join(numbers)}]</answer>", task="spiral_matrix", split="test", reward="score")
    entry = task.data["entry"]
    assert reward == _scorer("spiral_matrix").score_answer(f"[{', '.join(numbers)}]", entry) > 0


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("simple_integration", ["9**9**9**9", "x**9999999", "(" * 400 + "x" + ")" * 400, "x*" * 400 + "x"]),
        ("polynomial_multiplication", ["(x+1)**100*(y+1)**100", "1" * 900]),
        ("countdown", ["9**9**9", "(" * 500, "9" * 900, "1/0"]),
    ],
)
def test_absurd_answers_are_bounded_and_wrong(name: str, answers: list[str]):
    for answer in answers:
        reward, feedback = step(f"<answer>{answer}</answer>", task=name)
        assert reward == 0.0
        assert feedback


def test_algebra_accepts_an_equal_form():
    task = rfenvs.get_task(ID, "test", 0, task="simple_integration")
    other = " + ".join(reversed(task.data["gold"].replace(" - ", " + -").split(" + ")))
    assert other != task.data["gold"]
    reward, _ = step(f"<answer>{other}</answer>", task="simple_integration", split="test")
    assert reward == 1.0


# Verdicts.


def test_text_is_not_the_answer_true():
    for index in range(20):
        entry = _scorer("game_of_life_halting")[index % 10]
        verify = _scorer("game_of_life_halting").score_answer
        assert score("game_of_life_halting", verify, "zzz", entry).outcome == "unreadable"
        assert score("game_of_life_halting", verify, str(entry["answer"]).lower(), entry).value == 1.0
        other = "True" if str(entry["answer"]) == "False" else "False"
        assert score("game_of_life_halting", verify, other, entry).value == 0.0


def test_a_verifier_that_fails_on_its_own_answer_is_not_a_wrong_answer():
    def broken(answer, entry):
        raise RuntimeError("no")

    with pytest.raises(ValueError, match="fails on the task's own answer"):
        score("anything", broken, "5", {"answer": "5", "metadata": {}})
    assert score("anything", lambda a, e: 1 / (a == "5"), "6", {"answer": "5", "metadata": {}}).outcome == "unreadable"


def test_what_junk_earns_is_nothing():
    verify = {"zzz": 0.25, "[]": 0.05, "0": 0.1, "half": 0.5, "right": 1.0, "poor": 0.25}.__getitem__
    entry = {"answer": "right", "metadata": {}}
    values = [score("t", lambda a, e: verify(a), answer, entry).value for answer in ("poor", "half", "right")]
    assert values == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("complex_arithmetic", "nan"),
        ("complex_arithmetic", "NaN + nani"),
        ("complex_arithmetic", "-inf"),
        ("coin_flip", "1e999999999"),
        ("coin_flip", "1E+9_999_999_999"),
        ("arc_agi", ""),
        ("time_intervals", "0"),
    ],
)
def test_what_is_no_number_is_no_answer(name: str, answer: str):
    reward, feedback = step(f"<answer>{answer}</answer>", task=name)
    assert reward == 0.0
    assert feedback


@pytest.mark.parametrize(("name", "index"), [("gcd", 1), ("basic_arithmetic", 0), ("syllogism", 0), ("aiw", 0)])
def test_a_text_that_holds_the_answer_is_not_the_answer(name: str, index: int):
    env = make(task=name)
    env.reset(options={"task_index": index})
    gold = env.unwrapped.get_task(index).data["gold"]
    for answer in (f"{gold} {gold}", f"1 2 3 {gold} Yes No", f"-{gold}"):
        env.reset(options={"task_index": index})
        assert env.step(f"<answer>{answer}</answer>")[1] == 0.0


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("coin_flip", ["0.3125", "5/16", "0.31250", "3.125e-1"], ["0", "0.3", "0.31", "0.2", "0.", "0.4"]),
        (
            "number_sorting",
            ["['52.2', '30.0', '14.0', '-49.0', '-81.0']", "[52.2, 30, 14, -49, -81]"],
            ["['52', '30', '14', '-49', '-81']", "[NaN, NaN, NaN, NaN, NaN]", "[52.9, 30.9, 14.9, -48.1, -80.1]", "7"],
        ),
    ],
)
def test_near_is_not_right(name: str, right: list[str], wrong: list[str]):
    entry = rfenvs.get_task(ID, "train", 1, task=name).data["entry"]
    verify = _scorer(name).score_answer
    assert [score(name, verify, answer, entry).value for answer in right] == [1.0] * len(right)
    assert [score(name, verify, answer, entry).value for answer in wrong] == [0.0] * len(wrong)


def test_a_small_probability_is_not_nothing():
    entry = {"answer": "0.000030517578125", "metadata": {}}
    answers = ("0", "0.00003", "0.0000305", "1/32768")
    assert [score("coin_flip", lambda a, e: 1.0, a, entry).value for a in answers] == [0.0, 0.0, 1.0, 1.0]


def test_a_verdict_that_is_no_number_pays_nothing():
    assert score("t", lambda a, e: float("nan"), "6", {"answer": "5", "metadata": {}}).value == 0.0


def test_a_process_that_does_not_start_is_no_verdict():
    def stuck(answer, entry):
        raise NotStarted

    with pytest.raises(NotStarted):
        score("anything", stuck, "6", {"answer": "5", "metadata": {}})


def test_a_start_that_takes_too_long_is_no_timeout_of_the_task(monkeypatch):
    monkeypatch.setattr(processes, "START_S", 0.0)
    worker = processes.Worker("json")
    with pytest.raises(NotStarted):
        worker.call("json:dumps", 1, 5.0)
    assert not worker.alive


@given(st.text(alphabet="0123456789+-*/() _.e\n", max_size=40))
def test_evaluation_is_exact_and_never_raises(text: str):
    result = evaluate(text)
    if result is not None and result.value is not None:
        assert isinstance(result.value, Fraction)
        assert all(isinstance(number, int) for number in result.numbers)


def test_evaluation_is_arithmetic():
    assert evaluate("2 * (3 + 4) − 1") == Sum(Fraction(13), (2, 3, 4, 1))
    assert evaluate("1/3 + 1/3 + 1/3").value == 1
    assert evaluate("1/(2-2)").value is None
    assert evaluate("2**3") is None
    assert evaluate("3 = 3") is None


# Hints.

GRID = {"puzzle": [[2, 0, 0, 3], [0, 0, 1, 0], [1, 0, 3, 0], [3, 0, 2, 1]]}
BOARD = {"puzzle": [["_", "Q", "_", "_"], ["_"] * 4, ["_"] * 4, ["_"] * 4]}
GRAPH = {"puzzle": {"vertices": [0, 1, 2], "edges": [(0, 1), (1, 2)], "color_options": [1, 2]}}


@pytest.mark.parametrize(
    ("name", "answer", "metadata", "said"),
    [
        ("countdown", "6 * 61", {"numbers": [6, 61, 4], "target": 100}, "uses 6, 61; the numbers to use are 6, 61, 4"),
        ("puzzle24", "8 * 5 - 10 - 7", {"numbers": [8, 5, 10, 7]}, "is 23, not 24"),
        ("puzzle24", "8 / 5 + 10 + 7", {"numbers": [8, 5, 10, 7]}, "is 93/5, not 24"),
        ("puzzle24", "8 / (5 - 5)", {"numbers": [8, 5, 5]}, "divides by zero"),
        ("mini_sudoku", "2 1 4 3\n4 3 1 2", GRID, "2 rows of 4 cells; the puzzle is 4 by 4"),
        ("mini_sudoku", "1 1 4 3\n4 3 1 2\n1 2 3 4\n3 4 2 1", GRID, "Row 1, column 1 is 2 in the puzzle, and 1 in"),
        ("mini_sudoku", "2 1 1 3\n4 3 1 2\n1 2 3 4\n3 4 2 1", GRID, "Row 1 holds 1 more than once"),
        ("mini_sudoku", "2 1 x 3\n4 3 1 2\n1 2 3 4\n3 4 2 1", GRID, "Row 1, column 3 holds no number"),
        ("n_queens", "_ _ _ _\n_ _ _ _\n_ _ _ _\n_ _ _ _", BOARD, "row 1, column 2 was there from the start"),
        ("n_queens", "_ Q _ _\n_ _ _ Q\n_ _ _ _\n_ _ _ _", BOARD, "There are 2 queens"),
        ("n_queens", "_ Q _ _\nQ _ _ _\n_ _ _ Q\n_ _ Q _", BOARD, "attack"),
        ("graph_color", '{"0": 1, "1": 2}', GRAPH, "Vertex 2 has no colour"),
        ("graph_color", '{"0": 1, "1": 2, "2": 2}', GRAPH, "Vertices 1 and 2 are joined"),
        ("graph_color", '{"0": 1, "1": 2, "2": 7}', GRAPH, "not on offer"),
    ],
)
def test_the_rule_that_is_broken_is_named(name, answer, metadata, said):
    assert said in hint(name, answer, metadata)


@pytest.mark.parametrize("name", ["countdown", "puzzle24", "sudoku", "mini_sudoku", "n_queens", "graph_color"])
def test_a_right_answer_breaks_no_rule(name):
    for index in range(3):
        entry = rfenvs.get_task(ID, "train", index, task=name).data["entry"]
        assert hint(name, gold_of(entry), entry["metadata"]) is None


def test_feedback_names_what_is_wrong():
    codes = {
        answer: step(answer, task="countdown", leak_level=3)[1]
        for answer in ("I give up", "<answer>x + 1</answer>", "<answer>1 + 1</answer>")
    }
    assert [[e["data"]["code"] for e in items] for items in codes.values()] == [
        ["no_answer", "expected"],
        ["unreadable", "expected"],
        ["rule_broken", "expected"],
    ]
    assert codes["<answer>1 + 1</answer>"][0]["span"] == [8, 13]
    assert codes["I give up"][1]["reveals_reference"]


def test_thinking_does_not_count():
    gold = rfenvs.get_task(ID, "train", 0, task="countdown").reference
    assert step(f"<think>{gold}</think> I give up", task="countdown")[0] == 0.0
    assert step(f"<think>{gold}", task="countdown")[0] == 0.0, "it never ended"
    assert step(f"<think>hm</think>{gold}", task="countdown")[0] == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "{gold}",
        "<answer>zzz</answer> no, {gold}",
        "In <answer> tags: {gold}",
        "{gold} That is my <answer>.",
        "<answer><answer>{inner}</answer></answer>",
        "{gold}</answer>",
    ],
)
def test_the_last_answer_counts(text: str):
    task = rfenvs.get_task(ID, "train", 0, task="countdown")
    reply = text.format(gold=task.reference, inner=task.data["gold"])
    assert step(reply, task="countdown")[0] == 1.0


@given(st.lists(st.sampled_from(["<answer>", "</answer>", "<think>", "</think>", "1+1", " ", "é"]), max_size=12))
def test_every_reply_gets_a_verdict_and_spans_lie_inside(pieces: list[str]):
    text = "".join(pieces)
    reward, feedback = step(text, task="countdown")
    assert reward == 0.0
    assert feedback
    for entry in feedback:
        if entry["span"] is not None:
            start, end = entry["span"]
            assert 0 <= start <= end <= len(text)
            assert text[end : end + 9] == "</answer>"


def test_finding_the_answer_takes_linear_time():
    start = time.perf_counter()
    for text in ("<answer>" * 50_000, "</answer>" * 50_000, "<answer></answer>" * 25_000):
        step(text, task="countdown")
    assert time.perf_counter() - start < 2


# Settings.


def test_tasks_take_turns():
    env = make(task="countdown, sudoku").unwrapped
    names = [env.task("train", i).data["name"] for i in range(4)]
    assert names == ["countdown", "sudoku"] * 2
    assert env.num_tasks("train") == 40_000
    task = env.task("test", 7)
    assert env.task_index("test", task.id) == 7
    with pytest.raises(ValueError, match="has no task"):
        env.reset(options={"task_id": f"sudoku-test-{'9' * 5000}-x"})


def test_bad_settings_say_what_to_do():
    with pytest.raises(ValueError, match="task='sodoku': use 'all', or names of"):
        make(task="sodoku")
    with pytest.raises(ValueError, match="a mixture of other tasks"):
        make(task="composite")
    with pytest.raises(ValueError, match="needs one task"):
        make(task="sudoku,countdown", config={"min_numbers": 3})
    with pytest.raises(ValueError, match="does not suit task='countdown'"):
        make(task="countdown", config={"min_numbers": -3})
    with pytest.raises(ValueError, match="names a task twice"):
        make(task="countdown,countdown")
    with pytest.raises(ValueError, match="use numbers, texts"):
        make(task="countdown", config={"min_numbers": object()})
    operators = make(task="countdown", config={"operators": ["+", "-"]}).unwrapped
    assert "*" not in operators.task("train", 0).data["gold"]
    assert "numbers: 6, 61" not in make(task="countdown", config={"min_numbers": 3, "max_numbers": 3}).reset(seed=0)[0]


def test_items_of_ones_own(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"question": "2+2?", "answer": "4", "metadata": {"source_dataset": "chain_sum"}}\n')
    assert step("<answer>4</answer>", data=str(path))[0] == 1.0
    path.write_text('{"question": "2+2?", "answer": "4", "metadata": {"source_dataset": "nothing"}}\n')
    with pytest.raises(ValueError, match=r"own\.jsonl, line 1: metadata\.source_dataset='nothing'"):
        make(data=str(path))


def test_many_threads_see_the_same_tasks():
    def prompts(_: int) -> list[str]:
        env = make(task="list_functions,pool_matrix,countdown").unwrapped
        return [env.task("train", i).prompt for i in range(12)]

    from rfenvs.envs import reasoning_gym

    reasoning_gym._entry.cache_clear()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert len({tuple(found) for found in threads.map(prompts, range(8))}) == 1

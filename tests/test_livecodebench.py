"""rfenvs/LiveCodeBench-v6: prompts, rewards, what the policy sees, and what happens when the sandbox fails."""

import json
import logging
from pathlib import Path

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from scripted import ScriptedSandbox

import rfenvs
from rfenvs import Action
from rfenvs.graders import code_sandbox
from sandboxes import Result, SandboxError, Status

ID = "rfenvs/LiveCodeBench-v6"
GOOD = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
BAD = "```python\na, b = map(int, input().split())\nprint(a * b)\n```"
STARTER = "class Solution:\n    def add(self, a: int, b: int) -> int:\n        "


def row(id: str, tests: list[tuple[str, str]], function: str | None = None, **values: str) -> dict[str, str]:
    """A row in LiveCodeBench's layout; the first test is public."""
    kind = "stdin" if function is None else "functional"
    made = [{"input": given, "output": wanted, "testtype": kind} for given, wanted in tests]
    return {
        "question_title": id,
        "question_content": "Add two numbers.",
        "platform": "atcoder",
        "question_id": id,
        "contest_id": "c",
        "contest_date": "2025-02-03T00:00:00",
        "starter_code": "" if function is None else STARTER,
        "difficulty": "easy",
        "public_test_cases": json.dumps(made[:1]),
        "private_test_cases": json.dumps(made[1:]),
        "metadata": json.dumps({} if function is None else {"func_name": function}),
        **values,
    }


@pytest.fixture
def data(tmp_path: Path) -> str:
    sums = [("1 2\n", "3\n"), ("5 6\n", "11\n"), ("10 20\n", "30\n"), ("2 2\n", "4\n"), ("0 0\n", "0\n")]
    rows = [
        row("sum", sums),
        row("add", [("1\n2", "3"), ("5\n6", "11")], "add", platform="leetcode", difficulty="hard"),
        row("abc343_a", sums, contest_date="2024-03-02T00:00:00"),
        row("3000", sums, question_title="Find the Peaks", contest_date="2023-11-25T00:00:00", platform="leetcode"),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(values) + "\n" for values in rows))
    return str(path)


def make(data: str, **kwargs: object) -> gymnasium.Env[str, str]:
    return gymnasium.make(ID, data=data, **{"split": "test", **kwargs})


def play(env: gymnasium.Env[str, str], *answers: str, task: str = "sum") -> tuple:
    env.reset(options={"task_id": task})
    for answer in answers:
        step = env.step(answer)
    return step


# The task.


def test_the_prompt_is_livecodebench_to_the_letter(data: str) -> None:
    env = make(data)
    observation, info = env.reset(options={"task_id": "sum"})
    system, user = info["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert system["content"] == (
        "You are an expert Python programmer. You will be given a question (problem specification) and will generate "
        "a correct Python program that matches the specification and passes all tests."
    )
    assert user["content"] == (
        "### Question:\nAdd two numbers.\n\n"
        "### Format: Read the inputs from stdin solve the problem and write the answer to stdout (do not directly "
        "test on the sample inputs). Enclose your code within delimiters as follows. Ensure that when the python "
        "program runs, it reads the inputs, runs the algorithm and writes output to STDOUT.\n"
        "```python\n# YOUR CODE HERE\n```\n\n### Answer: (use the provided format with backticks)\n\n"
    )
    assert observation == f"{system['content']}\n\nUser: {user['content']}"
    _, info = env.reset(options={"task_id": "add"})
    assert info["messages"][1]["content"] == (
        "### Question:\nAdd two numbers.\n\n"
        "### Format: You will use the following starter code to write the solution to the problem and enclose your "
        f"code within delimiters.\n```python\n{STARTER}\n```\n\n"
        "### Answer: (use the provided format with backticks)\n\n"
    )


def test_the_prompt_holds_no_test(data: str) -> None:
    observation, info = make(data).reset(options={"task_id": "sum"})
    assert "10 20" not in observation + json.dumps(info)


def test_tasks_know_where_they_come_from(data: str) -> None:
    _, info = make(data).reset(options={"task_id": "sum"})
    assert info["task"]["source"] == "file"
    assert info["task"]["id"] == "sum"
    assert info["task"]["data_revision"].startswith("file:")


def test_faulty_problems_are_tested_on_but_not_trained_on(data: str) -> None:
    sizes = [rfenvs.num_tasks(ID, split, data=data) for split in ("train", "test")]
    assert sizes == [2, 4]
    tasks = [rfenvs.get_task(ID, "test", index, data=data) for index in range(4)]
    assert [bool(task.flags) for task in tasks] == [False, False, True, True]


def test_windows_difficulties_and_platforms_select(data: str) -> None:
    chosen = {"platform": "leetcode", "difficulty": ["hard"], "start_date": "2025-01-01"}
    assert rfenvs.num_tasks(ID, "test", data=data, **chosen) == 1
    assert rfenvs.get_task(ID, "test", 0, data=data, **chosen).id == "add"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"profile": "apps"}, "profile='apps': use 'lcb' or 'sdpo'"),
        ({"reveal": "all"}, "reveal='all': use 'none' or 'public' or 'private'"),
        ({"reward": "half"}, "reward='half': use 'all' or 'fraction'"),
        ({"split": "dev"}, "split='dev': use one of train, test"),
    ],
)
def test_wrong_settings_are_named(data: str, kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(data, **kwargs)


# Rewards.


def test_all_tests_must_pass(data: str) -> None:
    env = make(data)
    _, reward, terminated, truncated, info = play(env, f"So:\n{GOOD}")
    assert (reward, terminated, truncated, info["feedback"], info["scored"]) == (1.0, True, False, [], True)
    assert info["metrics"] == {"tests": 5, "tests_run": 5, "tests_passed": 1, "has_code": 1}
    _, reward, terminated, _, info = play(env, BAD)
    assert (reward, terminated, info["stop_reason"]) == (0.0, True, "completed")
    assert info["metrics"] == {"tests": 5, "tests_run": 1, "tests_passed": 0, "has_code": 1}
    _, reward, *_, info = play(env, "I give up.")
    assert (reward, info["stop_reason"], info["metrics"]["has_code"]) == (0.0, "parse_error", 0)


def test_functions_are_called(data: str) -> None:
    program = "class Solution:\n    def add(self, a: int, b: int) -> int:\n        return a {} b"
    verdicts = [play(make(data), f"```python\n{program.format(sign)}\n```", task="add")[1] for sign in "+-"]
    assert verdicts == [1.0, 0.0]


def test_a_fraction_counts_every_test(data: str) -> None:
    _, reward, *_, info = play(make(data, reward="fraction"), BAD)
    assert reward == pytest.approx(2 / 5)  # 2 * 2 and 0 * 0
    assert info["metrics"]["tests_run"] == 5
    assert info["feedback"]
    assert play(make(data, reward="fraction"), GOOD)[1] == 1.0


def test_sdpo_trains_on_half_of_the_hidden_tests(data: str) -> None:
    runs = [play(make(data, profile="sdpo", split=split), GOOD)[4]["metrics"] for split in ("train", "test")]
    assert [metrics["tests"] for metrics in runs] == [2, 4]
    halves = {
        tuple(
            e["text"] for e in play(make(data, profile="sdpo", split="train", seed=seed), "```\nx\n```")[4]["feedback"]
        )
        for seed in range(8)
    }
    assert len(halves) > 1


# Feedback.


def test_the_next_observation_says_what_is_wrong_and_asks_again(data: str) -> None:
    env = make(data, max_turns=3)
    observation, reward, terminated, truncated, info = play(env, BAD)
    assert observation == (
        "Wrong answer on public test 1: expected 3, got 2.\nInput:\n1 2\nExpected output:\n3\nOutput:\n2\n\n"
        "Correct the program. Reply with the whole program in one fenced block."
    )
    assert info["messages"] == [{"role": "user", "content": observation}]
    assert (reward, terminated, truncated) == (0.0, False, False)
    observation, reward, terminated, *_ = env.step(GOOD)
    assert (observation, reward, terminated) == ("", 1.0, True)


def test_the_last_turn_does_not_ask_again(data: str) -> None:
    observation, _, _, truncated, info = play(make(data, max_turns=2), BAD, BAD)
    assert truncated
    assert "Correct the program" not in observation
    assert info["stop_reason"] == "max_turns"


def test_a_cut_off_answer_is_told_so(data: str) -> None:
    observation, *_ = play(make(data, max_turns=2), Action("```python\nprint(", finish_reason="length"))
    assert observation.startswith("The answer was cut off by the length limit.\nThe code block is not closed")


def test_hidden_tests_stay_hidden_from_the_policy(data: str) -> None:
    almost = "```python\na, b = map(int, input().split())\nprint(a + b if a < 9 else f'no {a} {b}')\n```"
    env = make(data, max_turns=2)
    observation, _, _, _, info = play(env, almost)
    assert observation.startswith("Wrong answer on a hidden test.\n")
    told = {entry["visibility"]: entry for entry in info["feedback"]}
    assert "10 20" not in json.dumps(told["policy"])
    assert "10 20" in told["teacher"]["text"]
    assert told["teacher"]["reveals_reference"]
    assert "10 20" not in rfenvs.feedback_text(info, "teacher", reference=False)
    for reveal in ("none", "public"):
        assert "10 20" not in json.dumps(play(make(data, reveal=reveal), almost)[4])


def test_the_blamed_line_is_marked(data: str) -> None:
    answer = "First.\n```python\na, b = input().split()\nprint(a - b)\n```"
    (entry,) = play(make(data), answer)[4]["feedback"]
    assert answer[slice(*entry["span"])] == "print(a - b)"


# When the sandbox fails.


def test_a_broken_sandbox_is_not_a_zero_and_is_said_once(data: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(case: object, share: bool) -> Result:
        raise SandboxError("the engine is gone")

    code_sandbox._told.clear()
    with caplog.at_level(logging.ERROR, logger=code_sandbox.__name__):
        for _ in range(2):
            _, reward, terminated, truncated, info = play(make(data, sandbox=ScriptedSandbox(broken)), GOOD)
            assert (reward, terminated, truncated, info["scored"]) == (0.0, False, True, False)
            assert info["stop_reason"] == "env_error"
            (entry,) = info["feedback"]
            assert "the engine is gone" in entry["text"]
            assert (entry["kind"], entry["visibility"]) == ("env_error", "log")
    assert [record.message.count("the engine is gone") for record in caplog.records] == [1]


def test_a_sandbox_of_ones_own_is_used(data: str) -> None:
    sandbox = ScriptedSandbox(lambda case, share: Result(Status.OK, stdout="0"))
    play(make(data, sandbox=sandbox, fresh=True), GOOD)
    assert [call[:2] for call in sandbox.calls] == [(1, False)]


# The contract.


@pytest.mark.parametrize("profile", ["lcb", "sdpo"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.filterwarnings("error")
def test_gymnasium_is_content(data: str, profile: str, split: str) -> None:
    check_env(make(data, profile=profile, split=split).unwrapped)


@pytest.mark.parametrize("profile", ["lcb", "sdpo"])
def test_validation_works_without_reference_solutions(data: str, profile: str) -> None:
    report = rfenvs.validate(ID, "test", 3, data=data, profile=profile)
    assert report.ok, report
    assert report.without_reference == 3
    assert "3 tasks (3 without a reference, 1 flagged)" in str(report)


@pytest.mark.parametrize("profile", ["lcb", "sdpo"])
def test_validation_of_the_packaged_sample(profile: str) -> None:
    for split in rfenvs.splits(ID):
        report = rfenvs.validate(ID, split, 4, data="sample", profile=profile)
        assert report.ok, report
        assert report.without_reference == 0


def test_validation_finds_a_grader_that_passes_everything(data: str) -> None:
    yes = ScriptedSandbox(
        lambda case, share: Result(Status.OK, stdout={"1 2\n": "3", "5 6\n": "11"}.get(case.stdin, "x"))
    )
    assert rfenvs.validate(ID, "test", 1, data=data, sandbox=yes).ok
    every = {"1 2\n": "3", "5 6\n": "11", "10 20\n": "30", "2 2\n": "4", "0 0\n": "0"}
    yes = ScriptedSandbox(lambda case, share: Result(Status.OK, stdout=every[str(case.stdin)]))
    assert "a wrong answer earns 1.0" in str(rfenvs.validate(ID, "test", 1, data=data, sandbox=yes))

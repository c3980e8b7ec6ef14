"""`rfenvs/ToolAlpaca-v0`: its data, verdicts and feedback; what the original scorer lets through or can never pay."""

import json
import os
from pathlib import Path

import pytest

import rfenvs
from rfenvs.envs.samples.make_toolalpaca import rows
from rfenvs.envs.toolalpaca import ToolAlpacaEnv
from rfenvs.envs.toolalpaca_data import KNOWN_BAD, SPEC, read_documentation
from rfenvs.feedback import feedback_text
from rfenvs.registry import make
from rfenvs.rows import DataError

ID = "rfenvs/ToolAlpaca-v0"
DATA = Path(os.environ.get("RFENVS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "tooluse"
FILES = {"sdpo_tooluse_test.jsonl": 68, "toolalpaca_eval_simulated.json": 100}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="RFENVS_TEST_DATA/tooluse is not here")


def env_of(data: str = "sample", **kwargs: object) -> ToolAlpacaEnv:
    env = make(ID, "test", data=data, **kwargs)
    assert isinstance(env, ToolAlpacaEnv)
    return env


def asked(env: ToolAlpacaEnv, words: str) -> int:
    """Index of the request that holds `words`."""
    [index] = [i for i in range(env.num_tasks("test")) if words in env.get_task(i).prompt.rpartition("Question:")[2]]
    return index


def reply(env: ToolAlpacaEnv, index: int, text: str) -> tuple[float, dict]:
    env.reset(options={"task_index": index})
    _, reward, _, _, info = env.step(text)
    return reward, info


def literal(row: dict) -> str:
    """The row's own answer, written as the prompt asks for, marks and all."""
    calls = json.loads(row["answer"])
    return "\n".join(f"Action: {call['Action']}\nAction Input: {call['Action_Input']}" for call in calls)


def codes(info: dict) -> list[str]:
    return [entry["data"]["code"] for entry in info["feedback"]]


def test_the_sample_is_what_its_script_writes() -> None:
    assert SPEC.sample.read_text(encoding="utf-8") == "".join(json.dumps(row) + "\n" for row in rows())
    assert 20 <= len(rows()) <= 40


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("leak_level", [0, 1, 3])
def test_the_sample_is_valid(split: str, leak_level: int) -> None:
    report = rfenvs.validate(ID, split, 99, data="sample", leak_level=leak_level)
    assert report.ok, report
    assert report.flagged == 0


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_real_data_are_valid_and_every_gold_earns_the_reward(name: str) -> None:
    data = str(DATA / name)
    report = rfenvs.validate(ID, "test", 999, data=data)
    assert report.ok, report
    assert report.tasks == FILES[name]
    env = env_of(data)
    for index in range(report.tasks):
        task = env.get_task(index)
        reward, info = reply(env, index, task.reference)
        assert (reward, info["feedback"]) == (1.0, []), task.id
        assert all(flag.startswith("known_bad: ") and len(flag) > 20 for flag in task.flags)


@needs_data
def test_golds_as_the_data_write_them_earn_the_reward() -> None:
    path = DATA / "sdpo_tooluse_test.jsonl"
    env = env_of(str(path))
    for index, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        assert reply(env, index, literal(json.loads(line)))[0] == 1.0, index


@needs_data
def test_which_tasks_are_flagged() -> None:
    env = env_of(str(DATA / "sdpo_tooluse_test.jsonl"))
    flagged = {task.id: task.flags for task in map(env.get_task, range(68)) if task.flags}
    assert set(flagged) == {"4049", "4056", "4063", "4072", "4077", "4084", "4093", "4098", "4106", "4107"}
    assert len(KNOWN_BAD) == 9
    assert flagged["4056"] == ("known_bad: the answer breaks the schema of searchAnime: query (missing)",)
    simulated = env_of(str(DATA / "toolalpaca_eval_simulated.json"))
    flags = [task.flags for task in map(simulated.get_task, range(100)) if task.flags]
    assert len(flags) == 41
    assert sum("is a hole" in flag for (flag,) in flags) == 25


# What SDPO's scorer lets through, or can never pay.


def test_nested_json_can_be_matched() -> None:
    env = env_of()
    index = asked(env, "Note in the details")
    details = '{"day": "Monday", "picker": "Ana"}'
    text = f'Action: recordHarvest\nAction Input: {{"treeId": 3, "kilograms": 20, "details": {details}}}'
    assert reply(env, index, text)[0] == 1.0
    reward, info = reply(env, index, text.replace("Ana", "Bo"))
    assert (reward, codes(info)) == (0.0, ["wrong_value"])


def test_a_name_in_brackets_marks_a_call_that_may_be_left_out() -> None:
    env = env_of()
    index = asked(env, 'Search for the title "Dune"')
    search = 'Action: searchBooks\nAction Input: {"title": "Dune", "page": 1}'
    reserve = 'Action: reserveBook\nAction Input: {"bookId": 7, "cardNumber": "Z-9"}'
    for text in (search, f"{search}\n{reserve}", f"{search}\n{reserve.replace('reserve', '[Optional]reserve', 1)}"):
        assert reply(env, index, text)[0] == 1.0, text
    reward, info = reply(env, index, f"{search}\n{reserve.replace('7', '8')}")
    assert (reward, codes(info)) == (0.0, ["wrong_value"])
    assert codes(reply(env, index, reserve)[1]) == ["missing_call"]


def test_what_is_not_json_is_no_empty_object() -> None:
    env = env_of()
    index = asked(env, "Which branches does the library have")
    assert reply(env, index, "Action: listBranches\nAction Input: {}")[0] == 1.0
    for broken in ("{not json at all}", "", "none", "{}}", "[]"):
        reward, info = reply(env, index, f"Action: listBranches\nAction Input: {broken}")
        assert (reward, codes(info), info["stop_reason"]) == (0.0, ["syntax"], "parse_error")


def test_each_call_needs_its_own_arguments() -> None:
    env = env_of()
    index = asked(env, "Write down 12 kilograms")
    one, two = (
        f'Action: recordHarvest\nAction Input: {{"treeId": {t}, "kilograms": {k}}}' for t, k in ((1, 12), (2, 15.5))
    )
    assert reply(env, index, f"{two}\n{one}")[0] == 1.0
    for text in (f"{two}\n{two}", f"{one}\n{one}"):
        reward, info = reply(env, index, text)
        assert reward == 0.0
        assert info["metrics"]["correct_calls"] == 0.5
    swapped = f"{one}\n{two}".replace("12", "0").replace("15.5", "12").replace(": 0", ": 15.5")
    assert reply(env, index, swapped)[0] == 0.0


def test_types_are_strict_and_numbers_go_by_value() -> None:
    env = env_of()
    index = asked(env, "Tree 8 gave 41.5")
    call = 'Action: recordHarvest\nAction Input: {{"treeId": {}, "kilograms": 41.5}}'
    assert reply(env, index, call.format("8.0"))[0] == 1.0
    reward, info = reply(env, index, call.format('"8"'))
    assert (reward, codes(info)) == (0.0, ["type"])


def test_an_optional_argument_left_out_empty_or_at_its_default_is_the_same() -> None:
    env = env_of()
    index = asked(env, 'Find "Emma" in English')
    for more in ("", ', "author": ""', ', "page": 1'):
        text = f'Action: searchBooks\nAction Input: {{"title": "Emma", "language": "english"{more}}}'
        assert reply(env, index, text)[0] == 1.0, more
    text = 'Action: searchBooks\nAction Input: {"title": "Emma", "language": "english", "page": 2}'
    assert reply(env, index, text)[0] == 0.0
    assert (
        reply(
            env,
            asked(env, "Reserve book number 4711"),
            'Action: reserveBook\nAction Input: {"bookId": 4711, "cardNumber": ""}',
        )[0]
        == 0.0
    )


def test_other_notations_are_read() -> None:
    env = env_of()
    index = asked(env, "Which pear trees")
    for text in (
        'listTrees(kind="pear")',
        '{"tool_calls": [{"function": {"name": "listTrees", "arguments": "{\\"kind\\": \\"pear\\"}"}}]}',
        '<think>All trees?</think><tool_call>{"name": "listTrees", "arguments": {"kind": "pear"}}</tool_call>',
    ):
        assert reply(env, index, text)[0] == 1.0, text


# Feedback.

SAID = [
    (
        "Action: listTree\nAction Input: {}",
        ["unknown_tool"],
        'NameError: there is no tool "listTree"; did you mean "listTrees" or "tagTree"?',
    ),
    (
        'Action: listTrees\nAction Input: {"kind": "fig"}',
        ["enum"],
        'ValueError in listTrees: "kind" must be one of "apple", "pear", "plum", got "fig".',
    ),
    (
        'Action: listTrees\nAction Input: {"sort": "pear"}',
        ["unexpected"],
        'TypeError in listTrees: there is no "sort"; use "kind".',
    ),
    (
        'Action: listTrees\nAction Input: {"kind": "plum"}',
        ["wrong_value"],
        'ValueError: "kind" is not what the request asks for.',
    ),
    (
        "Action: listTrees\nAction Input: {}",
        ["left_out"],
        'ValueError: "kind" is left out, but the request asks for it.',
    ),
    (
        "Action: frostWarning\nAction Input: {}",
        ["wrong_tool"],
        "ToolError: frostWarning is not the tool that the request needs.",
    ),
    (
        "I will list the pear trees.",
        ["syntax"],
        'SyntaxError: the reply holds no tool call; write "Action: name" and on the next line "Action Input: {...}".',
    ),
]


@pytest.mark.parametrize(("text", "expected", "words"), SAID)
def test_what_is_said(text: str, expected: list, words: str) -> None:
    env = env_of(leak_level=3)
    reward, info = reply(env, asked(env, "Which pear trees"), text)
    assert reward == 0.0
    assert codes(info) == [*expected, "expected"]
    assert feedback_text(info, "policy") == words
    assert info["feedback"][-1]["text"] == 'Planned:\nAction: listTrees\nAction Input: {"kind": "pear"}'
    assert [entry["leak_level"] for entry in info["feedback"]] == [
        int(info["feedback"][0]["kind"] == "wrong_answer"),
        3,
    ]


def test_documentation_in_prose() -> None:
    [tool] = read_documentation(
        'send: Send it.\nParameters: {"to": "Required. string. One of: [a, b]. Who.", "tags": "Array[string]. Tags.", '
        '"page": "integer. (default is 2)", "more": "Object. Anything.", "odd": "Anything at all."}\nOutput: ok'
    )
    assert tool["description"] == "Send it."
    assert tool["parameters"]["required"] == ["to"]
    properties = {
        name: {k: v for k, v in p.items() if k != "description"} for name, p in tool["parameters"]["properties"].items()
    }
    assert properties == {
        "to": {"type": "string", "enum": ["a", "b"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "page": {"type": "integer", "default": 2},
        "more": {"type": "object"},
        "odd": {},
    }


def test_rows_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    row = {**rows()[0], "idx": 7}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    env = env_of(str(path))
    assert [env.get_task(i).id for i in range(2)] == ["7", "7#2"]
    assert env.get_task(0).source == "file"
    for broken, message in (
        ({"prompt": "x"}, 'column "answer" must be str'),
        ({**row, "answer": "x"}, '"answer" is not JSON'),
        ({**row, "answer": '[{"Action": "f", "Action_Input": "x"}]'}, "a call cannot be read"),
        ({**row, "answer": '[{"Action": "f", "Action_Input": "[]"}]'}, "must hold an object"),
    ):
        other = tmp_path / f"{len(message)}.jsonl"
        other.write_text(json.dumps(broken) + "\n")
        with pytest.raises(DataError, match=message):
            env_of(str(other)).num_tasks("test")


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="compare='fuzzy': use one of exact"):
        env_of(compare="fuzzy")
    env = env_of(compare="loose")
    index = asked(env, "Find books by Ursula")
    assert reply(env, index, 'Action: searchBooks\nAction Input: {"author": "ursula le-guin"}')[0] == 1.0

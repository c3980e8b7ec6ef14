"""`rfenvs/ToolCall-v0`: its tasks, splits, rewards and feedback."""

import json
import re
import time
from pathlib import Path

import gymnasium
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rfenvs
from rfenvs import Action
from rfenvs.envs import toolcall_catalogue as catalogue
from rfenvs.envs.toolcall import ToolCallEnv, signature, split_of
from rfenvs.graders.tool_calls import grade, write_call

ID = "rfenvs/ToolCall-v0"
LEVELS = (1, 2, 3, 4)
SPLITS = ("train", "dev", "test")


def make(level: int = 1, **kwargs: object) -> ToolCallEnv:
    env = gymnasium.make(ID, level=level, **kwargs).unwrapped
    assert isinstance(env, ToolCallEnv)
    return env


def play(env: ToolCallEnv, index: int, action: str) -> tuple:
    env.reset(options={"task_index": index})
    return env.step(action)


def test_the_prompt_of_level_1() -> None:
    observation, info = make().reset(options={"task_index": 0})
    request = info["messages"][-1]["content"]
    assert [m["role"] for m in info["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert observation == (
        "Reply with one tool call. Tools: weather(city), call(name), timer(minutes), buy(item).\n\n"
        'User: How hot is it in Bonn?\nAssistant: weather(city="Bonn")\n\n'
        'User: Call my friend Max.\nAssistant: call(name="Max")\n\n'
        f"User: {request}"
    )
    assert [tool["name"] for tool in info["tools"]] == ["weather", "call", "timer", "buy"]
    assert rfenvs.get_task(ID, "train", 0).prompt == observation


def test_level_1_is_short_and_uniform() -> None:
    env = make()
    for index in range(2000):
        [call] = env.task("train", index).data["calls"]
        [value] = call.arguments.values()
        assert re.fullmatch(r"[A-Z]?[a-z]+|\d{1,2}", value)
        assert len(env.task("train", index).reference) <= 27
    for tool in catalogue.LEVEL_1:
        assert len(tool.phrasings) >= 8
    assert [len(set(p)) >= 55 for p in (catalogue.CITIES, catalogue.NAMES, catalogue.ITEMS, catalogue.MINUTES)]
    for pool in (catalogue.CITIES, catalogue.NAMES, catalogue.ITEMS, catalogue.ARTISTS, catalogue.WORDS):
        assert len(pool) == len(set(pool))


def test_what_each_level_offers() -> None:
    for level, count in zip(LEVELS, (4, 8, 12, 20), strict=True):
        env = make(level)
        tasks = [env.task("train", i) for i in range(200)]
        assert {len(task.tools) for task in tasks} == {count}
        assert {len(task.data["calls"]) for task in tasks} == [{1}, {1}, {2}, {1, 2, 3}][level - 1]
        for task in tasks:
            names = [tool["name"] for tool in task.tools]
            assert len(set(names)) == count
            assert {call.name for call in task.data["calls"]} <= set(names)
            assert all(name in task.messages[0]["content"] for name in names)
    nested = [c for i in range(200) for c in make(4).task("train", i).data["calls"]]
    assert any(isinstance(v, list) and isinstance(v[0], dict) for c in nested for v in c.arguments.values())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_reference_earns_the_reward_and_fits_the_schemas(level: int, split: str) -> None:
    env = make(level, split=split)
    for index in range(100):
        task = env.task(split, index)
        for call in task.data["calls"]:
            [tool] = [t for t in task.tools if t["name"] == call.name]
            jsonschema.validate(call.arguments, tool["parameters"])
        for answer in (
            task.reference,
            "\n".join(reversed(task.reference.splitlines())),
            f"```python\n{task.reference}\n```",
            json.dumps([{"name": c.name, "arguments": c.arguments} for c in task.data["calls"]]),
        ):
            _, reward, terminated, truncated, info = play(env, index, answer)
            assert (reward, terminated, truncated, info["feedback"]) == (1.0, True, False, [])
            assert info["metrics"] == {"readable": 1.0, "correct_calls": 1.0}
            assert info["reward_parts"] == {"calls": 1.0}


@pytest.mark.parametrize("level", LEVELS)
def test_tasks_are_a_function_of_split_and_index(level: int) -> None:
    one, other = make(level), make(level)
    backwards = [other.task("train", i) for i in reversed(range(50))][::-1]
    assert [one.task("train", i) for i in range(50)] == backwards
    assert one.task("train", 2**31 - 2).reference
    assert len({one.task(split, 7).id for split in SPLITS}) == 3


def test_tasks_never_change_between_releases() -> None:
    assert [rfenvs.get_task(ID, "test", i).reference for i in range(4)] == GOLDEN[1]
    assert [rfenvs.get_task(ID, "test", i, level=4).reference for i in range(2)] == GOLDEN[4]


@pytest.mark.parametrize("level", LEVELS)
def test_no_call_appears_in_two_splits(level: int) -> None:
    env = make(level)
    calls: dict[str, set[str]] = {}
    for split in SPLITS:
        tasks = [env.task(split, i) for i in range(3000 if level < 4 else 1000)]
        drawn = [call for task in tasks for call in task.data["calls"]]
        assert {split_of(call) for call in drawn} == {split}
        calls[split] = {write_call(c.name, dict(sorted(c.arguments.items()))) for c in drawn}
        names = {call.name for call in drawn}
        assert names == {tool.name for tool in getattr(catalogue, f"LEVEL_{level}")}, "every tool in every split"
    assert not calls["train"] & calls["test"]
    assert not calls["train"] & calls["dev"]
    assert not calls["dev"] & calls["test"]
    assert min(map(len, calls.values())) >= 20


def test_a_task_costs_less_than_a_millisecond() -> None:
    for level in LEVELS:
        env = make(level)
        start = time.process_time()
        for index in range(300):
            env.task("test", index)
        assert (time.process_time() - start) / 300 < 0.001


def test_worked_examples_are_right_and_in_no_split() -> None:
    pools = {*catalogue.CITIES, *catalogue.NAMES, *catalogue.ITEMS, *catalogue.TITLES, "75", 14, 15, 22, 150}
    for level in LEVELS:
        tools = [tool.schema() for tool in getattr(catalogue, f"LEVEL_{level}")]
        for _, answer in catalogue.SHOTS[level]:
            calls = rfenvs.graders.tool_calls.parse_calls(answer)
            assert grade(answer, calls, tools).problems == []
        assert len(make(level, shots=0).reset()[1]["messages"]) == 2
        seen = {c.name + str(c.arguments) for i in range(1000) for c in make(level).task("train", i).data["calls"]}
        for _, answer in catalogue.SHOTS[level]:
            for call in rfenvs.graders.tool_calls.parse_calls(answer):
                assert call.name + str(call.arguments) not in seen
    assert not {"Bonn", "Max", "Ulm", "flour", "karate"} & pools


def test_task_ids_lead_back_to_their_task() -> None:
    env = make(2, split="test")
    _, info = env.reset(options={"task_index": 12})
    task_id = info["task"]["id"]
    assert task_id.startswith("L2-test-12-")
    assert env.reset(options={"task_id": task_id})[1]["task"]["index"] == 12
    for wrong in (
        "",
        "L2-test-12-00000000",
        task_id.replace("L2", "L3"),
        "L2-test-99999999999-aa",
        "a-b-²-c",
    ):
        with pytest.raises(ValueError, match="has no task"):
            env.reset(options={"task_id": wrong})


def test_index_limits() -> None:
    assert rfenvs.num_tasks(ID, "train") == 2**31 - 1
    assert rfenvs.num_tasks(ID, "dev") == rfenvs.num_tasks(ID, "test") == 1000
    with pytest.raises(ValueError, match="tasks 0 to 999"):
        rfenvs.get_task(ID, "test", 1000)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"level": 5}, "level=5: use one of 1, 2, 3, 4"), ({"feedback": "all"}, "use 'hint' or 'expected'"),
     ({"shots": 9}, "level 1 has 0 to 4 worked examples"), ({"split": "validation"}, "train, dev, test")],
)  # fmt: skip
def test_bad_arguments_are_explained(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gymnasium.make(ID, **kwargs)


ANSWERS = st.text(max_size=40) | st.builds(
    lambda name, args: write_call(name, args),
    st.sampled_from(["weather", "call", "timer", "buy", "play", "convert", "order_groceries", "oops"]),
    st.dictionaries(
        st.sampled_from(["city", "name", "minutes", "item", "days", "unit", "items", "x"]),
        st.sampled_from(catalogue.CITIES + catalogue.NAMES + catalogue.ITEMS) | st.integers(0, 60) | st.booleans(),
        max_size=3,
    ),
)
ENVS = {(level, mode): make(level, feedback=mode, max_turns=2) for level in LEVELS for mode in ("hint", "expected")}


@settings(max_examples=150, deadline=None)
@given(ANSWERS, st.sampled_from(sorted(ENVS)), st.integers(0, 10_000))
def test_any_answer_is_graded_alike_and_told_why(answer: str, key: tuple, index: int) -> None:
    env = ENVS[key]
    first, second = play(env, index, answer), play(env, index, answer)
    assert first == second
    observation, reward, terminated, truncated, info = first
    assert reward in (0.0, 1.0)
    assert (reward == 1.0) == terminated == (info["feedback"] == [])
    assert not truncated
    for entry in info["feedback"]:
        jsonschema.validate(entry, rfenvs.FEEDBACK_SCHEMA)
        if entry["span"]:
            start, end = entry["span"]
            assert 0 <= start <= end <= len(answer)
    seen = [e["text"] for e in info["feedback"] if e["visibility"] == "policy"]
    assert observation == "\n".join(seen)
    if reward == 0.0:
        assert seen
        assert (key[1] == "expected") == any(e["reveals_reference"] for e in info["feedback"])


def leaves(value: object) -> list:
    if isinstance(value, dict | list):
        return [leaf for entry in (value.values() if isinstance(value, dict) else value) for leaf in leaves(entry)]
    return [value]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(LEVELS), st.integers(0, 10_000), st.integers(0, 10_000), ANSWERS, st.booleans())
def test_hints_never_tell_an_expected_value(level: int, index: int, other: int, answer: str, near: bool) -> None:
    """Not even one that the request tells: only the catalogue and the answer itself may be quoted."""
    env = ENVS[level, "hint"]
    action = env.task("train", other).reference if near else answer
    task = env.task("train", index)
    observation, _, _, _, info = play(env, index, action)
    said = json.dumps([observation, [e["data"] for e in info["feedback"]]], ensure_ascii=False)
    said = re.sub(r"expected \d+ calls?, got \d+|call \d+|argument \d+|\"call\": \d+", "", said)
    known = action + task.messages[0]["content"]
    for call in task.data["calls"]:
        for leaf in leaves(call.arguments):
            word = re.compile(rf"\b{re.escape(str(leaf))}\b")
            if not word.search(known):
                assert not word.search(said)


def test_expected_feedback_states_the_answer_to_the_teacher_only() -> None:
    env = make(feedback="expected", split="test")
    task = env.task("test", 0)
    for answer in ("", "I will.", "weather(", "oops()", 'call(nam="x")', 'call(name="Nobody")', "é" * 600):
        observation, _, _, _, info = play(env, 0, answer)
        last = info["feedback"][-1]
        assert last["text"] == f"Expected: {task.reference}\nGot: {last['data']['got']}"
        assert last["data"]["expected"] == task.reference
        assert (last["kind"], last["visibility"], last["reveals_reference"]) == (
            "wrong_answer",
            "teacher",
            True,
        )
        assert last["data"]["got"] == answer or len(answer) > 500
        assert len(info["feedback"]) >= 2
        assert task.reference not in observation
        assert task.reference not in rfenvs.feedback_text(info, "policy")
        assert task.reference in rfenvs.feedback_text(info)
        assert task.reference not in rfenvs.feedback_text(info, reference=False)
    *_, info = play(env, 0, task.reference)
    assert info["feedback"] == []


def test_several_turns() -> None:
    env = make(max_turns=3)
    env.reset(options={"task_index": 0})
    observation, reward, terminated, truncated, info = env.step("temperature()")
    assert observation == 'NameError: there is no tool "temperature"; use "weather", "call", "timer", "buy".'
    assert (reward, terminated, truncated, info["stop_reason"]) == (0.0, False, False, "")
    assert info["messages"] == [{"role": "user", "content": observation}]
    _, reward, terminated, _, info = env.step(env.task("train", 0).reference)
    assert (reward, terminated, info["turn"], info["stop_reason"]) == (1.0, True, 2, "completed")
    env.reset(options={"task_index": 0})
    for turn in range(3):
        *_, truncated, info = env.step("?")
        assert info["feedback"][0]["id"] == f"t{turn}.f0"
        assert info["feedback"][0]["turn"] == turn
    assert truncated
    assert info["stop_reason"] == "max_turns"


def test_stop_reasons_of_a_single_turn() -> None:
    env = make()
    assert play(env, 0, "?")[-1]["stop_reason"] == "parse_error"
    assert play(env, 0, "oops()")[-1]["stop_reason"] == "completed"
    info = play(env, 0, Action('weather(city="O', finish_reason="length"))[-1]
    assert info["stop_reason"] == "max_tokens"
    assert [e["data"]["code"] for e in info["feedback"]] == ["truncated", "syntax"]
    assert info["metrics"] == {"readable": 0.0, "correct_calls": 0.0}


def test_signatures() -> None:
    written = [signature(tool.schema()) for tool in catalogue.LEVEL_2]
    assert written[0] == "weather(city, unit?: celsius|fahrenheit, days?: int)"
    assert written[2] == "timer(minutes: int)"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("feedback", ["hint", "expected"])
def test_validation_finds_nothing(level: int, feedback: str) -> None:
    for split in SPLITS:
        report = rfenvs.validate(ID, split, 10, level=level, feedback=feedback)
        assert report.ok, str(report)


def test_tasks_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    tool = {
        "name": "add",
        "description": "",
        "parameters": {"properties": {"n": {"type": "array"}}, "required": ["n"]},
    }
    rows = [
        {"request": "Add 1 and 2.", "answer": "add(n=[1, 2])", "tools": [tool]},
        {
            "request": "Weather in Bonn?",
            "answer": '{"name": "weather", "arguments": {"city": "Bonn"}}',
            "split": "dev",
        },
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert rfenvs.num_tasks(ID, "train", data=str(path)) == 1
    assert rfenvs.num_tasks(ID, "dev", data=str(path)) == 2
    env = make(data=str(path))
    observation, info = env.reset(seed=0)
    assert observation.endswith("User: Add 1 and 2.")
    assert info["task"]["source"] == "file"
    assert str(tmp_path) not in json.dumps(info)
    assert env.reset(options={"task_id": info["task"]["id"]})[1]["task"]["index"] == 0
    assert env.step("add(n=[1, 2.0])")[1] == 1.0
    assert rfenvs.validate(ID, "dev", 2, data=str(path)).ok
    for row, message in (
        ({"request": "x"}, 'row 1: "answer" must be a string'),
        ({"request": "x", "answer": "weather("}, "row 1: the answer cannot be read"),
        ({"request": "x", "answer": "oops()"}, "row 1: NameError"),
    ):
        path.write_text(json.dumps(row))
        with pytest.raises(ValueError, match=message):
            make(data=str(path))


GOLDEN = {
    1: ['weather(city="Austin")', 'call(name="Bruno")', 'call(name="Anna")', 'call(name="Michael")'],
    4: [
        'set_scene(rooms=[{"room": "attic", "brightness": 27}])',
        'rate_song(artist="Garbage", stars=4)\nbuy(item="pens")',
    ],
}

"""The episode contract, on an environment small enough to see through."""

import copy
import pickle

import gymnasium
import jsonschema
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

import rfenvs
from rfenvs import Action, Task, TextEnv, Verdict, item

INFO_TYPES = {
    "task": dict, "turn": int, "messages": list, "reward_parts": dict, "metrics": dict, "tools": list,
    "stop_reason": str, "scored": bool, "feedback": list,
}  # fmt: skip


class Add(TextEnv):
    """Add two numbers; the answer "boom" breaks the grader."""

    reward_part_names = ("sum",)
    metric_names = ("distance",)

    def num_tasks(self, split: str) -> int:
        return 10

    def task(self, split: str, index: int) -> Task:
        messages = ({"role": "system", "content": "Add."}, {"role": "user", "content": f"{index} + 1"})
        return Task(messages=messages, reference=str(index + 1), tools=({"name": "calc", "parameters": {}},))

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        if action == "boom":
            raise RuntimeError(f"object at {id(self):#x}")
        if action == "nan":
            return Verdict(float("nan"))
        if action == "own":
            return Verdict(0.0, observation="Own words.")
        if action == "silent":
            return Verdict(0.0)
        if action == "unscored":
            return Verdict(0.7, scored=False)
        if action == task.reference:
            return Verdict(1.0, reward_parts={"sum": 1.0})
        return Verdict(0.0, [item("wrong_answer", f"{action} is wrong.")], metrics={"distance": 2})


gymnasium.register("tests/Add-v0", entry_point=Add)


def play(*actions: str, **kwargs: object) -> list:
    env = gymnasium.make("tests/Add-v0", **kwargs)
    env.reset(options={"task_index": 4})
    return [env.step(action) for action in actions]


def test_reset_shows_the_prompt_as_text_and_as_messages() -> None:
    observation, info = gymnasium.make("tests/Add-v0").reset(options={"task_index": 4})
    assert observation == "Add.\n\nUser: 4 + 1"
    assert info["messages"] == [{"role": "system", "content": "Add."}, {"role": "user", "content": "4 + 1"}]
    task = info["task"]
    assert task == {
        "id": rfenvs.get_task("tests/Add-v0", "train", 4).id,
        "index": 4,
        "split": "train",
        "env_id": "tests/Add-v0",
        "data_revision": "1",
        "source": "procedural",
        "flags": [],
    }
    assert info["tools"] == [{"name": "calc", "parameters": {}}]


def test_info_has_the_same_keys_and_types_on_every_call() -> None:
    env = gymnasium.make("tests/Add-v0", max_turns=3)
    infos = [env.reset(seed=0)[1], *(env.step(a)[-1] for a in ("x", "silent", "y")), env.reset()[1]]
    infos += [play(a)[0][-1] for a in ("5", "boom", "unscored", "nan")]
    for info in infos:
        assert {key: type(value) for key, value in info.items()} == INFO_TYPES
        assert info["reward_parts"].keys() == {"sum"}
        assert info["metrics"].keys() == {"distance"}
        assert all(type(v) is float for v in [*info["reward_parts"].values(), *info["metrics"].values()])
        for entry in info["feedback"]:
            jsonschema.validate(entry, rfenvs.FEEDBACK_SCHEMA)


def test_success_terminates_without_feedback() -> None:
    [(observation, reward, terminated, truncated, info)] = play("5")
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info["feedback"] == []
    assert info["stop_reason"] == "completed"


def test_a_single_turn_failure_terminates() -> None:
    [(observation, reward, terminated, truncated, info)] = play("6")
    assert (observation, reward, terminated, truncated) == ("6 is wrong.", 0.0, True, False)
    assert info["stop_reason"] == "completed"
    assert info["turn"] == 1


def test_several_turns_go_on_until_success() -> None:
    first, second = play("6", "5", max_turns=3)
    assert first[:4] == ("6 is wrong.", 0.0, False, False)
    assert first[4]["messages"] == [{"role": "user", "content": "6 is wrong."}]
    assert first[4]["stop_reason"] == ""
    assert second[1:4] == (1.0, True, False)
    assert second[4]["turn"] == 2


def test_the_turn_limit_truncates_and_says_so_to_the_teacher() -> None:
    _, last = play("6", "7", max_turns=2)
    observation, reward, terminated, truncated, info = last
    assert (observation, reward, terminated, truncated) == ("7 is wrong.", 0.0, False, True)
    assert info["stop_reason"] == "max_turns"
    closing = info["feedback"][-1]
    assert (closing["turn"], closing["scope"], closing["visibility"]) == (-1, "episode", "teacher")
    assert [e["id"] for e in info["feedback"]] == ["t1.f0", "t1.f1"]


@pytest.mark.parametrize("answer", ["boom", "nan", "unscored"])
def test_a_broken_grader_is_not_a_zero(answer: str) -> None:
    [(observation, reward, terminated, truncated, info)] = play(answer)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["scored"] is False
    assert info["stop_reason"] == "env_error"
    [entry] = info["feedback"]
    assert entry["kind"] == "env_error"
    assert "0x" not in entry["text"]
    assert observation == ""
    assert rfenvs.feedback_text(info) == ""


def test_a_failure_is_never_silent() -> None:
    [(_, _, _, _, info)] = play("silent")
    assert [e["text"] for e in info["feedback"]] == ["The answer is not correct."]


def test_a_cut_off_answer_is_told_apart_from_a_wrong_one() -> None:
    [(_, _, terminated, _, info)] = play(Action("6", finish_reason="length"))
    assert terminated
    assert info["stop_reason"] == "max_tokens"
    first = info["feedback"][0]
    assert (first["kind"], first["data"], first["span"]) == ("format_error", {"code": "truncated"}, [1, 1])
    assert first["visibility"] == "policy"
    [(_, reward, _, _, info)] = play(Action("5", finish_reason="length"))
    assert (reward, info["feedback"]) == (1.0, [])


def test_what_the_observation_does_not_say_is_not_said_to_the_policy() -> None:
    [(observation, *_, info)] = play(Action("own", finish_reason="length"), max_turns=2)
    assert observation == "Own words."
    assert [(e["data"]["code"], e["visibility"]) for e in info["feedback"]] == [("truncated", "teacher")]
    [(observation, *_, info)] = play(Action("6", finish_reason="length"), max_turns=2)
    assert observation == "\n".join(e["text"] for e in info["feedback"] if e["visibility"] == "policy")


def test_lone_surrogates_are_replaced_one_for_one_before_grading() -> None:
    [(observation, *_)] = play(Action("\ud83d\ude00", token_ids=[1], finish_reason="stop"))
    assert observation == "\ufffd\ufffd is wrong."


def test_stepping_outside_an_episode_is_refused() -> None:
    env = Add()
    with pytest.raises(ResetNeeded, match="has not started"):
        env.step("5")
    env.reset()
    env.step("5")
    with pytest.raises(ResetNeeded, match="is over"):
        env.step("5")
    env.reset()
    with pytest.raises(TypeError, match="An action is a str, got int"):
        env.step(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tsk": 1}, "Unknown reset option 'tsk': use task_index or task_id"),
        ({"task_index": -1}, "task_index=-1 is out of range: split 'train' has tasks 0 to 9"),
        ({"task_index": 10}, "task_index=10 is out of range"),
        ({"task_index": "4"}, "task_index='4': use an integer"),
        ({"task_index": 1.5}, "task_index=1.5: use an integer"),
        ({"task_id": "nope"}, "Split 'train' has no task 'nope'"),
        ({"task_id": 3}, "task_id=3: use a str"),
        ({"task_id": ["nope"]}, "task_id=\\['nope'\\]: use a str"),
        ({"task_id": "nope", "task_index": 1}, "not both"),
    ],
)
def test_bad_reset_options_are_explained(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Add().reset(options=options)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "val"}, "split='val': use one of train, test"),
        ({"max_turns": 0}, "max_turns=0: use None or an integer of at least 1"),
        ({"render_mode": "rgb_array"}, "render_mode='rgb_array': use None or one of ansi, human"),
    ],
)
def test_bad_arguments_are_explained(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Add(**kwargs)


def test_a_pinned_task_wins_over_the_seed() -> None:
    env = Add()
    ids = {env.reset(seed=s, options={"task_index": np.int64(3)})[1]["task"]["id"] for s in range(5)}
    assert len(ids) == 1
    [task_id] = ids
    assert env.reset(seed=9, options={"task_id": task_id})[1]["task"]["index"] == 3


def test_seeds_choose_tasks_and_global_generators_stay_untouched() -> None:
    import random

    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    env = Add()
    drawn = [env.reset(seed=7)[1]["task"]["index"]] + [env.reset()[1]["task"]["index"] for _ in range(9)]
    again = [env.reset(seed=7)[1]["task"]["index"]] + [env.reset()[1]["task"]["index"] for _ in range(9)]
    assert drawn == again
    assert len(set(drawn)) > 3
    assert states == (random.getstate(), np.random.get_state()[1].tolist())


def test_returned_dicts_are_the_callers_own() -> None:
    env = Add()
    _, info = env.reset(options={"task_index": 4})
    info["messages"][0]["content"] = "spoiled"
    info["tools"][0]["parameters"]["x"] = 1
    info["task"]["id"] = "spoiled"
    observation, again = env.reset(options={"task_index": 4})
    assert observation == "Add.\n\nUser: 4 + 1"
    assert again["messages"][0]["content"] == "Add."
    assert again["tools"][0]["parameters"] == {}


def test_undeclared_numbers_are_refused() -> None:
    class Careless(Add):
        def grade(self, task: Task, action: Action, turn: int) -> Verdict:
            return Verdict(0.0, metrics={"speed": 1.0})

    env = Careless()
    env.reset()
    with pytest.raises(ValueError, match="Undeclared metric speed"):
        env.step("")


def test_render(capsys: pytest.CaptureFixture[str]) -> None:
    env = gymnasium.make("tests/Add-v0", render_mode="ansi", max_turns=2)
    env.reset(options={"task_index": 4})
    env.step("6")
    assert env.render() == "Add.\n\nUser: 4 + 1\n\n> 6\n\n[wrong_answer] 6 is wrong."
    human = gymnasium.make("tests/Add-v0", render_mode="human")
    human.reset(options={"task_index": 4})
    assert human.render() is None
    assert "4 + 1" in capsys.readouterr().out
    human.close()
    human.close()


def test_actions_carry_tokens_through_wrappers_copies_and_pickles() -> None:
    action = Action("5", token_ids=(20, 2), logprobs=[-0.5, -0.1], finish_reason="stop")
    for same in (pickle.loads(pickle.dumps(action)), copy.deepcopy(action)):
        assert same == "5"
        assert (same.token_ids, same.logprobs, same.finish_reason) == ([20, 2], [-0.5, -0.1], "stop")
    assert action in Add().action_space
    assert play(action)[0][1] == 1.0


def test_task_ids_are_content_hashes() -> None:
    a, b = Task(prompt="p", reference="r"), Task(prompt="p", reference="r", data={"x": 1})
    assert a.id == b.id == Task(messages=({"role": "user", "content": "p"},), reference="r").id
    assert a.id != Task(prompt="p", reference="other").id
    assert len(a.id) == 16


def test_looking_at_environments() -> None:
    assert rfenvs.splits("tests/Add-v0") == ("train", "test")
    assert rfenvs.num_tasks("tests/Add-v0", "test") == 10
    assert rfenvs.get_task("tests/Add-v0", "test", 2).reference == "3"
    with pytest.raises(ValueError, match="did you mean tests/Add-v0"):
        rfenvs.splits("tests/Ad-v0")
    with pytest.raises(ValueError, match="did you mean rfenvs/ToolCall-v0"):
        rfenvs.num_tasks("rfenvs/ToolCalls-v0", "train")
    with pytest.raises(ValueError, match="not a text environment"):
        rfenvs.splits("CartPole-v1")
    with pytest.raises(ValueError, match="out of range"):
        rfenvs.get_task("tests/Add-v0", "test", 10)


class Leaky(Add):
    """Wrong in every way that `validate` looks for."""

    def task(self, split: str, index: int) -> Task:
        return Task(prompt=f"task {index}", reference="a secret")

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        if action == task.reference:
            return Verdict(0.5, [item("hint", "almost")])
        if not action:
            return Verdict(1.0)
        return Verdict(0.0, [item("hint", f"It is {task.reference}.")])


gymnasium.register("tests/Leaky-v0", entry_point=Leaky)


def test_validation_passes_good_environments_and_names_the_faults_of_others() -> None:
    assert rfenvs.validate("tests/Add-v0", "train", 5).ok
    report = rfenvs.validate("tests/Leaky-v0", "test", 1)
    text = str(report)
    assert not report.ok
    assert "the reference earns 0.5 instead of 1" in text
    assert "answer '': a wrong answer earns 1.0" in text
    assert "the policy sees the reference" in text


class Counting(Add):
    """Adds to each info how often an answer was judged."""

    judged = 0

    def begin(self, task: Task) -> None:
        self.judged = 0

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        self.judged += 1
        return super().grade(task, action, turn)

    def state_info(self) -> dict:
        return {"judged": self.judged, "tried": [f"answer {i}" for i in range(self.judged)]}


def test_an_environment_adds_its_state_to_every_info() -> None:
    env = Counting(max_turns=9)
    _, first = env.reset(options={"task_index": 4})
    infos = [first, *(env.step(action)[-1] for action in ("3", "boom"))]
    env.reset(options={"task_index": 4})
    infos += [env.abandon(RuntimeError())[-1]]
    assert [info["judged"] for info in infos] == [0, 1, 2, 0]
    assert len({tuple(info) for info in infos}) == 1
    assert list(first)[: len(INFO_TYPES)] == list(Add().reset()[1])


def test_state_may_not_take_the_name_of_a_key_that_every_info_has() -> None:
    class Taken(Add):
        def state_info(self) -> dict:
            return {"turn": 0}

    with pytest.raises(ValueError, match="'turn' is a key of every info already"):
        Taken().reset()

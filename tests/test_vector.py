"""`rfenvs.make_vec`: subsets, as-completed, groups, failures kept apart, threads that end."""

import gc
import threading
import time
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import given
from hypothesis import strategies as st

import rfenvs
from rfenvs import Action, Task, TextEnv, TextVectorEnv, Verdict, item, make_vec, to_gymnasium_infos

TOOL = "rfenvs/ToolCall-v0"
EXECUTORS = pytest.mark.parametrize("executor", ["inline", "threads"])


class Deliberate(Exception):
    """One that the environment wants to get out."""


class Clerk(TextEnv):
    """Does as it is told: wait, fail in one way or another, or succeed."""

    default_max_turns = 100
    propagates = (Deliberate,)
    made = 0

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        type(self).made += 1
        self.serial = type(self).made

    def num_tasks(self, split: str) -> int:
        return 1000

    def task(self, split: str, index: int) -> Task:
        return Task(id=str(index), prompt=f"task {index}", reference="yes")

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        if action.startswith("wait "):
            time.sleep(float(action[5:]))
        if action == "deliberate":
            raise Deliberate("said so")
        return Verdict(1.0) if action == "yes" else Verdict(0.0, [item("hint", f"{action}?")])

    def step(self, action: str) -> tuple:
        if action == "break":
            raise RuntimeError("broken in the step")
        return super().step(action)


class Waiting(Clerk):
    blocking = True


gymnasium.register("test/Clerk-v0", entry_point=Clerk)
gymnasium.register("test/Waiting-v0", entry_point=Waiting, vector_entry_point="rfenvs.vector_entry:test/Waiting-v0")


@pytest.fixture(params=["inline", "threads"])
def env(request: pytest.FixtureRequest) -> Iterator[TextVectorEnv]:
    made = make_vec("test/Clerk-v0", 4, executor=request.param)
    yield made
    made.close()


def test_auto_chooses_threads_where_the_class_says_that_it_waits() -> None:
    assert make_vec("test/Clerk-v0").executor == "inline"
    assert make_vec("test/Waiting-v0").executor == "threads"
    ours = gymnasium.make_vec("test/Waiting-v0", 3)
    assert isinstance(ours, TextVectorEnv)
    assert ours.executor == "threads"
    assert make_vec(TOOL, 2).executor == "inline"


def test_rows_are_tuples_arrays_and_a_list(env: TextVectorEnv) -> None:
    observations, infos = env.reset(options={"task_index": 2})
    assert observations == ("task 2",) * 4
    assert observations in env.observation_space
    assert [info["turn"] for info in infos] == [0] * 4
    observations, rewards, terminated, truncated, infos = env.step(["yes", "a", "b", "c"])
    assert observations == ("", "a?", "b?", "c?")
    assert (rewards.dtype, rewards.tolist()) == (np.float64, [1, 0, 0, 0])
    assert (terminated.dtype, terminated.tolist()) == (np.bool_, [True, False, False, False])
    assert truncated.tolist() == [False] * 4
    assert infos[1]["feedback"][0]["text"] == "a?"


def test_a_subset_steps_and_its_rows_come_in_its_order(env: TextVectorEnv) -> None:
    env.reset(seed=0)
    observations, rewards, *_, infos = env.step({3: "x", 1: "yes"})
    assert observations == ("x?", "")
    assert rewards.tolist() == [0, 1]
    assert [info["turn"] for info in infos] == [1, 1]
    *_, infos = env.step({0: "x", 2: "x", 3: "x"})
    assert [info["turn"] for info in infos] == [1, 1, 2]
    assert [len(column) for column in env.step({})] == [0] * 5
    assert env.needs_reset == (1,)


def test_stepping_a_finished_environment_names_it_and_moves_nobody(env: TextVectorEnv) -> None:
    with pytest.raises(ResetNeeded, match="sub-environment 0, 1, 2, 3"):
        env.step(["x"] * 4)
    env.reset(seed=0)
    env.step({2: "yes"})
    with pytest.raises(ResetNeeded, match=r"sub-environment 2: reset\(indices=\[2\]\)"):
        env.step(["x"] * 4)
    *_, infos = env.step({0: "x", 1: "x", 3: "x"})
    assert [info["turn"] for info in infos] == [1, 1, 1]


@pytest.mark.parametrize(
    ("actions", "error", "words"),
    [
        ("four", TypeError, "actions is one str"),
        (["x"] * 3, ValueError, "3 actions for 4"),
        ({7: "x"}, ValueError, "no sub-environment 7: use 0 to 3"),
        ({-1: "x"}, ValueError, "no sub-environment -1"),
        (["x", "x", 5, "x"], TypeError, "sub-environment 2 is not a str but int"),
    ],
)
def test_wrong_actions_are_refused_before_anybody_steps(
    env: TextVectorEnv, actions: object, error: type[Exception], words: str
) -> None:
    env.reset(seed=0)
    with pytest.raises(error, match=words):
        env.step(actions)  # type: ignore[arg-type]
    with pytest.raises(error, match=words):
        env.send(actions)  # type: ignore[arg-type]
    *_, infos = env.step(["x"] * 4)
    assert [info["turn"] for info in infos] == [1] * 4


def test_actions_may_be_any_iterable_of_str(env: TextVectorEnv) -> None:
    env.reset(seed=0)
    for actions in (("a",) * 4, np.array(["a"] * 4), (letter for letter in "aaaa"), [Action("a", [1])] * 4):
        assert env.step(actions)[0] == ("a?",) * 4


def test_each_environment_gets_its_own_options(env: TextVectorEnv) -> None:
    each = [{"task_index": 5}, {"task_id": "9"}, None, {}]
    observations, infos = env.reset(seed=1, options=each)
    assert observations[:2] == ("task 5", "task 9")
    assert [info["task"]["index"] for info in infos][:2] == [5, 9]
    with pytest.raises(ValueError, match="options has 3 entries for 4"):
        env.reset(options=each[:3])
    with pytest.raises(ValueError, match="Unknown reset option 'task'") as caught:
        env.reset(options=[{}, {}, {}, {"task": 1}])
    assert caught.value.__notes__ == ["Raised by reset() of sub-environment 3."]


def test_a_subset_is_reset_by_indices(env: TextVectorEnv) -> None:
    env.reset(seed=0)
    env.step({1: "yes", 2: "yes"})
    observations, infos = env.reset(indices=[2, 1], options=[{"task_index": 8}, {"task_index": 9}])
    assert observations == ("task 8", "task 9")
    assert len(infos) == 2
    *_, infos = env.step(["x"] * 4)
    assert [info["task"]["index"] for info in infos][1:3] == [9, 8]
    for indices, words in (([1, 1], "comes twice"), ([4], "no sub-environment 4")):
        with pytest.raises(ValueError, match=words):
            env.reset(indices=indices)


def test_gymnasiums_reset_mask_works_and_stays_in_the_callers_dict(env: TextVectorEnv) -> None:
    before, _ = env.reset(seed=0)
    env.step({0: "yes", 3: "yes"})
    options = {"reset_mask": np.array([True, False, False, True]), "task_index": 4}
    observations, infos = env.reset(options=options)
    assert observations == ("task 4", *before[1:3], "task 4")
    assert [bool(info) for info in infos] == [True, False, False, True]
    assert options.keys() == {"reset_mask", "task_index"}
    for mask in ([True] * 4, np.ones(3, bool), np.ones(4)):
        with pytest.raises(ValueError, match="reset_mask"):
            env.reset(options={"reset_mask": mask})


def test_seeds_are_gymnasiums() -> None:
    ours, theirs = make_vec("test/Clerk-v0", 4), SyncVectorEnv([lambda: gymnasium.make("test/Clerk-v0")] * 4)
    for seed in (3, [9, 9, None, 1], None):
        if seed != [9, 9, None, 1]:
            assert ours.reset(seed=seed)[0] == theirs.reset(seed=seed)[0]
        else:
            assert ours.reset(seed=seed)[0][:2] == theirs.reset(seed=seed)[0][:2]
            assert ours.reset(seed=8)[0] == theirs.reset(seed=8)[0]
    with pytest.raises(ValueError, match="seed has 3 entries for 4"):
        ours.reset(seed=[1, 2, 3])


@given(seed=st.integers(0, 2**31), groups=st.integers(1, 4), size=st.integers(2, 4))
def test_groups_share_a_task(seed: int, groups: int, size: int) -> None:
    env = make_vec("test/Clerk-v0", groups * size, group_size=size)
    runs = []
    for _ in range(2):
        episodes = []
        for given_seed in (seed, None, None):
            observations, _ = env.reset(seed=given_seed)
            for start in range(0, groups * size, size):
                assert len(set(observations[start : start + size])) == 1
            episodes.append(observations)
        runs.append(episodes)
    assert runs[0] == runs[1]


def test_groups_differ_from_each_other_and_from_reset_to_reset() -> None:
    env = make_vec("test/Clerk-v0", 12, group_size=3)
    seen = {text for seed in (0, None, None) for text in env.reset(seed=seed)[0]}
    assert len(seen) > 8
    assert len(set(env.reset(indices=[3, 4, 5])[0])) == 1


@EXECUTORS
def test_an_environment_that_raises_ends_unscored_and_the_others_go_on(executor: str) -> None:
    env = make_vec("test/Clerk-v0", 3, executor=executor)
    env.reset(seed=0)
    serials = env.get_attr("serial")
    observations, rewards, terminated, truncated, infos = env.step(["x", "break", "yes"])
    assert observations == ("x?", "", "")
    assert observations in env.observation_space
    assert rewards.tolist() == [0, 0, 1]
    assert terminated.tolist() == [False, False, True]
    assert truncated.tolist() == [False, True, False]
    failed = infos[1]
    assert failed.keys() == infos[0].keys()
    assert (failed["scored"], failed["stop_reason"]) == (False, "env_error")
    (problem,) = failed["feedback"]
    assert (problem["kind"], problem["severity"], problem["visibility"]) == ("env_error", "fatal", "log")
    assert "RuntimeError" in problem["text"]
    assert "broken in the step" not in problem["text"]
    assert problem.keys() == rfenvs.FEEDBACK_SCHEMA["properties"].keys()
    assert env.step({0: "x"})[0] == ("x?",)
    with pytest.raises(ResetNeeded, match="sub-environment 1"):
        env.step({1: "x"})
    env.reset(indices=[1, 2])
    assert env.get_attr("serial")[1] not in serials
    assert env.get_attr("serial")[2] == serials[2]
    assert env.step(["x", "x", "x"])[0] == ("x?",) * 3
    env.close()


def test_a_fresh_environment_goes_on_with_the_random_state_of_the_failed_one() -> None:
    tasks = []
    for action in ("break", "yes"):
        env = make_vec("test/Clerk-v0", 1)
        env.reset(seed=5)
        env.step([action])
        tasks.append(env.reset()[0])
    assert tasks[0] == tasks[1]


@EXECUTORS
def test_what_the_class_propagates_is_raised_after_the_others_have_stepped(executor: str) -> None:
    env = make_vec("test/Clerk-v0", 3, executor=executor)
    env.reset(seed=0)
    with pytest.raises(Deliberate, match="said so") as caught:
        env.step(["x", "x", "deliberate"])
    assert caught.value.__notes__ == ["Raised by step() of sub-environment 2."]
    *_, infos = env.step(["x"] * 3)
    assert [info["turn"] for info in infos] == [2, 2, 1]
    env.send(["x", "deliberate", "x"])
    seen: list[int] = []
    raised = 0
    while env.in_flight:
        try:
            seen += env.recv()[0]
        except Deliberate:
            raised += 1
    assert (sorted(seen), raised) == ([0, 2], 1)
    env.close()


def test_an_environment_that_is_not_ours_fails_alone_too() -> None:
    class Foreign(gymnasium.Env):
        observation_space = action_space = rfenvs.Text()

        def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[str, dict]:
            super().reset(seed=seed)
            return "go", {}

        def step(self, action: str) -> tuple:
            if action == "break":
                raise OSError
            return action, 1.0, False, False, {}

    env = TextVectorEnv(Foreign, 2)
    env.reset()
    observations, rewards, _, truncated, infos = env.step(["break", "on"])
    assert (observations, rewards.tolist(), truncated.tolist()) == (("", "on"), [0, 1], [True, False])
    assert infos[0]["scored"] is False


def test_a_straggler_keeps_nobody_waiting() -> None:
    env = make_vec("test/Clerk-v0", 4, executor="threads")
    env.reset(seed=0)
    env.send(["wait 1.5", "a", "b", "c"])
    assert env.in_flight == (0, 1, 2, 3)
    started, seen = time.perf_counter(), []
    while len(seen) < 3:
        chosen, rows = env.recv()
        seen += chosen
        assert rows[0] == tuple("_abc"[i] + "?" for i in chosen)
    assert time.perf_counter() - started < 1.2
    assert sorted(seen) == [1, 2, 3]
    with pytest.raises(ValueError, match="Sub-environment 0 is still stepping"):
        env.step(["x"] * 4)
    with pytest.raises(ValueError, match="Sub-environment 0 is still stepping"):
        env.reset()
    assert env.step({1: "x"})[0] == ("x?",)
    env.send({1: "y"})
    chosen, rows = env.recv(min_ready=2)
    assert set(chosen) == {0, 1}
    assert env.in_flight == ()
    env.close()


def test_recv_inline_steps_in_the_order_of_send() -> None:
    env = make_vec("test/Clerk-v0", 4, executor="inline")
    env.reset(seed=0)
    env.send({2: "a", 0: "b", 3: "c"})
    assert env.recv()[0] == [2]
    chosen, (observations, *_) = env.recv(min_ready=2)
    assert (chosen, observations) == ([0, 3], ("b?", "c?"))
    for min_ready in (0, 1):
        with pytest.raises(ValueError, match="0 actions are in flight"):
            env.recv(min_ready)


@EXECUTORS
def test_sending_one_at_a_time_gives_what_stepping_gives(executor: str) -> None:
    actions = ["yes", "a", "break", "c"]
    results = []
    for sending in (False, True):
        env = make_vec("test/Clerk-v0", 4, executor=executor)
        env.reset(seed=0)
        if sending:
            rows: dict[int, tuple] = {}
            for i, action in enumerate(actions):
                env.send({i: action})
            while env.in_flight:
                chosen, batch = env.recv()
                rows.update(zip(chosen, zip(*batch, strict=True), strict=True))
            results.append([rows[i] for i in range(4)])
        else:
            results.append([*zip(*env.step(actions), strict=True)])
        env.close()
    assert results[0] == results[1]


def test_infos_merge_as_gymnasium_merges_them() -> None:
    ours = make_vec(TOOL, 3, infos="gymnasium", max_turns=2)
    theirs = SyncVectorEnv(
        [lambda: gymnasium.make(TOOL, max_turns=2)] * 3, autoreset_mode=AutoresetMode.DISABLED
    )  # fmt: skip
    for a, b in (
        (ours.reset(seed=1)[1], theirs.reset(seed=1)[1]),
        (ours.step(["x", "y", ""])[-1], theirs.step(["x", "y", ""])[-1]),
    ):
        assert repr(a) == repr(b)
    *_, infos = ours.step({1: "x"})
    assert infos["_turn"].tolist() == [False, True, False]
    assert infos["feedback"][0] is None
    listed = make_vec(TOOL, 3, max_turns=2)
    assert repr(to_gymnasium_infos(listed.reset(seed=1)[1])) == repr(theirs.reset(seed=1)[1])


def test_gymnasiums_vector_wrappers_work_with_merged_infos() -> None:
    env = RecordEpisodeStatistics(gymnasium.make_vec("test/Waiting-v0", 2, infos="gymnasium"))
    env.reset(seed=0)
    *_, infos = env.step(["yes", "x"])
    assert infos["episode"]["r"].tolist() == [1, 0]
    env.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@EXECUTORS
def test_gymnasiums_autoreset_modes_are_there_when_asked_for(mode: AutoresetMode, executor: str) -> None:
    ours = make_vec("test/Clerk-v0", 2, autoreset_mode=mode, infos="gymnasium", executor=executor)
    theirs = SyncVectorEnv([lambda: gymnasium.make("test/Clerk-v0")] * 2, autoreset_mode=mode)
    assert repr(ours.reset(seed=4)) == repr(theirs.reset(seed=4))
    for actions in (["yes", "a"], ["b", "yes"], ["c", "d"]):
        assert repr(ours.step(actions)) == repr(theirs.step(actions))
    ours.close()
    with pytest.raises(ValueError, match="would break groups up"):
        make_vec("test/Clerk-v0", 2, group_size=2, autoreset_mode=mode)


def test_wrappers_are_applied_to_each() -> None:
    env = make_vec("test/Clerk-v0", 2, wrappers=[rfenvs.ChatObservation])
    observations, _ = env.reset(options={"task_index": 1})
    assert observations in env.observation_space
    assert env.step(["x", "break"])[0] == (
        (
            {"role": "user", "content": "task 1"},
            {"role": "assistant", "content": "x"},
            {"role": "user", "content": "x?"},
        ),
        ({"role": "user", "content": "task 1"},),
    )


def test_attributes_and_methods_of_all() -> None:
    env = make_vec("test/Clerk-v0", 3, render_mode="ansi")
    env.reset(options={"task_index": 0})
    assert env.call("num_tasks", "train") == (1000,) * 3
    assert env.call("split") == ("train",) * 3
    env.set_attr("max_turns", 1)
    assert env.get_attr("max_turns") == (1, 1, 1)
    env.set_attr("max_turns", [1, 2, 3])
    assert env.get_attr("max_turns") == (1, 2, 3)
    with pytest.raises(ValueError, match="2 entries for 3"):
        env.set_attr("max_turns", [1, 2])
    assert env.render() == ("task 0",) * 3
    assert env.single_action_space == rfenvs.Text()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"autoreset_mode": "never"}, "autoreset_mode='never': use one of NextStep"),
        ({"num_envs": 3, "group_size": 2}, "no multiple of group_size=2"),
        ({"executor": "processes"}, "executor='processes'"),
        ({"infos": "dict"}, "infos='dict'"),
        ({"workers": 0}, "workers=0"),
        ({"autoreset_mode": "never"}, "never"),
        ({"split": "none"}, "split='none'"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_vec("test/Clerk-v0", **kwargs)


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rfenvs-vector")]


def test_closing_ends_the_threads_and_waits_for_what_is_under_way() -> None:
    before = len(ours())
    env = make_vec("test/Clerk-v0", 6, executor="threads", workers=3)
    assert len(ours()) == before
    env.reset(seed=0)
    assert len(ours()) == before + 3
    env.send(["wait 0.05"] * 6)
    env.close()
    assert len(ours()) == before
    env.close()
    for call in (env.reset, env.recv, lambda: env.step(["x"] * 6), lambda: env.send({0: "x"})):
        with pytest.raises(ClosedEnvironmentError):
            call()


def test_a_forgotten_environment_leaves_no_threads() -> None:
    gc.collect()
    before = len(ours())
    env = make_vec("test/Clerk-v0", 4, executor="threads")
    env.reset(seed=0)
    env.step(["x"] * 4)
    assert len(ours()) == before + 4
    del env
    gc.collect()
    deadline = time.monotonic() + 5
    while len(ours()) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(ours()) <= before


def test_more_environments_than_threads() -> None:
    env = make_vec("test/Clerk-v0", 50, executor="threads", workers=2)
    env.reset(seed=0)
    assert env.step([str(i) for i in range(50)])[0] == tuple(f"{i}?" for i in range(50))
    env.close()


def test_threads_wait_at_once() -> None:
    env = make_vec("test/Clerk-v0", 16, executor="threads")
    env.reset(seed=0)
    started = time.perf_counter()
    env.step(["wait 0.2"] * 16)
    assert time.perf_counter() - started < 1.6, "16 waits of 0.2 s one after the other take 3.2 s"
    env.close()

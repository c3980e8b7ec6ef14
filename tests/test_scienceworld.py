"""ScienceWorld: the same text for the same commands, no stray Java, and feedback that explains."""

from __future__ import annotations

import gc
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rfenvs

pytest.importorskip("scienceworld")
if shutil.which("java") is None:
    pytest.skip("needs Java", allow_module_level=True)

from rfenvs.envs import scienceworld_engine as engine
from rfenvs.envs.scienceworld import KNOWN_BAD, nearest_form, parse_command
from rfenvs.envs.scienceworld_engine import POOL, Pool, Scenario

ID = "rfenvs/ScienceWorld-v0"
SHORT = "find-non-living-thing,lifespan-longest-lived,power-component"
THING = "find-non-living-thing"


def make(task: str = THING, **kwargs):
    return gymnasium.make(ID, task=task, **kwargs).unwrapped


@pytest.fixture
def play():
    """Plays commands on the first training task; gives the steps that came of it."""
    envs = []

    def run(*commands: str, **kwargs):
        env = make(**kwargs)
        envs.append(env)
        env.reset(options={"task_index": 0})
        return [env.step(command) for command in commands]

    yield run
    for env in envs:
        env.close()


def codes(info) -> list[str]:
    return [entry["data"].get("code", "") for entry in info["feedback"]]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


# Tasks.


def test_every_task_and_variation_is_there():
    sizes = [rfenvs.num_tasks(ID, split) for split in rfenvs.splits(ID)]
    assert sizes == [3592, 1796, 1819]
    env = make("all")
    assert [world.task for world in env._scenarios("test")[:30]] == list(engine.task_names())
    worlds = [world for split in env.splits for world in env._scenarios(split)]
    assert len(set(worlds)) == len(worlds) == 7207


@pytest.mark.parametrize("task", [THING, "identify-life-stages-2", "boil"])
def test_splits_are_those_of_the_simulator(task: str):
    count = engine.variations()[task]
    with POOL.lent() as held:
        lists = held.variations_of(task)
    assert lists == {split: tuple(engine.split_variations(count, split)) for split in ("train", "dev", "test")}


@pytest.mark.slow
def test_all_splits_are_those_of_the_simulator():
    with POOL.lent() as held:
        for task, count in engine.variations().items():
            lists = held.variations_of(task)
            assert lists == {split: tuple(engine.split_variations(count, split)) for split in lists}


def test_ids_are_found_again():
    env = make(SHORT)
    task = env.task("dev", 4)
    assert task.id == "lifespan-longest-lived-63"
    assert env.task_index("dev", task.id) == 4
    with pytest.raises(KeyError):
        env.task_index("dev", "lifespan-longest-lived-0")


def test_worlds_of_ones_own(tmp_path):
    path = tmp_path / "worlds.jsonl"
    path.write_text(
        f'{{"task": "{THING}", "variation": 7}}\n{{"task": "boil", "variation": 2, "simplification": "easy"}}\n'
    )
    env = make(data=str(path))
    assert [env.task("test", i).id for i in range(2)] == [f"{THING}-7", "boil-2-easy"]
    assert "teleport OBJ" in env.task("test", 1).prompt
    for row, said in (
        ('{"task": "boil", "variation": 30}', "line 1: boil has variations 0 to 29, not 30"),
        ('{"task": "bake", "variation": 0}', "line 1: there is no task 'bake'"),
        ('{"task": "boil"}', 'no column "variation"'),
        ('{"task": "boil", "variation": 1, "split": "tset"}', "line 1: there is no split 'tset'"),
        ('{"task": "boil", "variation": 1}\n{"task": "boil", "variation": 1}', "line 2 is the same as line 1"),
        ('{"task": "power-component", "variation": 1, "simplification": "noElectricalAction"}', "takes away"),
    ):
        path.write_text(row + "\n")
        with pytest.raises(ValueError, match=re.escape(said)):
            make(data=str(path))


def test_the_sample_keeps_to_the_splits():
    env = make("all", data="sample")
    everything = make("all")
    for split in env.splits:
        assert env.num_tasks(split) == 3
        assert set(env._scenarios(split)) < set(everything._scenarios(split))
    assert env.task("test", 0).source == "sample"


def test_bad_settings_say_what_to_do(monkeypatch):
    with pytest.raises(ValueError, match="task='bake': use 'all', or names of boil"):
        make("bake")
    with pytest.raises(ValueError, match="simplification='hard': use names of easy"):
        make(simplification="hard")
    with pytest.raises(ValueError, match="takes away the commands that task='power-component' needs"):
        make("power-component", simplification="openDoors,noElectricalAction")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(FileNotFoundError, match="needs Java 8 or newer"):
        make()
    monkeypatch.setitem(sys.modules, "scienceworld", None)
    with pytest.raises(ImportError, match=re.escape('pip install "rfenvs[scienceworld]"')):
        make()


def test_java_that_does_not_start_is_quoted(monkeypatch):
    monkeypatch.setattr(engine, "_JAVA_OPTIONS", ["-XX:NoSuchOption"])
    with pytest.raises(RuntimeError, match="NoSuchOption"):
        engine.Engine()


# The same commands bring the same text.


def transcript(held: engine.Engine, scenario: Scenario, commands: tuple[str, ...]) -> list[str]:
    text = [held.load(scenario)]
    for command in commands:
        reply = held.step(command)
        text += [reply.text, str(reply.score), str(held.progress())]
        if reply.completed:
            break
    return text


@pytest.mark.parametrize(
    "task",
    [
        "identify-life-stages-2",
        pytest.param("use-thermometer", marks=pytest.mark.slow),
        pytest.param("chemistry-mix-paint-secondary-color", marks=pytest.mark.slow),
        pytest.param("grow-fruit", marks=pytest.mark.slow),
    ],
)
def test_the_same_commands_bring_the_same_text(task: str):
    """Tasks whose texts change from load to load where Java hashes objects by random numbers."""
    scenario = Scenario(task, 0)
    commands = engine.gold(scenario)
    own = engine.Engine()
    try:
        assert own.gold(scenario) == commands
        seen = {tuple(transcript(own, scenario, commands)) for _ in range(2)}
    finally:
        own.stop()
    with POOL.lent() as held:
        held.load(Scenario(THING, 3))
        seen.add(tuple(transcript(held, scenario, commands)))
    assert len(seen) == 1


@pytest.mark.slow
def test_a_world_does_not_depend_on_those_before_it():
    """The simulator's own agent remembers routes, and simplifications are kept in one place for the whole process."""
    worlds = [Scenario("boil", 21), Scenario(THING, 4)]
    fresh, used = engine.Engine(), engine.Engine()
    try:
        for before in (Scenario("grow-fruit", 0), Scenario("power-component", 3), Scenario("chemistry-mix", 5, "easy")):
            used.gold(before)
        assert [used.gold(world) for world in worlds] == [fresh.gold(world) for world in worlds]
        used.load(Scenario(THING, 4, "easy"))
        assert [used.opening(world) for world in worlds] == [fresh.opening(world) for world in worlds]
    finally:
        fresh.stop()
        used.stop()


def test_a_look_up_leaves_the_running_episode_alone(play):
    env = make()
    env.reset(options={"task_index": 0})
    env.step("open door to kitchen")
    engine.opening.cache_clear()
    env.task("train", 1)
    env.gold_actions(env.task("train", 2))
    assert env.step("go to kitchen")[0] == "You move to the kitchen."
    env.close()


def test_environments_in_threads_do_not_disturb_each_other():
    def episode(index: int) -> str:
        env = make("all", data="sample", render_mode="ansi")
        env.reset(options={"task_index": index % 2})
        for command in env.gold_actions(env._task):
            _, _, terminated, _, info = env.step(command)
            if terminated:
                break
        assert info["metrics"]["score"] == 1.0
        text = env.render()
        env.close()
        return text

    alone = [episode(index) for index in range(2)]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(episode, range(4))) == alone * 2


# Java processes come and go with their users.


def test_java_ends_with_its_users():
    pool = Pool()
    first, second = pool.join(), pool.join()
    pids = [lease.take()._process.pid for lease in (first, second)]
    first.release()
    assert first.take()._process.pid == pids[0], "the engine used last is used again"
    first.close()
    first.close()
    second.close()
    assert [alive(pid) for pid in pids].count(True) == 1, "one is kept for the next user"
    pool.close()
    assert not any(map(alive, pids))


def test_an_environment_that_is_dropped_gives_its_java_back():
    env = make()
    env.reset(options={"task_index": 0})
    held = env._lease.engine
    del env
    gc.collect()
    assert held in POOL._idle or not held.usable


def test_a_dead_java_is_not_a_wrong_answer():
    env = make()
    env.reset(options={"task_index": 0})
    env._lease.engine._process.kill()
    env._lease.engine._process.wait()
    _, reward, terminated, truncated, info = env.step("look around")
    assert (reward, terminated, truncated, info["scored"]) == (0.0, False, True, False)
    env.reset(options={"task_index": 0})
    assert env.step("open door to kitchen")[4]["scored"]
    env.close()


PROGRAM = """
import os, sys, gymnasium, rfenvs
env = gymnasium.make("rfenvs/ScienceWorld-v0", task="find-non-living-thing").unwrapped
env.reset(options={"task_index": 0})
print(env._lease.engine._process.pid)
if "fork" in sys.argv and not (child := os.fork()):
    env.reset(options={"task_index": 0})
    print(env._lease.engine._process.pid, env.step("open door to kitchen")[0])
    env.close()
    sys.exit()
if "fork" in sys.argv:
    os.waitpid(child, 0)
    print(env.step("open door to kitchen")[0])
if "kill" in sys.argv:
    sys.stdout.flush()
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("way", ["exit", "kill", "fork"])
def test_no_java_outlives_the_program(way: str):
    done = subprocess.run([sys.executable, "-u", "-c", PROGRAM, way], capture_output=True, text=True, timeout=120)
    assert done.returncode == (-9 if way == "kill" else 0), done.stderr
    assert done.stderr == ""
    if way == "fork":
        assert done.stdout.count("The door is now open.") == 2
    for pid in re.findall(r"^\d+", done.stdout, re.MULTILINE):
        for _ in range(50):
            if not alive(int(pid)):
                break
            threading.Event().wait(0.1)
        assert not alive(int(pid))


# Actions, rewards and feedback.


@pytest.mark.parametrize(
    ("reply", "command"),
    [
        ("open door", "open door"),
        ("I see a door.\n\nAction: open door\n\n", "open door"),
        ("> open door", "open door"),
        ("<think>go away\n</think> > action: open door", "open door"),
        ("", ""),
        ("open door</think>\n \t", ""),
        (">", ""),
    ],
)
def test_the_last_line_is_the_command(reply: str, command: str):
    found, (start, end) = parse_command(reply)
    assert found == command == reply[start:end]


@given(st.text())
def test_any_text_is_an_action(text: str):
    command, (start, end) = parse_command(text)
    assert text[start:end] == command
    assert len(command.splitlines()) <= 1


def test_the_nearest_form_is_by_the_verb():
    forms = engine.opening(Scenario(THING, 0)).commands
    assert nearest_form("grab the orange", forms).endswith("OBJ")
    assert nearest_form("pick the orange", forms) == "pick up OBJ"
    assert nearest_form("switch on stove, then walk", forms) in forms
    assert nearest_form("", forms) in forms


def test_what_is_wrong_with_a_command(play):
    commands = ["opne door", "look in cupboard", "open door", "zebra", "", "inventory", "inventory"]
    steps = play(*commands)
    said = [codes(info) for *_, info in steps]
    assert said == [
        ["unknown_command"],
        ["unknown_object"],
        ["ambiguous"],
        ["no_choice"],
        ["no_command"],
        [],
        ["repeated"],
    ]
    for observation, *_, info in steps:
        for entry in info["feedback"]:
            assert entry["visibility"] == "policy"
            assert entry["leak_level"] == 0
            assert entry["text"] in observation
    assert steps[0][4]["feedback"][0]["span"] == [0, 9]


def test_a_number_chooses_from_the_list(play):
    steps = play("open door", "0", "go to kitchen")
    assert "0:\topen door between kitchen and hallway" in steps[0][0]
    assert [step[0] for step in steps[1:]] == ["The door is now open.", "You move to the kitchen."]


def test_without_hints_the_text_is_the_simulators(play):
    (observation, *_, info), *_ = play("opne door", hints=False)
    assert observation == "No known action matches that input."
    assert [entry["visibility"] for entry in info["feedback"]] == ["teacher"]


def test_a_command_that_was_cut_off_is_told_so(play):
    command = rfenvs.Action("open door to", finish_reason="length")
    for hints, seen_by in ((True, "policy"), (False, "teacher")):
        (observation, *_, info), *_ = play(command, hints=hints)
        (cut,) = [entry for entry in info["feedback"] if entry["data"]["code"] == "truncated"]
        assert cut["visibility"] == seen_by
        assert (cut["text"] in observation) == hints


def test_the_return_is_the_score():
    env = make()
    env.reset(options={"task_index": 0})
    total = 0.0
    for command in env.gold_actions(env._task):
        _, reward, terminated, truncated, info = env.step(command)
        assert reward >= 0
        total += reward
        if not terminated:
            assert all(entry["data"]["code"] == "subgoal" for entry in info["feedback"])
            assert rfenvs.feedback_text(info) == ""
    assert total == pytest.approx(1.0)
    assert (terminated, truncated, info["stop_reason"], info["feedback"]) == (True, False, "completed", [])
    assert info["metrics"] == {"score": 1.0, "subgoals": 1.0}
    env.close()


def test_an_impossible_task_takes_the_reward_back(play):
    commands = ["open door to greenhouse", "go to greenhouse", "focus on agent"]
    steps = play(*commands, task="lifespan-longest-lived")
    assert sum(reward for _, reward, *_ in steps) == 0.0
    assert steps[1][1] > 0 > steps[2][1]
    _, _, terminated, truncated, info = steps[2]
    assert (terminated, truncated) == (True, False)
    assert codes(info) == ["impossible", "progress"]
    assert info["metrics"]["score"] == -1.0


@pytest.mark.parametrize(
    ("leak_level", "expected"),
    [
        (0, ["out_of_turns"]),
        (1, ["progress", "out_of_turns"]),
        (2, ["progress", "open_subgoals", "out_of_turns"]),
        (3, ["expected", "progress", "open_subgoals", "out_of_turns"]),
    ],
)
def test_the_end_says_what_was_missing(play, leak_level: int, expected: list[str]):
    info = play("look around", "task", max_turns=2, leak_level=leak_level)[-1][4]
    assert codes(info) == expected
    assert info["stop_reason"] == "max_turns"
    assert all(entry["visibility"] == "teacher" for entry in info["feedback"])
    gold = engine.gold(Scenario(THING, 0))[-1]
    quoting = [entry for entry in info["feedback"] if gold in entry["text"] + repr(entry["data"])]
    assert [entry["reveals_reference"] for entry in quoting] == [True] * (leak_level == 3)


def test_gold_pays_and_nothing_else_does():
    report = rfenvs.validate(ID, "train", 1, task=THING, leak_level=3, max_turns=8)
    assert report.ok, report


# All tasks: minutes.


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("task", engine.task_names())
def test_every_task_is_solved_by_its_gold(task: str):
    for split in ("train", "dev", "test"):
        report = rfenvs.validate(ID, split, 1, task=task)
        assert report.ok, report


@pytest.mark.slow
@pytest.mark.parametrize("world", KNOWN_BAD)
def test_known_bad_worlds_are_bad(world: tuple[str, int, str]):
    with POOL.lent() as held:
        text = transcript(held, Scenario(*world), engine.gold(Scenario(*world)))
    assert int(text[-2]) < 100


def test_known_bad_worlds_say_so():
    task, variation, _ = next(iter(KNOWN_BAD))
    env = make(task)
    split = next(s for s in env.splits if variation in engine.split_variations(engine.variations()[task], s))
    index = env.task_index(split, f"{task}-{variation}")
    assert env.task(split, index).flagged("known_bad")


@pytest.mark.slow
@pytest.mark.parametrize("task", [THING, "melt", "inclined-plane-determine-angle"])
def test_texts_are_those_of_the_package(task: str):
    """Where the order of things in a set does not show, ScienceWorld's own Python class gives the same transcript."""
    from scienceworld import ScienceWorldEnv

    def in_order(text: str) -> list[str]:
        return sorted(text.splitlines())

    env = make(task, hints=False)
    peer = ScienceWorldEnv("", envStepLimit=1000)
    try:
        observation, _ = env.reset(options={"task_index": 0})
        peer.load(task, 0, "")
        look, _ = peer.reset()
        assert in_order(observation[-len(look) :]) == in_order(look)
        for command in env.gold_actions(env._task):
            observation, _, terminated, _, info = env.step(command)
            theirs, _, done, infos = peer.step(command)
            assert in_order(observation) == in_order(theirs), command
            assert info["metrics"]["score"] == infos["score"] / 100
            assert terminated == done
            if done:
                break
    finally:
        env.close()
        peer.close()

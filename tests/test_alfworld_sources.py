"""Where ALFWorld's games come from: the generator unless asked otherwise, official files in each layout."""

from __future__ import annotations

import gc
import json
import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import gymnasium
import pytest
from alfworld_games import DATA, MISSING
from alfworld_rooms import kitchen
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rfenvs
from rfenvs.envs.alfworld import files
from rfenvs.envs.alfworld.files import to_row
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, Goal
from rfenvs.envs.alfworld.pddl import write_problem
from rfenvs.envs.alfworld.sources import official_folder
from rfenvs.rows import DataError

ID = "rfenvs/ALFWorld-v0"
VALID_SEEN, TRAIN = DATA / "alfworld_valid_seen.jsonl.xz", DATA / "alfworld_train.jsonl.xz"
needs_data = pytest.mark.skipif(not VALID_SEEN.is_file(), reason=MISSING)


def make(split: str = "train", **kwargs):
    return gymnasium.make(ID, split=split, **kwargs).unwrapped


def official(root: Path, name: str = "json_2.1.1", split: str = "train") -> Path:
    """One game in the layout of `alfworld-download`."""
    game = kitchen()
    folder = root / name / split / "pick_heat_then_place_in_recep-Mug-None-Desk-1" / "trial_1"
    folder.mkdir(parents=True)
    grammar = f'"rhs": "Your task is to: {game.goal_text}."'
    written = {"pddl_domain": "", "grammar": grammar, "pddl_problem": write_problem(game), "solvable": True}
    (folder / "game.tw-pddl").write_text(json.dumps(written))
    return folder / "game.tw-pddl"


def test_games_are_generated_unless_asked_otherwise(tmp_path, monkeypatch):
    official(tmp_path / "alfworld")
    monkeypatch.setenv("RFENVS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "alfworld"))
    for data in (None, "generated"):
        env = make(data=data)
        assert env.reset(seed=0)[1]["task"]["source"] == "procedural"
        assert env.num_tasks("train") == 10_000
    assert make(data="official").reset(seed=0)[1]["task"]["source"] == "file"


def test_official_games_are_looked_for_where_alfworld_puts_them(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("RFENVS_DATA_DIR", "ALFWORLD_DATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileNotFoundError, match=r"no ALFWorld games in .* Get them with `pip install alfworld`"):
        make(data="official")
    for place, variable, value in (
        (tmp_path / ".cache" / "alfworld", "", ""),
        (tmp_path / "theirs", "ALFWORLD_DATA", tmp_path / "theirs"),
        (tmp_path / "ours" / "alfworld", "RFENVS_DATA_DIR", tmp_path / "ours"),
    ):
        official(place)
        if variable:
            monkeypatch.setenv(variable, str(value))
        assert official_folder() == place
    assert make(data="official").num_tasks("train") == 1


def test_folders_files_and_rows_give_the_same_game(tmp_path):
    path = official(tmp_path)
    rows = tmp_path / "rows.jsonl"
    row = to_row(kitchen()) | {"task_dir": path.parents[1].name, "trial": path.parent.name}
    rows.write_text(json.dumps(row) + "\n")
    tasks = [make(data=str(data)).get_task(0) for data in (tmp_path, tmp_path / "json_2.1.1", path, rows)]
    assert {task.id for task in tasks} == {"pick_heat_then_place_in_recep-Mug-None-Desk-1/trial_1"}
    assert len({task.prompt for task in tasks}) == 1
    assert tasks[0].prompt.endswith("Your task is to: put a hot mug in desk.")


def test_a_game_without_a_split_is_in_every_split(tmp_path):
    path = official(tmp_path, split="mine")
    for split in rfenvs.splits(ID):
        assert make(split, data=str(path)).num_tasks(split) == 1


def test_only_some_games_are_kept(tmp_path):
    official(tmp_path)
    env = make(data=str(tmp_path))
    env.reset(seed=0)
    del env
    files._parsed.cache_clear()
    gc.collect()
    assert not [game for game in gc.get_objects() if isinstance(game, Game) and game.id.endswith("Desk-1/trial_1")]


def written(path: Path, *games: Game) -> Path:
    path.write_text("".join(json.dumps(to_row(game)) + "\n" for game in games))
    return path


def test_a_file_that_has_changed_is_read_again(tmp_path):
    path = written(tmp_path / "games.jsonl", kitchen())
    first = make(data=str(path))
    os.utime(written(path, kitchen(), replace(kitchen(), id="kitchen/2")), ns=(1, 1))
    assert (make(data=str(path)).num_tasks("train"), make(data=str(path)).data_revision != first.data_revision) == (
        2,
        True,
    )


def test_a_path_means_the_file_that_is_there_now(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "games.jsonl", replace(kitchen(), id=f"kitchen/{name}"))
        monkeypatch.chdir(tmp_path / name)
        assert make(data="games.jsonl").get_task(0).id == f"kitchen/{name}"


def test_two_games_of_one_id_are_refused(tmp_path):
    path = written(tmp_path / "games.jsonl", kitchen(), kitchen())
    with pytest.raises(DataError, match="two games of split 'train' have the id 'kitchen/by-hand'; leave one out"):
        make(data=str(path))


@pytest.mark.parametrize(
    ("game", "flag"),
    [
        (replace(kitchen(), can_contain=frozenset(), tables={}), "known_bad: no commands win"),
        (kitchen(Goal("pick_and_place_simple", "Laptop", "Desk")), "known_bad: no commands win"),
        (kitchen(Goal("pick_and_place_simple", "Book", "Desk")), "no_op_passes: the game is won at its start"),
    ],
)
def test_a_game_that_teaches_nothing_is_flagged(tmp_path, game: Game, flag: str):
    env = make(data=str(written(tmp_path / "games.jsonl", game)), leak_level=3, max_turns=1)
    assert env.reset()[1]["task"]["flags"] == [flag]
    *_, info = env.step("look")
    assert not any("At the start, ." in entry["text"] for entry in info["feedback"])
    report = rfenvs.validate(ID, "train", data=env.data)
    assert (report.ok, report.flagged) == (True, 1), report


def test_a_missing_split_is_named(tmp_path):
    official(tmp_path)
    with pytest.raises(ValueError, match=r"no games of split 'valid_seen' among 1; it has train\."):
        make("valid_seen", data=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make(data=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
@pytest.mark.parametrize("split", rfenvs.splits(ID))
def test_generated_games_are_found_again_by_their_ids(split: str, difficulty: str):
    env = make(split, difficulty=difficulty)
    for index in (0, 1, 5, env.num_tasks(split) - 1):
        assert env.task_index(split, env.get_task(index).id) == index
    for id in ("", "x", "x/y-1", "x/y-99999999999", env.get_task(1).id + "0"):
        with pytest.raises(KeyError):
            env.task_index(split, id)
    with pytest.raises(ValueError, match="has no task 'x'"):
        env.reset(options={"task_id": "x"})


def test_types_are_chosen_by_long_and_short_names():
    env = make(task_type="two, look_at_obj_in_light")
    types = [env.reset(options={"task_index": index})[1]["task_type"] for index in range(6)]
    assert types == ["look_at_obj_in_light", "pick_two_obj_and_place"] * 3
    for index in range(6):
        assert env.task_index("train", env.get_task(index).id) == index
    assert [env.get_task(i).data["game"].task_type for env in [make()] for i in range(6)] == list(TASK_TYPES)


def test_equal_settings_give_equal_revisions(tmp_path):
    official(tmp_path)
    assert make().data_revision == make("valid_seen").data_revision != make(data=str(tmp_path)).data_revision


def play_all(env, actors: list[random.Random], turns: int) -> list:
    """Random admissible commands in all environments of a vector at once."""
    seen = [env.reset(seed=[3] * len(actors))]
    over = [False] * len(actors)
    for _ in range(turns):
        commands = seen[-1][-1]["admissible_commands"]
        seen.append(env.step([rng.choice(found) for rng, found in zip(actors, commands, strict=True)]))
        over = [a or b or c for a, b, c in zip(over, *seen[-1][2:4], strict=True)]
        if any(over):
            break
    return seen


def test_gymnasiums_vectors_carry_the_expert():
    def one():
        return gymnasium.make(ID, expert=True, leak_level=3, difficulty="easy")

    env = SyncVectorEnv([one] * 3, autoreset_mode=AutoresetMode.DISABLED)
    seen = play_all(env, [random.Random(i) for i in range(3)], 10)
    assert [plan[0] for plan in seen[0][-1]["expert_plan"]] == seen[0][-1]["expert_action"].tolist()
    env.reset(seed=[3] * 3)
    for turn in range(len(seen[0][-1]["expert_plan"][0])):
        *_, terminated, _, info = env.step([plan[turn] for plan in seen[0][-1]["expert_plan"]])
    assert terminated.all()
    assert info["plan_distance"].tolist() == [0, 0, 0]
    assert info["expert_action"].tolist() == [None] * 3


def test_many_environments_fit_into_one_process():
    envs = rfenvs.make_vec(ID, 256, difficulty="hard", max_turns=4)
    _, infos = envs.reset(seed=0)
    assert len({info["task"]["id"] for info in infos}) > 200
    for _ in range(4):
        _, _, terminated, truncated, infos = envs.step([info["admissible_commands"][0] for info in infos])
    assert all(a or b for a, b in zip(terminated, truncated, strict=True))


def test_threads_may_share_games():
    def run(number: int) -> list:
        env = make(difficulty="hard", expert=True)
        rng = random.Random(number % 4)
        found = [env.reset(options={"task_index": number % 4})]
        while len(found) < 12 and not (len(found) > 1 and found[-1][2]):
            found.append(env.step(rng.choice(found[-1][-1]["admissible_commands"])))
        return found

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(run, range(16)))
    assert together == [run(number) for number in range(16)]


def test_snapshots_travel_between_processes():
    env = make(expert=True)
    _, info = env.reset(seed=3)
    env.step(info["expert_action"])
    moment = pickle.loads(pickle.dumps(env.snapshot()))
    other = make(expert=True)
    other.restore(moment)
    assert moment.episode.game.tables == {}, "what can be looked up again stays at home"
    assert env.step("look") == other.step("look")


def win_all(env) -> None:
    """Play the expert's plan of every game of the split."""
    for index in range(env.num_tasks(env.split)):
        _, info = env.reset(options={"task_index": index})
        assert not info["won"]
        for command in env.expert_plan():
            *_, terminated, _, info = env.step(command)
        assert terminated
        assert info["won"]


@needs_data
def test_official_games_play_and_win():
    env = make("valid_seen", data=str(VALID_SEEN), leak_level=0)
    assert env.num_tasks("valid_seen") == 140
    win_all(env)
    by_type = [make("valid_seen", data=str(VALID_SEEN), task_type=name).num_tasks("valid_seen") for name in TASK_TYPES]
    assert by_type == [35, 13, 27, 16, 25, 24]


@needs_data
def test_official_games_are_clean():
    report = rfenvs.validate(ID, "valid_seen", 10, data=str(VALID_SEEN))
    assert report.ok, report


@pytest.mark.slow
@needs_data
def test_all_official_training_games_win():
    env = make("train", data=str(TRAIN), leak_level=0)
    assert env.num_tasks("train") == 3553
    win_all(env)


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("split", "path"), [("valid_seen", VALID_SEEN), ("train", TRAIN)])
@pytest.mark.parametrize("leak_level", [1, 3])
def test_many_official_games_are_clean(split: str, path: Path, leak_level: int):
    report = rfenvs.validate(ID, split, 140, data=str(path), leak_level=leak_level)
    assert report.ok, report
    assert (report.tasks, report.flagged, report.without_reference) == (140, 0, 0)

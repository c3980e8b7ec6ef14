"""Where games of ALFWorld are read from: rows, official folders, one official file; and what is said of bad ones."""

from __future__ import annotations

import dataclasses
import gzip
import json
import lzma
from pathlib import Path

import pytest

from rfenvs.envs.alfworld.files import Games, read_games, to_row
from rfenvs.envs.alfworld.game import TASK_TYPES, Game
from rfenvs.envs.alfworld.pddl import write_problem
from rfenvs.rows import DataError
from tests.alfworld_games import kitchen


def official(folder: Path, game: Game, *, solvable: bool = True) -> Path:
    path = folder / game.split / game.id / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    grammar = f'"task": [{{\n "rhs": "Your task is to: {game.goal_text}."\n}}]'
    row = {"pddl_domain": "", "grammar": grammar, "pddl_problem": write_problem(game), "solvable": solvable}
    path.write_text(json.dumps(row))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.xz"])
def test_rows_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"games{suffix}"
    text = "".join(json.dumps(to_row(kitchen(task))) + "\n" for task in range(6)).encode()
    path.write_bytes({".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.xz": lzma.compress}[suffix](text))
    games = read_games(path)
    assert [*games] == [kitchen(task) for task in range(6)]
    assert [row.task_type for row in games.rows] == list(TASK_TYPES)
    assert games[2] is read_games(path)[2], "parsed once"
    assert [*read_games(path, "train", [TASK_TYPES[4]])] == [kitchen(4)]
    assert isinstance(games[1:3], Games)


def test_the_official_folders(tmp_path: Path) -> None:
    root = tmp_path / "json_2.1.1"
    paths = [official(root, kitchen(task)) for task in range(6)]
    games = [kitchen(task) for task in range(6)]
    by_path = sorted(games, key=lambda game: game.id)
    assert [*read_games(tmp_path)] == [*read_games(root)] == [*read_games(root / "train")] == by_path
    assert [*read_games(paths[3])] == [games[3]]


def test_what_the_official_environment_leaves_out(tmp_path: Path) -> None:
    official(tmp_path, kitchen(0))
    official(tmp_path, kitchen(1), solvable=False)
    for task, name in ((2, "pick_and_place_with_movable_recep-x/1"), (3, "look-AppleSliced-None/1")):
        official(tmp_path, dataclasses.replace(kitchen(task), id=name, tables={}))
    assert [row.id for row in read_games(tmp_path).rows] == [kitchen(0).id]


def test_errors_name_the_file_the_row_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "games.jsonl"
    row = to_row(kitchen())
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "pddl_problem": "nothing"}) + "\n")
    with pytest.raises(DataError, match=r"games.jsonl, line 2: .*no \(:init.*leave this game out"):
        read_games(path)[1]
    with pytest.raises(DataError, match=r"split='test'.*2 games of train"):
        read_games(path, "test")
    with pytest.raises(ValueError, match="task_types='pick'"):
        read_games(path, task_types=["pick"])
    (tmp_path / "cut.jsonl.xz").write_bytes(lzma.compress(path.read_bytes())[:-40])
    with pytest.raises(DataError, match=r"cut.jsonl.xz cannot be unpacked"):
        read_games(tmp_path / "cut.jsonl.xz")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_games(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no solvable game"):
        read_games(tmp_path / "empty")

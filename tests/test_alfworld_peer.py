"""Differential test against the official engine: every observation, list of commands and won flag, word for word.

It runs as a subprocess: RFENVS_ALFWORLD_PYTHON names a Python that has alfworld 0.4.2, textworld 1.7.0 and pyyaml. The
older wording is compared with the same engine under the grammar that it had before 0.4.0.
"""

from __future__ import annotations

import json
import lzma
import os
import queue
import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rfenvs.envs.alfworld.engine import (
    DIALECTS,
    Dialect,
    State,
    admissible,
    apply,
    intro,
    parse,
    phrase,
    start,
    won,
)
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, TaskType, members
from rfenvs.envs.alfworld.pddl import parse_problem, write_problem
from tests.alfworld_games import DATA, MISSING, WINS, expert_lists, kitchen

PYTHON = os.environ.get("RFENVS_ALFWORLD_PYTHON", "")
SPLITS = ("train", "valid_seen")
GAMES = 5
"""Games of each split and task type: 60 in all."""
STEPS = 30
JUNK = ("dance", "go to nowhere 1", "take", "examine loc 1", " look ", "Look", "open  fridge 1")

pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PYTHON, reason="RFENVS_ALFWORLD_PYTHON names no Python with alfworld 0.4.2"),
]


class Official:
    """The official engine, a game at a time."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("alfworld_peer.py")
        self.process = subprocess.Popen(
            [PYTHON, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{PYTHON} ended: does it have alfworld and textworld?"
        return json.loads(line)


class Comparison:
    """One game in both engines, step by step."""

    def __init__(self, official: Official, game: Game, problem: str, dialect: Dialect) -> None:
        self.official, self.game, self.dialect = official, game, dialect
        self.observations = 0
        self._begin(official.ask(problem=problem, task=game.goal_text, dialect=dialect))

    def reset(self) -> None:
        self._begin(self.official.ask(reset=True))

    def step(self, command: str) -> None:
        self.told.append(command)
        self.state, text, _ = apply(self.game, self.state, command, self.dialect)
        self._compare(text, self.official.ask(command=command))

    def _begin(self, theirs: dict[str, Any]) -> None:
        self.state: State = start(self.game)
        self.told: list[str] = []
        self._compare(intro(self.game, self.state), theirs)

    def _compare(self, text: str, theirs: dict[str, Any]) -> None:
        where = f"{self.game.id}, {self.dialect}, after {self.told}"
        assert text == theirs["text"], where
        self.commands = admissible(self.game, self.state, self.dialect)
        assert self.commands == theirs["admissible"], where
        assert won(self.game, self.state) == theirs["won"], where
        self.observations += 1

    def walk(self, steps: int, rng: random.Random) -> None:
        """Play at random, mostly doing things, and above all with objects that are in two places at once."""
        seen = odd = 0
        for contents in self.game.contents:
            odd |= seen & contents
            seen |= contents
        names = [self.game.object_names[o] for o in members(odd & self.game.pickupable)]
        for _ in range(steps):
            doing = [line for line in self.commands if not line.startswith(("go to", "help", "inventory", "look"))]
            oddly = [line for line in doing if any(name in line for name in names)]
            kinds = [self.commands, doing or self.commands, oddly or doing or self.commands, ["look"], JUNK]
            self.step(rng.choice(rng.choices(kinds, (40, 35, 10, 12, 3))[0]))

    def follow(self, commands: list[str]) -> None:
        """Play a list of commands in the wording of this dialect."""
        for line in commands:
            command = parse(self.game, line)
            self.step(phrase(self.game, command, self.dialect) if command else line)


@pytest.fixture(scope="module")
def officials() -> Iterator[queue.Queue[Official]]:
    found: queue.Queue[Official] = queue.Queue()
    started = [Official(), Official()]
    for official in started:
        found.put(official)
    yield found
    for official in started:
        official.process.kill()


def official_rows(split: str, task_type: TaskType) -> list[dict[str, Any]]:
    with lzma.open(DATA / f"alfworld_{split}.jsonl.xz", "rt") as file:
        return [row for row in map(json.loads, file) if row["task_type"] == task_type]


@pytest.mark.skipif(not DATA.is_dir(), reason=MISSING)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_official_games(
    officials: queue.Queue[Official], capsys: pytest.CaptureFixture[str], split: str, task_type: TaskType
) -> None:
    rows = official_rows(split, task_type)
    experts = {f"{row['task_dir']}/{row['trial']}": row["actions"] for row in expert_lists()}
    chosen = random.Random(f"{split} {task_type}").sample(rows, GAMES)

    def compare(number: int) -> tuple[int, bool]:
        row = chosen[number]
        id = f"{row['task_dir']}/{row['trial']}"
        game = parse_problem(row["pddl_problem"], id=id, split=split, goal_text=row["task"].removesuffix("."))
        official = officials.get()
        try:
            both = Comparison(official, game, row["pddl_problem"], DIALECTS[number % 2])
            both.walk(STEPS, random.Random(id))
            if id in experts:
                both.reset()
                both.follow(experts[id])
                assert won(game, both.state)
            return both.observations, id in experts
        finally:
            officials.put(official)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(compare, range(GAMES)))
    with capsys.disabled():
        observations, by_expert = map(sum, zip(*results, strict=True))
        print(
            f"\n{split} {task_type}: {GAMES} games, {observations} observations, command lists and won flags equal; "
            f"{by_expert} of them also by an expert's list"
        )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_games_of_our_own(officials: queue.Queue[Official], dialect: Dialect) -> None:
    official = officials.get()
    try:
        for task in range(6):
            game = kitchen(task)
            both = Comparison(official, game, write_problem(game), dialect)
            both.follow(WINS[task].split(", "))
            assert won(game, both.state)
            both.reset()
            both.walk(60, random.Random(task))
            both.step("help")
        # What no official game has: a start before a receptacle, an open door, something hot.
        problem = write_problem(replace(kitchen(), start=0, opened=kitchen().openable, hot=1))
        game = parse_problem(problem, id="start before a receptacle")
        Comparison(official, game, problem, dialect).walk(60, random.Random(0))
    finally:
        officials.put(official)

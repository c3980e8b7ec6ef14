"""Generated household games: always the same, always solvable, never solved, never twice."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfenvs.envs.alfworld import engine, facts, generator, planner
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, TaskType, members
from rfenvs.envs.alfworld.generator import PLAN_LENGTHS, find, fingerprint, generate, indices, num_tasks, numbered
from rfenvs.envs.alfworld.pddl import parse_problem, write_problem
from rfenvs.envs.alfworld.scenes import DIFFICULTIES, HELD_OUT, ROOMS, SPLITS, Difficulty, Split, rooms

PICK, LOOK, CLEAN, HEAT, COOL, TWO = TASK_TYPES
HERE = Path(__file__).parent
DATA = Path(os.environ.get("RFENVS_TEST_DATA") or HERE.parent.parent / "shared" / "data") / "alfworld"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no official games in {DATA}; set RFENVS_TEST_DATA")

any_task_type = st.sampled_from(TASK_TYPES)
any_difficulty = st.sampled_from(DIFFICULTIES)
any_split = st.sampled_from(SPLITS)


def plan_length(game: Game) -> int:
    length = planner.distance(game, engine.start(game))
    assert length is not None
    return length


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**9), 10**18), any_task_type, any_difficulty, any_split)
def test_any_seed_makes_a_game_of_its_kind(
    seed: int, task_type: TaskType, difficulty: Difficulty, split: Split
) -> None:
    game = generate(seed, task_type=task_type, difficulty=difficulty, split=split)
    assert (game.task_type, game.split) == (task_type, split)
    shortest, longest = PLAN_LENGTHS[difficulty][task_type]
    assert shortest <= plan_length(game) <= longest
    assert not engine.won(game, engine.start(game))
    assert find(game.id) == game == generate(seed, task_type=task_type, difficulty=difficulty, split=split)
    homes = Counter(o for bits in game.contents for o in members(bits))
    assert set(homes.values()) == {1}, "every object lies in one place"
    assert len(homes) == len(game.object_ids)
    for r, bits in enumerate(game.contents):
        for o in members(bits):
            pair = (game.receptacle_types[r], game.object_types[o])
            assert pair in game.can_contain or (pair[1] == facts.LAMP and pair[0] in facts.LAMP_STANDS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), any_difficulty, any_split)
def test_games_can_be_written_as_pddl_problems_and_read_back(seed: int, difficulty: Difficulty, split: Split) -> None:
    game = generate(seed, difficulty=difficulty, split=split)
    assert parse_problem(write_problem(game), id=game.id, split=split, goal_text=game.goal_text) == game


def test_a_game_reads_like_an_official_one() -> None:
    game = numbered("train", 0)
    assert game.id == "pick_and_place_simple-Ladle-None-Cabinet-kitchen01/train-easy-0"
    assert engine.intro(game, engine.start(game)) == (
        "-= Welcome to TextWorld, ALFRED! =-\n\n"
        "You are in the middle of a room. Looking quickly around you, you see a cabinet 1, a countertop 1, a "
        "diningtable 1, a fridge 1, a microwave 1, and a sinkbasin 1.\n\n"
        "Your task is to: put some ladle on cabinet."
    )
    assert planner.plan(game, engine.start(game)) == (
        "go to sinkbasin 1",
        "take ladle 2 from sinkbasin 1",
        "go to cabinet 1",
        "open cabinet 1",
        "move ladle 2 to cabinet 1",
    )


def test_games_are_the_same_in_every_process() -> None:
    """The hash is written down here: a change of rooms, facts or dice changes everybody's games, and needs a reason."""
    program = (
        "from rfenvs.tasks import digest; from rfenvs.envs.alfworld.generator import *;"
        "games = [generate(i, difficulty=d, split=s) for i in range(12) for d in DIFFICULTIES for s in SPLITS];"
        "print(digest([[g.id, g.goal_text, g.object_names, g.contents, fingerprint(g)] for g in games]))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(HERE.parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {"c5162424b4b24273"}


def test_the_first_hundred_games_are_balanced() -> None:
    games = [numbered("train", index) for index in range(100)]
    assert set(Counter(game.task_type for game in games).values()) == {16, 17}
    rooms_of = defaultdict(list)
    for game in games:
        rooms_of[game.task_type].append(game.id.split("/")[0].split("-")[-1])
    for task_type, names in rooms_of.items():
        assert len(set(names)) >= min(len(names), len(rooms("train", generator.KINDS[task_type])))
        kinds = Counter(name[:-2] for name in names)
        assert set(kinds) == set(generator.KINDS[task_type])
        assert max(kinds.values()) - min(kinds.values()) <= 1


def test_games_are_numbered_to_a_known_end() -> None:
    assert [num_tasks(split) for split in SPLITS] == [10_000, 600, 600]
    assert [numbered("valid_seen", index).task_type for index in list(indices("valid_seen", HEAT))[:3]] == [HEAT] * 3
    assert sorted(i for task_type in TASK_TYPES for i in indices("train", task_type)) == list(indices("train"))
    for index in (-1, 600):
        with pytest.raises(IndexError, match=f"index {index} is outside the 600 games of split 'valid_seen'"):
            numbered("valid_seen", index)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"split": "test"}, "split='test' is not one of train, valid_seen, valid_unseen"),
        ({"difficulty": "extreme"}, "difficulty='extreme' is not one of easy, medium, hard"),
        ({"task_type": "sing"}, "task_type='sing' is not one of pick_and_place_simple, "),
        ({"task_type": HEAT, "room": "bedroom01"}, "room='bedroom01' does not suit pick_heat_then_place_in_recep in"),
        ({"task_type": HEAT, "room": "kitchen12"}, "in split 'train'; these do: kitchen01, "),
    ],
)
def test_what_does_not_exist_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(0, **more)


@pytest.mark.parametrize(
    "change", [("easy", "medium"), ("Ladle", "Mug"), ("train", "test"), ("easy-0", "easy-x"), ("/", "-")]
)
def test_ids_of_no_game_are_not_found(change: tuple[str, str]) -> None:
    with pytest.raises(KeyError):
        find(numbered("train", 0).id.replace(*change))


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_unseen_rooms_are_new(difficulty: Difficulty) -> None:
    """Not the names alone: no unseen room has the receptacles of a train room."""
    kinds = tuple(ROOMS)
    assert all(len(of_kind) == 12 for of_kind in ROOMS.values())
    furniture = {
        split: {tuple(sorted(type for type, _ in room.receptacles(difficulty))) for room in rooms(split, kinds)}
        for split in SPLITS
    }
    assert [len(furniture[split]) for split in SPLITS] == [36, 36, HELD_OUT * len(kinds)]
    assert furniture["train"] == furniture["valid_seen"]
    assert not furniture["train"] & furniture["valid_unseen"]


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_every_room_suits_its_tasks(difficulty: Difficulty) -> None:
    for split in ("train", "valid_unseen"):
        for task_type in TASK_TYPES:
            for room in rooms(split, generator.KINDS[task_type]):  # type: ignore[arg-type]
                game = generate(1, task_type=task_type, difficulty=difficulty, split=split, room=room.name)  # type: ignore[arg-type]
                assert (game.task_type, game.split) == (task_type, split)
                assert f"-{room.name}/" in game.id


def test_difficulty_is_size_doors_and_length() -> None:
    games = {difficulty: [numbered("train", index, difficulty) for index in range(90)] for difficulty in DIFFICULTIES}
    assert all(4 <= len(game.receptacle_ids) <= 7 for game in games["easy"])

    def mean(difficulty: Difficulty, value: Any) -> float:
        return sum(map(value, games[difficulty])) / 90

    for value in (
        lambda game: len(game.receptacle_ids),
        lambda game: len(game.object_ids),
        lambda game: game.openable.bit_count(),
        plan_length,
        lambda game: sum(c.startswith("open") for c in planner.plan(game, engine.start(game)) or ()),
    ):
        easy, medium, hard = (mean(difficulty, value) for difficulty in DIFFICULTIES)
        assert easy < medium < hard
    assert max(len(engine.intro(game, engine.start(game))) for game in games["easy"]) < 330
    assert max(plan_length(game) for game in games["easy"]) <= 6


def test_a_fingerprint_sees_the_game_and_not_its_names() -> None:
    game = numbered("train", 2)
    assert fingerprint(replace(game, id="other", split="valid_seen", goal_text="otherwise")) == fingerprint(game)
    renumbered = replace(
        game,
        object_names=tuple(reversed(game.object_names)),
        receptacle_ids=tuple(f"{r}_bar_x" for r in game.receptacle_ids),
        location_ids=tuple(reversed(game.location_ids)),
    )
    assert fingerprint(renumbered) == fingerprint(game)
    full, empty = max(game.contents), min(game.contents)
    swapped = replace(game, contents=tuple({full: empty, empty: full}.get(bits, bits) for bits in game.contents))
    for other in (
        swapped,
        replace(game, opened=game.openable),
        replace(game, goal=replace(game.goal, object_type="Mug")),
        replace(game, cleanable=0),
        replace(game, receptacle_location=(0,) * len(game.receptacle_location)),
    ):
        assert fingerprint(other) != fingerprint(game)


def test_two_objects_that_trade_places_with_their_like_make_the_same_game() -> None:
    def trade(game: Game) -> tuple[int, ...]:
        first, second, *_ = (o for o, type in enumerate(game.object_types) if type == game.goal.object_type)
        both = 1 << first | 1 << second
        return tuple(bits ^ both if (bits & both).bit_count() == 1 else bits for bits in game.contents)

    games = [numbered("train", index, "hard") for index in list(indices("train", TWO))[:20]]
    game, traded = next((game, trade(game)) for game in games if trade(game) != game.contents)
    assert fingerprint(replace(game, contents=traded)) == fingerprint(game)


def test_no_game_comes_twice() -> None:
    games = [numbered(split, index) for split in SPLITS for index in range(300)]
    assert len({fingerprint(game) for game in games}) == len(games)
    assert len({game.id for game in games}) == len(games)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_none_of_all_numbered_games_comes_twice() -> None:
    seen: dict[str, str] = {}
    for difficulty in DIFFICULTIES:
        for split in SPLITS:
            for index in range(num_tasks(split)):
                game = numbered(split, index, difficulty)
                assert seen.setdefault(fingerprint(game), game.id) == game.id
    assert len(seen) == 3 * 11_200


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_games_of_each_type_are_solved_within_fifty_steps() -> None:
    seen = set()
    lengths: dict[tuple[Difficulty, TaskType], Counter[int]] = defaultdict(Counter)
    for task_type in TASK_TYPES:
        for number in range(1000):
            difficulty = DIFFICULTIES[number % 3]
            game = generate(1_000_000 + number, task_type=task_type, difficulty=difficulty)
            state = engine.start(game)
            plan = planner.plan(game, state) or ()
            for command in plan:
                step = engine.apply(game, state, command)
                assert step.outcome.kind is not None
                state = step.state
            assert engine.won(game, state)
            assert len(plan) <= 50
            lengths[difficulty, task_type][len(plan)] += 1
            seen.add(fingerprint(game))
    assert len(seen) == 6000
    for (difficulty, task_type), counts in sorted(lengths.items(), key=lambda item: DIFFICULTIES.index(item[0][0])):
        print(difficulty, task_type, dict(sorted(counts.items())))


def official_problems(split: str) -> Iterator[str]:
    with lzma.open(DATA / f"alfworld_{split}.jsonl.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["pddl_problem"]


def check_facts(split: str) -> set[tuple[str, str]]:
    """Nothing in a split's official games contradicts our tables; gives the (receptacle, object) pairs they use."""
    pairs: set[tuple[str, str]] = set()
    for problem in official_problems(split):
        game = parse_problem(problem)
        pairs |= game.can_contain
        for o, type in enumerate(game.object_types):
            if type and type != "Footstool":
                assert [bits >> o & 1 for bits in (game.heatable, game.coolable, game.cleanable, game.sliceable)] == [
                    type in able for able in (facts.HEATABLE, facts.COOLABLE, facts.CLEANABLE, facts.SLICEABLE)
                ], type
                assert (game.vessels >> o & 1) == (type in facts.VESSELS), type
        for r, type in enumerate(game.receptacle_types):
            assert type in facts.OPENABLE or not game.openable >> r & 1
    return pairs


@needs_data
def test_facts_agree_with_official_games() -> None:
    assert check_facts("valid_seen") <= facts.CAN_CONTAIN


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_data
def test_facts_are_all_those_of_official_games() -> None:
    assert check_facts("train") | check_facts("valid_seen") == facts.CAN_CONTAIN


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.peer
def test_plans_win_in_the_official_engine_with_the_same_text() -> None:
    """Every task type and difficulty, seen rooms and unseen; every answer of the official engine is compared."""
    python = os.environ.get("RFENVS_ALFWORLD_PYTHON")
    if not python:
        pytest.skip("set RFENVS_ALFWORLD_PYTHON to a Python that has alfworld 0.4.2 and textworld 1.7.0")
    official = subprocess.Popen(
        [python, str(HERE / "alfworld_peer.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert official.stdin
    assert official.stdout

    def ask(**request: str) -> dict[str, Any]:
        official.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
        official.stdin.flush()  # type: ignore[union-attr]
        return json.loads(official.stdout.readline())  # type: ignore[no-any-return, union-attr]

    games = [numbered(split, 7 * k, difficulty) for k in range(6) for split, difficulty in SAMPLE]
    steps = 0
    try:
        for game in games:
            state = engine.start(game)
            answer = ask(problem=write_problem(game), task=game.goal_text, dialect="alfworld-0.4")
            assert answer["text"] == engine.intro(game, state), game.id
            assert answer["admissible"] == engine.admissible(game, state)
            for command in planner.plan(game, state) or ():
                assert not answer["won"]
                answer = ask(command=command)
                state, text, _ = engine.apply(game, state, command)
                assert (answer["text"], answer["admissible"]) == (text, engine.admissible(game, state)), game.id
                steps += 1
            assert answer["won"], game.id
    finally:
        official.kill()
        official.wait()
    assert {game.task_type for game in games} == set(TASK_TYPES)
    print(f"{len(games)} games, {steps} steps: all equal, all won")


SAMPLE: tuple[tuple[Split, Difficulty], ...] = (("train", "easy"), ("valid_unseen", "medium"), ("valid_seen", "hard"))

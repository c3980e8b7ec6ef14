"""The planner's plans win, and none is shorter: compared with a breadth-first search over the engine's commands."""

from __future__ import annotations

import json
import lzma
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rfenvs.envs.alfworld import engine, planner
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, Goal, TaskType, display_names, mask
from rfenvs.envs.alfworld.pddl import parse_problem
from rfenvs.envs.alfworld.rules import State, effect

PICK, LOOK, CLEAN, HEAT, COOL, TWO = TASK_TYPES
DATA = Path(os.environ.get("RFENVS_TEST_DATA") or Path(__file__).parent.parent.parent / "shared" / "data") / "alfworld"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no official games in {DATA}; set RFENVS_TEST_DATA")


def make(
    goal: Goal,
    receptacles: list[tuple[str, int]],
    objects: list[tuple[str, list[int]]],
    *,
    pickupable: int = -1,
    opened: int = 0,
    hot: int = 0,
    cool: int = 0,
    holds: frozenset[tuple[str, str]] | None = None,
) -> Game:
    """A small room: (type, spot) of each receptacle, and (type, receptacles it is in) of each object, both in order."""
    receptacle_ids = tuple(
        f"{type.replace('Basin', f'_bar_{i}_bar_Basin')}_bar_{i}" for i, (type, _) in enumerate(receptacles)
    )
    object_ids = tuple(f"{type}_bar_{i}" for i, (type, _) in enumerate(objects))
    names = display_names(id.lower() for id in (*receptacle_ids, *object_ids))
    types = {type for type, _ in objects}
    every = mask(range(len(objects)))
    food = mask(o for o, (type, _) in enumerate(objects) if type != "DeskLamp")
    return Game(
        id="small",
        split="train",
        goal=goal,
        goal_text="win",
        object_ids=object_ids,
        object_types=tuple(type for type, _ in objects),
        object_names=tuple(names[o.lower()] for o in object_ids),
        receptacle_ids=receptacle_ids,
        receptacle_types=tuple(type for type, _ in receptacles),
        receptacle_names=tuple(names[r.lower()] for r in receptacle_ids),
        receptacle_location=tuple(spot for _, spot in receptacles),
        location_ids=tuple(f"loc_bar_{i}" for i in range(6)),
        location_names=tuple(f"loc {6 - i}" for i in range(6)),
        start=0,
        contents=tuple(mask(o for o, (_, where) in enumerate(objects) if r in where) for r in range(len(receptacles))),
        object_locations=tuple(mask(receptacles[r][1] for r in where) for _, where in objects),
        inside=(),
        can_contain=holds if holds is not None else frozenset((r, o) for r, _ in receptacles for o in types),
        openable=mask(r for r, (type, _) in enumerate(receptacles) if type in ("Cabinet", "Fridge", "Microwave")),
        opened=opened,
        pickupable=pickupable & food if pickupable < 0 else pickupable & every,
        heatable=food,
        coolable=food,
        cleanable=food,
        toggleable=every & ~food,
        sliceable=0,
        vessels=0,
        hot=hot,
        cool=cool,
    )


def breadth_first(game: Game, state: State, limit: int) -> int | None:
    """The distance to a win over all the engine's actions, None if there is none, -1 if the search grew too large."""
    if engine.won(game, state):
        return 0
    seen, layer, depth = {state}, [state], 0
    while layer:
        depth += 1
        following = []
        for here in layer:
            for command in engine.actions(game, here):
                after = effect(game, here, command)
                if after in seen:
                    continue
                if engine.won(game, after):
                    return depth
                seen.add(after)
                following.append(after)
        if len(seen) > limit:
            return -1
        layer = following
    return None


def follow(game: Game, state: State) -> State:
    """Follow the planner one command at a time, in text; each must do something and come one closer."""
    left = planner.distance(game, state)
    while left:
        plan = planner.plan(game, state)
        assert plan
        command = plan[0]
        after = engine.apply(game, state, command)
        assert after.outcome.kind is not None, f"{command} does nothing"
        state, left = after.state, left - 1
        assert planner.distance(game, state) == left
    return state


def walk(game: Game, rng: random.Random, steps: int) -> Iterator[State]:
    """States of random play; placing, taking and treating are as likely as all moves together."""
    state = engine.start(game)
    yield state
    for _ in range(steps):
        choices = engine.actions(game, state)
        if not choices:
            return
        handling = [command for command in choices if command.kind not in ("go", "close")]
        state = engine.apply(game, state, rng.choice(handling if handling and rng.random() < 0.6 else choices)).state
        yield state


@st.composite
def small_games(draw: st.DrawFn) -> Game:
    """Every trap at hand: shared spots, doors, double places, fixed objects, lamps in the hand, nowhere to put down."""
    task_type: TaskType = draw(st.sampled_from(TASK_TYPES))
    place_types = ["Cabinet", "Shelf", {CLEAN: "SinkBasin", HEAT: "Microwave", COOL: "Fridge"}.get(task_type, "Shelf")]
    places = draw(st.lists(st.tuples(st.sampled_from(place_types), st.integers(1, 3)), min_size=2, max_size=4))
    where = st.lists(st.integers(0, len(places) - 1), min_size=0, max_size=2, unique=True)
    object_types = ["Mug", "Apple", "DeskLamp"] if task_type == LOOK else ["Mug", "Mug", "Apple"]
    things = draw(st.lists(st.tuples(st.sampled_from(object_types), where), min_size=2, max_size=3))
    pairs = [(r, o) for r in set(place_types) for o in set(object_types)]
    holds = frozenset(draw(st.lists(st.sampled_from(sorted(pairs)), min_size=1, unique=True)))
    looked_at = draw(st.sampled_from(["Mug", "Mug", "DeskLamp"])) if task_type == LOOK else "Mug"
    return make(
        Goal(task_type, looked_at, "", "DeskLamp")
        if task_type == LOOK
        else Goal(task_type, "Mug", draw(st.sampled_from(place_types[:2]))),
        sorted(places),
        sorted(things),
        pickupable=draw(st.sampled_from([-1, -1, 7, 6, 5])),
        opened=draw(st.integers(0, 15)),
        hot=draw(st.sampled_from([0, 0, 1])),
        cool=draw(st.sampled_from([0, 0, 2])),
        holds=holds if draw(st.booleans()) else frozenset(pairs),
    )


@st.composite
def wide_games(draw: st.DrawFn) -> tuple[Game, int]:
    """More receptacles than a plan uses, few doors, and one object to carry around: where to go is the question."""
    task_type: TaskType = draw(st.sampled_from(TASK_TYPES))
    appliance = {CLEAN: ["SinkBasin"], HEAT: ["Microwave"], COOL: ["Fridge"]}.get(task_type, [])
    types = [*draw(st.lists(st.sampled_from(["Cabinet", "Shelf", "SideTable"]), min_size=4, max_size=5)), *appliance]
    places = sorted((type, draw(st.integers(1, 4))) for type in types)
    anywhere = st.integers(0, len(places) - 1)
    things = [("Apple", [draw(anywhere)]), ("Mug", [draw(anywhere)])]
    if task_type in (LOOK, TWO):
        things.append(("DeskLamp" if task_type == LOOK else "Mug", [draw(anywhere)]))
    holds = {(type, o) for type in types for o in ("Apple", "Mug")}
    holds -= {(draw(st.sampled_from(types)), "Apple")}
    to = "" if task_type == LOOK else draw(st.sampled_from(["Cabinet", "Shelf"]))
    goal = Goal(task_type, "Mug", to, "DeskLamp" if task_type == LOOK else "")
    held = draw(st.sampled_from([-1, 0, 0, 1]))
    return make(goal, places, sorted(things), opened=draw(st.integers(0, 63)), holds=frozenset(holds)), held


def after_taking(game: Game, held: int, seed: int) -> State:
    """A state with one object in the hand, or none, and the agent anywhere; the object was wherever it was."""
    dice = random.Random(seed)
    state = engine.start(game)._replace(location=dice.randrange(5))
    if held >= 0:
        contents = tuple(bits & ~(1 << held) for bits in game.contents)
        state = state._replace(hand=held, contents=contents)
    return state


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(wide_games(), st.integers(0, 2**32))
def test_no_choice_of_receptacles_is_better(game_and_held: tuple[Game, int], seed: int) -> None:
    game, held = game_and_held
    check_from(game, after_taking(game, held, seed), limit=6_000)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
@given(wide_games(), st.integers(0, 2**32))
def test_no_choice_of_receptacles_is_better_in_many_games(game_and_held: tuple[Game, int], seed: int) -> None:
    game, held = game_and_held
    check_from(game, after_taking(game, held, seed), limit=20_000)


def check_shortest(game: Game, seed: int, steps: int, limit: int) -> None:
    *_, state = walk(game, random.Random(seed), steps)
    check_from(game, state, limit)


def check_from(game: Game, state: State, limit: int) -> None:
    expected = breadth_first(game, state, limit)
    if expected != -1:
        assert planner.distance(game, state) == expected
        follow(game, state)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(small_games(), st.integers(0, 2**32), st.integers(0, 12))
def test_no_plan_is_shorter(game: Game, seed: int, steps: int) -> None:
    check_shortest(game, seed, steps, limit=6_000)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
@given(small_games(), st.integers(0, 2**32), st.integers(0, 20))
def test_no_plan_is_shorter_in_many_games(game: Game, seed: int, steps: int) -> None:
    check_shortest(game, seed, steps, limit=20_000)


def plans(game: Game, *commands: str) -> tuple[str, ...] | None:
    """The plan after some commands, each of which must do something."""
    state = engine.start(game)
    for command in commands:
        step = engine.apply(game, state, command)
        assert step.outcome.kind is not None, command
        state = step.state
    return planner.plan(game, state)


def pick(receptacles: list[tuple[str, int]], objects: list[tuple[str, list[int]]], **more: Any) -> Game:
    return make(Goal(PICK, "Mug", "Shelf"), receptacles, objects, **more)


def test_the_plan_is_told_in_commands_and_doors_are_opened() -> None:
    game = pick([("Cabinet", 1), ("Shelf", 2)], [("Mug", [0])])
    assert plans(game) == (
        "go to cabinet 1",
        "open cabinet 1",
        "take mug 1 from cabinet 1",
        "go to shelf 1",
        "move mug 1 to shelf 1",
    )
    assert planner.plan(game, engine.start(game), "alfworld-0.3")[-1] == "put mug 1 in/on shelf 1"  # type: ignore[index]


def test_neighbours_need_no_way_between_them() -> None:
    game = pick([("Cabinet", 1), ("Shelf", 1)], [("Mug", [0])], opened=1)
    assert plans(game) == ("go to cabinet 1", "take mug 1 from cabinet 1", "move mug 1 to shelf 1")


def test_a_wrong_object_in_the_hand_is_put_where_it_may_be() -> None:
    holds = frozenset({("Shelf", "Mug"), ("Cabinet", "Mug"), ("Cabinet", "Apple")})
    game = pick([("Cabinet", 1), ("Shelf", 1)], [("Apple", [1]), ("Mug", [0])], holds=holds)
    assert plans(game, "go to shelf 1", "take apple 1 from shelf 1") == (
        "open cabinet 1",
        "move apple 1 to cabinet 1",
        "take mug 1 from cabinet 1",
        "move mug 1 to shelf 1",
    )


def test_no_way_to_put_it_down_means_no_plan() -> None:
    game = pick([("Shelf", 1)], [("Apple", [0]), ("Mug", [])], holds=frozenset({("Shelf", "Mug")}))
    assert plans(game, "go to shelf 1", "take apple 1 from shelf 1") is None
    assert planner.distance(game, engine.start(game)) is None


@pytest.mark.parametrize(("task_type", "verb", "place"), [(HEAT, "heat", "Microwave"), (COOL, "cool", "Fridge")])
def test_appliances_work_through_the_door(task_type: TaskType, verb: str, place: str) -> None:
    game = make(Goal(task_type, "Mug", "Shelf"), [("Cabinet", 3), (place, 1), ("Shelf", 2)], [("Mug", [0])], opened=1)
    assert plans(game) == (
        "go to cabinet 1",
        "take mug 1 from cabinet 1",
        f"go to {place.lower()} 1",
        f"{verb} mug 1 with {place.lower()} 1",
        "go to shelf 1",
        "move mug 1 to shelf 1",
    )


def test_cooling_undoes_heating() -> None:
    game = make(Goal(HEAT, "Mug", "Shelf"), [("Fridge", 1), ("Microwave", 1), ("Shelf", 1)], [("Mug", [2])])
    heated = ["go to shelf 1", "take mug 1 from shelf 1", "heat mug 1 with microwave 1"]
    assert plans(game, *heated) == ("move mug 1 to shelf 1",)
    assert plans(game, *heated, "cool mug 1 with fridge 1") == ("heat mug 1 with microwave 1", "move mug 1 to shelf 1")


def test_of_two_one_may_be_in_place_already() -> None:
    game = make(Goal(TWO, "Mug", "Shelf"), [("Cabinet", 1), ("Shelf", 2), ("Shelf", 3)], [("Mug", [0]), ("Mug", [2])])
    assert planner.plan(game, engine.start(game)) == (
        "go to cabinet 1",
        "open cabinet 1",
        "take mug 2 from cabinet 1",
        "go to shelf 1",
        "move mug 2 to shelf 1",
    )


def test_one_that_cannot_be_moved_says_where_the_other_goes() -> None:
    places = [("Shelf", 1), ("Shelf", 2), ("SideTable", 3)]
    game = make(Goal(TWO, "Mug", "Shelf"), places, [("Mug", [1]), ("Mug", [2])], pickupable=2)
    assert plans(game) == (
        "go to sidetable 1",
        "take mug 1 from sidetable 1",
        "go to shelf 1",
        "move mug 1 to shelf 1",
    )


def test_one_on_each_of_two_shelves_is_not_two_in_place() -> None:
    game = make(Goal(TWO, "Mug", "Shelf"), [("Shelf", 1), ("Shelf", 2)], [("Mug", [0]), ("Mug", [1])])
    assert planner.distance(game, engine.start(game)) == 4


def test_an_object_in_two_places_stays_in_the_other() -> None:
    game = make(Goal(CLEAN, "Mug", "Shelf"), [("Shelf", 1), ("SinkBasin", 2)], [("Mug", [0, 1])])
    assert plans(game) == ("go to sinkbasin 1", "take mug 1 from sinkbasin 1", "clean mug 1 with sinkbasin 1")


def test_a_lit_lamp_needs_only_to_be_near() -> None:
    game = make(Goal(LOOK, "Mug", "", "DeskLamp"), [("Cabinet", 1), ("Shelf", 2)], [("DeskLamp", [1]), ("Mug", [0])])
    lit = ["go to shelf 1", "use desklamp 1", "go to cabinet 1", "open cabinet 1", "take mug 1 from cabinet 1"]
    assert plans(game, *lit) == ("go to shelf 1",)
    assert plans(game) == (
        "go to cabinet 1",
        "open cabinet 1",
        "take mug 1 from cabinet 1",
        "go to shelf 1",
        "use desklamp 1",
    )


def test_a_lamp_in_the_hand_is_put_where_it_is_wanted() -> None:
    """Lamps of official games cannot be picked up; the rules would allow it."""
    places = [("Cabinet", 1), ("Shelf", 2)]
    goal = Goal(LOOK, "Mug", "", "DeskLamp")
    game = make(goal, places, [("DeskLamp", [1]), ("Mug", [0])], pickupable=3, opened=1)
    assert plans(game, "go to shelf 1", "take desklamp 1 from shelf 1", "go to cabinet 1") == (
        "move desklamp 1 to cabinet 1",
        "take mug 1 from cabinet 1",
        "use desklamp 1",
    )


def test_a_lamp_does_not_light_itself() -> None:
    goal = Goal(LOOK, "DeskLamp", "", "DeskLamp")
    assert plans(make(goal, [("Shelf", 1)], [("DeskLamp", [0])], pickupable=1)) is None
    two = make(goal, [("Shelf", 1)], [("DeskLamp", [0]), ("DeskLamp", [0])], pickupable=3)
    assert plans(two) == ("go to shelf 1", "take desklamp 2 from shelf 1", "use desklamp 1")


def test_a_won_game_needs_nothing() -> None:
    game = pick([("Shelf", 1)], [("Mug", [0])])
    assert plans(game) == ()


def official(split: str) -> Iterator[Game]:
    with lzma.open(DATA / f"alfworld_{split}.jsonl.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield parse_problem(row["pddl_problem"], id=f"{row['task_dir']}/{row['trial']}", split=split)


@needs_data
def test_every_seen_official_game_is_solved_also_from_the_middle() -> None:
    """The only dead ends are scrub brushes and paper towel rolls: official games let nothing hold them."""
    games = 0
    for number, game in enumerate(official("valid_seen")):
        games += 1
        assert engine.won(game, follow(game, engine.start(game)))
        for state in walk(game, random.Random(number), 30) if number % 10 == 0 else ():
            stuck = state.hand >= 0 and game.object_types[state.hand] in ("ScrubBrush", "PaperTowelRoll")
            assert engine.won(game, follow(game, state)) or stuck
    assert games == 140


@needs_data
def test_plans_are_quick_even_in_the_largest_rooms() -> None:
    times = []
    for number, game in enumerate(official("valid_seen")):
        for state in walk(game, random.Random(number), 20):
            began = time.thread_time()
            planner.shortest(game, state)
            times.append(time.thread_time() - began)
    times.sort()
    assert times[len(times) * 99 // 100] < 0.02


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_data
def test_every_train_game_is_solved_in_no_more_commands_than_the_published_lists() -> None:
    with lzma.open(DATA / "alfworld_train_expert.jsonl.xz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    lists = {f"{row['task_dir']}/{row['trial']}": row["actions"] for row in rows}
    games = ours = theirs = 0
    for game in official("train"):
        state = engine.start(game)
        assert engine.won(game, follow(game, state))
        games += 1
        if game.id not in lists:
            continue
        shortest, steps = planner.distance(game, state), 0
        for command in lists[game.id]:
            step = engine.apply(game, state, command)
            steps += step.outcome.changed
            state = step.state
            if engine.won(game, state):
                break
        assert shortest is not None
        assert shortest <= steps, game.id
        ours, theirs = ours + shortest, theirs + steps
    assert games == 3553
    print(
        f"{games} games; over {len(lists)} lists: {ours / len(lists):.2f} commands, published {theirs / len(lists):.2f}"
    )

"""The planner's plans win, and none is shorter: compared with a breadth-first search over the engine's commands."""

from __future__ import annotations

import json
import lzma
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rfenvs.envs.alfworld import engine, planner
from rfenvs.envs.alfworld.engine import State
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, Goal, TaskType, display_names, mask
from rfenvs.envs.alfworld.pddl import parse_problem

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
    receptacle_ids = tuple(f"{type}_bar_{i}" for i, (type, _) in enumerate(receptacles))
    object_ids = tuple(f"{type}_bar_{i}" for i, (type, _) in enumerate(objects))
    names = display_names([*receptacle_ids, *object_ids])
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
        object_names=tuple(names[o] for o in object_ids),
        receptacle_ids=receptacle_ids,
        receptacle_types=tuple(type for type, _ in receptacles),
        receptacle_names=tuple(names[r] for r in receptacle_ids),
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


def breadth_first(game: Game, state: State, limit: int = 40_000) -> int | None:
    """The distance to a win over all the engine's actions, None if there is none, -1 if the search grew too large."""
    if engine.won(game, state):
        return 0
    seen, layer, depth = {state}, [state], 0
    while layer:
        depth += 1
        following = []
        for here in layer:
            for command in engine.actions(game, here):
                after = engine.apply(game, here, command).state
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
        command = planner.next_action(game, state)
        assert command is not None
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


@settings(max_examples=int(os.environ.get("ALFWORLD_PLANS", "60")), deadline=None, suppress_health_check=list(HealthCheck))
@given(small_games(), st.integers(0, 2**32), st.integers(0, 12))
def test_no_plan_is_shorter(game: Game, seed: int, steps: int) -> None:
    for state in walk(game, random.Random(seed), steps):
        pass
    expected = breadth_first(game, state)
    if expected != -1:
        assert planner.distance(game, state) == expected
        follow(game, state)

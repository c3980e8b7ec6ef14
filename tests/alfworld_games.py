"""A made-up kitchen for the tests, with every odd corner of the official games in it, and where the real ones are."""

from __future__ import annotations

import dataclasses
import json
import lzma
import os
from pathlib import Path
from typing import Any

from rfenvs.envs.alfworld.game import TASK_TYPES, Game, Goal
from rfenvs.envs.alfworld.pddl import parse_problem

DATA = Path(os.environ.get("RFENVS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "alfworld"
MISSING = "RFENVS_TEST_DATA/alfworld is not here"

# name: (type, location, can be opened)
RECEPTACLES = {
    "CounterTop_bar_1": ("CounterTop", "loc_bar_1", False),
    "Shelf_bar_1": ("Shelf", "loc_bar_1", False),
    "Shelf_bar_2": ("Shelf", "loc_bar_1", False),
    "Sink_bar_1_bar_SinkBasin": ("SinkBasin", "loc_bar_2", False),
    "Fridge_bar_1": ("Fridge", "loc_bar_3", True),
    "Microwave_bar_1": ("Microwave", "loc_bar_4", True),
    "Drawer_bar_1": ("Drawer", "loc_bar_5", True),
}

# name: (type, receptacles that it is in, properties)
OBJECTS = {
    "Apple_bar_1": ("Apple", ["CounterTop_bar_1"], "pickupable heatable coolable cleanable sliceable"),
    "Apple_bar_2": ("Apple", ["Fridge_bar_1"], "pickupable heatable coolable cleanable sliceable isCool"),
    "Bowl_bar_1": ("Bowl", ["Shelf_bar_1"], "pickupable cleanable coolable isReceptacleObject"),
    "ButterKnife_bar_1": ("ButterKnife", ["Drawer_bar_1"], "pickupable cleanable"),
    "DeskLamp_bar_1": ("DeskLamp", ["Drawer_bar_1"], "toggleable"),
    "Egg_bar_1": ("Egg", ["Shelf_bar_1"], "pickupable heatable coolable cleanable"),
    "Mug_bar_1": ("Mug", ["CounterTop_bar_1"], "pickupable heatable coolable cleanable"),
    "Mug_bar_2": ("Mug", ["CounterTop_bar_1"], "pickupable heatable coolable cleanable"),
    "Pan_bar_1": ("Pan", ["CounterTop_bar_1", "Sink_bar_1_bar_SinkBasin"], "pickupable cleanable"),
    "Window_bar_1": ("Window", [], ""),
}

GOALS = (
    Goal(TASK_TYPES[0], "Egg", "Drawer"),
    Goal(TASK_TYPES[1], "Egg", lamp_type="DeskLamp"),
    Goal(TASK_TYPES[2], "Bowl", "Shelf"),
    Goal(TASK_TYPES[3], "Apple", "CounterTop"),
    Goal(TASK_TYPES[4], "Mug", "CounterTop"),
    Goal(TASK_TYPES[5], "Mug", "Shelf"),
)

SENTENCES = (
    "put an egg in drawer",
    "look at egg under the desklamp",
    "put a clean bowl in shelf",
    "put a hot apple in countertop",
    "cool some mug and put it in countertop",
    "put two mug in shelf",
)


FETCH_MUG = "go to countertop 1, take mug 1 from countertop 1"
HEAT = "go to microwave 1, heat {} with microwave 1"
COOL = "go to fridge 1, cool {} with fridge 1"
CLEAN = "go to sinkbasin 1, clean {} with sinkbasin 1"

# Commands that win each task, separated by commas.
WINS = {
    0: "go to shelf 2, take egg 1 from shelf 2, go to drawer 1, open drawer 1, move egg 1 to drawer 1",
    1: "go to shelf 2, take egg 1 from shelf 2, go to drawer 1, use desklamp 1",
    2: f"go to shelf 2, take bowl 1 from shelf 2, {CLEAN.format('bowl 1')}, go to shelf 1, move bowl 1 to shelf 1",
    3: "go to countertop 1, take apple 2 from countertop 1, go to microwave 1, heat apple 2 with microwave 1, "
    "go to countertop 1, move apple 2 to countertop 1",
    4: f"{FETCH_MUG}, {COOL.format('mug 1')}, go to countertop 1, move mug 1 to countertop 1",
    5: f"{FETCH_MUG}, move mug 1 to shelf 1, take mug 2 from countertop 1, move mug 2 to shelf 1",
}


def kitchen(task: int = 0) -> Game:
    """The kitchen with the goal of one of the six task types."""
    facts = ["atLocation agent1 loc_bar_9", "inReceptacleObject Egg_bar_1 Bowl_bar_1"]
    for name, (type, location, openable) in RECEPTACLES.items():
        facts += [f"receptacleType {name} {type}Type", f"receptacleAtLocation {name} {location}"]
        facts += [f"openable {name}"] * openable
        facts += [f"canContain {type}Type {other}Type" for other, *_ in OBJECTS.values() if other != "Window"]
    for name, (type, places, properties) in OBJECTS.items():
        facts += [f"objectType {name} {type}Type", *(f"{what} {name}" for what in properties.split())]
        facts += [f"inReceptacle {name} {place}" for place in places]
        facts += [f"objectAtLocation {name} {RECEPTACLES[place][1]}" for place in places[:1]]
    facts.append("objectAtLocation Window_bar_1 loc_bar_1")
    body = "\n".join(f"({fact})" for fact in facts)
    goal = "(and (inReceptacle ?o ?r) (objectType ?o EggType) (receptacleType ?r DrawerType))"
    problem = f"(define (problem made_up) (:domain alfred) (:init\n{body}\n) (:goal {goal}))"
    game = parse_problem(problem, id=f"{TASK_TYPES[task]}-made-up/{task}", split="train", goal_text=SENTENCES[task])
    return dataclasses.replace(game, goal=GOALS[task], tables={})


def expert_lists() -> list[dict[str, Any]]:
    """Published lists of winning actions, each with `task_dir`, `trial` and `actions`."""
    with lzma.open(DATA / "alfworld_train_expert.jsonl.xz", "rt") as file:
        return [json.loads(line) for line in file]

"""Games as PDDL problems: read the official ones, and write ours so that the official engine can play them."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from rfenvs.envs.alfworld.game import TASK_TYPES, Game, Goal, TaskType, display_names, mask, members

_FACT: Final = re.compile(r"\(([^()]+)\)")
_TYPE: Final = re.compile(r"\(\s*(objectType|receptacleType)\s+\?(\w+)\s+(\w+?)Type\s*\)", re.IGNORECASE)

# Types that the domain's actions name, so that every problem has to declare them.
_NAMED_OTYPES: Final = ("Knife", "ButterKnife")
_NAMED_RTYPES: Final = ("SinkBasin", "Microwave", "Fridge")

_ABOUT_OBJECTS: Final = {
    "pickupable": "pickupable",
    "heatable": "heatable",
    "coolable": "coolable",
    "cleanable": "cleanable",
    "toggleable": "toggleable",
    "sliceable": "sliceable",
    "vessels": "isReceptacleObject",
    "clean": "isClean",
    "hot": "isHot",
    "cool": "isCool",
}
"""Masks of `Game` and the predicates that say them."""
_OF_OBJECTS: Final = (
    *("inreceptacle", "objectatlocation", "inreceptacleobject"),
    *(predicate.lower() for predicate in _ABOUT_OBJECTS.values()),
)

# How many arguments the facts that are read have.
_ARITY: Final = {
    **dict.fromkeys((*(name.lower() for name in _ABOUT_OBJECTS.values()), "openable", "opened"), 1),
    **dict.fromkeys(("objecttype", "receptacletype", "receptacleatlocation", "atlocation", "cancontain"), 2),
    **dict.fromkeys(("inreceptacle", "objectatlocation", "inreceptacleobject"), 2),
}

_can_contain: dict[frozenset[tuple[str, str]], frozenset[tuple[str, str]]] = {}


def parse_problem(text: str, *, id: str = "", split: str = "", goal_text: str = "") -> Game:
    """The game that a PDDL problem of the `alfred` domain describes.

    `id`, `split` and `goal_text` are not in the problem, and go into the game as given. Raises ValueError that says
    which part of the problem is missing or not of this domain.
    """
    begin, end = text.find("(:init"), text.find("(:goal")
    if begin < 0 or end < begin:
        raise ValueError("the PDDL problem has no (:init ...) followed by (:goal ...)")
    facts: dict[str, list[list[str]]] = defaultdict(list)
    mentioned: dict[str, str] = {}
    for fact in dict.fromkeys(_FACT.findall(text, begin + len("(:init"), end)):
        predicate, *arguments = fact.split() or [""]
        if len(arguments) != _ARITY.get(predicate.lower(), len(arguments)):
            raise ValueError(f"the fact ({fact}) has {len(arguments)} arguments; {predicate} takes another number")
        facts[predicate.lower()].append(arguments)
        for argument in arguments:
            mentioned.setdefault(argument.lower(), sys.intern(argument))

    names = display_names(mentioned)
    object_type = {o.lower(): _type(t) for o, t in facts["objecttype"]}
    receptacle_type = {r.lower(): _type(t) for r, t in facts["receptacletype"]}
    at_location = {r.lower(): l.lower() for r, l in facts["receptacleatlocation"]}
    object_at = [(o.lower(), l.lower()) for o, l in facts["objectatlocation"]]
    if len(facts["atlocation"]) != 1:
        raise ValueError(f"the PDDL problem places {len(facts['atlocation'])} agents with atLocation; it needs one")
    start = facts["atlocation"][0][1].lower()

    # A few official games hold objects without a type, such as a cracked egg: they are there, and fit no goal.
    others = [arguments[0] for predicate in _OF_OBJECTS for arguments in facts[predicate]]
    objects = sorted({*object_type, *(o.lower() for o in others)})
    receptacles = sorted(receptacle_type)
    locations = sorted({start, *at_location.values(), *(l for _, l in object_at)})
    object_number = {o: i for i, o in enumerate(objects)}
    receptacle_number = {r: i for i, r in enumerate(receptacles)}
    location_number = {l: i for i, l in enumerate(locations)}

    def object_mask(field: str) -> int:
        return mask(object_number[o.lower()] for (o,) in facts[_ABOUT_OBJECTS[field].lower()])

    try:
        contents = [0] * len(receptacles)
        for o, r in facts["inreceptacle"]:
            contents[receptacle_number[r.lower()]] |= 1 << object_number[o.lower()]
        object_locations = [0] * len(objects)
        for o, l in object_at:
            object_locations[object_number[o]] |= 1 << location_number[l]
        pairs = frozenset((_type(r), _type(o)) for r, o in facts["cancontain"])
        return Game(
            id=id,
            split=split,
            goal=_parse_goal(text[end:]),
            goal_text=goal_text,
            object_ids=tuple(mentioned[o] for o in objects),
            object_types=tuple(object_type.get(o, "") for o in objects),
            object_names=tuple(names[o] for o in objects),
            receptacle_ids=tuple(mentioned[r] for r in receptacles),
            receptacle_types=tuple(receptacle_type[r] for r in receptacles),
            receptacle_names=tuple(names[r] for r in receptacles),
            receptacle_location=tuple(location_number[at_location[r]] for r in receptacles),
            location_ids=tuple(mentioned[l] for l in locations),
            location_names=tuple(names[l] for l in locations),
            start=location_number[start],
            contents=tuple(contents),
            object_locations=tuple(object_locations),
            inside=tuple(
                sorted(
                    (object_number[inner.lower()], object_number[outer.lower()])
                    for inner, outer in facts["inreceptacleobject"]
                )
            ),
            can_contain=_can_contain.setdefault(pairs, pairs),
            openable=mask(receptacle_number[r.lower()] for (r,) in facts["openable"]),
            opened=mask(receptacle_number[r.lower()] for (r,) in facts["opened"]),
            pickupable=object_mask("pickupable"),
            heatable=object_mask("heatable"),
            coolable=object_mask("coolable"),
            cleanable=object_mask("cleanable"),
            toggleable=object_mask("toggleable"),
            sliceable=object_mask("sliceable"),
            vessels=object_mask("vessels"),
            clean=object_mask("clean"),
            hot=object_mask("hot"),
            cool=object_mask("cool"),
        )
    except KeyError as missing:
        raise ValueError(
            f"the PDDL problem uses {missing} without an objectType, receptacleType or receptacleAtLocation of its own"
        ) from None


def write_problem(game: Game) -> str:
    """The game as a PDDL problem of the `alfred` domain: `parse_problem` gives the game back."""
    otypes = dict.fromkeys([*filter(None, game.object_types), *sorted(o for _, o in game.can_contain), *_NAMED_OTYPES])
    rtypes = dict.fromkeys([*game.receptacle_types, *sorted(r for r, _ in game.can_contain), *_NAMED_RTYPES])
    objects, receptacles, locations = game.object_ids, game.receptacle_ids, game.location_ids
    declared = [
        "agent1 - agent",
        *(f"{t}Type - otype" for t in otypes),
        *(f"{t}Type - rtype" for t in rtypes),
        *(f"{o} - object" for o in objects),
        *(f"{r} - receptacle" for r in receptacles),
        *(f"{l} - location" for l in locations),
    ]
    facts = [
        f"atLocation agent1 {locations[game.start]}",
        *(f"objectType {o} {t}Type" for o, t in zip(objects, game.object_types, strict=True) if t),
        *(f"receptacleType {r} {t}Type" for r, t in zip(receptacles, game.receptacle_types, strict=True)),
        *(
            f"receptacleAtLocation {r} {locations[l]}"
            for r, l in zip(receptacles, game.receptacle_location, strict=True)
        ),
        *(f"canContain {r}Type {o}Type" for r, o in sorted(game.can_contain)),
        *(f"inReceptacle {objects[o]} {receptacles[r]}" for r, bits in enumerate(game.contents) for o in members(bits)),
        *(f"inReceptacleObject {objects[inner]} {objects[outer]}" for inner, outer in game.inside),
        *(
            f"objectAtLocation {objects[o]} {locations[l]}"
            for o, bits in enumerate(game.object_locations)
            for l in members(bits)
        ),
    ]
    facts += _unary(receptacles, {"openable": game.openable, "opened": game.opened})
    facts += _unary(objects, {predicate: getattr(game, name) for name, predicate in _ABOUT_OBJECTS.items()})
    return "\n".join(
        [
            "(define (problem household)",
            "(:domain alfred)",
            "(:objects",
            *(f"    {line}" for line in declared),
            ")",
            "(:init",
            *(f"    ({fact})" for fact in facts),
            ")",
            f"(:goal {_write_goal(game.goal)})",
            ")\n",
        ]
    )


def _unary(ids: tuple[str, ...], masks: dict[str, int]) -> Iterable[str]:
    return [f"{predicate} {ids[i]}" for predicate, bits in masks.items() for i in members(bits)]


def _type(name: str) -> str:
    return sys.intern(name[:-4] if name.lower().endswith("type") else name)


# What tells the six goal formulas apart, in the order in which it is asked.
_SIGNS: Final[tuple[tuple[str, TaskType], ...]] = (
    ("istoggled", TASK_TYPES[1]),
    ("isclean", TASK_TYPES[2]),
    ("ishot", TASK_TYPES[3]),
    ("iscool", TASK_TYPES[4]),
    ("?o2", TASK_TYPES[5]),
    ("inreceptacle", TASK_TYPES[0]),
)


def _parse_goal(text: str) -> Goal:
    lower = text.lower()
    task_type = next((task_type for sign, task_type in _SIGNS if sign in lower), None)
    if task_type is None:
        raise ValueError(f"the goal is none of the six of ALFWorld: {' '.join(text.split())}")
    types = {variable.lower(): sys.intern(type) for _, variable, type in _TYPE.findall(text)}
    target = types.get("o") or types.get("o1", "")
    goal = Goal(task_type, target, types.get("r", ""), types.get("ot", ""))
    if not target or not (goal.lamp_type if task_type == TASK_TYPES[1] else goal.receptacle_type):
        raise ValueError(f"the goal names no type for its object or its place: {' '.join(text.split())}")
    return goal


_STATES: Final[dict[TaskType, str]] = {
    TASK_TYPES[2]: "(cleanable ?o) (isClean ?o)",
    TASK_TYPES[3]: "(heatable ?o) (isHot ?o)",
    TASK_TYPES[4]: "(coolable ?o) (isCool ?o)",
}


def _write_goal(goal: Goal) -> str:
    if goal.task_type == TASK_TYPES[1]:
        return (
            "(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location)"
            f" (and (objectType ?ot {goal.lamp_type}Type) (toggleable ?ot) (isToggled ?ot)"
            " (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r)))"
            f" (exists (?o - object ?a - agent) (and (objectType ?o {goal.object_type}Type) (holds ?a ?o))))"
        )
    place = f"(receptacleType ?r {goal.receptacle_type}Type)"
    if goal.task_type == TASK_TYPES[5]:
        first, second = (
            f"(objectType ?{o} {goal.object_type}Type) {place} (inReceptacle ?{o} ?r)" for o in ("o1", "o2")
        )
        return (
            f"(and (exists (?r - receptacle) (exists (?o1 - object) (and {first}"
            f" (exists (?o2 - object) (and (not (= ?o1 ?o2)) {second}))))))"
        )
    state = _STATES.get(goal.task_type, "")
    return (
        "(and (exists (?r - receptacle) (exists (?o - object)"
        f" (and {state} (objectType ?o {goal.object_type}Type) {place} (inReceptacle ?o ?r)))))"
    )

"""Household games of our own making, as many as wanted: the games that `rfenvs/ALFWorld-v0` has without any download.

A game is a pure function of its split, difficulty, room, task type and seed, the same on every machine and version of
Python. Each is solvable, unsolved at its start, and as long as its difficulty says (`PLAN_LENGTHS`, checked with the
exact planner). `train` and `valid_seen` share 36 rooms and have no game in common; `valid_unseen` has 12 rooms of its
own. What differs from official games: no object lies in two places or on the floor, all doors are closed at first, and
cabinets, drawers, safes, fridges and microwaves always have one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from rfenvs.envs.alfworld import facts, planner
from rfenvs.envs.alfworld.engine import start
from rfenvs.envs.alfworld.facts import RoomKind
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, Goal, TaskType, display_names, mask, members
from rfenvs.envs.alfworld.scenes import DIFFICULTIES, SPLITS, Difficulty, Room, Split, rooms
from rfenvs.tasks import digest

T = TypeVar("T")

PICK, LOOK, CLEAN, HEAT, COOL, TWO = TASK_TYPES

NUM_TASKS: Final[dict[Split, int]] = {"train": 10_000, "valid_seen": 600, "valid_unseen": 600}
"""How many numbered games a split has in each difficulty. All are different (`fingerprint`), across splits too."""

KINDS: Final[dict[TaskType, tuple[RoomKind, ...]]] = {
    PICK: ("kitchen", "bathroom", "bedroom", "livingroom"),
    LOOK: ("bedroom", "livingroom"),
    CLEAN: ("kitchen", "bathroom"),
    HEAT: ("kitchen",),
    COOL: ("kitchen",),
    TWO: ("kitchen", "bathroom", "bedroom", "livingroom"),
}

PLAN_LENGTHS: Final[dict[Difficulty, dict[TaskType, tuple[int, int]]]] = {
    "easy": dict.fromkeys(TASK_TYPES, (3, 6)),
    "medium": {PICK: (4, 6), LOOK: (3, 5), CLEAN: (6, 8), HEAT: (6, 8), COOL: (6, 8), TWO: (7, 10)},
    "hard": {PICK: (5, 6), LOOK: (4, 5), CLEAN: (7, 8), HEAT: (7, 8), COOL: (7, 8), TWO: (8, 11)},
}
"""Shortest and longest optimal plan, in commands. One object in place takes six at most, whatever the room."""


@dataclass(frozen=True, slots=True)
class Clutter:
    """How full a room is, and how well the things wanted are hidden."""

    objects: tuple[int, int]
    """Fewest and most objects in the room."""
    at_one_place: int
    """Most objects in or on one receptacle."""
    copies: int
    """Most further objects of the wanted type."""
    hidden: float
    """Chance that a wanted object lies behind a door where it could."""


CLUTTER: Final[dict[Difficulty, Clutter]] = {
    "easy": Clutter(objects=(4, 7), at_one_place=3, copies=1, hidden=0.15),
    "medium": Clutter(objects=(10, 16), at_one_place=5, copies=2, hidden=0.5),
    "hard": Clutter(objects=(20, 32), at_one_place=6, copies=2, hidden=0.9),
}

SENTENCES: Final[dict[TaskType, tuple[str, str]]] = {
    PICK: ("put a {o} in {r}", "put some {o} on {r}"),
    LOOK: ("look at {o} under the {r}", "examine the {o} with the {r}"),
    CLEAN: ("put a clean {o} in {r}", "clean some {o} and put it in {r}"),
    HEAT: ("put a hot {o} in {r}", "heat some {o} and put it in {r}"),
    COOL: ("put a cool {o} in {r}", "cool some {o} and put it in {r}"),
    TWO: ("put two {o} in {r}", "find two {o} and put them in {r}"),
}

_ABLE: Final = {CLEAN: facts.CLEANABLE, HEAT: facts.HEATABLE, COOL: facts.COOLABLE}
_APPLIANCE: Final = {CLEAN: "SinkBasin", HEAT: "Microwave", COOL: "Fridge"}
_ATTEMPTS: Final = 2_000
_MARKS: Final = facts.words("pickupable heatable coolable cleanable toggleable sliceable vessels clean hot cool")


def num_tasks(split: Split) -> int:
    """How many numbered games a split has, in each difficulty."""
    return NUM_TASKS[split]


def indices(split: Split, task_type: TaskType | None = None) -> range:
    """The numbers of a split's games of one type, or of all: the types take turns."""
    first, stride = (0, 1) if task_type is None else (TASK_TYPES.index(task_type), len(TASK_TYPES))
    return range(first, NUM_TASKS[split], stride)


def numbered(split: Split, index: int, difficulty: Difficulty = "easy") -> Game:
    """Game `index` of a split, `0 <= index < num_tasks(split)`. Raises IndexError beyond."""
    if not 0 <= index < NUM_TASKS[split]:
        raise IndexError(f"index {index} is outside the {NUM_TASKS[split]} games of split {split!r}")
    return generate(index, difficulty=difficulty, split=split)


def generate(
    seed: int,
    *,
    task_type: TaskType | None = None,
    difficulty: Difficulty = "easy",
    split: Split = "train",
    room: str | None = None,
) -> Game:
    """The game of a seed.

    Consecutive seeds go through the six task types in turn, and through the rooms that suit each. `task_type` and
    `room` (a name of `scenes.ROOMS`, such as "kitchen03") fix one or the other. The id, "<task type>-<object>-None-
    <receptacle or lamp>-<room>/<split>-<difficulty>-<seed>", says all that `find` needs to make the game again.

    Raises:
        ValueError: No such split, difficulty, task type or room; or the room does not suit the split or the task.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}")
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty={difficulty!r} is not one of {', '.join(DIFFICULTIES)}")
    chosen_type = TASK_TYPES[seed % len(TASK_TYPES)] if task_type is None else task_type
    if chosen_type not in TASK_TYPES:
        raise ValueError(f"task_type={chosen_type!r} is not one of {', '.join(TASK_TYPES)}")
    suitable = rooms(split, KINDS[chosen_type])
    if room is None:
        chosen_room = suitable[seed // len(TASK_TYPES) % len(suitable)]
    else:
        named = [candidate for candidate in suitable if candidate.name == room]
        if not named:
            names = ", ".join(sorted(candidate.name for candidate in suitable))
            raise ValueError(f"room={room!r} does not suit {chosen_type} in split {split!r}; these do: {names}")
        chosen_room = named[0]

    dice = _Dice(f"{split}/{difficulty}/{chosen_room.name}/{chosen_type}/{seed}")
    shortest, longest = PLAN_LENGTHS[difficulty][chosen_type]
    half_done = difficulty == "easy" and chosen_type == TWO and dice.chance(0.25)
    for _ in range(_ATTEMPTS):
        draft = _draft(dice, chosen_room, chosen_type, difficulty, half_done)
        if draft is None:
            continue
        game = _build(dice, draft, split, f"{split}-{difficulty}-{seed}")
        length = planner.distance(game, start(game))
        if length is not None and shortest <= length <= longest:
            return game
    raise RuntimeError(f"no {difficulty} game of {chosen_type} in {chosen_room.name} after {_ATTEMPTS} attempts")


def find(game_id: str) -> Game:
    """The generated game of an id. Raises KeyError where no game has it."""
    try:
        task_dir, trial = game_id.split("/")
        task_type, *_, room = task_dir.split("-")
        split, difficulty, seed = trial.split("-", 2)
        game = generate(int(seed), task_type=task_type, difficulty=difficulty, split=split, room=room)  # type: ignore[arg-type]
    except ValueError:
        raise KeyError(game_id) from None
    if game.id != game_id:
        raise KeyError(game_id)
    return game


def fingerprint(game: Game) -> str:
    """32 hexadecimal digits, equal for games that differ only in their ids, names, numbering or wording.

    Works for official games too. An object in two places at once (or in none) counts with its name.
    """
    homes = Counter(o for bits in game.contents for o in members(bits))
    inside = {o for pair in game.inside for o in pair}
    marks = {name: getattr(game, name) for name in _MARKS}

    def label(o: int) -> str:
        known = [game.object_types[o], *(name for name, bits in marks.items() if bits >> o & 1)]
        if homes[o] != 1 or o in inside:
            known.append(game.object_names[o])
        return " ".join(known)

    spots: dict[int, list[tuple[str, int, int, list[str]]]] = {game.start: []}
    for r, bits in enumerate(game.contents):
        door = game.openable >> r & 1, game.opened >> r & 1
        contents = sorted(label(o) for o in members(bits))
        spots.setdefault(game.receptacle_location[r], []).append((game.receptacle_types[r], *door, contents))
    types = set(game.object_types)
    return digest(
        [game.goal.task_type, game.goal.object_type, game.goal.receptacle_type, game.goal.lamp_type],
        sorted([location == game.start, sorted(things)] for location, things in spots.items()),
        sorted(label(o) for o in range(len(game.object_types)) if homes[o] != 1),
        sorted([label(i), label(o)] for i, o in game.inside),
        sorted(pair for pair in game.can_contain if pair[0] in game.receptacle_types and pair[1] in types),
        size=16,
    )


class _Dice:
    """Choices from a text. They rest on `Random.random` alone, which Python promises never to change."""

    def __init__(self, text: str) -> None:
        self._random = random.Random(text).random

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def between(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low + 1))

    def pick(self, values: Sequence[T]) -> T:
        return values[int(self._random() * len(values))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        order = sorted((self._random(), i) for i in range(len(values)))
        return [values[i] for _, i in order]


@dataclass(slots=True)
class _Draft:
    """A game before it has ids: the room's receptacles, and (type, receptacle) of each object."""

    room: Room
    goal: Goal
    receptacles: tuple[tuple[str, int], ...]
    objects: list[tuple[str, int]] = field(default_factory=list)

    def homes(self, object_type: str, *, but: str = "", only: str = "") -> list[int]:
        """Receptacles that can hold a type of object; none of type `but`, and all of type `only` if given."""
        return [
            r
            for r, (type, _) in enumerate(self.receptacles)
            if object_type in facts.HOLDS[type] and type != but and type == (only or type)
        ]


def _draft(dice: _Dice, room: Room, task_type: TaskType, difficulty: Difficulty, half_done: bool) -> _Draft | None:
    """A furnished room with a goal, None where the dice led to a dead end.

    `half_done` puts one of two wanted objects in place: things that are there from the start count.
    """
    receptacles = room.receptacles(difficulty)
    clutter = CLUTTER[difficulty]
    goal = _goal(dice, room, task_type, {type for type, _ in receptacles})
    if goal is None:
        return None
    draft = _Draft(room, goal, receptacles)
    wanted, place = goal.object_type, goal.receptacle_type

    def hide() -> int | None:
        """A home for a wanted object, away from where it has to go."""
        homes = draft.homes(wanted, but=place)
        behind_door = dice.chance(clutter.hidden)
        preferred = [r for r in homes if (receptacles[r][0] in facts.OPENABLE) == behind_door]
        return dice.pick(preferred or homes) if homes else None

    first = hide()
    if first is None:
        return None
    draft.objects.append((wanted, first))
    if task_type == TWO:
        together = difficulty == "easy" or dice.chance(0.4)
        second = (
            draft.homes(wanted, only=place) if half_done else [first] if together else draft.homes(wanted, but=place)
        )
        draft.objects.append((wanted, dice.pick(second)))
    # A treated object has to be placed, so that others of its type may lie in place already.
    elsewhere = draft.homes(wanted, but="" if task_type in _ABLE else place)
    draft.objects += [(wanted, dice.pick(elsewhere)) for _ in range(dice.between(0, clutter.copies))]
    if room.kind in KINDS[LOOK] and (task_type == LOOK or dice.chance(0.5)):
        stands = [r for r, (type, _) in enumerate(receptacles) if type in facts.LAMP_STANDS]
        if not stands:
            return None
        draft.objects.append((facts.LAMP, dice.pick(stands)))
    _add_distractors(dice, draft, clutter)
    return draft


def _goal(dice: _Dice, room: Room, task_type: TaskType, available: set[str]) -> Goal | None:
    pool = [o for o in facts.POOLS[room.kind] if task_type not in _ABLE or o in _ABLE[task_type]]
    if task_type == LOOK:
        return Goal(task_type, dice.pick(pool), lamp_type=facts.LAMP)
    places = sorted(available & facts.DESTINATIONS - {_APPLIANCE.get(task_type, "")})
    place = dice.pick(places)
    suitable = [o for o in pool if o in facts.HOLDS[place]]
    return Goal(task_type, dice.pick(suitable), place) if suitable else None


def _add_distractors(dice: _Dice, draft: _Draft, clutter: Clutter) -> None:
    """Fill the room up with other things, three of a kind at most."""
    total = dice.between(*clutter.objects)
    pool = [o for o in facts.POOLS[draft.room.kind] if o != draft.goal.object_type and draft.homes(o)]
    here = Counter(r for _, r in draft.objects)
    kinds: Counter[str] = Counter()
    for _ in range(4 * total):
        if len(draft.objects) >= total:
            return
        type = dice.pick(pool)
        r = dice.pick(draft.homes(type))
        if kinds[type] < 3 and here[r] < clutter.at_one_place:
            kinds[type] += 1
            here[r] += 1
            draft.objects.append((type, r))


def _build(dice: _Dice, draft: _Draft, split: Split, trial: str) -> Game:
    """Number the things of a draft: receptacles as they stand in the room, objects in any order."""
    goal, room = draft.goal, draft.room
    receptacle_ids = _ids([type for type, _ in draft.receptacles])
    objects = dice.shuffled(draft.objects)
    object_ids = _ids([type for type, _ in objects])
    location_ids = _ids(["loc"] * (len(room.spots["hard"]) + 1))

    # The text lists things by their ids in lower case, so that is their order in a game.
    receptacle_order = sorted(range(len(receptacle_ids)), key=lambda r: receptacle_ids[r].lower())
    object_order = sorted(range(len(object_ids)), key=lambda o: object_ids[o].lower())
    receptacle_types, spots = zip(*(draft.receptacles[r] for r in receptacle_order), strict=True)
    object_types, homes = zip(*(objects[o] for o in object_order), strict=True)
    used = sorted({*spots, len(location_ids) - 1})
    names = display_names(id.lower() for id in (*receptacle_ids, *object_ids, *(location_ids[l] for l in used)))

    def are(types: frozenset[str]) -> int:
        return mask(o for o, type in enumerate(object_types) if type in types)

    place = goal.lamp_type or goal.receptacle_type
    sentence = dice.pick(SENTENCES[goal.task_type])
    return Game(
        id=f"{goal.task_type}-{goal.object_type}-None-{place}-{room.name}/{trial}",
        split=split,
        goal=goal,
        goal_text=sentence.format(o=goal.object_type.lower(), r=place.lower()),
        object_ids=tuple(object_ids[o] for o in object_order),
        object_types=object_types,
        object_names=tuple(names[object_ids[o].lower()] for o in object_order),
        receptacle_ids=tuple(receptacle_ids[r] for r in receptacle_order),
        receptacle_types=receptacle_types,
        receptacle_names=tuple(names[receptacle_ids[r].lower()] for r in receptacle_order),
        receptacle_location=tuple(used.index(spot) for spot in spots),
        location_ids=tuple(location_ids[l] for l in used),
        location_names=tuple(names[location_ids[l]] for l in used),
        start=len(used) - 1,
        contents=tuple(mask(o for o, home in enumerate(homes) if home == r) for r in receptacle_order),
        object_locations=tuple(1 << used.index(draft.receptacles[home][1]) for home in homes),
        inside=(),
        can_contain=facts.CAN_CONTAIN,
        openable=mask(r for r, type in enumerate(receptacle_types) if type in facts.OPENABLE),
        opened=0,
        pickupable=are(frozenset(object_types) - {facts.LAMP}),
        heatable=are(facts.HEATABLE),
        coolable=are(facts.COOLABLE),
        cleanable=are(facts.CLEANABLE),
        toggleable=are(frozenset({facts.LAMP})),
        sliceable=are(facts.SLICEABLE),
        vessels=are(facts.VESSELS),
    )


def _ids(types: Sequence[str]) -> list[str]:
    """An id in ALFRED's manner for each thing, numbered among its type: "Sink_bar_02_bar_SinkBasin"."""
    count: Counter[str] = Counter()
    out = []
    for type in types:
        count[type] += 1
        kind = type.removesuffix("Basin")
        out.append(f"{kind}_bar_{count[type]:02d}" + (f"_bar_{type}" if kind != type else ""))
    return out

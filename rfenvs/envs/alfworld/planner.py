"""Shortest plans, exactly: what an expert who sees through closed doors would do from any state of any game.

A general search is not needed, because a room is simple: every command costs one; the agent reaches any receptacle
with one `go` (none if it stands there already); a door costs one `open` the first time, and closing it never helps;
one object is held at a time. So a plan is an order of `stops` (take, move, heat, clean, cool, use), and its length is
the number of stops, plus the changes of location between them, plus the doors that takes and moves find closed
(microwave and fridge heat and cool through the door). A stop `go` means only to stand there, and costs the way alone.
What remains is to choose the stops:

* An object already in the hand is either the one the goal takes, or it is put down first wherever that is legal. It
  never pays to take an object that the goal will not use, nor to put down one and take it again.
* One object in place: take (from anywhere it lies), treat if it needs heat, cold or water, move. Two in place: the same
  for each of them, or for one where the receptacle holds a first. Under a lamp: take, then use the lamp.
* Two receptacles can stand for each other if they differ neither in location nor in their door. Away from the agent,
  the appliances and the objects wanted, the location does not matter either, and an open one is never worse.

All choices that remain are tried: a few hundred at most, a handful in most games. `tests/test_alfworld_planner.py`
compares the lengths with a breadth-first search over the engine's own commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from rfenvs.envs.alfworld.engine import Command, Dialect, Kind, State, phrase, won
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, TaskType, members

Stops = tuple[Command, ...]

_TREATMENTS: dict[TaskType, tuple[Kind, str]] = {
    TASK_TYPES[2]: ("clean", "sinkbasin"),
    TASK_TYPES[3]: ("heat", "microwave"),
    TASK_TYPES[4]: ("cool", "fridge"),
}


def plan(game: Game, state: State, dialect: Dialect = "alfworld-0.4") -> tuple[str, ...] | None:
    """The commands of a shortest way to win: empty if the game is won, None if it cannot be won from here.

    Ties are broken by the order of receptacles and objects in the text, so that the answer is always the same.
    """
    commands = shortest(game, state)
    return None if commands is None else tuple(phrase(game, command, dialect) for command in commands)


def distance(game: Game, state: State) -> int | None:
    """The length of a shortest way to win, None if there is none. A step on such a way lowers it by exactly one."""
    commands = shortest(game, state)
    return None if commands is None else len(commands)


def next_action(game: Game, state: State, dialect: Dialect = "alfworld-0.4") -> str | None:
    """The first command of `plan`, None if the game is won or cannot be won."""
    commands = shortest(game, state)
    return phrase(game, commands[0], dialect) if commands else None


def cached(game: Game, size: int = 4096) -> Callable[[State], tuple[Command, ...] | None]:
    """`shortest` for one game, remembering the last `size` states. Safe to share between threads."""

    @lru_cache(maxsize=size)
    def remembered(state: State) -> tuple[Command, ...] | None:
        return shortest(game, state)

    return remembered


def shortest(game: Game, state: State) -> tuple[Command, ...] | None:
    """`plan` as commands of the engine."""
    if won(game, state):
        return ()
    look = _look_statics(game)
    if game.goal.task_type == TASK_TYPES[1]:
        choices = _under_lamp(game, look, state)
    elif game.goal.task_type == TASK_TYPES[5]:
        choices = _two_in_place(game, look, state)
    else:
        choices = _one_in_place(game, look, state)

    closed = game.openable & ~state.opened
    best: Stops | None = None
    length = 0
    for stops, must_drop in choices:
        least = _length(look, state.location, closed, stops) + must_drop
        if best is not None and least >= length:
            continue
        if not must_drop:
            best, length = stops, least
            continue
        for r in _drops(look, state, closed, stops):
            whole = (Command("move", state.hand, r), *stops)
            cost = _length(look, state.location, closed, whole)
            if best is None or cost < length:
                best, length = whole, cost
    return None if best is None else tuple(_spelled_out(look, state.location, closed, best))


@dataclass(frozen=True, slots=True)
class _Statics:
    """What planning asks of a game, whatever the state."""

    location: tuple[int, ...]
    targets: int
    """Objects of the goal's type."""
    takeable: int
    """Those of them that can be picked up."""
    places: tuple[int, ...]
    """Receptacles of the goal's type that can hold the goal's object."""
    holdable: tuple[int, ...]
    """For each receptacle, the objects that it can hold."""
    lamps: int
    treatment: Kind | None
    treatable: int
    appliances: tuple[int, ...]


def _look_statics(game: Game) -> _Statics:
    found = game.tables.get("planner")
    if not isinstance(found, _Statics):
        found = game.tables["planner"] = _statics(game)
    return found


def _statics(game: Game) -> _Statics:
    goal = game.goal
    object_types = [type.lower() for type in game.object_types]
    receptacle_types = [type.lower() for type in game.receptacle_types]
    pairs = {(r.lower(), o.lower()) for r, o in game.can_contain}

    def of_type(wanted: str) -> int:
        return sum(1 << o for o, type in enumerate(object_types) if type == wanted.lower())

    targets = of_type(goal.object_type)
    treatment, appliance = _TREATMENTS.get(goal.task_type, (None, ""))
    treatable = {"clean": game.cleanable, "heat": game.heatable, "cool": game.coolable}.get(treatment or "", -1)
    holdable = {
        place: sum(1 << o for o, type in enumerate(object_types) if (place, type) in pairs)
        for place in set(receptacle_types)
    }
    return _Statics(
        location=game.receptacle_location,
        targets=targets,
        takeable=targets & game.pickupable,
        places=tuple(
            r
            for r, type in enumerate(receptacle_types)
            if type == goal.receptacle_type.lower() and (type, goal.object_type.lower()) in pairs
        ),
        holdable=tuple(holdable[type] for type in receptacle_types),
        lamps=of_type(goal.lamp_type) & game.toggleable,
        treatment=treatment,
        treatable=treatable,
        appliances=tuple(r for r, type in enumerate(receptacle_types) if type == appliance),
    )


def _length(look: _Statics, location: int, closed: int, stops: Iterable[Command]) -> int:
    """How many commands the stops take, with the moves between them and the doors."""
    length = 0
    for kind, _, r, _ in stops:
        there = look.location[r]
        if there != location:
            location = there
            length += 1
        if closed >> r & 1 and (kind == "take" or kind == "move"):
            closed ^= 1 << r
            length += 1
        length += kind != "go"
    return length


def _spelled_out(look: _Statics, location: int, closed: int, stops: Stops) -> Iterator[Command]:
    for stop in stops:
        r = stop.receptacle
        if look.location[r] != location:
            location = look.location[r]
            yield Command("go", receptacle=r)
        if closed >> r & 1 and (stop.kind == "take" or stop.kind == "move"):
            closed ^= 1 << r
            yield Command("open", receptacle=r)
        if stop.kind == "use":
            yield Command("use", object=stop.object)
        elif stop.kind != "go":
            yield stop


def _sources(look: _Statics, state: State) -> list[tuple[int, int]]:
    """(object, receptacle) for all that can be taken and is of the goal's type."""
    return [(o, r) for r, bits in enumerate(state.contents) for o in members(bits & look.takeable)]


def _worth_trying(
    look: _Statics, state: State, closed: int, candidates: Iterable[int], locations: set[int], receptacles: set[int]
) -> list[int]:
    """Candidates that cannot stand for each other, given the locations and receptacles that the plan uses anyway."""
    chosen: dict[tuple[int, int], int] = {}
    own: list[int] = []
    elsewhere: list[int] = []
    for r in candidates:
        if r in receptacles:
            own.append(r)
        elif look.location[r] == state.location or look.location[r] in locations:
            chosen.setdefault((look.location[r], closed >> r & 1), r)
        else:
            elsewhere.append(r)
    best_elsewhere = min(elsewhere, key=lambda r: closed >> r & 1, default=None)
    rest = [] if best_elsewhere is None else [best_elsewhere]
    return sorted([*own, *chosen.values(), *rest])


def _drops(look: _Statics, state: State, closed: int, stops: Stops) -> list[int]:
    """Receptacles in which the object held could be put before the stops begin."""
    legal = (r for r, bits in enumerate(look.holdable) if bits >> state.hand & 1)
    used = {stop.receptacle for stop in stops}
    return _worth_trying(look, state, closed, legal, {look.location[r] for r in used}, used)


def _destinations(look: _Statics, state: State, closed: int, sources: list[tuple[int, int]]) -> list[int]:
    """Receptacles to which the goal's object could go."""
    used = {r for _, r in sources}
    locations = {look.location[r] for r in (*used, *look.appliances)}
    return _worth_trying(look, state, closed, look.places, locations, used)


def _one_in_place(game: Game, look: _Statics, state: State) -> Iterator[tuple[Stops, bool]]:
    closed = game.openable & ~state.opened
    treated = {"clean": state.clean, "heat": state.hot, "cool": state.cool}.get(look.treatment or "", -1)
    sources = _sources(look, state)
    destinations = _destinations(look, state, closed, sources)
    in_place = [r for r, type in enumerate(game.receptacle_types) if type.lower() == game.goal.receptacle_type.lower()]

    def from_hand(o: int, source: int) -> Iterator[Stops]:
        if not look.treatable >> o & 1:
            return
        ways: list[Stops] = [()]
        if look.treatment and not treated >> o & 1:
            ways = [(Command(look.treatment, o, r),) for r in look.appliances]
        # Official games put some objects in two receptacles at once: taken from one, they are still in the other.
        stays = any(state.contents[r] >> o & 1 for r in in_place if r != source)
        for way in ways:
            if stays:
                yield way
            else:
                yield from ((*way, Command("move", o, r)) for r in destinations)

    if state.hand >= 0 and look.targets >> state.hand & 1:
        yield from ((stops, False) for stops in from_hand(state.hand, -1))
    for o, r in sources:
        if o != state.hand:
            yield from (((Command("take", o, r), *stops), state.hand >= 0) for stops in from_hand(o, r))


def _two_in_place(game: Game, look: _Statics, state: State) -> Iterator[tuple[Stops, bool]]:
    closed = game.openable & ~state.opened
    held = state.hand if state.hand >= 0 and look.targets >> state.hand & 1 else -1
    sources = [(o, r) for o, r in _sources(look, state) if o != state.hand]
    started = {r for r in look.places if state.contents[r] & look.targets}
    for place in sorted({*_destinations(look, state, closed, sources), *started}):
        there = state.contents[place] & look.targets
        firsts = [(o, r) for o, r in sources if not there >> o & 1]
        if held >= 0 and not there >> held & 1:
            put = (Command("move", held, place),)
            if there:
                yield put, False
            else:
                yield from (((*put, *_carry(o, r, place)), False) for o, r in firsts)
        for o, r in firsts:
            one = _carry(o, r, place)
            if there:
                yield one, state.hand >= 0
            else:
                yield from (((*one, *_carry(p, q, place)), state.hand >= 0) for p, q in firsts if p != o)


def _carry(o: int, source: int, place: int) -> Stops:
    return (Command("take", o, source), Command("move", o, place))


def _under_lamp(game: Game, look: _Statics, state: State) -> Iterator[tuple[Stops, bool]]:
    lamps = [(lamp, r) for r, bits in enumerate(state.contents) for lamp in members(bits & look.lamps)]

    def light(lamp: int, r: int) -> Command:
        return Command("go", receptacle=r) if state.used >> lamp & 1 else Command("use", lamp, r)

    if state.hand >= 0 and look.targets >> state.hand & 1:
        yield from (((light(lamp, r),), False) for lamp, r in lamps)
    for source in _sources(look, state):
        if source[0] == state.hand:
            continue
        take = Command("take", *source)
        yield from (((take, light(lamp, r)), state.hand >= 0) for lamp, r in lamps if (lamp, r) != source)
        if state.hand >= 0 and look.lamps >> state.hand & 1:
            legal = [r for r, bits in enumerate(look.holdable) if bits >> state.hand & 1]
            yield from (((Command("move", state.hand, r), take, light(state.hand, r)), False) for r in legal)

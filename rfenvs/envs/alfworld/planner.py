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

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from rfenvs.envs.alfworld.game import TASK_TYPES, Game, TaskType, members
from rfenvs.envs.alfworld.lookup import Lookup, lookup
from rfenvs.envs.alfworld.rules import Command, State, treated, won
from rfenvs.envs.alfworld.wording import Dialect, phrase

Stops = tuple[Command, ...]

_TREATMENTS: Final[dict[TaskType, Literal["clean", "heat", "cool"]]] = {
    TASK_TYPES[2]: "clean",
    TASK_TYPES[3]: "heat",
    TASK_TYPES[4]: "cool",
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


def shortest(game: Game, state: State) -> tuple[Command, ...] | None:
    """`plan` as commands of the engine."""
    if won(game, state):
        return ()
    at = _Position(game, state, lookup(game), game.openable & ~state.opened)
    ways = {TASK_TYPES[1]: _under_lamp, TASK_TYPES[5]: _two_in_place}.get(game.goal.task_type, _one_in_place)
    best: Stops | None = None
    length = 0
    for stops, drop_first in ways(at):
        least = _length(at, stops) + drop_first
        if best is not None and least >= length:
            continue
        if not drop_first:
            best, length = stops, least
            continue
        for r in _drops(at, stops):
            whole = (Command("move", state.hand, r), *stops)
            cost = _length(at, whole)
            if best is None or cost < length:
                best, length = whole, cost
    return None if best is None else tuple(_spelled_out(at, best))


@dataclass(frozen=True, slots=True)
class _Position:
    """Where planning starts."""

    game: Game
    state: State
    find: Lookup
    closed: int
    """Mask of the receptacles whose doors are closed."""

    @property
    def held_target(self) -> int:
        """The object in the hand if the goal could take it, else -1."""
        hand = self.state.hand
        return hand if hand >= 0 and self.find.targets >> hand & 1 else -1

    def sources(self) -> list[tuple[int, int]]:
        """(object, receptacle) for all that could be taken for the goal; what is in the hand is not taken again."""
        wanted = self.find.targets & self.game.pickupable
        if self.state.hand >= 0:
            wanted &= ~(1 << self.state.hand)
        return [(o, r) for r, bits in enumerate(self.state.contents) for o in members(bits & wanted)]

    def able_to_hold(self, o: int) -> list[int]:
        return [r for r, bits in enumerate(self.find.holdable) if bits >> o & 1]


def _length(at: _Position, stops: Iterable[Command]) -> int:
    """How many commands the stops take, with the ways between them and the doors."""
    location, closed, where = at.state.location, at.closed, at.game.receptacle_location
    length = 0
    for kind, _, r, _ in stops:
        if where[r] != location:
            location = where[r]
            length += 1
        if closed >> r & 1 and (kind == "take" or kind == "move"):
            closed ^= 1 << r
            length += 1
        length += kind != "go"
    return length


def _spelled_out(at: _Position, stops: Stops) -> Iterator[Command]:
    location, closed, where = at.state.location, at.closed, at.game.receptacle_location
    for stop in stops:
        kind, o, r, _ = stop
        if where[r] != location:
            location = where[r]
            yield Command("go", receptacle=r)
        if closed >> r & 1 and (kind == "take" or kind == "move"):
            closed ^= 1 << r
            yield Command("open", receptacle=r)
        if kind == "use":
            yield Command("use", o)
        elif kind != "go":
            yield stop


def _worth_trying(at: _Position, candidates: Iterable[int], used: set[int]) -> list[int]:
    """Candidates that cannot stand for each other, in a plan that may also stop at the receptacles `used`."""
    where = at.game.receptacle_location
    near = {where[r] for r in used} | {at.state.location}
    chosen: list[int] = []
    kinds: set[tuple[int, int]] = set()
    elsewhere: list[int] = []
    for r in candidates:
        kind = (where[r], at.closed >> r & 1)
        if r in used:
            chosen.append(r)
        elif where[r] not in near:
            elsewhere.append(r)
        elif kind not in kinds:
            kinds.add(kind)
            chosen.append(r)
    if elsewhere:
        chosen.append(min(elsewhere, key=lambda r: at.closed >> r & 1))
    return chosen


def _drops(at: _Position, stops: Stops) -> list[int]:
    """Where the object held could be put before the stops begin."""
    return _worth_trying(at, at.able_to_hold(at.state.hand), {stop.receptacle for stop in stops})


def _destinations(at: _Position, sources: list[tuple[int, int]], appliances: list[int]) -> list[int]:
    """Where the goal's object could go."""
    takes = [r for r in at.find.places if at.find.holdable[r] & at.find.targets]
    return _worth_trying(at, takes, {*(r for _, r in sources), *appliances})


def _one_in_place(at: _Position) -> Iterator[tuple[Stops, bool]]:
    """Every way to bring one object in place, and whether the hand has to be emptied before."""
    game, state, find = at.game, at.state, at.find
    treatment = _TREATMENTS.get(game.goal.task_type)
    able = find.able[treatment] if treatment else -1
    appliances = [(treatment, r) for r, does in enumerate(find.treatment) if treatment and does == treatment]
    ready = treated(game, state)
    sources = at.sources()
    destinations = _destinations(at, sources, [r for _, r in appliances])

    def once_held(o: int, source: int = -1) -> Iterator[Stops]:
        if not able >> o & 1:
            return
        treatments: list[Stops] = [()] if ready >> o & 1 else [(Command(kind, o, r),) for kind, r in appliances]
        # Official games put some objects in two receptacles at once: taken from one, they are still in the other.
        still_there = any(state.contents[r] >> o & 1 for r in find.places if r != source)
        for treat in treatments:
            if still_there:
                yield treat
            else:
                yield from ((*treat, Command("move", o, r)) for r in destinations)

    if at.held_target >= 0:
        yield from ((stops, False) for stops in once_held(at.held_target))
    for o, r in sources:
        yield from (((Command("take", o, r), *stops), state.hand >= 0) for stops in once_held(o, r))


def _two_in_place(at: _Position) -> Iterator[tuple[Stops, bool]]:
    """The same for two objects in one receptacle, which may hold one already."""
    state, held, sources = at.state, at.held_target, at.sources()
    begun = {r for r in at.find.places if state.contents[r] & at.find.targets and at.find.holdable[r] & at.find.targets}
    for place in sorted({*_destinations(at, sources, []), *begun}):
        there = state.contents[place] & at.find.targets
        carries = [(o, (Command("take", o, r), Command("move", o, place))) for o, r in sources if not there >> o & 1]
        if held >= 0 and not there >> held & 1:
            put = Command("move", held, place)
            if there:
                yield (put,), False
            else:
                yield from (((put, *carry), False) for _, carry in carries)
        for first, carry in carries:
            if there:
                yield carry, state.hand >= 0
            else:
                yield from (((*carry, *other), state.hand >= 0) for second, other in carries if second != first)


def _under_lamp(at: _Position) -> Iterator[tuple[Stops, bool]]:
    """The same for holding an object where a lamp was used."""
    state, find = at.state, at.find
    lamps = [(lamp, r) for r, bits in enumerate(state.contents) for lamp in members(bits & find.lamps)]

    def light(lamp: int, r: int) -> Command:
        return Command("go", receptacle=r) if state.used >> lamp & 1 else Command("use", lamp, r)

    if at.held_target >= 0:
        yield from (((light(lamp, r),), False) for lamp, r in lamps)
    for source in at.sources():
        take = Command("take", *source)
        yield from (((take, light(lamp, r)), state.hand >= 0) for lamp, r in lamps if (lamp, r) != source)
        if state.hand >= 0 and find.lamps >> state.hand & 1:
            put_down = at.able_to_hold(state.hand)
            yield from (((Command("move", state.hand, r), take, light(state.hand, r)), False) for r in put_down)

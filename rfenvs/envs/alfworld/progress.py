"""How far a game has come: the parts of its goal by name, and whether the episode moves at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from rfenvs.envs.alfworld.engine import State
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, members

PICK, LOOK, CLEAN, HEAT, COOL, TWO = TASK_TYPES
STALLED = 6
"""Turns in a row without a state that is new, after which that is said, and said again after as many."""


class Condition(NamedTuple):
    """One part of a goal."""

    name: str
    """In words: "a mug is clean"."""
    met: bool


def conditions(game: Game, state: State) -> list[Condition]:
    """The parts of the goal, each met or not; `engine.goal_conditions` counts them."""
    goal = game.goal
    thing, place = goal.object_type.lower(), goal.receptacle_type.lower()
    targets = _of_type(game.object_types, thing)
    held = targets & 1 << state.hand if state.hand >= 0 else 0
    if goal.task_type == LOOK:
        lamp = goal.lamp_type.lower()
        lit = _of_type(game.object_types, lamp) & game.toggleable & state.used
        here = [r for r, location in enumerate(game.receptacle_location) if location == state.location]
        on = any(state.contents[r] & lit for r in here)
        return [Condition(f"a {thing} is held", bool(held)), Condition(f"a lit {lamp} is where the agent stands", on)]
    placed = [state.contents[r] & targets for r in members(_of_type(game.receptacle_types, place))]
    held_or_placed = bool(held or any(placed))
    if goal.task_type == TWO:
        most = max((bits.bit_count() for bits in placed), default=0)
        second = most >= 2 or any(bits and held & ~bits for bits in placed)
        return [
            Condition(f"a {thing} is held or in place", held_or_placed),
            Condition(f"a {thing} is in or on a {place}", most >= 1),
            Condition(f"a second {thing} is held or in the same place", second),
            Condition(f"a second {thing} is in or on the same {place}", most >= 2),
        ]
    found = [Condition(f"a {thing} is held or in place", held_or_placed)]
    if goal.task_type == PICK:
        return [*found, Condition(f"a {thing} is in or on a {place}", any(placed))]
    word, done = {
        CLEAN: ("clean", game.cleanable & state.clean),
        HEAT: ("hot", game.heatable & state.hot),
        COOL: ("cool", game.coolable & state.cool),
    }[goal.task_type]
    return [
        *found,
        Condition(f"a {thing} is {word}", bool(targets & done)),
        Condition(f"a {word} {thing} is in or on a {place}", any(bits & done for bits in placed)),
    ]


def targets(game: Game, state: State) -> list[tuple[str, str]]:
    """The objects that the goal is about, its lamps too, each with the receptacle where it is, or "your hand"."""
    wanted = _of_type(game.object_types, game.goal.object_type) | _of_type(game.object_types, game.goal.lamp_type)
    found = []
    for o in members(wanted):
        places = [game.receptacle_names[r] for r, bits in enumerate(state.contents) if bits >> o & 1]
        found.append((game.object_names[o], "your hand" if o == state.hand else places[0] if places else "nowhere"))
    return found


def _of_type(types: tuple[str, ...], wanted: str) -> int:
    return sum(1 << i for i, type in enumerate(types) if type.lower() == wanted.lower())


@dataclass(slots=True)
class Trail:
    """Which states an episode has been in, and what was tried there. Turns count from 0; -1 is the start."""

    states: dict[State, int] = field(default_factory=dict)
    """The first turn after which each state was there."""
    tried: dict[tuple[State, str], int] = field(default_factory=dict)
    """The first turn at which a command was given in a state."""
    stalled: int = 0
    """Turns since the last state that was new."""

    def tried_before(self, state: State, command: str, turn: int) -> int | None:
        """The turn at which the same command was given in the same state, if any; it is noted."""
        first = self.tried.setdefault((state, command), turn)
        return None if first == turn else first

    def been_before(self, state: State, turn: int) -> int | None:
        """The turn after which this state was there already, if any; it is noted."""
        first = self.states.setdefault(state, turn)
        self.stalled = 0 if first == turn else self.stalled + 1
        return None if first == turn else first

    def copy(self) -> Trail:
        """One that can go on without changing this one."""
        return Trail(dict(self.states), dict(self.tried), self.stalled)

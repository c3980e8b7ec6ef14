"""How far a game has come: the parts of its goal by name, and whether the episode moves at all."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

from rfenvs.envs.alfworld.game import TASK_TYPES, Game, Goal, members
from rfenvs.envs.alfworld.lookup import lookup
from rfenvs.envs.alfworld.rules import State, lamp_lit_here, treated

PICK, LOOK, CLEAN, HEAT, COOL, TWO = TASK_TYPES
STALLED = 6
"""Turns in a row without a state that is new, after which that is said, and said again after as many."""


class Condition(NamedTuple):
    """One part of a goal."""

    name: str
    """In words: "a mug is clean"."""
    met: bool


def conditions(game: Game, state: State) -> tuple[Condition, ...]:
    """The parts of the goal in our own reading, each met or not; all are met exactly where the game is won.

    * pick_and_place: an object held or in place; one in place.
    * look_at_obj_in_light: an object held; a lamp that was used, at the agent's location.
    * clean, heat, cool: an object held or in place; one in that state; one in that state in place.
    * pick_two: one object held or in place; one in place; a second held or in the same place; both in the same place.
    """
    return tuple(map(Condition, _names(game.goal), _met(game, state)))


def _met(game: Game, state: State) -> tuple[bool, ...]:
    find, type = lookup(game), game.task_type
    held = find.targets & 1 << state.hand if state.hand >= 0 else 0
    if type == LOOK:
        return bool(held), lamp_lit_here(game, state)
    placed = [bits for r in find.places if (bits := state.contents[r] & find.targets)]
    touched = bool(held or placed)
    if type == PICK:
        return touched, bool(placed)
    if type == TWO:
        both = any(bits & (bits - 1) for bits in placed)
        return touched, bool(placed), both or any(held & ~bits for bits in placed), both
    done = treated(game, state)
    return touched, bool(find.targets & done), any(bits & done for bits in placed)


@functools.lru_cache(maxsize=1024)
def _names(goal: Goal) -> tuple[str, ...]:
    thing, place, lamp = goal.object_type.lower(), goal.receptacle_type.lower(), goal.lamp_type.lower()
    if goal.task_type == LOOK:
        return f"a {thing} is held", f"a lit {lamp} is where the agent stands"
    first = f"a {thing} is held or in place"
    if goal.task_type == PICK:
        return first, f"a {thing} is in or on a {place}"
    if goal.task_type == TWO:
        second = f"a second {thing} is held or in the same place"
        return first, f"a {thing} is in or on a {place}", second, f"a second {thing} is in or on the same {place}"
    word = {CLEAN: "clean", HEAT: "hot", COOL: "cool"}[goal.task_type]
    return first, f"a {thing} is {word}", f"a {word} {thing} is in or on a {place}"


def targets(game: Game, state: State) -> list[tuple[str, str]]:
    """The objects that the goal is about, its lamps too, each with the receptacle where it is, or "your hand"."""
    found = []
    for o in members(lookup(game).targets | lookup(game).lamps):
        places = [game.receptacle_names[r] for r, bits in enumerate(state.contents) if bits >> o & 1]
        found.append((game.object_names[o], "your hand" if o == state.hand else places[0] if places else "nowhere"))
    return found


@functools.lru_cache(maxsize=4096)
def state_key(state: State) -> str:
    """A hash of 24 hexadecimal digits by which states of one game can be compared."""
    return hashlib.blake2b(repr(tuple(state)).encode("ascii"), digest_size=12).hexdigest()


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

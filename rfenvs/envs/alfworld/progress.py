"""How far a game has come: the parts of its goal by name, and whether the episode moves at all."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

from rfenvs.envs.alfworld.engine import State
from rfenvs.envs.alfworld.game import TASK_TYPES, Game, Goal, members
from rfenvs.envs.alfworld.lookup import lookup

PICK, LOOK, CLEAN, HEAT, COOL, TWO = TASK_TYPES
STALLED = 6
"""Turns in a row without a state that is new, after which that is said, and said again after as many."""


class Condition(NamedTuple):
    """One part of a goal."""

    name: str
    """In words: "a mug is clean"."""
    met: bool


def conditions(game: Game, state: State) -> tuple[Condition, ...]:
    """The parts of the goal, each met or not; `engine.goal_conditions` counts them."""
    find, type = lookup(game), game.task_type
    names = _names(game.goal)
    held = find.targets & 1 << state.hand if state.hand >= 0 else 0
    if type == LOOK:
        lit = find.lamps & state.used
        return _pair(names, (bool(held), any(state.contents[r] & lit for r in find.here[state.location])))
    placed = [bits for r in find.places if (bits := state.contents[r] & find.targets)]
    touched = bool(held or placed)
    if type == PICK:
        return _pair(names, (touched, bool(placed)))
    if type == TWO:
        both = any(bits & (bits - 1) for bits in placed)
        return _pair(names, (touched, bool(placed), both or any(held & ~bits for bits in placed), both))
    if type == CLEAN:
        done = game.cleanable & state.clean
    elif type == HEAT:
        done = game.heatable & state.hot
    else:
        done = game.coolable & state.cool
    return _pair(names, (touched, bool(find.targets & done), any(bits & done for bits in placed)))


def _pair(names: tuple[str, ...], met: tuple[bool, ...]) -> tuple[Condition, ...]:
    return tuple(map(Condition, names, met))


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


def state_key(state: State, first: State) -> str:
    """A hash of 24 hexadecimal digits by which states of one game can be compared.

    Args:
        state: Any state of the game.
        first: The game's first one: only what differs from it is hashed, which is quick.
    """
    text = repr(
        [
            [(i, now) for i, (now, then) in enumerate(zip(part, other, strict=True)) if now != then]
            if isinstance(part, tuple) and isinstance(other, tuple)
            else part
            for part, other in zip(state, first, strict=True)
        ]
    )
    return hashlib.blake2b(text.encode("ascii"), digest_size=12).hexdigest()


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

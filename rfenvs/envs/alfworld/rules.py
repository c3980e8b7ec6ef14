"""The rules, without a word of text: what can be done in a state, what it does, and whether the game is won.

States are values: an effect is a new state, and the old one stays as it was.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from rfenvs.envs.alfworld.game import TASK_TYPES, Game, members
from rfenvs.envs.alfworld.lookup import lookup

Kind = Literal[
    "go",
    "open",
    "close",
    "take",
    "move",
    "clean",
    "heat",
    "cool",
    "use",
    "slice",
    "examine",
    "inventory",
    "look",
    "help",
]


class Command(NamedTuple):
    """What is to be done; whether it can be done is another question.

    `object`, `receptacle` and `tool` are numbers in the game, or -1. `examine` has an object or a receptacle; `tool`
    is the knife of `slice`.
    """

    kind: Kind
    object: int = -1
    receptacle: int = -1
    tool: int = -1


class State(NamedTuple):
    """Where things are, and how. Equal states of one game behave equally for ever, so a state is its own exact key.

    `hand` is the object held, or -1. Masks over objects: each entry of `contents` and of `left` (one a receptacle),
    `clean`, `hot`, `cool`, `used`, `sliced`. `opened` is a mask over receptacles. Each entry of `spots` (one an object)
    is a mask over locations.

    Two of them look redundant and are not. `spots`: where an object is said to be, which official games do not always
    keep in step with its receptacle; a knife goes by it. `left`: what was taken out of a receptacle and not put back,
    for receptacles that share their location; the official `look` sees such an object lying beside them once it was
    put into a neighbour.
    """

    location: int
    hand: int
    opened: int
    contents: tuple[int, ...]
    clean: int
    hot: int
    cool: int
    used: int
    sliced: int
    spots: tuple[int, ...]
    left: tuple[int, ...]


def start(game: Game) -> State:
    """The first state of a game."""
    return State(
        location=game.start,
        hand=-1,
        opened=game.opened,
        contents=game.contents,
        clean=game.clean,
        hot=game.hot,
        cool=game.cool,
        used=0,
        sliced=0,
        spots=game.object_locations,
        left=(0,) * len(game.receptacle_ids),
    )


def accessible(game: Game, state: State, receptacle: int) -> bool:
    """Whether one could reach into a receptacle: it is open, or has no door."""
    return bool((~game.openable | state.opened) >> receptacle & 1)


def in_reach_of_knife(game: Game, state: State) -> int:
    """Mask of the objects that could be sliced where the agent stands; a closed door does not hinder."""
    spot = 1 << state.location
    return game.sliceable and sum(1 << o for o in members(game.sliceable) if state.spots[o] & spot)


def possible(game: Game, state: State, command: Command) -> bool:
    """Whether the command does something in this state, if only to say something."""
    kind, o, r, tool = command
    find = lookup(game)
    if kind == "go":
        return game.receptacle_location[r] != state.location
    if kind == "inventory" or kind == "look" or kind == "help":
        return True
    if kind == "use":
        return bool(game.toggleable >> o & 1) and any(state.contents[r] >> o & 1 for r in find.here[state.location])
    if kind == "slice":
        sharp = tool == state.hand and find.knives >> tool & 1
        return bool(sharp and in_reach_of_knife(game, state) >> o & 1)
    if kind == "examine" and o >= 0:
        return o == state.hand
    if game.receptacle_location[r] != state.location:
        return False
    if kind == "examine":
        return True
    if kind == "open":
        return bool((game.openable & ~state.opened) >> r & 1)
    if kind == "close":
        return bool((game.openable & state.opened) >> r & 1)
    if kind == "take":
        return bool(state.hand < 0 and (game.pickupable & state.contents[r]) >> o & 1 and accessible(game, state, r))
    if o != state.hand:
        return False
    if kind == "move":
        return bool(find.holdable[r] >> o & 1) and accessible(game, state, r)
    treatment = find.treatment[r]
    return treatment == kind and bool(find.able[treatment] >> o & 1)  # the door may be closed


def actions(game: Game, state: State) -> list[Command]:
    """Everything that could be done now except to look, examine and ask: what a planner has to try.

    In no order that means something; commands that would leave the state as it is are among them.
    """
    at = state.location
    away = [Command("go", receptacle=r) for r, location in enumerate(game.receptacle_location) if location != at]
    return away + actions_here(game, state)


def actions_here(game: Game, state: State) -> list[Command]:
    """`actions` without those that walk away."""
    find = lookup(game)
    hand = state.hand
    found = []
    for r in find.here[state.location]:
        if game.openable >> r & 1:
            found.append(Command("close" if state.opened >> r & 1 else "open", receptacle=r))
        inside = state.contents[r]
        if inside & game.toggleable:
            found += [Command("use", o) for o in members(inside & game.toggleable)]
        if hand < 0:
            if inside and accessible(game, state, r):
                found += [Command("take", o, r) for o in members(inside & game.pickupable)]
            continue
        if find.holdable[r] >> hand & 1 and accessible(game, state, r):
            found.append(Command("move", hand, r))
        treatment = find.treatment[r]
        if treatment and find.able[treatment] >> hand & 1:
            found.append(Command(treatment, hand, r))
    if hand >= 0 and find.knives >> hand & 1:
        found += [Command("slice", o, tool=hand) for o in members(in_reach_of_knife(game, state))]
    return found


def effect(game: Game, state: State, command: Command) -> State:
    """The state after a `possible` command."""
    kind, o, r, _ = command
    bit = 1 << o if o >= 0 else 0
    if kind == "go":
        return state._replace(location=game.receptacle_location[r])
    if kind == "open":
        return state._replace(opened=state.opened | 1 << r)
    if kind == "close":
        return state._replace(opened=state.opened & ~(1 << r))
    if kind == "take":
        shared = lookup(game).shared >> r & 1
        return state._replace(
            hand=o,
            contents=_with(state.contents, r, state.contents[r] & ~bit),
            spots=_with(state.spots, o, state.spots[o] & ~(1 << state.location)),
            left=_with(state.left, r, state.left[r] | bit) if shared else state.left,
        )
    if kind == "move":
        return state._replace(
            hand=-1,
            contents=_with(state.contents, r, state.contents[r] | bit),
            spots=_with(state.spots, o, state.spots[o] | 1 << state.location),
            left=_with(state.left, r, state.left[r] & ~bit) if state.left[r] & bit else state.left,
        )
    if kind == "clean":
        return state._replace(clean=state.clean | bit)
    if kind == "heat":
        return state._replace(hot=state.hot | bit, cool=state.cool & ~bit)
    if kind == "cool":
        return state._replace(cool=state.cool | bit, hot=state.hot & ~bit)
    if kind == "use":
        return state._replace(used=state.used | bit)
    if kind == "slice":
        return state._replace(sliced=state.sliced | bit)
    return state


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])


def won(game: Game, state: State) -> bool:
    """Whether the goal is reached. Things that were there from the start count."""
    find = lookup(game)
    task_type = game.goal.task_type
    if task_type == TASK_TYPES[1]:
        return state.hand >= 0 and bool(find.targets >> state.hand & 1) and lamp_lit_here(game, state)
    targets = find.targets & treated(game, state)
    need = 2 if task_type == TASK_TYPES[5] else 1
    return any((state.contents[r] & targets).bit_count() >= need for r in find.places)


def treated(game: Game, state: State) -> int:
    """Mask of the objects in the state that the goal asks for; all of them where it asks for none."""
    task_type = game.goal.task_type
    if task_type == TASK_TYPES[2]:
        return game.cleanable & state.clean
    if task_type == TASK_TYPES[3]:
        return game.heatable & state.hot
    if task_type == TASK_TYPES[4]:
        return game.coolable & state.cool
    return -1


def lamp_lit_here(game: Game, state: State) -> bool:
    """Whether a lamp of the goal that was used is where the agent stands."""
    find = lookup(game)
    lit = find.lamps & state.used
    return bool(lit) and any(state.contents[r] & lit for r in find.here[state.location])

"""The rules of ALFWorld: what a command does to a state, what the text says, and what could be done next.

States are values: `apply` gives a new one and leaves the old one alone, so that a state can be kept, shared between
threads, hashed, and returned to at no cost. The text equals that of the official engine (alfworld 0.4.2) to the letter.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from rfenvs.envs.alfworld.game import TASK_TYPES, Game, members

Dialect = Literal["alfworld-0.4", "alfworld-0.3"]
"""Wording of commands and observations: "move O to R", or "put O in/on R" as before alfworld 0.4.0."""

DIALECTS: Final[tuple[Dialect, ...]] = ("alfworld-0.4", "alfworld-0.3")

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

KINDS: Final[tuple[Kind, ...]] = (
    "go", "open", "close", "take", "move", "clean", "heat", "cool", "use", "slice", "examine", "inventory", "look",
    "help",
)  # fmt: skip

NOTHING: Final = "Nothing happens."


class Command(NamedTuple):
    """What a line of text asks for; whether it can be done is another question.

    `object`, `receptacle` and `tool` are numbers in the game, or -1. `examine` has an object or a receptacle; `tool`
    is the knife of `slice`.
    """

    kind: Kind
    object: int = -1
    receptacle: int = -1
    tool: int = -1


class State(NamedTuple):
    """Where things are. Two states of one game are equal exactly if nothing can ever tell them apart.

    `hand` is the object held, or -1. Masks over objects: each entry of `contents` (one a receptacle), `clean`, `hot`,
    `cool`, `used`, `sliced`. `opened` is a mask over receptacles. `spots` has, for each object that can be sliced, the
    mask of locations where a knife finds it.
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


class Outcome(NamedTuple):
    """What became of a command.

    `kind` is the action that ran, None if nothing happened. `command` is the text understood, None if it names no
    action or no thing of this game. `changed` tells whether the state differs from the one before.
    """

    kind: Kind | None
    command: Command | None
    changed: bool


class Step(NamedTuple):
    """The answer to a command."""

    state: State
    text: str
    outcome: Outcome


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
        spots=tuple(game.object_locations[o] for o in members(game.sliceable)),
    )


def intro(game: Game, state: State) -> str:
    """The text of a reset: banner, room and task."""
    return (
        f"-= Welcome to TextWorld, ALFRED! =-\n\n{_look(game, state, first=True)}\n\nYour task is to: {game.goal_text}."
    )


def parse(game: Game, text: str) -> Command | None:
    """The command in a line of text, None if it names no action or no thing of this game.

    Blanks around the line are dropped, as the official engine does; nothing else is forgiven. Both wordings of placing
    an object are understood, whatever the dialect: "move O to R" and "put O in/on R".
    """
    text = text.strip()
    simple = _SIMPLE.get(text)
    if simple is not None:
        return simple
    verb, _, rest = text.partition(" ")
    objects, receptacles = _names(game)
    if verb == "go":
        to, _, name = rest.partition(" ")
        return Command("go", receptacle=receptacles[name]) if to == "to" and name in receptacles else None
    if verb == "open":
        return Command("open", receptacle=receptacles[rest]) if rest in receptacles else None
    if verb == "close":
        return Command("close", receptacle=receptacles[rest]) if rest in receptacles else None
    if verb == "use":
        return Command("use", object=objects[rest]) if rest in objects else None
    if verb == "examine":
        if rest in objects:
            return Command("examine", object=objects[rest])
        return Command("examine", receptacle=receptacles[rest]) if rest in receptacles else None
    between = _BETWEEN.get(verb)
    if between is None:
        return None
    kind, word = between
    first, found, second = rest.partition(word)
    if not found or first not in objects:
        return None
    if kind == "slice":
        return Command("slice", object=objects[first], tool=objects[second]) if second in objects else None
    return Command(kind, object=objects[first], receptacle=receptacles[second]) if second in receptacles else None


def phrase(game: Game, command: Command, dialect: Dialect = "alfworld-0.4") -> str:
    """The line of text that asks for a command: `parse` gives the command back."""
    kind, o, r, tool = command
    if kind == "go":
        return f"go to {game.receptacle_names[r]}"
    if kind == "open" or kind == "close":
        return f"{kind} {game.receptacle_names[r]}"
    if kind == "take":
        return f"take {game.object_names[o]} from {game.receptacle_names[r]}"
    if kind == "move":
        if dialect == "alfworld-0.3":
            return f"put {game.object_names[o]} in/on {game.receptacle_names[r]}"
        return f"move {game.object_names[o]} to {game.receptacle_names[r]}"
    if kind == "clean" or kind == "heat" or kind == "cool":
        return f"{kind} {game.object_names[o]} with {game.receptacle_names[r]}"
    if kind == "use":
        return f"use {game.object_names[o]}"
    if kind == "slice":
        return f"slice {game.object_names[o]} with {game.object_names[tool]}"
    if kind == "examine":
        return f"examine {game.object_names[o] if o >= 0 else game.receptacle_names[r]}"
    return kind


def possible(game: Game, state: State, command: Command) -> bool:
    """Whether the command does something in this state, if only to say something."""
    kind, o, r, tool = command
    if kind == "go":
        return game.receptacle_location[r] != state.location
    if kind == "inventory" or kind == "look" or kind == "help":
        return True
    if kind == "examine" and o >= 0:
        return o == state.hand
    if kind == "use":
        return bool(game.toggleable >> o & 1) and any(state.contents[r] >> o & 1 for r in _here(game, state))
    if kind == "slice":
        return tool == state.hand and bool(_knives(game) >> tool & 1) and _in_reach_of_knife(game, state, o)
    if game.receptacle_location[r] != state.location:
        return False
    if kind == "examine":
        return True
    if kind == "open":
        return bool((game.openable & ~state.opened) >> r & 1)
    if kind == "close":
        return bool((game.openable & state.opened) >> r & 1)
    if kind == "take":
        return state.hand < 0 and bool((game.pickupable & state.contents[r]) >> o & 1) and _accessible(game, state, r)
    if o != state.hand:
        return False
    if kind == "move":
        return bool(_holdable(game)[r] >> o & 1) and _accessible(game, state, r)
    able, place = _treatments(game)[kind]
    return bool(able >> o & 1) and game.receptacle_types[r].lower() == place


def apply(game: Game, state: State, command: str | Command, dialect: Dialect = "alfworld-0.4") -> Step:
    """Do what a command says: the next state, the text of it, and what became of it. Nothing is changed in place."""
    asked = parse(game, command) if isinstance(command, str) else command
    unknown = asked is None or (asked.kind == "help" and dialect == "alfworld-0.3")
    if asked is None or unknown or not possible(game, state, asked):
        return Step(state, NOTHING, Outcome(None, asked, False))
    after = _effect(game, state, asked)
    return Step(after, _feedback(game, after, asked, dialect), Outcome(asked.kind, asked, after != state))


def actions(game: Game, state: State) -> list[Command]:
    """Everything that could be done now except to look, examine and ask: what a planner has to try.

    In no order that means something; commands that would leave the state as it is are among them.
    """
    here = _here(game, state)
    found = [Command("go", receptacle=r) for r, l in enumerate(game.receptacle_location) if l != state.location]
    for r in here:
        if game.openable >> r & 1:
            found.append(Command("close" if state.opened >> r & 1 else "open", receptacle=r))
        found += [Command("use", object=o) for o in members(state.contents[r] & game.toggleable)]
        if state.hand < 0:
            if _accessible(game, state, r):
                found += [Command("take", o, r) for o in members(state.contents[r] & game.pickupable)]
            continue
        if _holdable(game)[r] >> state.hand & 1 and _accessible(game, state, r):
            found.append(Command("move", state.hand, r))
        for kind, (able, place) in _treatments(game).items():
            if able >> state.hand & 1 and game.receptacle_types[r].lower() == place:
                found.append(Command(kind, state.hand, r))
    if state.hand >= 0 and _knives(game) >> state.hand & 1:
        found += [
            Command("slice", object=o, tool=state.hand)
            for o in members(game.sliceable)
            if _in_reach_of_knife(game, state, o)
        ]
    return found


def admissible(game: Game, state: State, dialect: Dialect = "alfworld-0.4") -> list[str]:
    """Every command that does or says something now, sorted as strings, as the official engine lists them."""
    found = actions(game, state)
    found += [Command("examine", receptacle=r) for r in _here(game, state)]
    if state.hand >= 0:
        found.append(Command("examine", object=state.hand))
    found += [command for command in _SIMPLE.values() if command.kind != "help" or dialect != "alfworld-0.3"]
    return sorted({phrase(game, command, dialect) for command in found})


def won(game: Game, state: State) -> bool:
    """Whether the goal is reached. Things that were there from the start count."""
    goal = game.goal
    targets = _of_type(game, goal.object_type)
    if goal.task_type == TASK_TYPES[1]:
        return state.hand >= 0 and bool(targets >> state.hand & 1) and _lamp_lit_here(game, state)
    targets &= _treated(game, state)
    need = 2 if goal.task_type == TASK_TYPES[5] else 1
    return any((state.contents[r] & targets).bit_count() >= need for r in _places(game))


def goal_conditions(game: Game, state: State) -> tuple[int, int]:
    """(met, total) of the goal's parts, in our own reading; met equals total exactly if the game is won.

    * pick_and_place: an object held or in place; it in place.
    * look_at_obj_in_light: an object held; a lamp used, at the agent's location.
    * clean, heat, cool: an object held or in place; one in that state; one in that state in place.
    * pick_two: one object held or in place; one in place; a second held or in the same place; both in the same place.
    """
    goal = game.goal
    targets = _of_type(game, goal.object_type)
    held = targets & (1 << state.hand) if state.hand >= 0 else 0
    if goal.task_type == TASK_TYPES[1]:
        return bool(held) + _lamp_lit_here(game, state), 2
    placed = [state.contents[r] & targets for r in _places(game)]
    touched = held
    for bits in placed:
        touched |= bits
    if goal.task_type == TASK_TYPES[5]:
        best = max((bits.bit_count() for bits in placed), default=0)
        one_and_one = any(bits and held & ~bits for bits in placed)
        return bool(touched) + (best >= 1) + (best >= 2 or one_and_one) + (best >= 2), 4
    in_place = won(game, state)
    if goal.task_type == TASK_TYPES[0]:
        return bool(touched) + in_place, 2
    return bool(touched) + bool(targets & _treated(game, state)) + in_place, 3


def visible(game: Game, state: State) -> int:
    """Mask of the objects that the agent could see now: held, or in or on an accessible receptacle where it stands."""
    bits = 1 << state.hand if state.hand >= 0 else 0
    for r in _here(game, state):
        if _accessible(game, state, r):
            bits |= state.contents[r]
    return bits


_SIMPLE: Final = {"help": Command("help"), "inventory": Command("inventory"), "look": Command("look")}

_BETWEEN: Final[dict[str, tuple[Kind, str]]] = {
    "take": ("take", " from "),
    "move": ("move", " to "),
    "put": ("move", " in/on "),
    "clean": ("clean", " with "),
    "heat": ("heat", " with "),
    "cool": ("cool", " with "),
    "slice": ("slice", " with "),
}


def _effect(game: Game, state: State, command: Command) -> State:
    kind, o, r, _ = command
    if kind == "go":
        return state._replace(location=game.receptacle_location[r])
    if kind == "open":
        return state._replace(opened=state.opened | 1 << r)
    if kind == "close":
        return state._replace(opened=state.opened & ~(1 << r))
    if kind == "take":
        contents = _with(state.contents, r, state.contents[r] & ~(1 << o))
        return state._replace(hand=o, contents=contents, spots=_moved(game, state, o, here=False))
    if kind == "move":
        contents = _with(state.contents, r, state.contents[r] | 1 << o)
        return state._replace(hand=-1, contents=contents, spots=_moved(game, state, o, here=True))
    if kind == "clean":
        return state._replace(clean=state.clean | 1 << o)
    if kind == "heat":
        return state._replace(hot=state.hot | 1 << o, cool=state.cool & ~(1 << o))
    if kind == "cool":
        return state._replace(cool=state.cool | 1 << o, hot=state.hot & ~(1 << o))
    if kind == "use":
        return state._replace(used=state.used | 1 << o)
    if kind == "slice":
        return state._replace(sliced=state.sliced | 1 << o)
    return state


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _moved(game: Game, state: State, o: int, *, here: bool) -> tuple[int, ...]:
    if not game.sliceable >> o & 1:
        return state.spots
    index = (game.sliceable & ((1 << o) - 1)).bit_count()
    spot = 1 << state.location
    return _with(state.spots, index, state.spots[index] | spot if here else state.spots[index] & ~spot)


def _feedback(game: Game, state: State, command: Command, dialect: Dialect) -> str:
    kind, o, r, tool = command
    if kind == "go":
        place = game.receptacle_names[r] if dialect == "alfworld-0.4" else game.location_names[state.location]
        return f"You arrive at {place}. {_describe(game, state, r)}"
    if kind == "open":
        return f"You open the {game.receptacle_names[r]}. {_describe(game, state, r)}"
    if kind == "close":
        return f"You close the {game.receptacle_names[r]}."
    if kind == "take":
        return f"You pick up the {game.object_names[o]} from the {game.receptacle_names[r]}."
    if kind == "move":
        if dialect == "alfworld-0.3":
            return f"You put the {game.object_names[o]} in/on the {game.receptacle_names[r]}."
        return f"You move the {game.object_names[o]} to the {game.receptacle_names[r]}."
    if kind == "clean" or kind == "heat" or kind == "cool":
        return f"You {kind} the {game.object_names[o]} using the {game.receptacle_names[r]}."
    if kind == "use":
        return f"You turn on the {game.object_names[o]}."
    if kind == "slice":
        return f"You sliced the {game.object_names[o]} with the {game.object_names[tool]}."
    if kind == "examine":
        return _examine(game, state, o) if o >= 0 else _describe(game, state, r)
    if kind == "inventory":
        if state.hand < 0:
            return "You are not carrying anything."
        return f"You are carrying: a {game.object_names[state.hand]}."
    if kind == "look":
        return _look(game, state, first=False)
    return _HELP


def _describe(game: Game, state: State, r: int) -> str:
    name = game.receptacle_names[r]
    if not game.openable >> r & 1:
        return f"On the {name}, you see {_list(game, state.contents[r])}."
    if state.opened >> r & 1:
        return f"The {name} is open. In it, you see {_list(game, state.contents[r])}."
    return f"The {name} is closed."


def _examine(game: Game, state: State, o: int) -> str:
    name = game.object_names[o]
    if game.vessels >> o & 1:
        inner = 0
        for i, outer in game.inside:
            if outer == o:
                inner |= 1 << i
        return f"This is a normal {name}. In it, you see {_list(game, inner)}."
    clean, hot, cool, sliced = (bits >> o & 1 for bits in (state.clean, state.hot, state.cool, state.sliced))
    if clean or hot or cool:
        heat = "hot" if hot else "cool" if cool else ""
        words = [" and ".join(filter(None, (heat, "clean" if clean else ""))), "sliced" if sliced else ""]
        # The official grammar says "cool" everywhere but here.
        how = "cold" if cool and not (clean or sliced or hot) else " ".join(filter(None, words))
        return f"This is a {how} {name}."
    if game.toggleable >> o & 1:
        return f"This {name} is {'on' if state.used >> o & 1 else 'off'}."
    if sliced:
        return f"This is a sliced {name}."
    return f"There's nothing special about {name}."


def _list(game: Game, bits: int) -> str:
    return _sentence([f"a {game.object_names[o]}" for o in members(bits)])


def _sentence(items: list[str]) -> str:
    if len(items) < 2:
        return items[0] if items else "nothing"
    return f"{', '.join(items[:-1])}, and {items[-1]}"


def _look(game: Game, state: State, *, first: bool) -> str:
    here = _here(game, state)
    if here:
        facing = _sentence([game.receptacle_names[r] for r in here])
        return f"You are facing the {facing}. Next to it, you see nothing."
    # The official engine lists the room in the intro alone: later, its grammar asks for receptacles at this location.
    room = _sentence([f"a {name}" for name in game.receptacle_names]) if first else "nothing"
    return f"You are in the middle of a room. Looking quickly around you, you see {room}."


def _here(game: Game, state: State) -> list[int]:
    return [r for r, l in enumerate(game.receptacle_location) if l == state.location]


def _accessible(game: Game, state: State, r: int) -> bool:
    return bool((~game.openable | state.opened) >> r & 1)


def _in_reach_of_knife(game: Game, state: State, o: int) -> bool:
    if not game.sliceable >> o & 1:
        return False
    index = (game.sliceable & ((1 << o) - 1)).bit_count()
    return bool(state.spots[index] >> state.location & 1)


def _names(game: Game) -> tuple[dict[str, int], dict[str, int]]:
    return (
        {name: o for o, name in enumerate(game.object_names)},
        {name: r for r, name in enumerate(game.receptacle_names)},
    )


def _of_type(game: Game, *types: str) -> int:
    wanted = {type.lower() for type in types}
    bits = 0
    for o, type in enumerate(game.object_types):
        if type.lower() in wanted:
            bits |= 1 << o
    return bits


def _knives(game: Game) -> int:
    return _of_type(game, "Knife", "ButterKnife")


def _holdable(game: Game) -> list[int]:
    pairs = {(r.lower(), o.lower()) for r, o in game.can_contain}
    return [
        sum(1 << o for o, type in enumerate(game.object_types) if (place.lower(), type.lower()) in pairs)
        for place in game.receptacle_types
    ]


def _treatments(game: Game) -> dict[Kind, tuple[int, str]]:
    return {
        "clean": (game.cleanable, "sinkbasin"),
        "heat": (game.heatable, "microwave"),
        "cool": (game.coolable, "fridge"),
    }


def _treated(game: Game, state: State) -> int:
    task_type = game.goal.task_type
    if task_type == TASK_TYPES[2]:
        return game.cleanable & state.clean
    if task_type == TASK_TYPES[3]:
        return game.heatable & state.hot
    if task_type == TASK_TYPES[4]:
        return game.coolable & state.cool
    return -1


def _places(game: Game) -> list[int]:
    wanted = game.goal.receptacle_type.lower()
    return [r for r, type in enumerate(game.receptacle_types) if type.lower() == wanted]


def _lamp_lit_here(game: Game, state: State) -> bool:
    lit = _of_type(game, game.goal.lamp_type) & game.toggleable & state.used
    return any(state.contents[r] & lit for r in _here(game, state))


_HELP: Final = """
Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""

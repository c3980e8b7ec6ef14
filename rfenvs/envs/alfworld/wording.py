"""The text: commands in and out, and what the game says, equal to the letter with the official engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from rfenvs.envs.alfworld.game import Game, members
from rfenvs.envs.alfworld.lookup import keep, lookup
from rfenvs.envs.alfworld.rules import Command, Kind, State

Dialect = Literal["alfworld-0.4", "alfworld-0.3"]
"""Wording of commands and observations.

`alfworld-0.4` is that of alfworld 0.4.2: "move O to R", "You move the O to the R.", "You arrive at <receptacle>."
`alfworld-0.3` is that before 0.4.0, which older prompts and models know: "put O in/on R", "You put the O in/on the R.",
"You arrive at loc 12.", and no command `help`. Nothing else changed between the two.
"""

DIALECTS: Final[tuple[Dialect, ...]] = ("alfworld-0.4", "alfworld-0.3")

NOTHING: Final = "Nothing happens."

SIMPLE: Final = {"help": Command("help"), "inventory": Command("inventory"), "look": Command("look")}

_BETWEEN: Final[dict[str, tuple[Kind, str]]] = {
    "take": ("take", " from "),
    "move": ("move", " to "),
    "put": ("move", " in/on "),
    "clean": ("clean", " with "),
    "heat": ("heat", " with "),
    "cool": ("cool", " with "),
    "slice": ("slice", " with "),
}


def parse(game: Game, text: str) -> Command | None:
    """The command in a line of text, None if it names no action or no thing of this game.

    Blanks around the line are dropped, as the official engine does; nothing else is forgiven. Both wordings of placing
    an object are understood, whatever the dialect: "move O to R" and "put O in/on R".
    """
    text = text.strip()
    simple = SIMPLE.get(text)
    if simple is not None:
        return simple
    find = lookup(game)
    objects, receptacles = find.objects, find.receptacles
    verb, _, rest = text.partition(" ")
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
    if verb not in _BETWEEN:
        return None
    kind, between = _BETWEEN[verb]
    first, _, second = rest.partition(between)
    if first not in objects:
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


def intro(game: Game, state: State) -> str:
    """The text of a reset: banner, room and task."""
    room = _facing(game, state) or f"{_MIDDLE} {_sentence([f'a {name}' for name in game.receptacle_names])}."
    return f"-= Welcome to TextWorld, ALFRED! =-\n\n{room}\n\nYour task is to: {game.goal_text}."


def reply(game: Game, after: State, command: Command, dialect: Dialect = "alfworld-0.4") -> str:
    """What the game says to a command that ran; `after` is the state that it led to."""
    kind, o, r, tool = command
    if kind == "go":
        place = game.receptacle_names[r] if dialect == "alfworld-0.4" else game.location_names[after.location]
        return f"You arrive at {place}. {_describe(game, after, r)}"
    if kind == "open":
        return f"You open the {game.receptacle_names[r]}. {_describe(game, after, r)}"
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
        return f"You turn on the {game.object_names[o]}."  # never off: the grammar asks whether it was ever used
    if kind == "slice":
        return f"You sliced the {game.object_names[o]} with the {game.object_names[tool]}."
    if kind == "examine":
        return _examine(game, after, o) if o >= 0 else _describe(game, after, r)
    if kind == "inventory":
        held = f": a {game.object_names[after.hand]}" if after.hand >= 0 else ""
        return f"You are carrying{held}." if held else "You are not carrying anything."
    if kind == "look":
        # The official engine lists the room in the intro alone: here, its grammar asks for receptacles at this place.
        return _facing(game, after) or f"{_MIDDLE} nothing."
    return HELP


_MIDDLE: Final = "You are in the middle of a room. Looking quickly around you, you see"


def _facing(game: Game, state: State) -> str:
    here = lookup(game).here[state.location]
    if not here:
        return ""
    facing = _sentence([game.receptacle_names[r] for r in here])
    beside: list[int] = []
    if any(state.left[r] for r in here):
        spot = 1 << state.location
        # Once for each receptacle that it was taken out of, as the official engine has it.
        beside = sorted(o for r in here for o in members(state.left[r]) if state.spots[o] & spot)
    return (
        f"You are facing the {facing}. Next to it, you see {_sentence([f'a {game.object_names[o]}' for o in beside])}."
    )


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
        return f"This is a normal {name}. In it, you see {_list(game, lookup(game).inside.get(o, 0))}."
    clean, hot, cool, sliced = (bits >> o & 1 for bits in (state.clean, state.hot, state.cool, state.sliced))
    if clean or hot or cool:
        if cool and not (clean or hot or sliced):
            return f"This is a cold {name}."  # "cool" in every other combination
        words = [" and ".join(["hot"] * hot + ["cool"] * (cool and not hot) + ["clean"] * clean), *["sliced"] * sliced]
        return f"This is a {' '.join(words)} {name}."
    if game.toggleable >> o & 1:
        return f"This {name} is {'on' if state.used >> o & 1 else 'off'}."
    return f"This is a sliced {name}." if sliced else f"There's nothing special about {name}."


def _list(game: Game, bits: int) -> str:
    lists = lookup(game).lists
    found = lists.get(bits)
    return (
        found
        if found is not None
        else keep(lists, bits, _sentence([f"a {game.object_names[o]}" for o in members(bits)]))
    )


def _sentence(items: Sequence[str]) -> str:
    if len(items) < 2:
        return items[0] if items else "nothing"
    return f"{', '.join(items[:-1])}, and {items[-1]}"


HELP: Final = """\
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

"""Why a command did nothing: one reason of a fixed taxonomy, from the rules and from what was seen, never from more.

The acting policy may read a reason. It must not learn from it where things are that it has not seen, nor whether they
are there at all: an object that was never shown is answered like one that does not exist.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from rfenvs.envs.alfworld import engine
from rfenvs.envs.alfworld.engine import Command, Dialect, State
from rfenvs.envs.alfworld.game import Game, members
from rfenvs.envs.alfworld.lookup import lookup
from rfenvs.feedback import clip

Code = Literal[
    "empty_action", "several_commands", "unknown_command", "malformed_command", "no_such_object",
    "no_such_receptacle", "not_a_receptacle", "not_an_object", "not_at_receptacle", "already_here", "closed",
    "not_openable", "already_open", "already_closed", "wrong_place", "not_pickupable", "already_holding",
    "not_holding", "cannot_contain", "wrong_appliance", "cannot_clean", "cannot_heat", "cannot_cool", "not_here",
    "not_toggleable", "not_a_knife", "not_sliceable",
]  # fmt: skip
"""Every reason; the table in `ALFWorldEnv` says when each is given."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the observations of an episode have shown, as masks."""

    objects: int = 0
    receptacles: int = 0
    """Those whose contents were listed. All receptacles are named in the first observation."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why nothing happened."""

    code: Code
    text: str
    """One or two sentences, with a hint what to do instead."""
    data: dict[str, str] = field(default_factory=dict)
    """`object`, `receptacle`: the names in question. `try`: a command, or a form of one, that the text suggests."""


def see(game: Game, state: State, seen: Seen, command: Command) -> Seen:
    """What has been seen after a command that ran, given the state after it: what its reply names."""
    r, objects = command.receptacle, seen.objects
    if command.object >= 0:
        objects |= 1 << command.object
        if command.kind == "examine":
            objects |= lookup(game).inside.get(command.object, 0)
    if command.kind in ("go", "open", "examine") and r >= 0 and engine.accessible(game, state, r):
        return Seen(objects | state.contents[r], seen.receptacles | 1 << r)
    return seen if objects == seen.objects else Seen(objects, seen.receptacles)


def explain(game: Game, state: State, seen: Seen, text: str, dialect: Dialect = "alfworld-0.4") -> Reason:
    """Why `text`, a command as `reply.normal` writes it, does nothing in this state.

    Raises:
        ValueError: It does something.
    """
    if engine.apply(game, state, text, dialect).outcome.kind is not None:
        raise ValueError(f"{text!r} does something here.")
    found = _form(text, dialect)
    if isinstance(found, Reason):
        return _several(game, text) or found
    kind, names = found
    if kind == "examine" and names["receptacle"] not in game.receptacle_names:
        names = {"object": names["receptacle"]}
    numbers: dict[str, int] = {}
    for slot, name in names.items():
        number = _number(game, seen, slot, name)
        if isinstance(number, Reason):
            return _several(game, text) or number
        numbers[slot] = number
    return _why(game, state, seen, Command(kind, **numbers))


# Forms of commands. Where two are given, the first is that of "alfworld-0.4", the second that of "alfworld-0.3".

_FORMS: Final[dict[str, tuple[engine.Kind, str, tuple[str, ...]]]] = {
    "go to RECEPTACLE": ("go", r"go to (.+)", ("receptacle",)),
    "open RECEPTACLE": ("open", r"open (.+)", ("receptacle",)),
    "close RECEPTACLE": ("close", r"close (.+)", ("receptacle",)),
    "take OBJECT from RECEPTACLE": ("take", r"take (.+) from (.+)", ("object", "receptacle")),
    "move OBJECT to RECEPTACLE": ("move", r"move (.+) to (.+)", ("object", "receptacle")),
    "put OBJECT in/on RECEPTACLE": ("move", r"put (.+) in/on (.+)", ("object", "receptacle")),
    "clean OBJECT with RECEPTACLE": ("clean", r"clean (.+) with (.+)", ("object", "receptacle")),
    "heat OBJECT with RECEPTACLE": ("heat", r"heat (.+) with (.+)", ("object", "receptacle")),
    "cool OBJECT with RECEPTACLE": ("cool", r"cool (.+) with (.+)", ("object", "receptacle")),
    "use OBJECT": ("use", r"use (.+)", ("object",)),
    "slice OBJECT with KNIFE": ("slice", r"slice (.+) with (.+)", ("object", "tool")),
    "examine RECEPTACLE": ("examine", r"examine (.+)", ("receptacle",)),
    "examine OBJECT": ("examine", r"examine (.+)", ("object",)),
    "look": ("look", r"look", ()),
    "inventory": ("inventory", r"inventory", ()),
    "help": ("help", r"help", ()),
}
_SYNONYMS: Final = {
    "walk": "go", "enter": "go", "goto": "go", "navigate": "go", "head": "go", "get": "take", "grab": "take",
    "pick": "take", "place": "move", "drop": "move", "insert": "move", "wash": "clean", "rinse": "clean",
    "warm": "heat", "microwave": "heat", "cook": "heat", "chill": "cool", "refrigerate": "cool", "turn": "use",
    "switch": "use", "toggle": "use", "cut": "slice", "inspect": "examine", "check": "examine", "shut": "close",
}  # fmt: skip
_QUOTED: Final = 60
_JOINTS: Final = re.compile(r"\s*(?:[,;]\s*(?:and\s+)?(?:then\s+)?|\.\s+|\band\s+then\s+|\bthen\s+|\band\s+)")


def forms(dialect: Dialect) -> tuple[str, ...]:
    """The forms of commands, as the prompt lists them."""
    left_out = {"put OBJECT in/on RECEPTACLE"} if dialect == "alfworld-0.4" else {"move OBJECT to RECEPTACLE", "help"}
    return tuple(form for form in _FORMS if form not in left_out)


def _form(text: str, dialect: Dialect) -> tuple[engine.Kind, dict[str, str]] | Reason:
    """The kind of command and the names in it, or what is wrong with its form."""
    if not text:
        return Reason("empty_action", 'The reply holds no command. Reply with one, such as "look".', {"try": "look"})
    for kind, pattern, slots in _FORMS.values():
        if (kind != "help" or dialect != "alfworld-0.3") and (match := re.fullmatch(pattern, text)):
            return kind, dict(zip(slots, match.groups(), strict=True))
    verb = text.split()[0]
    by_verb = {form.split()[0]: form for form in forms(dialect)}
    place = next(form for form in by_verb.values() if form.startswith(("move", "put")))
    by_verb |= {"move": place, "put": place}
    quoted = clip(text, _QUOTED)
    if form := by_verb.get(verb):
        return Reason("malformed_command", f'"{quoted}" has not the form "{form}".', {"try": form})
    alike = [word for word in by_verb if word[0] == verb[0]]
    known = _SYNONYMS.get(verb) or next(iter(difflib.get_close_matches(verb[:20], alike, 1, 0.6)), None)
    if known:
        form = by_verb[known]
        return Reason("unknown_command", f'There is no command "{quoted}"; say "{form}".', {"try": form})
    listed = ", ".join(dict.fromkeys(form.split()[0] for form in forms(dialect)))
    said = f'There is no command "{quoted}". Reply with a command alone; it begins with one of: {listed}.'
    return Reason("unknown_command", said)


def _several(game: Game, text: str) -> Reason | None:
    """Whether the line holds several commands."""
    parts = [part for part in _JOINTS.split(text[:1000]) if engine.parse(game, part)]
    if len(parts) < 2:
        return None
    said = f'The line holds several commands, and none of them was carried out. Give one at a time: "{parts[0]}".'
    return Reason("several_commands", said, {"try": parts[0]})


def _number(game: Game, seen: Seen, slot: str, name: str) -> int | Reason:
    """The thing that a name names, or why it names none that is known."""
    r = game.receptacle_names.index(name) if name in game.receptacle_names else -1
    o = game.object_names.index(name) if name in game.object_names else -1
    if o >= 0 and not seen.objects >> o & 1:
        o = -1
    quoted = clip(name, _QUOTED)
    if slot == "receptacle":
        if r >= 0:
            return r
        if o >= 0:
            said = f"{name} is an object, not a receptacle: name the receptacle that it is in or on."
            return Reason("not_a_receptacle", said, {"object": name})
        near = _nearest(name, game.receptacle_names)
        said = f'There is no receptacle "{quoted}" here; the nearest name is "{near}".'
        return Reason("no_such_receptacle", said, {"receptacle": quoted, "try": near})
    if o >= 0:
        return o
    if r >= 0:
        said = f"{name} is a receptacle: it cannot be moved or handled, only what is in or on it."
        return Reason("not_an_object", said, {"receptacle": name})
    shown = [game.object_names[i] for i in members(seen.objects)]
    hint = f'the nearest name seen is "{_nearest(name, shown)}".' if shown else "go and look what is there."
    said = f'No object "{quoted}" has been seen so far; {hint}'
    return Reason("no_such_object", said, {"object": quoted} | ({"try": _nearest(name, shown)} if shown else {}))


def _nearest(name: str, names: Sequence[str]) -> str:
    """The name most like a wrong one: of the likest kind, with the same number or else the lowest."""
    wanted = re.sub(r"[\s\d]+$", "", name[:40]).replace(" ", "")
    match = difflib.SequenceMatcher(b=wanted)
    best, likeness = "", -1.0
    for kind in dict.fromkeys(known.rpartition(" ")[0] for known in names):
        match.set_seq1(kind)
        if match.quick_ratio() > likeness and (ratio := match.ratio()) > likeness:
            best, likeness = kind, ratio
    of_kind = [known for known in names if known.rpartition(" ")[0] == best]
    same = f"{best} {name.rpartition(' ')[2]}"
    return same if same in of_kind else min(of_kind, key=lambda known: (len(known), known))


def _why(game: Game, state: State, seen: Seen, command: Command) -> Reason:
    """Which precondition of a command fails, where everything that it names is known."""
    kind, o, r, tool = command
    held = game.object_names[state.hand] if state.hand >= 0 else ""
    thing = game.object_names[o] if o >= 0 else ""
    place = game.receptacle_names[r] if r >= 0 else ""
    about = {key: name for key, name in (("object", thing), ("receptacle", place)) if name}
    at = r >= 0 and game.receptacle_location[r] == state.location

    def reason(code: Code, text: str, attempt: str = "") -> Reason:
        return Reason(code, text, about | ({"try": attempt} if attempt else {}))

    def away() -> Reason:
        return reason("not_at_receptacle", f'You are not at {place}: "go to {place}" first.', f"go to {place}")

    def shut() -> Reason:
        return reason("closed", f'{place} is closed: "open {place}" first.', f"open {place}")

    def without(name: str) -> Reason:
        mine = f"you hold {held}" if held else "your hand is empty"
        said = f"You do not hold {name}; {mine}. {_whereabouts(game, state, seen, name)}"
        return Reason("not_holding", said.rstrip(), about)

    if kind == "go":
        return reason("already_here", f"You are at {place} already.", f"examine {place}")
    if kind in ("open", "close"):
        if not at:
            return away()
        if not game.openable >> r & 1:
            return reason("not_openable", f"{place} cannot be opened or closed: what is there lies open.")
        if kind == "open":
            return reason("already_open", f"{place} is open already.", f"examine {place}")
        return reason("already_closed", f"{place} is closed already.")
    if kind == "take":
        if o == state.hand:
            return reason("already_holding", f"You hold {thing} already.")
        if not at:
            return away()
        if not engine.accessible(game, state, r):
            return shut()
        if not game.pickupable >> o & 1:
            return reason("not_pickupable", f"{thing} cannot be picked up.")
        if held:
            said = f"You hold {held}, and there is room for one object in your hand: put it somewhere first."
            return reason("already_holding", said)
        return reason(
            "wrong_place", f"{thing} is not in or on {place}. {_whereabouts(game, state, seen, thing)}".rstrip()
        )
    if kind == "slice":
        knife = game.object_names[tool]
        if tool != state.hand:
            return without(knife)
        if game.object_types[tool].lower() not in ("knife", "butterknife"):
            return reason("not_a_knife", f"{knife} cannot slice: hold a knife or a butterknife.")
        if not game.sliceable >> o & 1:
            return reason("not_sliceable", f"{thing} cannot be sliced.")
        return reason("not_here", f"{thing} is not where you stand. {_whereabouts(game, state, seen, thing)}".rstrip())
    if kind == "use":
        if not game.toggleable >> o & 1:
            return reason("not_toggleable", f"{thing} has no switch.")
        if o == state.hand:
            return reason("already_holding", f"You hold {thing}: put it somewhere first.")
        return reason("not_here", f"{thing} is not where you stand. {_whereabouts(game, state, seen, thing)}".rstrip())
    if kind == "examine":
        if o < 0:
            return away()
        return reason("not_holding", f"You do not hold {thing}: only what you hold can be examined, or a receptacle.")
    if o != state.hand:
        return without(thing)
    if kind == "move":
        if not at:
            return away()
        if not engine.accessible(game, state, r):
            return shut()
        return reason("cannot_contain", f"{thing} does not belong in or on {place}: try another kind of receptacle.")
    return _treatment(game, kind, thing, place, o, r) or away()


_TREATMENTS: Final[dict[str, tuple[Code, str]]] = {
    "clean": ("cannot_clean", "sinkbasin"),
    "heat": ("cannot_heat", "microwave"),
    "cool": ("cannot_cool", "fridge"),
}


def _treatment(game: Game, kind: str, thing: str, place: str, o: int, r: int) -> Reason | None:
    code, appliance = _TREATMENTS[kind]
    able = {"clean": game.cleanable, "heat": game.heatable, "cool": game.coolable}[kind]
    about = {"object": thing, "receptacle": place}
    if not able >> o & 1:
        return Reason(code, f"{thing} is nothing to {kind}.", about)
    if game.receptacle_types[r].lower() == appliance:
        return None
    there = [name for name, type in zip(game.receptacle_names, game.receptacle_types, strict=True)
             if type.lower() == appliance]  # fmt: skip
    hint = f', such as {there[-1]}: "{kind} {thing} with {there[-1]}"' if there else ", and there is none here"
    said = f"{place} cannot {kind} anything: it takes a {appliance}{hint}."
    return Reason("wrong_appliance", said, about | ({"try": f"{kind} {thing} with {there[-1]}"} if there else {}))


def _whereabouts(game: Game, state: State, seen: Seen, name: str) -> str:
    """Where an object is that has been seen; nobody but the agent moves things, so that it still is there."""
    o = game.object_names.index(name)
    if o == state.hand:
        return "You hold it."
    for r in members(seen.receptacles):
        if state.contents[r] >> o & 1:
            return f"It was last seen in or on {game.receptacle_names[r]}."
    return ""

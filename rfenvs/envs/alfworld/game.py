"""One household game as plain data: what is in the room, what can be done to it, and the goal.

Everything is small integers. Objects, receptacles and locations are numbered from 0 in the order in which the text
lists them (their ids, lower case, sorted as strings). A set of objects or of receptacles is a bit mask: bit `i` stands
for number `i`. The statics here are shared by all states of a game, and are never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

TaskType = Literal[
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
]

TASK_TYPES: Final[tuple[TaskType, ...]] = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What wins, over types and not over single things: any object of the type will do.

    `object_type` and `receptacle_type` are the game's type names without the ending "Type" ("Mug", "CoffeeMachine").
    For `look_at_obj_in_light`, `lamp_type` names the lamp and `receptacle_type` is empty; otherwise the reverse.
    """

    task_type: TaskType
    object_type: str
    receptacle_type: str = ""
    lamp_type: str = ""


@dataclass(frozen=True, slots=True)
class Game:
    """The statics of one game and its first position.

    Tuples named `object_*`, `receptacle_*`, `location_*` run over objects, receptacles, locations. Masks over objects:
    `pickupable` to `sliceable`, `vessels`, `clean`, `hot`, `cool`, and the entries of `contents`. Masks over
    receptacles: `openable`, `opened`. Entries of `object_locations` are masks over locations.
    """

    id: str
    """`<task_dir>/<trial>`, the path of the game below its split."""
    split: str
    goal: Goal
    goal_text: str
    """The sentence after "Your task is to: ", without its final full stop."""

    object_ids: tuple[str, ...]
    object_types: tuple[str, ...]
    """Without the ending "Type"; empty for the few official objects that have none."""
    object_names: tuple[str, ...]
    """As the text says them: "saltshaker 2"."""
    receptacle_ids: tuple[str, ...]
    receptacle_types: tuple[str, ...]
    receptacle_names: tuple[str, ...]
    receptacle_location: tuple[int, ...]
    location_ids: tuple[str, ...]
    location_names: tuple[str, ...]
    start: int
    """Where the agent begins."""

    contents: tuple[int, ...]
    """What is in each receptacle at first. Official games put some objects in two receptacles at once."""
    object_locations: tuple[int, ...]
    """Where each object is said to be at first; it can disagree with its receptacle, and only slicing asks."""
    inside: tuple[tuple[int, int], ...]
    """Pairs (inner object, outer object). No action changes them."""
    can_contain: frozenset[tuple[str, str]]
    """Pairs (receptacle type, object type) that `move` allows."""

    openable: int
    opened: int
    pickupable: int
    heatable: int
    coolable: int
    cleanable: int
    toggleable: int
    sliceable: int
    vessels: int
    """Objects that can hold things, such as bowls; examining one lists what it holds."""
    clean: int = 0
    hot: int = 0
    cool: int = 0

    tables: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    """Lookups derived from the rest, filled on first use: give `dataclasses.replace` a new one with `tables={}`."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the lookups: they are made again in less time than they travel, and threads may be filling them.
        return Game, tuple(getattr(self, entry.name) for entry in fields(self) if entry.name != "tables")

    @property
    def task_type(self) -> TaskType:
        """One of `TASK_TYPES`."""
        return self.goal.task_type


def mask(numbers: Iterable[int]) -> int:
    """The bit mask of some numbers.

    >>> mask([0, 2])
    5
    """
    out = 0
    for number in numbers:
        out |= 1 << number
    return out


def members(bits: int) -> Iterator[int]:
    """The numbers in a bit mask, ascending.

    >>> list(members(5))
    [0, 2]
    """
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def display_names(ids: Iterable[str]) -> dict[str, str]:
    """What the text calls each id: its kind and a number, the highest number to the first id in sorted order.

    `ids` are all things that the problem's facts mention, lower case. The kind is what stands before the first `_bar_`,
    and a basin is one wherever its id says so. An id without `_bar_` gets no number, and keeps the blank before it.

    >>> display_names(["mug_bar_1", "mug_bar_2", "sink_bar_1_bar_sinkbasin"])
    {'mug_bar_1': 'mug 2', 'mug_bar_2': 'mug 1', 'sink_bar_1_bar_sinkbasin': 'sinkbasin 1'}
    """
    ordered = sorted(set(ids))
    kinds = {id: _kind(id) for id in ordered if "_bar_" in id}
    left = Counter(kinds.values())
    names = {}
    for id in ordered:
        if id not in kinds:
            names[id] = f"{id} "
            continue
        names[id] = f"{kinds[id]} {left[kinds[id]]}"
        left[kinds[id]] -= 1
    return names


def _kind(id: str) -> str:
    kind = id.split("_bar_", 1)[0]
    return f"{kind}basin" if "basin" in id else kind

"""What the rules look up again and again, derived once a game."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, Literal, TypeVar

from rfenvs.envs.alfworld.game import TASK_TYPES, Game, mask

K = TypeVar("K")
V = TypeVar("V")

Treatment = Literal["", "clean", "heat", "cool"]

_TREATMENT_PLACES: Final[dict[str, Treatment]] = {"sinkbasin": "clean", "microwave": "heat", "fridge": "cool"}

_KEPT = 256
"""Texts and command lists kept a game; then they are dropped and made again."""


class Lookup:
    """Derived from one game; shared by its states. The two caches are plain dictionaries: safe under threads."""

    __slots__ = (
        "able",
        "commands",
        "go",
        "here",
        "holdable",
        "inside",
        "knives",
        "lamps",
        "lists",
        "objects",
        "places",
        "receptacles",
        "shared",
        "targets",
        "treatment",
    )

    def __init__(self, game: Game) -> None:
        types = [type.lower() for type in game.object_types]
        places = [type.lower() for type in game.receptacle_types]
        pairs: dict[str, set[str]] = defaultdict(set)
        for receptacle_type, object_type in game.can_contain:
            pairs[receptacle_type.lower()].add(object_type.lower())
        goal = game.goal

        def of_type(*wanted: str) -> int:
            return mask(o for o, type in enumerate(types) if type in wanted)

        self.objects = {name: o for o, name in enumerate(game.object_names)}
        self.receptacles = {name: r for r, name in enumerate(game.receptacle_names)}
        self.here = tuple(
            tuple(r for r, at in enumerate(game.receptacle_location) if at == location)
            for location in range(len(game.location_ids))
        )
        """Receptacles at each location."""
        self.shared = mask(r for at in self.here if len(at) > 1 for r in at)
        """Mask of the receptacles that are not alone at their location."""
        held = {place: mask(o for o, type in enumerate(types) if type in pairs[place]) for place in set(places)}
        self.holdable = tuple(held[place] for place in places)
        """Mask of the objects that each receptacle takes."""
        self.treatment = tuple(_TREATMENT_PLACES.get(place, "") for place in places)
        """What each receptacle does to an object that is brought to it: "clean", "heat", "cool" or nothing."""
        self.able: dict[Treatment, int] = {"clean": game.cleanable, "heat": game.heatable, "cool": game.coolable}
        self.knives = of_type("knife", "butterknife")
        self.inside: dict[int, int] = {}
        for inner, outer in game.inside:
            self.inside[outer] = self.inside.get(outer, 0) | 1 << inner

        self.targets = of_type(goal.object_type.lower())
        self.lamps = of_type(goal.lamp_type.lower()) & game.toggleable if goal.task_type == TASK_TYPES[1] else 0
        self.places = tuple(r for r, place in enumerate(places) if place == goal.receptacle_type.lower())

        self.go: dict[int, tuple[str, ...]] = {}
        """For each location: the commands that lead away from it."""
        self.lists: dict[int, str] = {}
        """How the text lists a set of objects."""
        self.commands: dict[tuple[object, ...], tuple[str, ...]] = {}
        """Admissible commands, by all that they depend on."""


def lookup(game: Game) -> Lookup:
    """The lookups of a game, made on first use."""
    found = game.tables.get("engine")
    if not isinstance(found, Lookup):
        found = game.tables["engine"] = Lookup(game)
    return found


def keep(cache: dict[K, V], key: K, value: V) -> V:
    """Remember a value, and give it back."""
    if len(cache) >= _KEPT:
        cache.clear()
    cache[key] = value
    return value

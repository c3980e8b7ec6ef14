"""A small kitchen, made by hand, in which every rule of ALFWorld can be met."""

from __future__ import annotations

from rfenvs.envs.alfworld.game import Game, Goal, display_names, mask

RECEPTACLES = {
    "countertop_bar_1": ("CounterTop", 1, ["mug_bar_1", "tomato_bar_1", "knife_bar_1", "statue_bar_1"]),
    "desk_bar_1": ("Desk", 2, ["book_bar_1", "desklamp_bar_1"]),
    "shelf_bar_1": ("Shelf", 2, []),
    "cabinet_bar_1": ("Cabinet", 3, ["mug_bar_2", "plate_bar_1"]),
    "cabinet_bar_2": ("Cabinet", 4, []),
    "fridge_bar_1": ("Fridge", 5, ["apple_bar_1"]),
    "microwave_bar_1": ("Microwave", 6, []),
    "sink_bar_1_bar_sinkbasin": ("SinkBasin", 7, ["spoon_bar_1"]),
}
OPENABLE = {"Cabinet", "Fridge", "Microwave"}
TYPES = {
    "mug": "Mug", "tomato": "Tomato", "knife": "Knife", "statue": "Statue", "book": "Book", "desklamp": "DeskLamp",
    "plate": "Plate", "apple": "Apple", "spoon": "Spoon",
}  # fmt: skip
NOT_IN = {("Shelf", "Tomato"), ("SinkBasin", "Book"), ("Microwave", "Book"), ("Fridge", "Book")}
MUG_IN_PLACE = Goal("pick_heat_then_place_in_recep", "Mug", "Desk")


def kitchen(goal: Goal = MUG_IN_PLACE, sentence: str = "put a hot mug in desk") -> Game:
    """Mug 1 is in cabinet 2, which is closed, mug 2 on the countertop; desk 1 and shelf 1 share a place."""
    receptacles = sorted(RECEPTACLES)
    objects = sorted(o for _, _, inside in RECEPTACLES.values() for o in inside)
    names = display_names([*receptacles, *objects])
    types = [TYPES[o.split("_bar_")[0]] for o in objects]

    def able(*wanted: str) -> int:
        return mask(i for i, type in enumerate(types) if type in wanted)

    place = {o: RECEPTACLES[r][1] for r in receptacles for o in RECEPTACLES[r][2]}
    return Game(
        id="kitchen/by-hand",
        split="train",
        goal=goal,
        goal_text=sentence,
        object_ids=tuple(objects),
        object_types=tuple(types),
        object_names=tuple(names[o] for o in objects),
        receptacle_ids=tuple(receptacles),
        receptacle_types=tuple(RECEPTACLES[r][0] for r in receptacles),
        receptacle_names=tuple(names[r] for r in receptacles),
        receptacle_location=tuple(RECEPTACLES[r][1] for r in receptacles),
        location_ids=tuple(f"loc_bar_{n}" for n in range(8)),
        location_names=tuple(f"loc {n}" for n in range(8)),
        start=0,
        contents=tuple(mask(objects.index(o) for o in RECEPTACLES[r][2]) for r in receptacles),
        object_locations=tuple(1 << place[o] for o in objects),
        inside=(),
        can_contain=frozenset(
            (r, o)
            for r, _, _ in RECEPTACLES.values()
            for o in types
            if (r, o) not in NOT_IN and o not in ("DeskLamp", "Statue")
        ),
        openable=mask(i for i, r in enumerate(receptacles) if RECEPTACLES[r][0] in OPENABLE),
        opened=0,
        pickupable=able("Mug", "Tomato", "Knife", "Book", "Plate", "Apple", "Spoon"),
        heatable=able("Mug", "Tomato", "Apple", "Plate"),
        coolable=able("Mug", "Tomato", "Apple", "Plate"),
        cleanable=able("Mug", "Tomato", "Apple", "Plate", "Spoon", "Knife"),
        toggleable=able("DeskLamp"),
        sliceable=able("Tomato", "Apple"),
        vessels=able("Plate"),
    )

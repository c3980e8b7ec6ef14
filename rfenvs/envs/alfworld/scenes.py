"""Our rooms: forty-eight layouts of receptacles, in three sizes each.

Each of the four kinds of room has twelve; the last three of a kind are held out for `valid_unseen`. A room's size goes
with the difficulty, and each size contains the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from rfenvs.envs.alfworld.facts import RoomKind

Difficulty = Literal["easy", "medium", "hard"]
Split = Literal["train", "valid_seen", "valid_unseen"]

SPLITS: Final[tuple[Split, ...]] = ("train", "valid_seen", "valid_unseen")
DIFFICULTIES: Final[tuple[Difficulty, ...]] = ("easy", "medium", "hard")
HELD_OUT: Final = 3
"""How many rooms of each kind, the last ones, are kept for `valid_unseen`."""


@dataclass(frozen=True, slots=True)
class Room:
    """One room: receptacle types grouped by the spot from which they are reached."""

    name: str
    kind: RoomKind
    spots: dict[Difficulty, tuple[tuple[str, ...], ...]]

    def receptacles(self, difficulty: Difficulty) -> tuple[tuple[str, int], ...]:
        """(type, spot) of each receptacle of the room in this size."""
        return tuple((type, spot) for spot, types in enumerate(self.spots[difficulty]) for type in types)


def _room(kind: RoomKind, number: int, small: str, medium: str, large: str) -> Room:
    """Sizes add up. "Cabinet*3" is three of them apart; "SinkBasin+CounterTop" stand at one spot."""
    spots: list[tuple[str, ...]] = []
    sizes: dict[Difficulty, tuple[tuple[str, ...], ...]] = {}
    for difficulty, more in zip(DIFFICULTIES, (small, medium, large), strict=True):
        for word in more.split():
            types, _, times = word.partition("*")
            spots += [tuple(types.split("+"))] * int(times or 1)
        sizes[difficulty] = tuple(spots)
    return Room(f"{kind}{number:02d}", kind, sizes)


_ROOMS: Final[dict[RoomKind, tuple[tuple[str, str, str], ...]]] = {
    "kitchen": (
        (
            "Fridge Microwave SinkBasin+CounterTop DiningTable Cabinet",
            "Cabinet*3 Drawer*2 GarbageCan",
            "Cabinet*5 Drawer*4 StoveBurner+StoveBurner CoffeeMachine Toaster",
        ),
        (
            "Fridge Microwave SinkBasin CounterTop+Drawer Shelf",
            "CounterTop Drawer*3 Shelf GarbageCan CoffeeMachine",
            "Cabinet*6 Drawer+Drawer StoveBurner*2 Toaster",
        ),
        (
            "Fridge Microwave SinkBasin SideTable+GarbageCan CounterTop",
            "Cabinet*4 Drawer*2",
            "Cabinet+Cabinet Cabinet*3 Drawer*5 StoveBurner+StoveBurner CoffeeMachine",
        ),
        (
            "Fridge Microwave+CounterTop SinkBasin CounterTop Drawer",
            "DiningTable Cabinet*3 GarbageCan CoffeeMachine",
            "Cabinet*8 Drawer*2 StoveBurner*3 Toaster",
        ),
        (
            "Fridge Microwave SinkBasin DiningTable+SideTable GarbageCan",
            "CounterTop Cabinet*2 Drawer+Drawer",
            "Cabinet*7 Drawer*3 StoveBurner+StoveBurner CoffeeMachine Toaster",
        ),
        (
            "Fridge Microwave SinkBasin+CounterTop CoffeeMachine Shelf",
            "Shelf*2 Drawer*3 CounterTop GarbageCan",
            "Cabinet+Cabinet Cabinet*5 Drawer*3 StoveBurner*2",
        ),
        (
            "Fridge+CounterTop Microwave SinkBasin CounterTop Cabinet GarbageCan",
            "Cabinet*3 Drawer Shelf",
            "Cabinet*4 Drawer*6 StoveBurner+StoveBurner CoffeeMachine Toaster",
        ),
        (
            "Fridge Microwave SinkBasin DiningTable+CounterTop Drawer",
            "CounterTop*2 Drawer*3 GarbageCan CoffeeMachine",
            "Cabinet*9 StoveBurner*4 Toaster",
        ),
        (
            "Fridge Microwave SinkBasin Shelf+GarbageCan SideTable",
            "Cabinet*2 Drawer*3 CounterTop Shelf",
            "Cabinet*6 Drawer*3 StoveBurner+StoveBurner DiningTable CoffeeMachine",
        ),
        (
            "Fridge Microwave SinkBasin SideTable+CounterTop CoffeeMachine",
            "SideTable Cabinet*3 Drawer*2 GarbageCan",
            "Cabinet*5 Drawer*5 StoveBurner*3 Shelf Toaster",
        ),
        (
            "Fridge Microwave SinkBasin DiningTable Shelf+Cabinet",
            "Shelf CounterTop Cabinet*2 Drawer*3",
            "Cabinet*3 Drawer*4 StoveBurner+StoveBurner GarbageCan+GarbageCan CoffeeMachine Toaster",
        ),
        (
            "Fridge Microwave CounterTop+Shelf SinkBasin SideTable",
            "Drawer*5 Cabinet GarbageCan",
            "Cabinet*7 Drawer*3 StoveBurner*4 CoffeeMachine+CoffeeMachine",
        ),
    ),
    "bathroom": (
        (
            "SinkBasin+CounterTop Toilet GarbageCan Cabinet",
            "Cabinet*2 ToiletPaperHanger TowelHolder HandTowelHolder",
            "Cabinet*4 Drawer*4 BathtubBasin",
        ),
        (
            "SinkBasin CounterTop+Drawer Toilet",
            "Drawer*3 GarbageCan ToiletPaperHanger HandTowelHolder",
            "Cabinet*4 Drawer*3 TowelHolder BathtubBasin",
        ),
        (
            "SinkBasin Cart+Toilet Shelf GarbageCan",
            "Cabinet*3 CounterTop ToiletPaperHanger",
            "Cabinet*5 Shelf*2 TowelHolder HandTowelHolder*2",
        ),
        (
            "SinkBasin+CounterTop Shelf Toilet",
            "Shelf*2 Drawer*2 GarbageCan TowelHolder",
            "Cabinet*6 Drawer*2 ToiletPaperHanger HandTowelHolder BathtubBasin",
        ),
        (
            "SinkBasin SideTable+GarbageCan Toilet ToiletPaperHanger",
            "Cabinet*3 CounterTop HandTowelHolder",
            "Cabinet*3 Drawer*4 TowelHolder BathtubBasin SinkBasin",
        ),
        (
            "SinkBasin+SinkBasin CounterTop+GarbageCan Toilet",
            "Drawer*4 ToiletPaperHanger TowelHolder",
            "Drawer*5 Cabinet*4 HandTowelHolder",
        ),
        (
            "SinkBasin CounterTop Toilet+GarbageCan Drawer",
            "Cabinet*2 Drawer*2 Shelf HandTowelHolder",
            "Cabinet*5 Shelf*2 ToiletPaperHanger TowelHolder BathtubBasin",
        ),
        (
            "SinkBasin Dresser+SideTable Toilet",
            "Cabinet*2 GarbageCan ToiletPaperHanger TowelHolder HandTowelHolder",
            "Drawer*6 Cabinet*2 CounterTop SinkBasin",
        ),
        (
            "SinkBasin Shelf+Cabinet CounterTop Shelf",
            "Toilet GarbageCan Cabinet*2 HandTowelHolder",
            "Cabinet*6 Drawer*2 ToiletPaperHanger TowelHolder BathtubBasin",
        ),
        (
            "SinkBasin CounterTop+Shelf Toilet Cabinet",
            "Cart GarbageCan Cabinet*2 TowelHolder",
            "Cabinet*4 Drawer*4 ToiletPaperHanger HandTowelHolder*2",
        ),
        (
            "SinkBasin Cart CounterTop+Toilet",
            "Drawer*3 Shelf GarbageCan ToiletPaperHanger",
            "Drawer*3 Cabinet*5 TowelHolder HandTowelHolder BathtubBasin",
        ),
        (
            "SinkBasin Toilet SideTable+Drawer GarbageCan",
            "SideTable Drawer*2 Cabinet*2 HandTowelHolder",
            "Cabinet*7 Drawer ToiletPaperHanger TowelHolder SinkBasin",
        ),
    ),
    "bedroom": (
        (
            "Bed Desk SideTable+Drawer GarbageCan",
            "Drawer*3 Shelf*2 Safe",
            "Drawer*5 Shelf*2 Dresser ArmChair LaundryHamper",
        ),
        (
            "Bed Desk+Shelf Dresser",
            "SideTable Drawer*4 GarbageCan Shelf",
            "Drawer*6 Shelf*2 Cabinet*2 ArmChair",
        ),
        (
            "Bed Desk Shelf+Drawer SideTable",
            "Drawer*3 GarbageCan Safe ArmChair",
            "Drawer*4 Shelf*3 Dresser LaundryHamper",
        ),
        (
            "Bed SideTable+Drawer Dresser GarbageCan",
            "Drawer*5 ArmChair",
            "Drawer*7 Desk Shelf*2 Safe",
        ),
        (
            "Bed Dresser+GarbageCan SideTable ArmChair",
            "Drawer*4 Desk Shelf",
            "Drawer*4 Cabinet*3 Shelf*2 LaundryHamper",
        ),
        (
            "Bed Desk+SideTable GarbageCan",
            "Shelf*3 Drawer*3",
            "Drawer*6 Shelf*3 Safe ArmChair",
        ),
        (
            "Bed SideTable Shelf+Desk GarbageCan Drawer",
            "Drawer*4 Dresser",
            "Drawer*5 Shelf*3 Safe Ottoman LaundryHamper",
        ),
        (
            "Bed Dresser+Shelf SideTable GarbageCan",
            "Drawer*3 ArmChair Safe Desk",
            "Drawer*5 Shelf*2 Cabinet*2 SideTable",
        ),
        (
            "Bed Desk SideTable+ArmChair Shelf",
            "Drawer*4 Shelf GarbageCan",
            "Drawer*8 Dresser Safe Cabinet*2",
        ),
        (
            "Bed Desk+Drawer SideTable Dresser",
            "Drawer*4 Shelf Safe",
            "Drawer*6 Shelf*3 GarbageCan+LaundryHamper",
        ),
        (
            "Bed Dresser Desk+SideTable GarbageCan",
            "Drawer*2 Shelf*3 Safe",
            "Drawer*6 Shelf Cabinet*4 ArmChair",
        ),
        (
            "Bed Shelf+SideTable ArmChair Drawer",
            "Desk Drawer*3 GarbageCan",
            "Drawer*6 Dresser Shelf*3 Safe Ottoman",
        ),
    ),
    "livingroom": (
        (
            "Sofa CoffeeTable+SideTable ArmChair Drawer",
            "Drawer*2 Shelf*3 GarbageCan",
            "Drawer*4 Shelf*2 Cabinet*3 TVStand",
        ),
        (
            "Sofa SideTable+Drawer CoffeeTable GarbageCan",
            "ArmChair*2 Drawer*3 Shelf",
            "Drawer*4 Shelf*3 DiningTable Safe TVStand",
        ),
        (
            "Sofa Shelf+SideTable ArmChair Shelf",
            "CoffeeTable Drawer*4 GarbageCan",
            "Cabinet*6 Drawer*2 Desk TVStand",
        ),
        (
            "Sofa+SideTable CoffeeTable Dresser",
            "Drawer*3 Shelf*2 GarbageCan ArmChair",
            "Drawer*5 Cabinet*2 DiningTable Ottoman TVStand",
        ),
        (
            "Sofa ArmChair Desk+Shelf GarbageCan",
            "SideTable Drawer*4 CoffeeTable",
            "Drawer*4 Shelf*4 Safe TVStand",
        ),
        (
            "ArmChair+SideTable CoffeeTable Drawer ArmChair",
            "Sofa Shelf*3 GarbageCan",
            "Drawer*6 Cabinet*4 TVStand",
        ),
        (
            "Sofa DiningTable+SideTable Shelf",
            "Drawer*4 ArmChair GarbageCan CoffeeTable",
            "Drawer*3 Shelf*4 Cabinet*2 Dresser",
        ),
        (
            "Sofa Ottoman+CoffeeTable SideTable GarbageCan",
            "Drawer*3 Shelf*2 ArmChair",
            "Cabinet*5 Drawer*3 DiningTable TVStand",
        ),
        (
            "Sofa Dresser+CoffeeTable ArmChair Shelf",
            "Drawer*5 GarbageCan SideTable",
            "Drawer*5 Shelf*3 Safe Desk TVStand",
        ),
        (
            "Sofa CoffeeTable+Shelf SideTable DiningTable",
            "Drawer*3 ArmChair GarbageCan Shelf",
            "Drawer*6 Cabinet*3 Safe TVStand",
        ),
        (
            "ArmChair SideTable+Shelf CoffeeTable GarbageCan",
            "Sofa Drawer*3 Cabinet*2",
            "Cabinet*5 Drawer*4 Desk Ottoman TVStand",
        ),
        (
            "Sofa Desk+SideTable ArmChair Drawer",
            "Drawer*4 CoffeeTable Shelf",
            "Drawer*5 Shelf*4 Dresser GarbageCan TVStand",
        ),
    ),
}

ROOMS: Final[dict[RoomKind, tuple[Room, ...]]] = {
    kind: tuple(_room(kind, number, *sizes) for number, sizes in enumerate(rows, 1)) for kind, rows in _ROOMS.items()
}


def rooms(split: Split, kinds: tuple[RoomKind, ...]) -> tuple[Room, ...]:
    """The rooms of some kinds that a split may use, the kinds taking turns."""
    chosen = slice(-HELD_OUT, None) if split == "valid_unseen" else slice(-HELD_OUT)
    return tuple(room for together in zip(*(ROOMS[kind][chosen] for kind in kinds), strict=True) for room in together)

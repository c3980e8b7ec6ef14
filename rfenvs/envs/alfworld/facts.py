"""Household facts of ALFRED: what each receptacle can hold, what can be done to each object, and what is found where.

The type names and the relations are ALFRED's, so that text and skills carry over to official games.
"""

from __future__ import annotations

from typing import Final, Literal

RoomKind = Literal["kitchen", "bathroom", "bedroom", "livingroom"]


def words(text: str) -> tuple[str, ...]:
    """The words of a table's line."""
    return tuple(text.split())


LAMP: Final = "DeskLamp"
LAMP_STANDS: Final = frozenset({"CoffeeTable", "Desk", "Dresser", "Shelf", "SideTable"})

OPENABLE: Final = frozenset({"Cabinet", "Drawer", "Fridge", "Microwave", "Safe"})
DESTINATIONS: Final = frozenset(
    words(
        "ArmChair Bed Cabinet Cart CoffeeMachine CoffeeTable CounterTop Desk DiningTable Drawer Dresser Fridge"
        " GarbageCan Microwave Ottoman Safe Shelf SideTable Sofa StoveBurner Toilet ToiletPaperHanger"
    )
)
"""Receptacle types that a goal may name."""

HEATABLE: Final = frozenset(words("Apple Bread Cup Egg Mug Plate Potato Tomato"))
COOLABLE: Final = HEATABLE | frozenset(words("Bowl Lettuce Pan Pot WineBottle"))
CLEANABLE: Final = frozenset(
    words(
        "Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork Kettle Knife Ladle Lettuce Mug Pan Plate Pot Potato"
        " SoapBar Spatula Spoon Tomato"
    )
)
SLICEABLE: Final = frozenset(words("Apple Bread Egg Lettuce Potato Tomato"))
VESSELS: Final = frozenset(words("Bowl Box Cup Mug Pan Plate Pot"))
"""Objects that can hold others in ALFRED; examining one says so."""


def _holds(table: dict[str, str]) -> dict[str, frozenset[str]]:
    return {receptacle: frozenset(words(objects)) for receptacle, objects in table.items()}


HOLDS: Final = _holds(
    {
        "ArmChair": "Book Box CellPhone Cloth CreditCard KeyChain Laptop Newspaper Pillow RemoteControl",
        "BathtubBasin": "Cloth DishSponge HandTowel SoapBar",
        "Bed": "BaseballBat BasketBall Book CellPhone Laptop Pillow TennisRacket",
        "Cabinet": (
            "Book Bowl Box CD Candle Cloth Cup DishSponge Glassbottle HandTowel Kettle Ladle Mug Newspaper Pan"
            " PepperShaker Plate Plunger Pot SaltShaker SoapBar SoapBottle SprayBottle TissueBox ToiletPaper"
            " Vase WateringCan WineBottle"
        ),
        "Cart": "Candle Cloth DishSponge HandTowel Plunger SoapBar SoapBottle SprayBottle TissueBox ToiletPaper",
        "CoffeeMachine": "Mug",
        "CoffeeTable": (
            "Book Bowl Box Candle CellPhone CreditCard KeyChain Laptop Newspaper Pen Pencil Plate RemoteControl"
            " Statue TissueBox Vase Watch WateringCan"
        ),
        "CounterTop": (
            "AlarmClock Apple Book Bowl Bread ButterKnife CD Candle CellPhone Cloth CreditCard Cup DishSponge"
            " Egg Fork Glassbottle HandTowel Kettle KeyChain Knife Ladle Laptop Lettuce Mug Pan Pen Pencil"
            " PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBar SoapBottle Spatula Spoon"
            " SprayBottle Statue TissueBox ToiletPaper Tomato Vase WineBottle"
        ),
        "Desk": (
            "AlarmClock BasketBall Book Bowl Box CD CellPhone Cloth CreditCard KeyChain Laptop Mug Pen Pencil"
            " RemoteControl Statue TennisRacket TissueBox Vase Watch WateringCan"
        ),
        "DiningTable": (
            "AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD Candle CellPhone Cloth"
            " CreditCard Cup DishSponge Egg Fork Glassbottle Kettle KeyChain Knife Ladle Laptop Lettuce Mug"
            " Newspaper Pan Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBottle Spatula"
            " Spoon SprayBottle Statue TennisRacket TissueBox Tomato Vase Watch WateringCan WineBottle"
        ),
        "Drawer": (
            "Book ButterKnife CD Candle CellPhone Cloth CreditCard DishSponge Fork HandTowel KeyChain Knife"
            " Ladle Newspaper Pen Pencil PepperShaker RemoteControl SaltShaker SoapBar SoapBottle Spatula Spoon"
            " SprayBottle TissueBox ToiletPaper Watch WateringCan"
        ),
        "Dresser": (
            "AlarmClock BasketBall Book Bowl Box CD Candle CellPhone Cloth CreditCard KeyChain Laptop Mug"
            " Newspaper Pen Pencil Plate RemoteControl SprayBottle Statue TennisRacket TissueBox ToiletPaper"
            " Vase Watch WateringCan"
        ),
        "Fridge": "Apple Bowl Bread Cup Egg Glassbottle Lettuce Mug Pan Plate Pot Potato Tomato WineBottle",
        "GarbageCan": (
            "Apple Bread CD Cloth DishSponge Egg HandTowel Lettuce Newspaper Pen Pencil Potato SoapBar"
            " SoapBottle SprayBottle TissueBox ToiletPaper Tomato WineBottle"
        ),
        "HandTowelHolder": "HandTowel",
        "LaundryHamper": "Cloth",
        "Microwave": "Apple Bowl Bread Cup Egg Glassbottle Mug Plate Potato Tomato",
        "Ottoman": "Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl",
        "Safe": "CD CellPhone CreditCard KeyChain Statue Vase",
        "Shelf": (
            "AlarmClock Book Bowl Box CD Candle CellPhone Cloth CreditCard Cup DishSponge Glassbottle HandTowel"
            " Kettle KeyChain Mug Newspaper Pen Pencil PepperShaker Plate Pot RemoteControl SaltShaker SoapBar"
            " SoapBottle SprayBottle Statue TissueBox ToiletPaper Vase Watch WateringCan WineBottle"
        ),
        "SideTable": (
            "AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD Candle CellPhone Cloth"
            " CreditCard Cup DishSponge Egg Fork HandTowel Kettle KeyChain Knife Laptop Lettuce Mug Newspaper"
            " Pan Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker SoapBar SoapBottle Spatula"
            " Spoon SprayBottle Statue TennisRacket TissueBox ToiletPaper Tomato Vase Watch WateringCan"
            " WineBottle"
        ),
        "SinkBasin": (
            "Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork Glassbottle HandTowel Kettle Knife Ladle"
            " Lettuce Mug Pan Plate Pot Potato SoapBar Spatula Spoon Tomato"
        ),
        "Sofa": "Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl",
        "StoveBurner": "Kettle Pan Pot",
        "TVStand": "TissueBox",
        "ToiletPaperHanger": "ToiletPaper",
        "Toaster": "",
        "Toilet": "Candle Cloth DishSponge HandTowel SoapBar SoapBottle SprayBottle TissueBox ToiletPaper",
        "TowelHolder": "Towel",
    }
)
"""Receptacle type -> the object types it can hold (ALFRED's `canContain`)."""

CAN_CONTAIN: Final = frozenset((receptacle, object) for receptacle, objects in HOLDS.items() for object in objects)

POOLS: Final[dict[RoomKind, tuple[str, ...]]] = {
    "kitchen": words(
        "Apple Book Bowl Bread ButterKnife CellPhone CreditCard Cup DishSponge Egg Fork Glassbottle Kettle Knife Ladle"
        " Lettuce Mug Pan PepperShaker Plate Pot Potato SaltShaker SoapBottle Spatula Spoon Statue Tomato Vase"
        " WineBottle"
    ),
    "bathroom": words(
        "Candle Cloth DishSponge HandTowel Plunger SoapBar SoapBottle SprayBottle TissueBox ToiletPaper Towel"
    ),
    "bedroom": words(
        "AlarmClock BaseballBat BasketBall Book Bowl Box CD CellPhone Cloth CreditCard KeyChain Laptop Mug Pen Pencil"
        " Pillow RemoteControl Statue TennisRacket TissueBox Vase Watch"
    ),
    "livingroom": words(
        "Book Bowl Box Candle CellPhone CreditCard KeyChain Laptop Newspaper Pen Pencil Pillow Plate RemoteControl"
        " Statue TissueBox Vase Watch WateringCan"
    ),
}
"""Which object types are found in each kind of room."""

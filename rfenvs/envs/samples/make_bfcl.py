"""Write `bfcl.jsonl`: questions in the leaderboard's layout with the answers in the rows, written for this package.

python -m rfenvs.envs.samples.make_bfcl [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Function = dict[str, Any]


def function(name: str, description: str, required: str, /, **properties: dict[str, Any]) -> Function:
    """A function in the leaderboard's own words; `required` names arguments, apart by blanks."""
    parameters = {"type": "dict", "properties": properties, "required": required.split()}
    return {"name": name, "description": description, "parameters": parameters}


def arg(kind: str, description: str, /, **more: Any) -> dict[str, Any]:
    """One argument; `items` names the type of a list's elements."""
    if isinstance(more.get("items"), str):
        more["items"] = {"type": more["items"]}
    return {"type": kind, "description": description, **more}


AREA = function(
    "garden.bed_area",
    "Area of a rectangular garden bed in square metres.",
    "length width",
    length=arg("float", "Length in metres."),
    width=arg("float", "Width in metres."),
    rounded=arg("boolean", "Round to whole square metres.", default=False),
)
SEEDS = function(
    "garden.seeds_needed",
    "How many seeds a bed needs.",
    "plant area",
    plant=arg("string", "Name of the plant."),
    area=arg("integer", "Area of the bed in square metres."),
)
FERRY = function(
    "ferry.book",
    "Book seats on a ferry.",
    "origin destination date",
    origin=arg("string", "Port of departure."),
    destination=arg("string", "Port of arrival."),
    date=arg("string", "Day of travel, YYYY-MM-DD."),
    seats=arg("integer", "Number of seats.", default=1),
    deck=arg("string", "Where to sit.", enum=["open", "inside"]),
)
FERRY_TIMES = function(
    "ferry.timetable",
    "Departures of ferries from a port on a day.",
    "port date",
    port=arg("string", "Port of departure."),
    date=arg("string", "Day, YYYY-MM-DD."),
)
FACTORIAL = function("math.factorial", "Factorial of a whole number.", "n", n=arg("integer", "The number."))
GCD = function(
    "math.gcd", "Greatest common divisor of whole numbers.", "numbers",
    numbers=arg("array", "The numbers.", items="integer"),
)  # fmt: skip
PAINT = function(
    "paint.litres",
    "Litres of paint for a wall.",
    "wall coats",
    wall=arg(
        "dict",
        "Size of the wall in metres.",
        properties={"width": arg("float", "Width."), "height": arg("float", "Height.")},
    ),
    coats=arg("integer", "Number of coats."),
    colour=arg("string", "Colour of the paint."),
)
POINTS = function(
    "geometry.distance",
    "Distance between two points.",
    "start end",
    start=arg("tuple", "x and y of the first point.", items="float"),
    end=arg("tuple", "x and y of the second point.", items="float"),
)
PLAYLIST = function(
    "playlist.add",
    "Add songs to a playlist.",
    "playlist songs",
    playlist=arg("string", "Name of the playlist."),
    songs=arg("array", "Titles.", items="string"),
    shuffle=arg("boolean", "Play in random order."),
)
ORDER = function(
    "bakery.order",
    "Order bread for collection.",
    "items",
    items=arg("array", "What to order: a name and a number each.", items="dict"),
    name=arg("string", "Who collects it."),
)
OVEN = function(
    "oven.preheat", "Heat the oven.", "temperature",
    temperature=arg("integer", "In degrees Celsius."), fan=arg("boolean", "Use the fan."),
)  # fmt: skip
TIMER = function(
    "kitchen_timer", "Start a timer.", "minutes",
    minutes=arg("integer", "Minutes."), label=arg("string", "What it is for."),
)  # fmt: skip
TIDES = function(
    "tides.high_water", "Times of high water at a place.", "place",
    place=arg("string", "A place at the sea."), day=arg("string", "YYYY-MM-DD; by default today."),
)  # fmt: skip
TRANSLATE = function(
    "translate", "Translate a text.", "text to",
    text=arg("string", "The text."), to=arg("string", "Language, by its English name."), tone=arg("any", "How."),
)  # fmt: skip

Answer = list[dict[str, dict[str, list[Any]]]]
QUESTIONS: dict[str, list[tuple[str, list[Function], Answer]]] = {
    "simple_python": [
        (
            "How large is a garden bed that is 4 metres long and 2.5 metres wide?",
            [AREA],
            [{"garden.bed_area": {"length": [4.0], "width": [2.5], "rounded": [False, ""]}}],
        ),
        ("What is 7 factorial?", [FACTORIAL], [{"math.factorial": {"n": [7]}}]),
        (
            "Find the greatest common divisor of 84, 126 and 210.",
            [GCD],
            [{"math.gcd": {"numbers": [[84, 126, 210]]}}],
        ),
        (
            "Book three seats on the ferry from Oban to Craignure on 4 May 2026, on the open deck please.",
            [FERRY],
            [
                {
                    "ferry.book": {
                        "origin": ["Oban"],
                        "destination": ["Craignure"],
                        "date": ["2026-05-04"],
                        "seats": [3],
                        "deck": ["open"],
                    }
                }
            ],
        ),
        (
            "I am painting a wall 5 metres wide and 2.4 metres high with two coats. How many litres do I need?",
            [PAINT],
            [{"paint.litres": {"wall": [{"width": [5, 5.0], "height": [2.4]}], "coats": [2], "colour": [""]}}],
        ),
        (
            "How far is it from the point (1, 2) to the point (4, 6)?",
            [POINTS],
            [{"geometry.distance": {"start": [[1, 2]], "end": [[4, 6]]}}],
        ),
        (
            'Add "Blue in Green" and "So What" to my playlist Late Night.',
            [PLAYLIST],
            [
                {
                    "playlist.add": {
                        "playlist": ["Late Night"],
                        "songs": [["Blue in Green", "So What"], ["So What", "Blue in Green"]],
                        "shuffle": ["", False],
                    }
                }
            ],
        ),
        (
            "Please order two rye loaves and six rolls for Ines.",
            [ORDER],
            [
                {
                    "bakery.order": {
                        "items": [
                            [
                                {"name": ["rye loaf", "rye loaves", "rye"], "number": [2]},
                                {"name": ["roll", "rolls"], "number": [6]},
                            ]
                        ],
                        "name": ["Ines"],
                    }
                }
            ],
        ),
    ],
    "multiple": [
        (
            "Heat the oven to 220 degrees with the fan on.",
            [TIMER, OVEN],
            [{"oven.preheat": {"temperature": [220], "fan": [True]}}],
        ),
        (
            "When do ferries leave Ullapool on 2026-07-01?",
            [FERRY, FERRY_TIMES, TIDES],
            [{"ferry.timetable": {"port": ["Ullapool"], "date": ["2026-07-01"]}}],
        ),
        (
            "How many carrot seeds does a bed of 6 square metres need?",
            [AREA, SEEDS],
            [{"garden.seeds_needed": {"plant": ["carrot", "carrots"], "area": [6]}}],
        ),
        ("Compute 5!", [GCD, FACTORIAL], [{"math.factorial": {"n": [5]}}]),
        (
            'How do you say "good morning" in Finnish?',
            [TIDES, TRANSLATE],
            [{"translate": {"text": ["good morning"], "to": ["Finnish"], "tone": [""]}}],
        ),
    ],
    "parallel": [
        (
            "What are the factorials of 4, 6 and 9?",
            [FACTORIAL],
            [{"math.factorial": {"n": [n]}} for n in (4, 6, 9)],
        ),
        (
            "Start a timer of 8 minutes for the eggs and one of 25 minutes for the bread.",
            [TIMER],
            [
                {"kitchen_timer": {"minutes": [8], "label": ["eggs", "egg", "the eggs"]}},
                {"kitchen_timer": {"minutes": [25], "label": ["bread", "the bread"]}},
            ],
        ),
        (
            "When is high water at Whitby and at Brest?",
            [TIDES],
            [{"tides.high_water": {"place": [place], "day": [""]}} for place in ("Whitby", "Brest")],
        ),
        (
            "Start two timers: one of 10 minutes, which needs no name, and another of 10 minutes called tea.",
            [TIMER],
            [
                {"kitchen_timer": {"minutes": [10], "label": ["", "tea"]}},
                {"kitchen_timer": {"minutes": [10], "label": ["tea"]}},
            ],
        ),
    ],
    "parallel_multiple": [
        (
            "Heat the oven to 180 degrees, and start a timer of 40 minutes.",
            [TIMER, OVEN, TIDES],
            [
                {"oven.preheat": {"temperature": [180], "fan": ["", False]}},
                {"kitchen_timer": {"minutes": [40], "label": [""]}},
            ],
        ),
        (
            "How large is a bed of 3 by 2 metres, and how many radish seeds go into 6 square metres?",
            [SEEDS, AREA],
            [
                {"garden.bed_area": {"length": [3.0], "width": [2.0], "rounded": [False, ""]}},
                {"garden.seeds_needed": {"plant": ["radish", "radishes"], "area": [6]}},
            ],
        ),
        (
            "Get me the greatest common divisor of 12 and 18, the factorial of 3, and that of 5.",
            [FACTORIAL, GCD],
            [
                {"math.gcd": {"numbers": [[12, 18], [18, 12]]}},
                {"math.factorial": {"n": [3]}},
                {"math.factorial": {"n": [5]}},
            ],
        ),
    ],
    "irrelevance": [
        ("Who painted the Night Watch?", [TIMER], []),
        ("Convert 30 miles to kilometres.", [FACTORIAL, GCD], []),
        ("Cancel my dentist appointment on Friday.", [FERRY, TIDES], []),
        ("Book me a ferry.", [FERRY], []),
    ],
    "live_simple": [
        (
            "high water today at st ives??",
            [TIDES],
            [{"tides.high_water": {"place": ["St Ives", "St. Ives"], "day": [""]}}],
        ),
        ("preheat to 200 pls", [OVEN], [{"oven.preheat": {"temperature": [200], "fan": ["", False, True]}}]),
    ],
    "live_multiple": [
        (
            "translate 'where is the station' into japanese",
            [TIMER, TRANSLATE, TIDES],
            [
                {
                    "translate": {
                        "text": ["where is the station", "where is the station?"],
                        "to": ["Japanese"],
                        "tone": [""],
                    }
                }
            ],
        ),
        ("timer 12 min, pasta", [OVEN, TIMER], [{"kitchen_timer": {"minutes": [12], "label": ["pasta"]}}]),
    ],
    "live_parallel": [
        (
            "timers for 3 and 4 minutes",
            [TIMER],
            [{"kitchen_timer": {"minutes": [n], "label": [""]}} for n in (3, 4)],
        ),
    ],
    "live_parallel_multiple": [
        (
            "gcd of 9 and 24 + 8!",
            [GCD, FACTORIAL],
            [{"math.gcd": {"numbers": [[9, 24], [24, 9]]}}, {"math.factorial": {"n": [8]}}],
        ),
    ],
    "live_irrelevance": [
        ("tell me a joke", [OVEN, TIMER], []),
        ("is my flight late", [FERRY_TIMES, TIDES], []),
    ],
}


def rows() -> list[dict[str, Any]]:
    """The rows, each with its answer; an irrelevant question has none."""
    found = []
    for category, questions in QUESTIONS.items():
        for number, (question, functions, answer) in enumerate(questions):
            row: dict[str, Any] = {"id": f"{category}_s{number}", "question": [[{"role": "user", "content": question}]]}
            row["function"] = functions
            found.append({**row, "ground_truth": answer} if answer else row)
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    text = "".join(json.dumps(row) + "\n" for row in rows())
    (folder / "bfcl.jsonl").write_text(text, encoding="utf-8")

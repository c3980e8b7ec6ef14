"""Tools, value pools and phrasings from which `rfenvs/ToolCall-v0` composes its tasks.

A phrasing names a tool's arguments in braces. An optional argument is worded by its fragment, or by nothing
where it is left out. Values used in the few-shot examples (`SHOTS`) stand in no pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any


def _pool(words: str) -> tuple[str, ...]:
    return tuple(words.split())


CITIES = _pool("""
    Paris Rome Tokyo Berlin Madrid London Oslo Cairo Lima Delhi Boston Dublin Athens Vienna Prague Sydney
    Seoul Miami Denver Lisbon Moscow Warsaw Milan Venice Geneva Zurich Munich Hamburg Naples Florence
    Helsinki Stockholm Copenhagen Brussels Amsterdam Budapest Istanbul Dubai Mumbai Bangkok Singapore
    Beijing Shanghai Toronto Montreal Vancouver Chicago Dallas Houston Austin Seattle Portland Atlanta
    Phoenix Detroit Havana Nairobi Lagos Melbourne Auckland Manila Jakarta Hanoi Barcelona Edinburgh
    Manchester
""")
NAMES = _pool("""
    Anna Ben Carla David Emma Frank Grace Henry Ivy Jack Kate Leo Mia Nora Omar Paul Rosa Sam Tom Zoe Adam
    Alice Amy Bob Brian Clara Daniel Diana Eric Eva George Hannah Helen Ian Jane James John Julia Karen
    Kevin Laura Linda Lisa Lucy Mark Maria Martin Mary Michael Nancy Oliver Peter Rachel Robert Ruth Sarah
    Simon Steve Susan Victor William Laila Bruno Felix
""")
ITEMS = _pool("""
    apples bananas cherries grapes lemons mangoes olives peaches plums tomatoes carrots onions potatoes
    peppers bread butter cheese honey sugar rice milk eggs coffee tea pasta soap paper candles batteries
    pens chicken beef fish ham bacon beans corn garlic ginger lettuce mushrooms spinach cabbage oranges
    pears melons berries nuts almonds yogurt cream juice water soda chocolate cookies cereal oil vinegar
    ketchup mustard jam towels shampoo toothpaste
""")
MINUTES = tuple(range(2, 61))
ARTISTS = _pool("""
    Adele Bach Beethoven Beyonce Blondie Bowie Chopin Coldplay Dido Drake Elvis Enya Eminem Genesis
    Gorillaz Handel Haydn Hozier Journey Kiss Lizzo Lorde Madonna Metallica Moby Mozart Muse Nirvana Oasis
    Pink Prince Queen Radiohead Rihanna Santana Shakira Sia Sting Toto Verdi Vivaldi Wagner Weezer Abba
    Aerosmith Aha Asia Bjork Cream Devo Eagles Garbage Heart Kraftwerk Pixies Ramones Rush Wilco Yes Zedd
""")
WORDS = _pool("""
    river mountain window garden bridge summer winter morning evening friend family school kitchen doctor
    teacher butterfly thunder mirror shadow silver golden forest island ocean desert village castle market
    harbor station letter pencil basket blanket feather lantern ladder hammer needle button
""")
ROOMS = (
    "kitchen",
    "bedroom",
    "bathroom",
    "office",
    "hallway",
    "garage",
    "cellar",
    "attic",
    "nursery",
    "porch",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LANGUAGES = ("French", "German", "Spanish", "Italian", "Turkish", "Swedish")
CURRENCIES = ("dollars", "euros", "pounds", "yen", "francs", "pesos")
TITLES = _pool("lunch dinner yoga chess bowling rehearsal tennis training choir hiking")
STREETS = tuple(
    f"{number} {street}" for street in ("Oak Street", "Hill Road", "Lake Avenue", "Mill Lane", "Park Drive")
    for number in range(3, 60, 4)
)  # fmt: skip

Say = Callable[[Any], str]


@dataclass(frozen=True)
class Argument:
    """How one argument is drawn, declared and worded."""

    schema: Mapping[str, Any]
    draw: Callable[[Random], Any]
    say: Say = str
    """The value in a request."""
    chance: float = 1.0
    """How often it is given; below 1 the argument is optional."""
    fragment: str = "{}"
    """What an optional argument adds to a request."""


@dataclass(frozen=True)
class Tool:
    """A tool, how it is asked for, and how its arguments are drawn."""

    name: str
    description: str
    phrasings: tuple[str, ...]
    arguments: Mapping[str, Argument] = field(default_factory=dict)

    def schema(self) -> dict[str, Any]:
        """The tool as a catalogue shows it."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": {
                "type": "object",
                "properties": {name: dict(argument.schema) for name, argument in self.arguments.items()},
                "required": [name for name, argument in self.arguments.items() if argument.chance >= 1],
                "additionalProperties": False,
            },
        }


STRING = {"type": "string"}
INTEGER = {"type": "integer"}


def text(pool: tuple[str, ...], **kwargs: Any) -> Argument:
    """A string argument drawn from a pool."""
    return Argument(STRING, lambda rng: rng.choice(pool), **kwargs)


def choice(*options: str, **kwargs: Any) -> Argument:
    """A string argument with an enum."""
    return Argument({"type": "string", "enum": list(options)}, lambda rng: rng.choice(options), **kwargs)


def whole(low: int, high: int, **kwargs: Any) -> Argument:
    """An integer argument of a range; the schema does not tell the range."""
    return Argument(INTEGER, lambda rng: rng.randrange(low, high + 1), **kwargs)


ASK_WEATHER = (
    "What's the weather in {city}?", "Is it raining in {city} today?", "Tell me the forecast for {city}.",
    "Do I need a coat in {city}?", "How is the weather in {city}?", "Will it snow in {city}?",
    "Is it sunny in {city}?", "Check the weather for {city}.", "Do I need an umbrella in {city}?",
)  # fmt: skip
ASK_CALL = (
    "Phone {name} please.", "Ring {name} for me.", "I want to talk to {name}.", "Dial {name}.",
    "Give {name} a call.", "Please call {name}.", "Get {name} on the phone.", "I need to speak with {name}.",
)  # fmt: skip
ASK_TIMER = (
    "Set a timer for {minutes} minutes.", "Wake me in {minutes} minutes.", "Count down {minutes} minutes.",
    "Remind me in {minutes} minutes.", "Start a {minutes} minute timer.",
    "Let me know when {minutes} minutes are up.",
    "Time {minutes} minutes for me.", "I need a timer of {minutes} minutes.",
)  # fmt: skip
ASK_BUY = (
    "Order some {item}.", "We are out of {item}, get more.", "Add {item} to my cart.",
    "I need {item} from the shop.", "Buy some {item}.", "Please get me {item}.", "Can you order {item}?",
    "Put {item} on the shopping list.",
)  # fmt: skip

LEVEL_1 = (
    Tool("weather", "Weather of a city", ASK_WEATHER, {"city": text(CITIES)}),
    Tool("call", "Call a person", ASK_CALL, {"name": text(NAMES)}),
    Tool("timer", "Set a timer", ASK_TIMER, {"minutes": text(tuple(map(str, MINUTES)))}),
    Tool("buy", "Buy something", ASK_BUY, {"item": text(ITEMS)}),
)
"""Four tools with one string argument each."""


def _with(phrasings: tuple[str, ...], *optional: str) -> tuple[str, ...]:
    """Make room for optional arguments before the closing mark of each phrasing."""
    room = "".join(f"{{{name}}}" for name in optional)
    return tuple(p[:-1].removesuffix(" today") + room + p[-1] for p in phrasings)


LEVEL_2 = (
    Tool(
        "weather", "Get the weather forecast of a city", _with(ASK_WEATHER, "unit", "days"),
        {
            "city": text(CITIES),
            "unit": choice("celsius", "fahrenheit", chance=0.4, fragment=" in degrees {}"),
            "days": whole(2, 9, chance=0.3, fragment=" for the next {} days"),
        },
    ),
    Tool(
        "call", "Call a person by phone", _with(ASK_CALL, "speaker"),
        {
            "name": text(NAMES),
            "speaker": Argument({"type": "boolean"}, lambda rng: True, chance=0.4, fragment=" on speaker"),
        },
    ),
    Tool("timer", "Start a countdown", ASK_TIMER, {"minutes": whole(2, 90)}),
    Tool(
        "buy", "Order goods from the shop",
        ("Order {quantity}{item}.", "Add {quantity}{item} to my cart.", "Please get me {quantity}{item}.",
         "I need {quantity}{item} from the shop.", "Can you buy {quantity}{item}?"),
        {"item": text(ITEMS), "quantity": whole(2, 12, chance=0.5, fragment="{} packs of ")},
    ),
    Tool(
        "play", "Play music by an artist",
        ("Play {artist}{volume}.", "I want to hear {artist}{volume}.", "Put on some {artist}{volume}.",
         "Let's listen to {artist}{volume}."),
        {"artist": text(ARTISTS), "volume": whole(1, 10, chance=0.5, fragment=" at volume {}")},
    ),
    Tool(
        "lights", "Set the lights of a room",
        ("Set the {room} lights to {brightness} percent.",
         "Lights in the {room} at {brightness} percent, please.",
         "Make it {brightness} percent bright in the {room}."),
        {"room": choice(*ROOMS), "brightness": whole(5, 95)},
    ),
    Tool(
        "translate", "Translate a word",
        ('How do you say "{word}" in {language}?', 'Translate "{word}" into {language}.',
         'What is the {language} word for "{word}"?'),
        {"word": text(WORDS), "language": choice(*LANGUAGES)},
    ),
    Tool(
        "convert", "Convert an amount of money",
        ("How many {target} are {amount} {source}?", "Convert {amount} {source} to {target}.",
         "Change {amount} {source} into {target}."),
        {"amount": whole(3, 400), "source": choice(*CURRENCIES[:3]), "target": choice(*CURRENCIES[3:])},
    ),
)  # fmt: skip
"""Eight tools with typed and optional arguments and enums."""

DISTRACTORS = (
    Tool("alarm", "Set an alarm for a time of day",
         ("Wake me at {hour} o'clock on {day}.", "Set an alarm for {hour} o'clock on {day}."),
         {"hour": whole(1, 12), "day": choice(*DAYS)}),
    Tool("message", "Send a text message to a person",
         ("Text {name}: {text}.", "Send {name} a message: {text}."),
         {"name": text(NAMES), "text": text(tuple(f"{t} is {s}" for t in TITLES[:4] for s in ("ready",
         "off", "late")))}),
    Tool("sell", "Offer goods for sale",
         ("Sell my {item} for {price} dollars.", "Offer the {item} for {price} dollars."),
         {"item": text(ITEMS), "price": whole(2, 80)}),
    Tool("heating", "Set the temperature of a room",
         ("Heat the {room} to {degrees} degrees.", "Make the {room} {degrees} degrees warm."),
         {"room": choice(*ROOMS), "degrees": whole(15, 26)}),
)  # fmt: skip

LEVEL_3 = LEVEL_2 + DISTRACTORS
"""Twelve tools, some of them easily confused."""


def nested(properties: Mapping[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The schema of an object with the given properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def listed(items: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a list."""
    return {"type": "array", "items": dict(items)}


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _some(pool: tuple[str, ...], most: int) -> Callable[[Random], list[str]]:
    return lambda rng: rng.sample(pool, rng.randrange(1, most + 1))


def _cart(rng: Random) -> list[dict[str, Any]]:
    return [{"item": name, "quantity": rng.randrange(2, 9)} for name in rng.sample(ITEMS, rng.randrange(1, 4))]


def _passengers(rng: Random) -> list[dict[str, Any]]:
    return [{"name": name, "age": rng.randrange(3, 80)} for name in rng.sample(NAMES, rng.randrange(1, 3))]


NESTED = (
    Tool("order_groceries", "Order several goods, delivered to an address",
         ("Order {items}, delivered to {address}.", "Have {items} brought to {address}."),
         {"items": Argument(listed(nested({"item": STRING, "quantity": INTEGER})), _cart,
                            lambda v: _join([f"{e['quantity']} packs of {e['item']}" for e in v])),
          "address": Argument(nested({"street": STRING, "city": STRING}),
                              lambda r: {"street": r.choice(STREETS), "city": r.choice(CITIES)},
                              lambda v: f"{v['street']} in {v['city']}")}),
    Tool("book_flight", "Book a flight for one or more passengers",
         ("Book a flight from {origin} to {destination} for {passengers}.",
          "Fly {passengers} from {origin} to {destination}."),
         {"origin": text(CITIES[:30]), "destination": text(CITIES[30:]),
          "passengers": Argument(listed(nested({"name": STRING, "age": INTEGER})), _passengers,
                                 lambda v: _join([f"{e['name']} (age {e['age']})" for e in v]))}),
    Tool("create_event", "Put an event into the calendar",
         ("Plan {title} on {when} with {guests}.",
          "Add {title} to my calendar on {when}, and invite {guests}."),
         {"title": text(TITLES),
          "when": Argument(nested({"day": {"type": "string", "enum": list(DAYS)}, "hour": INTEGER}),
                           lambda r: {"day": r.choice(DAYS), "hour": r.randrange(8, 21)},
                           lambda v: f"{v['day']} at {v['hour']} o'clock"),
          "guests": Argument(listed(STRING), _some(NAMES, 3), _join)}),
    Tool("search_hotels", "Find hotels in a city that fit the filters",
         ("Find a hotel in {city} {filters}.", "Look for hotels in {city} {filters}."),
         {"city": text(CITIES),
          "filters": Argument(nested({"stars": INTEGER, "max_price": INTEGER}),
                              lambda r: {"stars": r.randrange(2, 6), "max_price": r.randrange(50, 300, 10)},
                              lambda v: f"with {v['stars']} stars for at most {v['max_price']} dollars")}),
    Tool("send_email", "Send an email to several people",
         ("Email {to} about {subject}.", "Write {to} an email with the subject {subject}."),
         {"to": Argument(listed(STRING), _some(NAMES, 3), _join), "subject": text(WORDS)}),
    Tool("set_scene", "Set lights and heating of several rooms at once",
         ("Set the scene {rooms}.", "Prepare the house: {rooms}."),
         {"rooms": Argument(
             listed(nested({"room": {"type": "string", "enum": list(ROOMS)}, "brightness": INTEGER})),
             lambda r: [{"room": room, "brightness": r.randrange(5, 96)}
                        for room in r.sample(ROOMS, r.randrange(1, 3))],
             lambda v: _join([f"{e['room']} at {e['brightness']} percent" for e in v]))}),
    Tool("compare_weather", "Compare the weather of several cities",
         ("Compare the weather of {cities}.", "Which has better weather: {cities}?"),
         {"cities": Argument(listed(STRING), lambda r: r.sample(CITIES, r.randrange(2, 4)), _join)}),
    Tool("make_playlist", "Make a playlist of artists",
         ("Make a playlist of {artists}{options}.", "Mix {artists} into a playlist{options}."),
         {"artists": Argument(listed(STRING), _some(ARTISTS, 3), _join),
          "options": Argument(nested({"shuffle": {"type": "boolean"}, "minutes": INTEGER}),
                              lambda r: {"shuffle": r.random() < 0.5, "minutes": r.randrange(20, 120, 5)},
                              lambda v: f"{v['minutes']} minutes long"
                              + (", shuffled" if v["shuffle"] else ", not shuffled"),
                              chance=0.5, fragment=", {}")}),
)  # fmt: skip

EXTRAS = (
    Tool("train_times", "Look up trains between two cities",
         ("When do trains leave from {origin} to {destination}?",
          "Trains from {origin} to {destination}, please."),
         {"origin": text(CITIES[:30]), "destination": text(CITIES[30:])}),
    Tool("video_call", "Start a video call with several people",
         ("Start a video call with {names}.", "Video chat with {names}."),
         {"names": Argument(listed(STRING), _some(NAMES, 3), _join)}),
    Tool("return_item", "Return goods to the shop",
         ("Return the {item}: it is {reason}.", "Send back the {item}, it is {reason}."),
         {"item": text(ITEMS), "reason": choice("broken", "late", "spoiled", "wrong")}),
    Tool("define", "Look up the meaning of a word",
         ('What does "{word}" mean?', 'Define "{word}".', 'Look up "{word}".'),
         {"word": text(WORDS + ITEMS)}),
    Tool("book_table", "Reserve a table in a restaurant",
         ("Reserve a table for {people} in {city} on {day}.",
          "Book a table for {people} on {day} in {city}."),
         {"people": whole(2, 12), "city": text(CITIES), "day": choice(*DAYS)}),
    Tool("tip", "Compute the tip on a bill",
         ("What is a {percent} percent tip on {amount} dollars?",
          "Tip {percent} percent on {amount} dollars."),
         {"percent": whole(5, 25), "amount": whole(10, 300)}),
    Tool("rate_song", "Rate the song that is playing",
         ("Rate this {artist} song {stars} stars.", "Give {stars} stars to this song by {artist}."),
         {"artist": text(ARTISTS), "stars": whole(1, 5)}),
    Tool("vacuum", "Clean a room for some minutes",
         ("Vacuum the {room} for {minutes} minutes.", "Clean the {room} for {minutes} minutes."),
         {"room": choice(*ROOMS), "minutes": whole(5, 40)}),
)  # fmt: skip

LEVEL_4 = LEVEL_3 + NESTED + EXTRAS
"""The larger catalogue, of which each task shows twenty."""

SHOTS: dict[int, tuple[tuple[str, str], ...]] = {
    1: (
        ("How hot is it in Bonn?", 'weather(city="Bonn")'),
        ("Call my friend Max.", 'call(name="Max")'),
        ("Set a timer for 75 minutes.", 'timer(minutes="75")'),
        ("Get some flour.", 'buy(item="flour")'),
    ),
    2: (
        ("How hot is it in Bonn for the next 14 days?", 'weather(city="Bonn", days=14)'),
        ("Get 15 packs of flour.", 'buy(item="flour", quantity=15)'),
        ("Call my friend Max.", 'call(name="Max")'),
        ("Set a timer for 150 minutes.", "timer(minutes=150)"),
    ),
    3: (
        (
            "How hot is it in Bonn? Also: Set a timer for 150 minutes.",
            'weather(city="Bonn")\ntimer(minutes=150)',
        ),
        (
            "Get 15 packs of flour. Also: Call my friend Max.",
            'buy(item="flour", quantity=15)\ncall(name="Max")',
        ),
    ),
    4: (
        (
            "Compare the weather of Bonn and Ulm. Also: Plan karate on Monday at 22 o'clock with Max.",
            'compare_weather(cities=["Bonn", "Ulm"])\n'
            'create_event(title="karate", when={"day": "Monday", "hour": 22}, guests=["Max"])',
        ),
        ("Set a timer for 150 minutes.", "timer(minutes=150)"),
    ),
}
"""Worked examples for each level, none of which is a task of any split."""

"""Units behind a number: a small table, read from LaTeX or plain words, with exact factors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of measure, such as cm^2."""

    dimension: tuple[tuple[str, int], ...]
    """Powers of base dimensions, sorted, such as (("length", 2),). Empty: a word that is in no table."""
    factor: Fraction
    """How many base units it holds: 1/100 for cm, 1/10000 for cm^2, 1/100 for percent."""

    @property
    def known(self) -> bool:
        """Whether it can be compared: words such as `apples` are not in the table and say nothing."""
        return bool(self.dimension)


PERCENT = Unit((("percent", 1),), Fraction(1, 100))
DEGREE = Unit((("angle", 1),), Fraction(1))
UNKNOWN = Unit((), Fraction(1))
"""A word that is no unit, such as `apples`."""

_PREFIXES = {"n": -9, "µ": -6, "μ": -6, "m": -3, "c": -2, "d": -1, "": 0, "k": 3, "M": 6, "G": 9}
_PREFIX_WORDS = {"nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1, "": 0, "kilo": 3, "mega": 6, "giga": 9}
_SI: Mapping[str, tuple[str, tuple[str, ...], Fraction]] = {
    "m": ("length", ("meter", "metre"), Fraction(1)),
    "g": ("mass", ("gram",), Fraction(1)),
    "s": ("time", ("second",), Fraction(1)),
    "L": ("volume", ("liter", "litre"), Fraction(1)),
    "J": ("energy", ("joule",), Fraction(1)),
    "W": ("power", ("watt",), Fraction(1)),
    "N": ("force", ("newton",), Fraction(1)),
    "Pa": ("pressure", ("pascal",), Fraction(1)),
    "V": ("voltage", ("volt",), Fraction(1)),
    "A": ("current", ("ampere", "amp"), Fraction(1)),
    "Hz": ("frequency", ("hertz",), Fraction(1)),
    "mol": ("amount", ("mole",), Fraction(1)),
}
_OTHER: Mapping[str, tuple[str, tuple[str, ...], Fraction]] = {
    "inch": ("length", ("in", "inches"), Fraction(254, 10000)),
    "foot": ("length", ("ft", "feet"), Fraction(3048, 10000)),
    "yard": ("length", ("yd", "yards"), Fraction(9144, 10000)),
    "mile": ("length", ("mi", "miles"), Fraction(1609344, 1000)),
    "minute": ("time", ("min", "mins", "minutes"), Fraction(60)),
    "hour": ("time", ("h", "hr", "hrs", "hours"), Fraction(3600)),
    "day": ("time", ("days",), Fraction(86400)),
    "week": ("time", ("weeks",), Fraction(604800)),
    "sec": ("time", ("secs",), Fraction(1)),
    "year": ("years", ("years", "yr", "yrs"), Fraction(12)),
    "month": ("years", ("months",), Fraction(1)),
    "pound": ("mass", ("lb", "lbs", "pounds"), Fraction(45359237, 100000)),
    "ounce": ("mass", ("oz", "ounces"), Fraction(45359237, 1600000)),
    "ton": ("tons", ("tons",), Fraction(1)),
    "gallon": ("gallons", ("gallons", "gal"), Fraction(1)),
    "l": ("volume", (), Fraction(1)),
    "ml": ("volume", (), Fraction(1, 1000)),
    "percent": ("percent", ("%", "percentage", "pct"), Fraction(1, 100)),
    "degree": ("angle", ("°", "degrees", "deg"), Fraction(1)),
    "dollar": ("dollars", ("$", "dollars", "usd"), Fraction(1)),
    "cent": ("dollars", ("¢", "cents"), Fraction(1, 100)),
    "euro": ("euros", ("€", "euros", "eur"), Fraction(1)),
    "gbp": ("sterling", ("£",), Fraction(1)),
    "yen": ("yen", ("¥",), Fraction(1)),
    "rupee": ("rupees", ("₹", "rupees"), Fraction(1)),
    "celsius": ("celsius", (), Fraction(1)),
    "fahrenheit": ("fahrenheit", (), Fraction(1)),
}
_SPELLED_OUT = (
    (re.compile(r"(?:°|\bdegrees?\b)\s*(?:C\b|celsius\b)", re.I), "celsius"),
    (re.compile(r"(?:°|\bdegrees?\b)\s*(?:F\b|fahrenheit\b)", re.I), "fahrenheit"),
    (re.compile(r"\bmph\b", re.I), "mile/hour"),
    (re.compile(r"\b(?:kph|kmph)\b", re.I), "km/hour"),
)
LETTERS_ALONE = frozenset("mgsLhVAWNJ")
"""Units of one letter: outside of text markup they are rather variables."""


def _table() -> dict[str, tuple[str, Fraction]]:
    table: dict[str, tuple[str, Fraction]] = {}
    for symbol, (dimension, words, factor) in _SI.items():
        for prefix, power in _PREFIXES.items():
            table[prefix + symbol] = dimension, factor * Fraction(10) ** power
        for word in words:
            for prefix, power in _PREFIX_WORDS.items():
                for ending in ("", "s"):
                    table[prefix + word + ending] = dimension, factor * Fraction(10) ** power
    for word, (dimension, more, factor) in _OTHER.items():
        for name in (word, *more):
            table[name] = dimension, factor
    return table


_TABLE = _table()
_FOLDED = {name.casefold(): entry for name, entry in reversed(_TABLE.items()) if len(name) > 2}
_TOKEN = re.compile(
    r"\s*(?:(?P<per>/|\\/|\bper\b)|(?P<dot>\\cdot|\\times|·|\*|\.|-)|"
    r"(?P<square>\b(?:square|sq)\b\.?)|(?P<cubic>\bcubic\b|\bcu\b)|"
    r"(?P<word>[^\W\d_²³]+|[%°$€£¥₹¢])\s*(?:\^\s*\{?\s*(?P<power>-?\d)\s*\}?|(?P<raised>[²³])|\*\*(?P<star>\d))?)"
)


def read_unit(text: str) -> Unit | None:
    """Read a unit such as `cm^2`, `km/h`, `square feet`, `dollars`; None where the text holds anything else.

    >>> read_unit("square cm").dimension, read_unit("km/h").factor
    ((('length', 2),), Fraction(5, 18))
    >>> read_unit("red apples").known, read_unit("2x")
    (False, None)
    """
    powers: dict[str, int] = {}
    factor = Fraction(1)
    sign, raised, known, position = 1, 1, True, 0
    text = text.strip().rstrip(".,")
    for pattern, spelled in _SPELLED_OUT:
        text = pattern.sub(spelled, text)
    if not text:
        return None
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        if match["per"]:
            sign = -1
        elif match["square"] or match["cubic"]:
            raised = 2 if match["square"] else 3
        elif match["word"]:
            power = int(match["power"] or match["star"] or {"²": 2, "³": 3}.get(match["raised"] or "", 1)) * raised
            found = _look_up(match["word"])
            if found is None:
                known = False
            else:
                base, size = found
                factor *= size ** (power * sign)
                if base == "volume":  # a litre is a thousandth of a cubic metre
                    base, power, factor = "length", 3 * power, factor / Fraction(1000) ** (power * sign)
                powers[base] = powers.get(base, 0) + power * sign
            raised = 1
    dimension = tuple(sorted((key, power) for key, power in powers.items() if power))
    return Unit(dimension, factor) if known and dimension else UNKNOWN


def _look_up(word: str) -> tuple[str, Fraction] | None:
    return _TABLE.get(word) or _FOLDED.get(word.casefold())

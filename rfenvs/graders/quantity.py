"""Numbers with units in prose and LaTeX: read as floats, with the unit as a comparable string. Nothing is converted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 20_000
"""Only the last so many code points of a text are looked at."""

_WRAPPER = re.compile(
    r"\\(?:mathrm|text|textbf|mathbf|boxed|operatorname|mathsf|rm)\s*\{?|\\(?:left|right)\b|\\[,;!: ]|\$|\*\*|~|\{,\}"
)
_MANTISSA = r"[-+−]?(?:\d{1,3}(?:,\d{3})+(?:\.\d{1,20})?|\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})"
_POWER = (
    r"(?:[eE](?P<e>[-+−]?\d{1,3})(?![\d.])"
    r"|(?:\s*(?:[x×*·⋅]|\\times|\\cdot)\s*|\s+)10\s*(?:\^\s*[{(]?\s*(?P<p>[-+−]?\d{1,3})\s*[})]?|(?P<s>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3})))"
)
NUMBER = re.compile(rf"(?<![\w.])(?P<m>{_MANTISSA})(?:{_POWER})?")
_POWER_ALONE = re.compile(r"(?<![\w.])10\s*\^\s*[{(]?\s*(?P<p>[-+−]?\d{1,3})\s*[})]?")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_ANGSTROM = re.compile(r"\\AA\b|\\mathring\{?A\}?|Å|[Cc]ubic [Aa]ngstr[oö]ms?|[Aa]ngstr[oö]ms?")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what stands behind it."""

    value: float
    unit: str
    """Normalised (`normal_unit`); empty where there is none."""
    start: int
    end: int
    """Code points of the number, without the unit."""


def plain(text: str) -> str:
    """Blank out LaTeX's wrappers, keeping every offset."""
    return _WRAPPER.sub(lambda match: " " * len(match.group()), text)


def normal_unit(text: str) -> str:
    """Write a unit in one way.

    >>> normal_unit(" Å³"), normal_unit("\\\\AA^{3}"), normal_unit("m s^(-1)")
    ('Å^3', 'Å^3', 'ms^-1')
    """
    text = _ANGSTROM.sub("Å", plain(text))
    text = re.sub("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda match: "^" + match.group().translate(_RAISED), text)
    text = text.replace("º", "°").replace("^{\\circ}", "°").replace("^\\circ", "°").replace("µ", "μ")
    return re.sub(r"[\s{}()\\·.]", "", text)


def quantity(text: str) -> Quantity | None:
    """Read a text that is one number and a unit, and nothing else; None where it is not.

    >>> quantity("1.7 \\\\times 10^{-7} \\\\mathrm{~N}")
    Quantity(value=1.7e-07, unit='N', start=0, end=18)
    """
    if len(text) > 200:
        return None
    body = plain(text)
    at = len(body) - len(body.lstrip())
    match = NUMBER.match(body, at) or _POWER_ALONE.match(body, at)
    if match is None:
        return None
    value = _value(match)
    unit = normal_unit(text[match.end() :])
    if value is None or re.search(r"(?<!\^)(?<!\^-)(?<![\^\d-])\d", unit) or len(unit) > 30:
        return None
    return Quantity(value, unit, match.start(), match.end())


def starts_with_unit(text: str, unit: str) -> bool:
    """Whether a text begins with a unit, and the unit ends there.

    >>> starts_with_unit(" Å^3, as asked", "Å^3"), starts_with_unit(" cm^2", "cm")
    (True, False)
    """
    for end in range(1, min(len(text), 60) + 1):
        if normal_unit(text[:end]) == unit:
            following = plain(text)[end:].lstrip("{}")
            if not following or not re.match(r"[\w^/⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹]", following):
                return True
    return False


def numbers(text: str) -> Iterator[Quantity]:
    """Every number of a text, without units."""
    body = plain(text)
    for match in NUMBER.finditer(body, max(0, len(body) - LONGEST)):
        value = _value(match)
        if value is not None:
            yield Quantity(value, "", match.start(), match.end())


def _value(match: re.Match[str]) -> float | None:
    groups = match.groupdict()
    power = int(_ascii(groups.get("e") or groups.get("p") or (groups.get("s") or "0").translate(_RAISED)))
    mantissa = float(_ascii(groups.get("m") or "1").replace(",", ""))
    try:
        value = mantissa * 10.0**power
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _ascii(text: str) -> str:
    return text.replace("−", "-")

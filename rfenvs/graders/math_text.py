"""Read answers as text: one spelling for many, exact numbers with their units, words. No computer algebra here.

What is read is what stands inside `\\boxed{...}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rfenvs.graders.math_units import DEGREE, PERCENT, Unit, read_unit

LONGEST_NUMBER = 1000
"""Digits and exponents beyond this are left to the worker, and refused there."""

_SAME = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "×": "\\times ", "·": "\\cdot ", "÷": "/", "⁄": "/", "π": "\\pi ", "√": "\\sqrt",
     "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ",
     "∅": "\\emptyset ", "°": "^\\circ ", "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "’": "'",
     "“": '"', "”": '"', "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "＝": "=", "，": ", ", "（": "(",
     "）": ")"}
)  # fmt: skip
_SPACING = re.compile(
    r"\s*(?<!\\)\\!\s*|(?<!\\)\\[,;:> ]|~|"
    r"\\(?:quad|qquad|thinspace|displaystyle|textstyle|limits|nolimits|phantom\{[^{}]*\})(?![a-zA-Z])"
)
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z{}])")
_SIZES = re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|middle)(?![a-zA-Z])\.?")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_BARE_FRACTION = re.compile(r"\\frac\s*(?:(\d)\s*(\d|\{)|\{([^{}]*)\}\s*(\d))")
_BARE_ROOT = re.compile(r"\\sqrt\s*(\d)(?![\d\w])")
_TEXT_NAMES = (
    r"text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mbox|hbox|operatorname|textup|texttt|rm|bf"
)
_TEXT = re.compile(rf"\\(?:{_TEXT_NAMES})\s*\{{([^{{}}]*)\}}")
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
_BOXES = re.compile(r"\\f?boxed\s*\{")
_TRAILING = re.compile(r"(?:\s|\\text\s*\{\s*[.,;]?\s*\}|(?<!\\)[.,;])+$")


def tidy(text: str) -> str:
    """One spelling for what reads the same: blanks, sizes, kinds of fraction, boxes, dollar signs, a last full stop.

    >>> tidy(" $\\\\dfrac12.$ "), tidy("\\\\left( 1,\\\\, 2 \\\\right)"), tidy("\\\\boxed{5}.")
    ('\\\\frac{1}{2}', '( 1,  2 )', '5')
    """
    text = text.translate(_SAME).strip()
    if "\\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)
    for _ in range(3):  # a box within dollars within a sentence's end
        before = text
        if "..." not in text and "\\ldots" not in text:
            text = _TRAILING.sub("", text)
        for left, right in _DELIMITERS:
            inner = text[len(left) : -len(right)]
            long = len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right)
            if long and left not in inner and not inner.endswith("\\"):
                text = inner.strip()
        box = _BOXES.match(text)
        if box and closing(text, box.end() - 1) == len(text) - 1:
            text = text[box.end() : -1].strip()
        if text == before:
            break
    text = _SIZES.sub("", _SPACING.sub(lambda match: "" if "\\!" in match[0] else " ", text))
    text = _FRACTIONS.sub(r"\\frac", text).replace("\\degree", "^\\circ").replace("^{\\circ}", "^\\circ")
    if (marked := _TEXT.fullmatch(text)) and marked[1].strip(" .()")[:1] in "+-.0123456789":
        text = marked[1].strip()
    text = re.sub(r"\^\s*\\circ", r"^\\circ", text).replace("\\textdollar", "\\$").replace("\\textpercent", "\\%")
    text = _BARE_FRACTION.sub(_brace_fraction, text)
    text = _BARE_ROOT.sub(r"\\sqrt{\1}", text)
    return text.strip()


def _brace_fraction(match: re.Match[str]) -> str:
    top, below, braced, last = match.groups()
    if braced is not None:
        return f"\\frac{{{braced}}}{{{last}}}"
    return f"\\frac{{{top}}}{{" if below == "{" else f"\\frac{{{top}}}{{{below}}}"


def closing(text: str, opening: int) -> int:
    """Position of the brace that closes the one at `opening`; -1 where there is none."""
    depth = 0
    for position in range(opening, len(text)):
        if text[position] == "{" and text[position - 1] != "\\":
            depth += 1
        elif text[position] == "}" and text[position - 1] != "\\":
            depth -= 1
            if depth == 0:
                return position
    return -1


def squeezed(text: str) -> str:
    """A tidy text with no blanks that do not matter; equal texts are equal answers.

    >>> squeezed("\\\\frac{1}{2} \\\\pi r"), squeezed("\\\\{ 1, 2 \\\\}")
    ('\\\\frac{1}{2}\\\\pi r', '\\\\{1,2\\\\}')
    """
    if _TEXT.search(text):  # blanks between words matter
        return " ".join(text.split())
    return re.sub(r"(\\[a-zA-Z]+)?\s+(?=(.?))", _squeeze, text)


def _squeeze(match: re.Match[str]) -> str:
    command, following = match[1] or "", match[2]
    keep = (command and following.isalpha()) or (match.start() and not command and _digits_meet(match))
    return f"{command} " if keep else command


def _digits_meet(match: re.Match[str]) -> bool:
    """A blank between two digits, or two words, is not nothing: `1 2` is not 12, and `red car` not `redcar`."""
    before, following = match.string[match.start() - 1], match[2]
    return before.isalnum() and following.isalnum()


# --- numbers ---------------------------------------------------------------------------------------------------------

_INTEGER = r"(?:[1-9]\d{0,2}(?:(?:,|\{,\})\d{3})+|[1-9]\d{0,2}(?: \d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_POWER_OF_TEN = (
    r"(?:[eE]\s*(?P<e>[+-]?\d+)|\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*(?P<p>[+-]?\d+)\s*\}|(?P<q>\d)))"
)
_PLAIN = re.compile(rf"(?P<mantissa>{_DECIMAL}){_POWER_OF_TEN}?")
_TEN = re.compile(r"10\s*\^\s*(?:\{\s*(?P<p>[+-]?\d+)\s*\}|(?P<q>\d))")
_REPEATING = re.compile(r"(?P<whole>\d*)\.(?P<head>\d*)\\(?:overline|bar|dot)\s*\{?(?P<tail>\d+)\}?")
_SLASH = re.compile(rf"(?P<a>{_INTEGER})\s*/\s*(?P<b>{_INTEGER})")
_LATEX_FRACTION = re.compile(
    rf"(?:(?P<whole>\d+)\s*)?\\frac\s*\{{\s*(?P<s>[+-]?)\s*(?P<a>{_DECIMAL})\s*\}}\s*\{{\s*(?P<t>[+-]?)\s*(?P<b>{_DECIMAL})\s*\}}"
)
_MIXED = re.compile(r"(?P<whole>\d+)\s+(?P<a>\d+)\s*/\s*(?P<b>\d+)")
_SEPARATORS = re.compile(r"[\s,{}\\]")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: Fraction
    form: str
    """`integer`, `decimal`, `fraction`, `mixed`, `scientific` or `repeating`."""
    digits: int
    """Significant digits written, for a decimal; 0 for forms that are exact by nature."""
    places: int = 0
    """Digits after the point of a decimal, less its power of ten."""
    reduced: bool = True
    """False for a fraction not in lowest terms."""


def read_number(text: str) -> Number | None:
    """Read a tidy text as one exact number without unit; None where it is anything else.

    >>> read_number("-\\\\frac{1}{2}").value, read_number("1,234.50").value, read_number("1.2e3").value
    (Fraction(-1, 2), Fraction(2469, 2), Fraction(1200, 1))
    >>> read_number("0.\\\\overline{3}").value, read_number("1 2"), read_number("3,4")
    (Fraction(1, 3), None, None)
    """
    text = text.strip()
    sign = 1
    while text[:1] in ("+", "-"):
        sign = -sign if text[0] == "-" else sign
        text = text[1:].lstrip()
    while text[:1] == "{" and closing(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    if len(text) > LONGEST_NUMBER or not text or not (text[0].isdigit() or text[0] in ".\\") or not text.isascii():
        return None
    number = _read_unsigned(text)
    if number is None or sign > 0:
        return number
    return Number(-number.value, number.form, number.digits, number.places, number.reduced)


def _read_unsigned(text: str) -> Number | None:
    if match := _PLAIN.fullmatch(text):
        return _read_plain(match)
    if match := _SLASH.fullmatch(text):
        return _fraction(0, _integer(match["a"]), _integer(match["b"]))
    if match := _LATEX_FRACTION.fullmatch(text):
        a, b = _decimal(match["a"]), _decimal(match["b"])
        signs = -1 if (match["s"] == "-") != (match["t"] == "-") else 1
        if match["whole"] and signs < 0:
            return None
        return _fraction(int(match["whole"] or 0), signs * a, b)
    if match := _MIXED.fullmatch(text):
        return _fraction(int(match["whole"]), Fraction(int(match["a"])), Fraction(int(match["b"])))
    if match := _TEN.fullmatch(text):
        power = int(match["p"] or match["q"])
        return Number(Fraction(10) ** power, "scientific", 0) if abs(power) <= LONGEST_NUMBER else None
    if match := _REPEATING.fullmatch(text):
        head, tail = match["head"], match["tail"]
        period = Fraction(int(tail), (10 ** len(tail) - 1) * 10 ** len(head))
        return Number(int(match["whole"] or 0) + Fraction(int(head or 0), 10 ** len(head)) + period, "repeating", 0)
    return None


def _read_plain(match: re.Match[str]) -> Number | None:
    mantissa = _SEPARATORS.sub("", match["mantissa"])
    exponent = match["e"] or match["p"] or match["q"]
    power = int(exponent or 0)
    if abs(power) > LONGEST_NUMBER:
        return None
    value = _decimal(mantissa) * Fraction(10) ** power
    whole, _, places = mantissa.partition(".")
    digits = len((whole + places).lstrip("0"))
    if exponent is not None:
        return Number(value, "scientific", digits, len(places) - power)
    if not places.strip("0"):
        return Number(value, "integer", digits if places else 0, len(places))
    return Number(value, "decimal", digits, len(places))


def _fraction(whole: int, a: Fraction, b: Fraction) -> Number | None:
    if b == 0:
        return None
    value = whole + a / b
    integers = a.denominator == b.denominator == 1
    reduced = integers and b == (a / b).denominator and (not whole or abs(a) < b)
    return Number(value, "mixed" if whole else "fraction", 0, reduced=reduced and b != 1)


def _integer(text: str) -> Fraction:
    return Fraction(int(_SEPARATORS.sub("", text)))


def _decimal(text: str) -> Fraction:
    text = _SEPARATORS.sub("", text)
    return Fraction(text + "0" if text.endswith(".") else text)


# --- units around a number -------------------------------------------------------------------------------------------

_CURRENCY_FIRST = re.compile(r"([+-]?\s*)(\\\$|[$€£¥₹])\s*(?=[\d.\\({+-])")
_PERCENT_LAST = re.compile(r"\s*(?:\\?%|\\text\s*\{\s*\\?%\s*\})$")
_ANGLE_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_DEGREE_LAST = re.compile(r"\s*\^\\circ$")
_TEXT_LAST = re.compile(rf"\s*\\(?:{_TEXT_NAMES})\s*\{{([^{{}}]*)\}}\s*(?P<power>\^\s*(?:\{{\s*-?\d\s*\}}|\d))?$")
_WORDS_LAST = re.compile(r"(?<=[\d}).])(?P<gap>\s*)(?P<unit>[a-zA-Zµμ][a-zA-Zµμ²³ /^{}\d]*|\s*[€¢£¥])$")


def split_unit(text: str, *, letters: bool = False) -> tuple[str, Unit | None]:
    """Take the unit, sign of currency or other trailing words off a tidy text.

    Args:
        text: Tidy.
        letters: Read plain single letters (`10 m`) as units too; without it they are variables.

    Returns:
        What is left, and the unit; None where there is none.

    >>> split_unit("10\\\\text{ cm}")[0], split_unit("\\\\$5")[0], split_unit("2x"), split_unit("15 \\\\%")[0]
    ('10', '5', ('2x', None), '15')
    """
    if match := _CURRENCY_FIRST.match(text):
        rest = text[: match.end(1)] + text[match.end() :]
        if _CURRENCY_FIRST.match(rest):
            return text, None
        rest, after = split_unit(rest, letters=letters)
        unit = read_unit(match[2].removeprefix("\\"))
        return rest, after if after is not None and after.known and after.dimension[0][0] != "percent" else unit
    if match := _PERCENT_LAST.search(text):
        return text[: match.start()].strip(), PERCENT
    match = _DEGREE_LAST.search(text)
    if match and not _ANGLE_FUNCTION.search(text):
        return text[: match.start()].strip(), DEGREE
    words: list[str] = []
    rest = text
    while match := _TEXT_LAST.search(rest):  # \text{ cm}^2, \text{ km}/\text{h}
        left = rest[: match.start()]
        per = left.rstrip().endswith("/")
        words.insert(0, f"{match[1]} {match['power'] or ''}")
        rest = left.rstrip().removesuffix("/") if per else left
        if per:
            words.insert(0, "/")
    if words and rest.strip():
        spelled = " ".join(words).replace("\\", "")
        if match := _DEGREE_LAST.search(rest):
            rest, spelled = rest[: match.start()], "°" + spelled
        unit = read_unit(spelled)
        return (rest.strip(), unit) if unit is not None or not spelled.strip() else (text, None)
    if match := _WORDS_LAST.search(text):
        unit = read_unit(match["unit"])
        alone = len(match["unit"].strip()) == 1 and match["unit"].strip().isalpha()
        if unit is not None and (unit.known and (not alone or letters)):
            return text[: match.start("gap")].strip(), unit
        if unit is not None and match["gap"] and re.fullmatch(r"[a-zA-Z]{3,}(?: [a-zA-Z]+)*", match["unit"]):
            return text[: match.start("gap")].strip(), unit
    return text, None


# --- words -----------------------------------------------------------------------------------------------------------

_CHOICE = re.compile(r"\(?\s*([A-Za-z])\s*\)?")
_BARE_WORDS = re.compile(r"[^\W\d_]{3,}(?:[ '-][^\W\d_]{2,})*")
_WORDS = re.compile(r"[^\W\d_][^\W\d_'-]*(?:[ ,.'-]+[^\W\d_'-]+)*")
_NO_WORDS = (
    "sin cos tan cot sec csc log ln exp lim max min gcd lcm mod det arcsin arccos arctan sqrt pi inf infinity "
    "sinh cosh tanh and or"
)
_FUNCTIONS = frozenset(_NO_WORDS.split())


def read_words(text: str) -> str | None:
    """The words of an answer that is text and not mathematics, case-folded; None for anything else.

    >>> read_words("\\\\text{Evelyn}"), read_words("\\\\text{(C)}"), read_words("Saturday"), read_words("x+1")
    ('evelyn', 'c', 'saturday', None)
    """
    marked = _TEXT.fullmatch(text) or _TEXT.fullmatch(text.strip("()").strip())
    plain = " ".join((marked[1] if marked else text).split()).strip(" .").strip('"')
    choice = _CHOICE.fullmatch(plain)
    if choice and (marked or plain.startswith("(")):
        return choice[1].casefold()
    folded = plain.casefold()
    if marked:
        return folded if _WORDS.fullmatch(plain) else None
    return folded if _BARE_WORDS.fullmatch(plain) and folded not in _FUNCTIONS else None

r"""Check the arithmetic of a written solution: equations between plain numbers, in prose and in LaTeX.

    Each box holds 12 * 4 = 46 pens, so 3 boxes hold $3 \times 46 = 138$.
                   ~~~~~~~~~~~ refuted; the second equation holds

Only refutations are reported, and only sure ones: an equation is left alone where a letter, a function, a unit of
another size or a word such as "of" stands next to it, where it can be read in two ways, and where it holds after
rounding. So silence proves nothing. No answer key is needed. Numbers are exact fractions, their size is bounded,
nothing is evaluated as a program, and the time grows linearly with the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

Span = tuple[int, int]

MOST_EQUATIONS = 2000
_LONGEST_SIDE = 120
_LONGEST_RUN = 10_000
_LONGEST_NUMBER = 24
_MOST_BITS = 2048
_DEEPEST = 12
_AROUND = 40

_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")
_NUMBER = r"[0-9]{1,3}(?:(?:,|\{,\}|\\,)[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_TIMES = r"\\times(?![A-Za-z])|\\cdot(?![A-Za-z])|(?<=[0-9)])[xX](?=[0-9$])|(?<=[0-9)] )[xX](?= [0-9$(])|[×·⋅∗]"
_SKIP = (
    r"\\(?:left|right|quad|qquad|displaystyle)(?![A-Za-z])|\\[,;:! $()]|\^\{?\\circ\}?|°"
    r"|\s*(?:\\\\)?\s*\n[ \t]*&?[ \t]*(?==)|\s*\\\\[ \t]*&?[ \t]*(?==)|[ \t$€£&]"
)
_TOKEN = re.compile(
    rf"(?P<skip>{_SKIP})|(?P<number>{_NUMBER})|(?P<equals>(?<![<>!:=~])=(?![=>]))"
    rf"|(?P<times>{_TIMES}|\*(?!\*))|(?P<power>\^|\*\*)|(?P<over>\\div(?![A-Za-z])|[/÷])|(?P<sign>[-+−])"
    r"|(?P<percent>\\?%)|(?P<frac>\\[dt]?frac(?![A-Za-z]))|(?P<open>[(\[{])|(?P<close>[)\]}])"
)
_RUN = re.compile(rf"(?:{re.sub(r'[?]P<[a-z]+>', '?:', _TOKEN.pattern)})+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DEGREES = re.compile(r"^(?:\^\{?\\circ\}?|°)")
_BEFORE = re.compile(r"(\\?[A-Za-z]+)[ \t]*$")
_WHOLE_BEFORE = re.compile(
    r"\b(?:total|sum|difference|product|profit|distance|cost|price|average|amount|value|equivalent|out|up|down|equal)"
    r" (?:of|to)$|[^\d\s] +(?:and|or)$",
    re.IGNORECASE,
)
"""Words after which a number stands alone, although the last of them is in `_BAD_BEFORE`."""
_AFTER = re.compile(r"[ \t]*(?:\\(?:text|mathrm|textbf|mbox)\{\s*)?(\\?[A-Za-z]+)")
_LATEX_WORDS = _words(
    r"\text \mathrm \textbf \mbox \quad \qquad \implies \Rightarrow \Longrightarrow \rightarrow \to \therefore \item "
    r"\because \iff \boxed \approx \end \hline \newline \qed \blacksquare \square"
)
"""Commands beside which a number is still itself."""
_BAD_BEFORE = _words(
    "of half third quarter twice double triple times plus minus than per by over mod modulo dozen and or from to "
    "squared cubed sin cos tan log ln exp sqrt root floor ceil gcd lcm max min base hundred thousand million between "
    "add added subtract multiply multiplied divide divided through choose more less"
)
"""Words that make the number after them part of something larger."""
_BAD_AFTER = _words(
    "of dozen dozens hundred hundreds thousand thousands million millions billion billions trillion k mod modulo r "
    "rem percent percentage cents cent pennies half halves third thirds quarter quarters fourths fifths and or plus "
    "minus x over squared cubed choose factorial pi i e to hundredths tenths thousandths sqrt"
)
_GLUED_UNITS = _words(
    "cm mm km kg mg ml mi ft lb lbs oz hr hrs min mins sec secs mph kph yd yds in th am pm dollars hours miles"
)
_PART_OF_MORE = re.compile(r"[ \t]*(?:times\s+[$(\d]|\(?\s*\\?p?mod\b)")
_ROUGHLY = re.compile(
    r"≈|~|\\approx|\\sim|approx|about|around|round|rough|nearly|almost|estimat|nearest", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Slip:
    """An equation that does not hold."""

    text: str
    """As it stands in the solution."""
    span: Span
    """Where, in code points of the whole text."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What became of the equations of a solution."""

    checked: int = 0
    """Equations that could be read."""
    slips: tuple[Slip, ...] = ()
    """Those that do not hold, in the order of the text."""


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int
    spaced: bool
    """Whether a blank stands before it."""


class _Side(NamedTuple):
    value: Fraction
    start: int
    end: int
    operators: int
    decimals: int
    """Most digits behind the point of any of its numbers."""
    percent: bool
    additive: bool


class _Unreadable(Exception):
    """A side is no plain arithmetic, or could be read in two ways."""


def check_steps(text: str, span: Span | None = None) -> Steps:
    r"""Check every equation between plain numbers, chains such as `a = b = c` link by link.

    Args:
        text: The solution.
        span: The part to look at; all by default.

    >>> check_steps(r"So $\frac{3}{4} \times 12 = 9$ eggs, and 9 + 4 = 14 in all.").slips
    (Slip(text='9 + 4 = 14', span=(41, 51)),)
    """
    start, end = (0, len(text)) if span is None else span
    if text.find("=", start, end) < 0:
        return Steps()
    clean = text
    if "<<" in text:
        clean = _ANNOTATION.sub(lambda match: " " * len(match.group()), text)
    checked = 0
    slips: list[Slip] = []
    for run in _RUN.finditer(clean, start, end):
        if "=" not in run.group() or run.end() - run.start() > _LONGEST_RUN:
            continue
        sides = _sides(clean, run.start(), run.end())
        for left, right in pairwise(sides):
            if left is None or right is None or not left.operators:
                continue
            checked += 1
            if not _holds(clean, left, right):
                slips.append(Slip(text[left.start : right.end], (left.start, right.end)))
            if checked >= MOST_EQUATIONS:
                return Steps(checked, tuple(slips))
    return Steps(checked, tuple(slips))


def _sides(text: str, start: int, end: int) -> list[_Side | None]:
    """Read what stands between the equal signs of a run; None where it is no plain arithmetic."""
    sides: list[list[_Token]] = [[]]
    spaced = False
    for match in _TOKEN.finditer(text, start, end):
        kind = match.lastgroup or ""
        if kind == "skip":
            spaced = True
        elif kind == "equals":
            sides.append([])
            spaced = False
        else:
            sides[-1].append(_Token(kind, match.group(), match.start(), match.end(), spaced))
            spaced = False
    return [
        _side(text, tokens, first=number == 0, last=number == len(sides) - 1) for number, tokens in enumerate(sides)
    ]


def _side(text: str, tokens: list[_Token], *, first: bool, last: bool) -> _Side | None:
    tokens = _trimmed(text, tokens, first=first, last=last)
    if not tokens or len(tokens) > _LONGEST_SIDE:
        return None
    if first and not _starts_free(text, tokens[0].start):
        return None
    if last and not _ends_free(text, tokens[-1].end):
        return None
    if first and tokens[0].kind == "sign" and not _at_start(text, tokens[0].start):
        return None
    try:
        return _Reader(tokens).read()
    except (_Unreadable, ZeroDivisionError):
        return None


def _trimmed(text: str, tokens: list[_Token], *, first: bool, last: bool) -> list[_Token]:
    """Without bullets, bold marks, a dangling "per", and brackets that also hold the equal sign."""
    if first:
        while tokens and (
            tokens[0].text in ("*", "**") or (len(tokens) > 1 and tokens[0].text in "-+" and tokens[1].spaced)
        ):
            if not _at_start(text, tokens[0].start):
                return []
            tokens = tokens[1:]
    if last:
        while tokens and (tokens[-1].text == "**" or tokens[-1].kind == "open"):
            tokens = tokens[:-1]
        if tokens and tokens[-1].text == "/" and text[tokens[-1].end : tokens[-1].end + 2].isalpha():
            tokens = tokens[:-1]
    depth = 0
    for number, token in enumerate(tokens):
        if token.kind == "open":
            depth += 1
        elif token.kind == "close":
            depth -= 1
            if depth < 0:
                return [] if first else tokens[:number]
    while depth > 0:
        position = next(n for n in reversed(range(len(tokens))) if tokens[n].kind == "open")
        if not first or position > 0:
            return []
        tokens, depth = tokens[1:], depth - 1
    return tokens


def _at_start(text: str, position: int) -> bool:
    """Whether a line, a sentence or a bracket begins here."""
    before = text[max(0, position - _AROUND) : position].rstrip(" \t$*")
    return not before or before[-1] in "\n.:;,("


def _starts_free(text: str, position: int) -> bool:
    """Whether nothing before this place belongs to the number that starts here."""
    head = text[max(0, position - _AROUND) : position].removesuffix("\\left")
    if not head:
        return True
    glued = head[-1]
    if glued.isalnum() or glued in "_^\\}|'\"!±√∛@#<>~≈–":
        return False
    if glued in ",:./" and len(head) > 1 and head[-2].isdigit():
        return False
    before = head.rstrip(" \t$")
    if before and before[-1] in "}!√±≡–—":
        return False
    if before.endswith(("...", "…")):
        return False
    word = _BEFORE.search(before)
    if word is None:
        return True
    name = word.group(1)
    if name.startswith("\\"):
        return name in _LATEX_WORDS
    if len(name) == 1:
        return name in "aAI" and " " in head[len(before) :]
    return name.lower() not in _BAD_BEFORE or bool(_WHOLE_BEFORE.search(before))


def _ends_free(text: str, position: int) -> bool:
    """Whether nothing after this place belongs to the number that ends here."""
    tail = _DEGREES.sub("", text[position : position + _AROUND], count=1)
    if not tail:
        return True
    if tail[0] in "_^{!≡¢" or (tail[0] in ",:." and tail[1:2].isdigit()):
        return False
    if tail.lstrip(" \t").startswith(("...", "…", "√", "\\ldots", "\\dots", "\\cdots", "≡", "¢", "!")):
        return False
    if _PART_OF_MORE.match(tail):
        return False
    word = _AFTER.match(tail)
    if word is None:
        return tail[0] != "\\" or tail[1:2] in ("\\", "n", "]", "}")
    name = word.group(1)
    if name.startswith("\\"):
        return name in _LATEX_WORDS
    glued = tail[0] != " " and tail[0] != "\\" and not tail[0].isspace()
    if glued and name.lower() not in _GLUED_UNITS:
        return False
    return name.lower() not in _BAD_AFTER and (len(name) > 1 or name in "aAI")


class _Reader:
    """Arithmetic by recursive descent over exact fractions."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.operators = 0
        self.decimals = 0
        self.percent = False
        self.additive = False

    def read(self) -> _Side:
        value = self._sum(0)
        if self.position < len(self.tokens):
            raise _Unreadable
        start, end = self.tokens[0].start, self.tokens[-1].end
        return _Side(value, start, end, self.operators, self.decimals, self.percent, self.additive)

    def _kind(self, ahead: int = 0) -> str:
        position = self.position + ahead
        return self.tokens[position].kind if position < len(self.tokens) else ""

    def _next(self) -> _Token:
        if self.position >= len(self.tokens):
            raise _Unreadable
        self.position += 1
        return self.tokens[self.position - 1]

    def _sum(self, depth: int) -> Fraction:
        if depth > _DEEPEST:
            raise _Unreadable
        value = self._product(depth)
        while self._kind() == "sign":
            sign = self._next().text
            self.operators += 1
            self.additive = True
            other = self._product(depth)
            value = value + other if sign == "+" else value - other
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        divided: _Token | None = None
        while True:
            kind = self._kind()
            if kind == "times":
                self._next()
                value *= self._signed(depth)
            elif kind == "over":
                slash = self._next()
                if divided is not None and slash.spaced != divided.spaced:
                    raise _Unreadable  # "1 / 2/3" can be read in two ways
                value /= self._signed(depth)
                divided = slash
            elif kind in ("open", "frac"):
                # "2(3)" is a product; "6/2(3)", "2 (3)" and "2\frac{1}{2}" can be read in two ways
                if divided is not None or kind == "frac" or self.tokens[self.position].spaced:
                    raise _Unreadable
                value *= self._power(depth)
            else:
                return _bounded(value)
            self.operators += 1

    def _signed(self, depth: int) -> Fraction:
        if self._kind() != "sign":
            return self._power(depth)
        negative = self._next().text != "+"
        if self._kind() == "sign":
            raise _Unreadable
        before = self.position
        value = self._power(depth)
        if negative and any(token.kind == "power" for token in self.tokens[before : self.position]):
            raise _Unreadable  # "-2^2" can be read in two ways
        return -value if negative else value

    def _power(self, depth: int) -> Fraction:
        value = self._atom(depth)
        if self._kind() == "power":
            self._next()
            self.operators += 1
            braced = self._kind() == "open"
            exponent = self._group(depth) if braced else self._atom(depth)
            if self._kind() == "power" or exponent.denominator != 1:
                raise _Unreadable
            size = max(value.numerator.bit_length(), value.denominator.bit_length())
            if abs(exponent) * size > _MOST_BITS:
                raise _Unreadable
            value = value ** int(exponent)
        if self._kind() == "percent":
            self._next()
            self.percent = True
            value /= 100
        return value

    def _atom(self, depth: int) -> Fraction:
        kind = self._kind()
        if kind == "number":
            return self._number()
        if kind == "open" and self.tokens[self.position].text != "{":
            return self._group(depth)
        if kind == "frac":
            self._next()
            self.operators += 1
            top = self._argument(depth)
            return top / self._argument(depth)
        raise _Unreadable

    def _argument(self, depth: int) -> Fraction:
        """What follows a `\\frac`: a braced group, or one digit."""
        if self._kind() == "open" and self.tokens[self.position].text == "{":
            return self._group(depth)
        raise _Unreadable

    def _group(self, depth: int) -> Fraction:
        opening = self._next()
        value = self._sum(depth + 1)
        if self._next().kind != "close":
            raise _Unreadable
        closing = self.tokens[self.position - 1].text
        if "([{".index(opening.text) != ")]}".index(closing):
            raise _Unreadable
        return value

    def _number(self) -> Fraction:
        text = self._next().text
        if len(text) > _LONGEST_NUMBER:
            raise _Unreadable
        text = text.replace("{,}", "").replace("\\,", "").replace(",", "")
        self.decimals = max(self.decimals, len(text.partition(".")[2]))
        value = Fraction(text)
        if self._kind() == "number":  # a mixed number such as 2 1/3, or nothing we know
            if "." in text or self._kind(1) != "over" or self._kind(2) != "number":
                raise _Unreadable
            top, bottom = self.tokens[self.position].text, self.tokens[self.position + 2].text
            if not (top.isdigit() and bottom.isdigit() and int(top) < int(bottom)):
                raise _Unreadable
            self.position += 3
            value += Fraction(int(top), int(bottom))
        return value


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > _MOST_BITS or value.denominator.bit_length() > _MOST_BITS:
        raise _Unreadable
    return value


def _holds(text: str, left: _Side, right: _Side) -> bool:
    """Whether two sides are equal, allowing for rounding and for a percent sign left out."""
    scales = (1, 100, Fraction(1, 100)) if left.percent or right.percent else (1,)
    if any(_close(left, right, scale) for scale in scales):
        return True
    if left.percent and left.additive:
        return True  # "50 + 10% = 55": ten percent of what is not for us to say
    around = text[max(0, left.start - _AROUND) : left.start] + text[right.end : right.end + _AROUND]
    if _ROUGHLY.search(around):
        return abs(left.value - right.value) * 20 <= abs(left.value)
    return False


def _close(left: _Side, right: _Side, scale: Fraction | int) -> bool:
    value = left.value * scale
    gap = abs(value - right.value)
    if not gap:
        return True
    unit = Fraction(1, 10**right.decimals)
    if not right.operators and value % unit:
        short = abs(right.value) < abs(value)
        if gap * 2 <= unit or (gap < unit and (short or not right.decimals)):
            return True  # rounded, or cut off, to the digits shown; to whole numbers also rounded up
    return bool(left.decimals or right.decimals) and gap * 200 <= abs(value)

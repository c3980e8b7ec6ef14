"""Chemical formulas and equations: read, counted, weighed and balanced. Nothing is evaluated, every size is bounded.

A formula is written as on paper (`Ca(OH)2`, `K4[Fe(CN)6]`, `CuSO4·5H2O`, `H₂O`, `SO4^2-`, `Fe{3+}`, `H_2O`); an
equation as sums on both sides of `=`, `->` or another arrow, also inside LaTeX's `\\ce{}`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce

from rfenvs.graders.elements import ATOMIC_WEIGHTS

LONGEST_FORMULA = 300
LONGEST_EQUATION = 2000
MOST_SPECIES = 40
_DEEPEST = 12
_MOST_DIGITS = 6
_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]*[⁺⁻]")
_STATE = re.compile(r"\s*[_^]?\{?\((?:aq|s|l|g|cr|sol|conc|dil)?\.?\)\}?\s*$|\s*(?:↑|↓|\\uparrow|\\downarrow)\s*$")
_CHARGE = re.compile(r"(?:\^\{?|\(?\{)(?P<n>\d{0,2})(?P<s>[+-])(?P<m>\d{0,2})\}?\)?$")
_BARE_CHARGE = re.compile(r"(?P<n>\d?)(?P<s>[+-])$")
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_ARROW = re.compile(
    r"<?(?:-{1,3}|={1,3}|–|—)>|<=+>?|⟶|→|⇌|⇄|↔|⟷|⇒|\\x?(?:long)?(?:left)?(?:right)arrow(?:\{\})?|\\to\b|"
    r"\\rightleftharpoons|=+"
)
_COEFFICIENT = re.compile(
    r"\s*(?:\\[dt]?frac\{(?P<a>\d{1,6})\}\{(?P<b>\d{1,6})\}|\(?(?P<p>\d{1,6})\s*/\s*(?P<q>\d{1,6})\)?|"
    r"(?P<d>\d{1,6}\.\d{1,6})|(?P<i>\d{1,6})(?:(?P<v>[½⅓⅔¼¾]))?|(?P<w>[½⅓⅔¼¾]))\s*(?:\*|·|×|\\cdot|\\,|~)?\s*"
)
_VULGAR = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4)}
_LATEX = re.compile(r"\\(?:ce|mathrm|text|mathbf|textbf|mathsf|operatorname)\s*\{|\\[,;!: ()\[\]]|\$|\*\*|~")


class ChemistryError(ValueError):
    """What cannot be read. `start` and `end` are code points of the text that was given."""

    def __init__(self, message: str, start: int, end: int, code: str = "unreadable") -> None:
        super().__init__(message)
        self.start = start
        self.end = end
        self.code = code


@dataclass(frozen=True, slots=True)
class Formula:
    """A species: how many atoms of each element, and its charge. Equal formulas have equal counts, not equal texts."""

    atoms: tuple[tuple[str, int], ...]
    """Element symbols with positive counts, sorted."""
    charge: int = 0
    """In elementary charges."""

    @property
    def counts(self) -> dict[str, int]:
        """Atoms by element."""
        return dict(self.atoms)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Symbols that are no element's."""
        return tuple(symbol for symbol, _ in self.atoms if symbol not in ATOMIC_WEIGHTS)

    @property
    def mass(self) -> float:
        """Molar mass in g/mol.

        Raises:
            KeyError: A symbol is no element's.
        """
        return sum(ATOMIC_WEIGHTS[symbol] * count for symbol, count in self.atoms)


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of an equation."""

    coefficient: Fraction
    text: str
    """The species as written, without coefficient and state."""
    readings: tuple[Formula, ...]
    """What it can mean, the likeliest first: `Fe2+` is two iron atoms with one charge, or one with two."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation as written; nothing says that it balances."""

    left: tuple[Term, ...]
    right: tuple[Term, ...]


def parse_formula(text: str) -> Formula:
    """Read a species in its likeliest meaning.

    >>> parse_formula("Ca(OH)2").counts
    {'Ca': 1, 'H': 2, 'O': 2}
    >>> round(parse_formula("CuSO4·5H2O").mass, 2)
    249.68
    >>> parse_formula("SO4^2-").charge
    -2

    Raises:
        ChemistryError: It is no formula; the message says where.
    """
    return readings(text)[0]


@lru_cache(maxsize=4096)
def readings(text: str) -> tuple[Formula, ...]:
    """Everything that a species as written can mean, the likeliest first.

    >>> readings("Fe2+")
    (Formula(atoms=(('Fe', 2),), charge=1), Formula(atoms=(('Fe', 1),), charge=2))

    Raises:
        ChemistryError: It is no formula; the message says where.
    """
    if len(text) > LONGEST_FORMULA:
        raise ChemistryError(f"longer than {LONGEST_FORMULA} characters", 0, len(text))
    body = _RAISED_RUN.sub(lambda run: "^" + run.group().translate(_RAISED), text).translate(_DIGITS)
    body = _STATE.sub("", body.strip()).strip()
    if not body:
        raise ChemistryError("no formula", 0, len(text))
    charge = 0
    if match := _CHARGE.search(body):
        charge = int(match["n"] or match["m"] or 1) * (1 if match["s"] == "+" else -1)
        body = body[: match.start()].strip()
    elif match := _BARE_CHARGE.search(body):
        sign = 1 if match["s"] == "+" else -1
        found = [Formula(_atoms(body[: match.start("s")].strip(), text), sign)]
        if match["n"] and match.start() and int(match["n"]):
            found.append(Formula(_atoms(body[: match.start()].strip(), text), sign * int(match["n"])))
        return tuple(found)
    return (Formula(_atoms(body, text), charge),)


def _atoms(body: str, text: str) -> tuple[tuple[str, int], ...]:
    """Count the atoms of a formula without charge and state; `text` is what an error points into."""
    if body in ("e", "{e}"):  # the electron
        return ()
    compact = re.sub(r"_\{(\d+)\}|_(\d+)", r"\1\2", body)
    total: dict[str, int] = {}
    for part in re.split(r"\s*[·•∙⋅*]\s*|(?<=[A-Za-z\])0-9])\.(?=[0-9]*[A-Z])", compact):
        match = re.match(r"\d*", part)
        factor = match.group() if match else ""
        if len(factor) > _MOST_DIGITS:
            raise ChemistryError("a number is too long", 0, len(text))
        if factor and not int(factor):
            raise ChemistryError("a count of 0", 0, len(text))
        for symbol, count in _Reader(part[len(factor) :], text).counts().items():
            total[symbol] = total.get(symbol, 0) + count * int(factor or 1)
    return tuple(sorted(total.items()))


class _Reader:
    """Recursive descent over one formula, its depth bounded."""

    def __init__(self, body: str, text: str) -> None:
        self.body, self.text, self.at = body, text, 0

    def counts(self) -> dict[str, int]:
        counts = self._group(0)
        if self.at < len(self.body):
            self._fail(f'unexpected "{self.body[self.at]}"')
        if not counts:
            self._fail("no formula")
        return counts

    def _group(self, depth: int) -> dict[str, int]:
        if depth > _DEEPEST:
            self._fail("brackets nested too deeply")
        counts: dict[str, int] = {}
        while self.at < len(self.body):
            character = self.body[self.at]
            if character in "([{":
                opened = self.at
                self.at += 1
                inner = self._group(depth + 1)
                if self.at >= len(self.body) or self.body[self.at] != ")]}"["([{".index(character)]:
                    self.at = opened
                    self._fail(f'"{character}" is not closed')
                if not inner:
                    self._fail("empty brackets")
                self.at += 1
                factor = self._number()
            elif match := _SYMBOL.match(self.body, self.at):
                self.at = match.end()
                inner, factor = {match.group(): 1}, self._number()
            else:
                break
            for symbol, count in inner.items():
                counts[symbol] = counts.get(symbol, 0) + count * factor
        return counts

    def _number(self) -> int:
        start = self.at
        while self.at < len(self.body) and self.body[self.at] in "0123456789":
            self.at += 1
        digits = self.body[start : self.at]
        if len(digits) > _MOST_DIGITS:
            self._fail("a number is too long")
        if digits and not int(digits):
            self._fail("a count of 0")
        return int(digits or 1)

    def _fail(self, message: str) -> None:
        raise ChemistryError(message, 0, len(self.text))


def parse_equation(text: str) -> Equation:
    """Read an equation.

    >>> equation = parse_equation("2 H2 + O2 -> 2 H2O")
    >>> [(int(term.coefficient), term.text) for term in (*equation.left, *equation.right)]
    [(2, 'H2'), (1, 'O2'), (2, 'H2O')]

    Raises:
        ChemistryError: No arrow, several, an empty side, or a summand that cannot be read.
    """
    if len(text) > LONGEST_EQUATION:
        raise ChemistryError(f"longer than {LONGEST_EQUATION} characters", 0, len(text), "too_long")
    plain = _without_latex(text)
    arrows = list(_ARROW.finditer(plain))
    if not arrows:
        raise ChemistryError('no "=" or arrow between the two sides', 0, len(text), "no_arrow")
    if len(arrows) > 1:
        raise ChemistryError("more than one arrow", arrows[1].start(), arrows[1].end(), "several_arrows")
    start, end = arrows[0].span()
    sides = _terms(plain, 0, start), _terms(plain, end, len(plain))
    if len(sides[0]) + len(sides[1]) > MOST_SPECIES:
        raise ChemistryError(f"more than {MOST_SPECIES} summands", 0, len(text), "too_long")
    return Equation(*sides)


def arrows(text: str) -> int:
    """Number of arrows and equals signs of a line."""
    return sum(1 for _ in _ARROW.finditer(text))


def _without_latex(text: str) -> str:
    """Blank out LaTeX's wrappers, keeping every offset."""
    plain = _LATEX.sub(lambda match: " " * len(match.group()), text)
    depth, kept = 0, []
    for character in plain:  # closing braces that have lost their wrapper
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth < 0:
                depth, character = 0, " "
        kept.append(character)
    return "".join(kept)


def _terms(text: str, start: int, end: int) -> tuple[Term, ...]:
    pieces = list(_pieces(text, start, end))
    if len(pieces) == 1 and not text[start:end].strip():
        raise ChemistryError("a side of the equation is empty", start, end, "empty_side")
    return tuple(_term(text, *piece) for piece in pieces)


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a side at its plus signs; a plus that belongs to a charge is none.

    It belongs to a charge after `^` or inside braces, and where it directly follows a formula and is itself followed
    by a plus or by nothing (`Na+ + Cl-`, but `Na+ Cl2`).
    """
    begin, depth = start, 0
    for at in range(start, end):
        character = text[at]
        if character in "{([":
            depth += 1
        elif character in "})]":
            depth = max(0, depth - 1)
        elif character == "+" and not depth:
            before, after = text[begin:at], text[at + 1 : end].lstrip()
            raised = re.search(r"\^\d*$", before)
            attached = bool(before.strip()) and not before[-1].isspace() and before[-1] not in "+-"
            if raised or (attached and (not after or after[0] == "+") and not re.search(r"\^\d*[+-]\d*$", before)):
                continue
            yield begin, at
            begin = at + 1
    yield begin, end


def _term(text: str, start: int, end: int) -> Term:
    while start < end and text[start].isspace():
        start += 1
    while end > start and (text[end - 1].isspace() or text[end - 1] in ".,;"):
        end -= 1
    if start == end:
        raise ChemistryError('nothing beside a "+"', start, end, "empty_summand")
    match = _COEFFICIENT.match(text, start, end)
    coefficient, begin = Fraction(1), start
    if match:
        coefficient, begin = _coefficient(match), match.end()
    piece = text[begin:end]
    try:
        found = readings(piece)
    except ChemistryError as error:
        raise ChemistryError(str(error), start, end) from None
    shown = _STATE.sub("", piece).strip()
    return Term(coefficient, shown, found, start, end)


def _coefficient(match: re.Match[str]) -> Fraction:
    def ratio(above: int, below: int) -> Fraction:
        return Fraction(above, below) if below else Fraction(0)

    if match["a"]:
        return ratio(int(match["a"]), int(match["b"]))
    if match["p"]:
        return ratio(int(match["p"]), int(match["q"]))
    if match["d"]:
        return Fraction(match["d"])
    if match["i"]:
        return Fraction(int(match["i"])) + (ratio(*_VULGAR[match["v"]]) if match["v"] else 0)
    return ratio(*_VULGAR[match["w"]])


def totals(terms: Iterable[tuple[Fraction | int, Formula]]) -> tuple[dict[str, Fraction], Fraction]:
    """Atoms by element and charge of one side of an equation."""
    atoms: dict[str, Fraction] = {}
    charge = Fraction(0)
    for coefficient, formula in terms:
        for symbol, count in formula.atoms:
            atoms[symbol] = atoms.get(symbol, Fraction(0)) + coefficient * count
        charge += coefficient * formula.charge
    return atoms, charge


def nullspace(rows: Sequence[Sequence[int]]) -> list[list[Fraction]]:
    """Basis of the solutions x of A x = 0, by exact elimination.

    Args:
        rows: A, every row of the same length, at least one.

    >>> [[str(value) for value in vector] for vector in nullspace([[2, 0, -2], [0, 2, -1]])]
    [['1', '1/2', '1']]
    """
    matrix = [[Fraction(value) for value in row] for row in rows]
    width = len(matrix[0])
    pivots: list[int] = []
    for column in range(width):
        rank = len(pivots)
        pivot = next((row for row in range(rank, len(matrix)) if matrix[row][column]), None)
        if pivot is None:
            continue
        matrix[rank], matrix[pivot] = matrix[pivot], matrix[rank]
        scale = matrix[rank][column]
        matrix[rank] = [value / scale for value in matrix[rank]]
        for row, values in enumerate(matrix):
            if row != rank and (factor := values[column]):
                matrix[row] = [value - factor * head for value, head in zip(values, matrix[rank], strict=True)]
        pivots.append(column)
    basis = []
    for free in (column for column in range(width) if column not in pivots):
        vector = [Fraction(0)] * width
        vector[free] = Fraction(1)
        for row, column in enumerate(pivots):
            vector[column] = -matrix[row][free]
        basis.append(vector)
    return basis


def balance(left: Sequence[Formula], right: Sequence[Formula]) -> tuple[int, ...] | None:
    """The smallest positive integer coefficients, left then right; None where there is no or more than one solution.

    >>> balance([parse_formula("C3H8"), parse_formula("O2")], [parse_formula("CO2"), parse_formula("H2O")])
    (1, 5, 3, 4)
    """
    basis = nullspace(conservation(left, right))
    if len(basis) != 1:
        return None
    (vector,) = basis
    if min(vector) <= 0 < max(vector) or max(vector) <= 0:
        return None
    common = reduce(math.lcm, (value.denominator for value in vector))
    whole = [int(value * common) for value in vector]
    divisor = math.gcd(*whole)
    return tuple(value // divisor for value in whole)


def conservation(left: Sequence[Formula], right: Sequence[Formula]) -> list[list[int]]:
    """The matrix whose nullspace holds the balancings: a row an element, and one for the charge."""
    species = [*((formula, 1) for formula in left), *((formula, -1) for formula in right)]
    elements = sorted({symbol for formula, _ in species for symbol, _ in formula.atoms})
    rows = [[sign * formula.counts.get(element, 0) for formula, sign in species] for element in elements]
    return [*rows, [sign * formula.charge for formula, sign in species]]


def cell_volume(lengths: tuple[float, float, float], angles: tuple[float, float, float]) -> float:
    """Volume of a crystal's unit cell, in the cube of the lengths' unit.

    V = abc sqrt(1 - cos²α - cos²β - cos²γ + 2 cosα cosβ cosγ) (International Tables for Crystallography, A).

    Args:
        lengths: a, b, c.
        angles: α, β, γ in degrees.

    Raises:
        ValueError: No cell has these angles.

    >>> cell_volume((2.0, 3.0, 4.0), (90.0, 90.0, 90.0))
    24.0
    """
    x, y, z = (0.0 if angle == 90.0 else math.cos(math.radians(angle)) for angle in angles)
    square = 1 - x * x - y * y - z * z + 2 * x * y * z
    if square <= 0 or min(lengths) <= 0:
        raise ValueError("no cell has these lengths and angles")
    return math.prod(lengths) * math.sqrt(square)


def write_equation(left: Sequence[str], right: Sequence[str], coefficients: Sequence[int] | None = None) -> str:
    """Write an equation, its coefficients of 1 left out.

    >>> write_equation(["H2", "O2"], ["H2O"], [2, 1, 2])
    '2H2 + O2 = 2H2O'
    """
    numbers = [1] * (len(left) + len(right)) if coefficients is None else coefficients
    texts = [f"{'' if n == 1 else n}{text}" for n, text in zip(numbers, (*left, *right), strict=True)]
    return f"{' + '.join(texts[: len(left)])} = {' + '.join(texts[len(left) :])}"


def surplus(left: Mapping[str, Fraction], right: Mapping[str, Fraction]) -> dict[str, tuple[Fraction, Fraction]]:
    """Elements whose numbers differ between the sides, sorted, with both numbers."""
    zero = Fraction(0)
    pairs = {symbol: (left.get(symbol, zero), right.get(symbol, zero)) for symbol in sorted({*left, *right})}
    return {symbol: pair for symbol, pair in pairs.items() if pair[0] != pair[1]}

"""Decide expressions, equations and sets with computer algebra. Imports sympy: for the worker process only.

Reading is latex2sympy2-extended's, as in math-verify, with letters kept as they are written. Equality is that of
values: exact at a constant, else at points drawn from a seed, where two different expressions of this size do not meet
by chance. Only what has no values (sets, unknown functions, equations to be solved) goes to math-verify's `verify`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify.errors import TimeoutException
from math_verify.grader import should_treat_as_complex, verify
from mpmath import mp

from rfenvs.graders.math_compare import TooCostly, Unreadable
from rfenvs.graders.math_evaluate import (
    OutOfDomain,
    TooLarge,
    Undecided,
    Value,
    evaluate,
    is_real,
    same_value,
    to_fraction,
    to_mp,
)
from rfenvs.graders.math_match import DIFFERENT, OTHERWISE, SAME, Found
from rfenvs.graders.math_numbers import is_finite_decimal, is_rounding, relation_of
from rfenvs.graders.math_structure import Node
from rfenvs.graders.math_text import Number
from rfenvs.graders.math_tokens import is_prose

logging.getLogger("math_verify").setLevel(logging.CRITICAL)
logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)

POINTS = 6
_FEWEST_POINTS = 2
_SLACK = Fraction(1, 10**25)
_READING = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
_NORMAL = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
)
_FIXED: Mapping[str, Any] = {"i": mp.mpc(0, 1), "\\imath": mp.mpc(0, 1)}
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


# --- reading ---------------------------------------------------------------------------------------------------------

_DEGREES = re.compile(r"(\d+(?:\.\d+)?|[a-zA-Z]|\([^()]*\))\s*\^(?:\\circ|\{\\circ\})")
_DECIMALS = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{?(\d+)\}?")
_SCIENTIFIC = re.compile(r"(?<![\w.}])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?![\w.])")
_GROUPED = re.compile(r"(?<![\d,])(\d{1,3}(?:(?:,|\{,\})\d{3})+)(?!\d)")
_MIXED = re.compile(r"(?<![\w^_.}{])(\d+)\s*(\\frac\{\d+\}\{\d+\})(?!\s*[\^])")
_TIMES = re.compile(r"(?<![\w^_.])(\d+)\s*(?=\()")
_APART = re.compile(r"(?<![\w^_}.])\d[\d.]*\s+\d")
_UPRIGHT = re.compile(r"\\(?:mathrm|mathit|text|textit|operatorname|mathbf|boldsymbol|textrm)\s*\{\s*([a-zA-Z])\s*\}")
_NAMED = re.compile(
    r"\\(?:operatorname|mathrm|text)\s*\{\s*(arcsin|arccos|arctan|sin|cos|tan|cot|ln|log|lcm|gcd|max|min|det)\s*\}"
)


def prepared(text: str) -> str:
    """The text as latex2sympy reads it rightly: exact decimals, radians, products and mixed numbers spelled out.

    Raises:
        Unreadable: Two numbers or words stand side by side.
    """
    if _APART.search(text) or is_prose(text):
        raise Unreadable(text)
    text = _NAMED.sub(r"\\\1 ", text)
    text = _UPRIGHT.sub(r" \1 ", text)
    text = _SCIENTIFIC.sub(r"(\1 \\cdot 10^{\2})", text)
    text = _GROUPED.sub(lambda match: match[1].replace("{,}", "").replace(",", ""), text)
    text = _REPEATING.sub(_repeating, text)
    text = _DEGREES.sub(r"{\\frac{\1 \\cdot \\pi}{180}}", text)
    text = _MIXED.sub(r"(\1+\2)", text)
    text = _DECIMALS.sub(_decimal, text)
    text = _TIMES.sub(r"\1 \\cdot ", text)
    return text.replace("\\varnothing", "\\emptyset").replace("\\Bbb", "\\mathbb").replace("\\ast", "\\cdot")


def _repeating(match: re.Match[str]) -> str:
    whole, head, tail = match.groups()
    period = Fraction(int(tail), (10 ** len(tail) - 1) * 10 ** len(head))
    value = int(whole or 0) + Fraction(int(head or 0), 10 ** len(head)) + period
    return f"(\\frac{{{value.numerator}}}{{{value.denominator}}})"


def _decimal(match: re.Match[str]) -> str:
    places = len(match[2])
    return f"{{\\frac{{{int(match[1] + match[2])}}}{{{10**places}}}}}"


@lru_cache(maxsize=64)
def parse(text: str, real: bool | None = None) -> Any:
    """A sympy object, unevaluated; its names stand for real numbers where asked.

    Raises:
        Unreadable: Not mathematics.
    """
    try:
        latex = normalize_latex(prepared(text), _NORMAL)
        read = latex2sympy(
            latex, is_real=real, convert_degrees=False, normalization_config=None, conversion_config=_READING
        )
    except Unreadable:
        raise
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # the parser raises what it likes at what it cannot read: Exception itself, for one
        raise Unreadable(text) from error
    if read is None or not isinstance(read, sympy.Basic | sympy.MatrixBase):
        raise Unreadable(text)
    return read


# --- values ----------------------------------------------------------------------------------------------------------


def points(names: frozenset[str]) -> Iterator[dict[str, Value]]:
    """Points to compare at, the same fractions for the same names.

    Half of the points are all positive, one is all negative.
    """
    for number in range(POINTS):
        point: dict[str, Value] = {}
        for name in sorted(names):
            draw = int.from_bytes(hashlib.sha256(f"{number} {name}".encode()).digest()[:8], "big")
            value = Fraction(draw % 9973 + 1, 3571) + Fraction(1, 7 + draw % 11)
            negative = number == 1 or (number % 2 == 1 and draw & 4096)
            point[name] = -value if negative else value
        yield {**point, **_FIXED}


def names_of(*expressions: Any) -> frozenset[str]:
    """Names that are not bound, `i` left out."""
    return frozenset(s.name for e in expressions for s in e.free_symbols if isinstance(s, sympy.Symbol)) - set(_FIXED)


def compare_expressions(gold: Any, answer: Any) -> Found:
    """Compare by values.

    Raises:
        Undecided: They have none, or none that can be computed.
    """
    names = names_of(gold, answer)
    seen = 0
    for point in points(names):
        one, other = _value_at(gold, point), _value_at(answer, point)
        if one is _TOO_LARGE or other is _TOO_LARGE:
            if one is other:
                raise TooLarge
            return DIFFERENT
        if one is None or other is None:
            if one is other and names:
                continue
            return DIFFERENT
        if names and is_real(one) != is_real(other):
            continue  # beyond a branch cut of one of them: ln x + ln y says nothing where both are negative
        if not same_value(one, other):
            return Found(False, _constant_ratio(gold, answer, names) if names else _relation(one, other))
        seen += 1
        if not names:
            return OTHERWISE
    if seen < _FEWEST_POINTS:
        raise Undecided("no common domain")
    return OTHERWISE


def _relation(one: Value, other: Value) -> str | None:
    want, have = to_fraction(one), to_fraction(other)
    return None if want is None or have is None else relation_of(want, have, _SLACK)


def _constant_ratio(gold: Any, answer: Any, names: frozenset[str]) -> str | None:
    """`sign` or a factor, where the answer is a constant multiple of the gold."""
    ratio = ratio_of(gold, answer, names)
    if ratio is None or not is_real(ratio):
        return None
    found = relation_of(Fraction(7), 7 * (to_fraction(ratio) or Fraction(0)), _SLACK)  # 1 and 2 differ by one, too
    return found if found == "sign" or found.startswith("factor") else None


def ratio_of(gold: Any, answer: Any, names: frozenset[str]) -> Value | None:
    """`answer / gold` where that is the same finite number other than 0 at every point; else None."""
    ratio: Value | None = None
    seen = 0
    for point in points(names):
        one, other = _value_at(gold, point), _value_at(answer, point)
        if one is _TOO_LARGE or other is _TOO_LARGE:
            raise TooLarge
        if one is None or other is None:
            continue
        if one == 0 or other == 0:
            return None
        exact = isinstance(one, Fraction) and isinstance(other, Fraction)
        with mp.workdps(60):
            quotient = other / one if exact else to_mp(other) / to_mp(one)
        if ratio is not None and not same_value(ratio, quotient):
            return None
        ratio, seen = quotient, seen + 1
    return ratio if seen >= _FEWEST_POINTS or (seen and not names) else None


_TOO_LARGE = object()


def _value_at(expression: Any, point: Mapping[str, Value]) -> Value | None:
    """The value; None outside of the domain, `_TOO_LARGE` where it cannot be computed."""
    try:
        return evaluate(expression, point)
    except TooLarge:
        return _TOO_LARGE
    except OutOfDomain:
        return None


# --- the leaf --------------------------------------------------------------------------------------------------------


def leaf(gold: Node, answer: Node) -> Found:
    """Decide two expressions, equations or sets of which only the text is known.

    Raises:
        Unreadable: One of them is not mathematics.
        TooCostly: Both have more digits than are computed.
    """
    try:
        found = _leaf(gold, answer)
    except TooLarge as error:
        raise TooCostly from error
    if not found.equal and re.search(r"\\log\s*(?![_a-zA-Z\s])|\\log\s+(?!_)", gold.text + answer.text):
        natural = [
            replace(node, text=re.sub(r"\\log(?!\s*_)(?![a-zA-Z])", r"\\ln", node.text)) for node in (gold, answer)
        ]
        return found if natural == [gold, answer] or not _leaf(*natural).equal else OTHERWISE
    if found.equal and sorted(gold.text.replace(" ", "")) == sorted(answer.text.replace(" ", "")):
        return SAME
    return found


def _leaf(gold: Node, answer: Node) -> Found:
    if gold.kind == answer.kind == "equation":
        return _equations(gold, answer)
    if gold.number is not None or answer.number is not None:
        found = _with_decimal(gold, answer)
        if found is not None:
            return found
    one, other = parse(gold.text), parse(answer.text)
    if isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr):
        try:
            return compare_expressions(one, other)
        except TooLarge:
            raise
        except Undecided:
            pass
    return _verified(gold, answer)


def _with_decimal(gold: Node, answer: Node) -> Found | None:
    """A long decimal against a number without finite decimal: 3.1415927 is pi; None where that is not the case."""
    number, node = (gold.number, answer) if gold.number is not None else (answer.number, gold)
    if number is None or number.form not in ("decimal", "scientific") or number.digits < 6:
        return None
    expression = parse(node.text)
    if not isinstance(expression, sympy.Expr) or names_of(expression):
        return None
    try:
        value = evaluate(expression, _FIXED)
    except TooLarge:
        raise
    except Undecided:
        return None
    exact = to_fraction(value)
    if exact is None:
        return DIFFERENT
    if isinstance(value, Fraction) and is_finite_decimal(value):
        return None
    if is_rounding(exact, number) or _is_noisy(exact, number):
        return OTHERWISE
    want, have = (number.value, exact) if gold.number is number else (exact, number.value)
    return Found(False, relation_of(want, have, Fraction(1, 10**6)))


def _is_noisy(exact: Fraction, number: Number) -> bool:
    return number.digits >= 12 and abs(number.value - exact) <= abs(exact) / 10**12


def _equations(gold: Node, answer: Node) -> Found:
    """Equal where one is a constant multiple of the other, or where math-verify solves both alike."""
    one, other = gold.ends.split(), answer.ends.split()
    left = [parse(part.text) for part in gold.parts]
    right = [parse(part.text) for part in answer.parts]
    if not all(isinstance(side, sympy.Expr) for side in left + right):
        return _verified(gold, answer)
    chains = [(other, right), ([_FLIPPED.get(operator, operator) for operator in reversed(other)], right[::-1])]
    for operators, sides in chains:
        if len(operators) == len(one) and _same_chain(one, left, operators, sides):
            return OTHERWISE
    if len(one) == len(other) == 1 and set(one + other) == {"="}:
        return _verified(gold, answer)
    return DIFFERENT


def _same_chain(one: list[str], left: list[Any], other: list[str], right: list[Any]) -> bool:
    for index, (operator, against) in enumerate(zip(one, other, strict=True)):
        want, have = left[index] - left[index + 1], right[index] - right[index + 1]
        try:
            ratio = ratio_of(want, have, names_of(want, have))
        except Undecided:
            if operator != against or not (
                _equal_or_false(left[index], right[index]) and _equal_or_false(left[index + 1], right[index + 1])
            ):
                return False
            continue
        if ratio is None or not is_real(ratio):
            return False
        positive = to_mp(ratio).real > 0
        if (operator if positive or operator in ("=", "!=") else _FLIPPED[operator]) != against:
            return False
    return True


def _equal_or_false(one: Any, other: Any) -> bool:
    try:
        return one == other or compare_expressions(one, other).equal
    except Undecided:
        return False


def _verified(gold_node: Node, answer_node: Node) -> Found:
    """What math-verify says of things without values, less what it is known to accept wrongly."""
    real = not should_treat_as_complex(gold_node.text + answer_node.text)
    gold, answer = parse(gold_node.text, real), parse(answer_node.text, real)
    if _is_relation(gold) != _is_relation(answer) and not (_is_set(gold) or _is_set(answer)):
        return DIFFERENT
    if _holds_matrix(gold) != _holds_matrix(answer):
        return DIFFERENT
    if _is_relation(gold) and _holds_matrix(gold):
        return SAME if gold == answer else DIFFERENT
    if isinstance(gold, sympy.Tuple) != isinstance(answer, sympy.Tuple):
        return DIFFERENT
    constants = all(isinstance(read, sympy.Expr) and not names_of(read) for read in (gold, answer))
    if constants and (gold in _INFINITE) != (answer in _INFINITE):
        return DIFFERENT
    try:
        equal = verify(gold, answer, float_rounding=12, allow_set_relation_comp=True, timeout_seconds=None)
    except TimeoutException:  # derives from BaseException
        equal = False
    return OTHERWISE if equal else DIFFERENT


_INFINITE = (sympy.oo, -sympy.oo, sympy.zoo)


def _is_relation(read: Any) -> bool:
    return isinstance(read, sympy.core.relational.Relational | sympy.logic.boolalg.Boolean)


def _is_set(read: Any) -> bool:
    return isinstance(read, sympy.Set)


def _holds_matrix(read: Any) -> bool:
    if isinstance(read, sympy.MatrixBase | sympy.MatrixExpr):
        return True
    return isinstance(read, sympy.Basic) and read.has(sympy.MatrixBase, sympy.MatrixExpr)


def warm() -> None:
    """Load what is loaded on first use: the grammar's tables, and parts of sympy."""
    for gold, answer in (("x^2-1", "(x-1)(x+1)"), ("\\sqrt{2}", "\\frac{2}{\\sqrt{2}}"), ("\\sin x", "\\cos x")):
        leaf(Node("expression", gold), Node("expression", answer))

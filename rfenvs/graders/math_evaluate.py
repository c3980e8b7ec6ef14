"""The value of a sympy expression at a point: an exact fraction where there is one, else sixty digits or more.

Nothing is simplified, so nothing can run away: every step is arithmetic on numbers whose size is looked at first.
Odd roots of negative numbers are real, as in school: the cube root of -8 is -2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import sympy
from mpmath import mp
from sympy import Basic

Value = Any
"""A Fraction where exact, else an mpmath number, real or complex."""

DIGITS = 60
MOST_DIGITS = 20_000
"""Digits of the largest integer that is computed."""
_MOST_TERMS = 2_000


class Undecided(Exception):
    """The expression holds something that has no value here: an integral, an unknown function, infinity."""


class OutOfDomain(Undecided):
    """There is no finite value at this point: a division by zero, the logarithm of zero."""


class TooLarge(Undecided):
    """The value has more digits than are computed."""

    def __init__(self) -> None:
        super().__init__("more digits than are computed")


def evaluate(expression: Basic, point: Mapping[str, Value]) -> Value:
    """The value with every name replaced; what is tiny by rounding alone is an exact 0.

    Raises:
        Undecided: No finite value can be had.
    """
    with mp.workdps(DIGITS):
        value = _value(expression, point)
        if isinstance(value, Fraction) or abs(value) > mp.mpf(10) ** -30:
            return value
    with mp.workdps(3 * DIGITS):
        again = _value(expression, point)
        return Fraction(0) if abs(again) < mp.mpf(10) ** (-2 * DIGITS) else again


def is_real(value: Value) -> bool:
    """Whether a value has no imaginary part to speak of."""
    return isinstance(value, Fraction) or value.imag == 0 or abs(value.imag) < abs(value) * mp.mpf(10) ** -40


def same_value(one: Value, other: Value) -> bool:
    """Equal exactly where both are exact, else to 45 digits, relative to the larger."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    with mp.workdps(DIGITS):
        one, other = to_mp(one), to_mp(other)
        return bool(abs(one - other) <= max(abs(one), abs(other)) * mp.mpf(10) ** -45)


def to_mp(value: Value) -> Any:
    """An mpmath number of the value, at the precision of the moment."""
    return mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def to_fraction(value: Value) -> Fraction | None:
    """A real value as a fraction, rounded to fifty digits; None for a complex one."""
    if isinstance(value, Fraction):
        return value
    if not is_real(value):
        return None
    return Fraction(mp.nstr(value.real, 50, strip_zeros=False, min_fixed=0, max_fixed=0))


def _value(expression: Basic, point: Mapping[str, Value]) -> Value:
    kind = type(expression)
    if isinstance(expression, sympy.Rational):
        return Fraction(int(expression.p), int(expression.q))
    if isinstance(expression, sympy.Float):
        return Fraction(str(expression))
    if isinstance(expression, sympy.Symbol):
        if expression.name not in point:
            raise Undecided(expression.name)
        return point[expression.name]
    if kind in _CONSTANTS:
        return _CONSTANTS[kind]()
    if isinstance(expression, sympy.Add):
        return _sum(_value(part, point) for part in expression.args)
    if isinstance(expression, sympy.Mul):
        return _product([_value(part, point) for part in expression.args])
    if isinstance(expression, sympy.Pow):
        return _power(_value(expression.base, point), _value(expression.exp, point))
    if isinstance(expression, sympy.exp):
        return _power(mp.e, _value(expression.args[0], point))
    if isinstance(expression, sympy.UnevaluatedExpr):
        return _value(expression.args[0], point)
    if isinstance(expression, sympy.Sum | sympy.Product):
        return _series(expression, point)
    if isinstance(expression, sympy.Mod) and isinstance(expression.args[0], sympy.Pow):
        return _power_modulo(expression.args[0], expression.args[1], point)
    name = kind.__name__.lower()
    function = _EXACT.get(name) or _FUNCTIONS.get(name)
    if function is None:
        raise Undecided(name)
    values = [_value(part, point) for part in expression.args]
    if name not in _EXACT:
        values = [to_mp(value) for value in values]
    try:
        return _finite(function(*values))
    except (ValueError, TypeError, ZeroDivisionError, OverflowError, NotImplementedError) as error:
        raise Undecided(name) from error


def _sum(values: Any) -> Value:
    total: Value = Fraction(0)
    for value in values:
        if isinstance(value, Fraction) and isinstance(total, Fraction):
            total += value
        else:
            total = to_mp(total) + to_mp(value)
    return total


def _product(values: list[Value]) -> Value:
    if all(isinstance(value, Fraction) for value in values):
        if sum(map(_digits, values)) > 4 * MOST_DIGITS:
            raise TooLarge
        product = Fraction(1)
        for value in values:
            product *= value
        return product
    result = mp.mpf(1)
    for value in values:
        if isinstance(value, Fraction) and value == 0:
            return Fraction(0)
        result *= to_mp(value)
    return _finite(result)


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if base == 0:
            if exponent <= 0:
                raise OutOfDomain("a power of zero")
            return base
        if abs(base) != 1 and _digits(base) * abs(exponent) > MOST_DIGITS:
            raise TooLarge
        if exponent.denominator == 1:
            return base ** int(exponent) if abs(base) != 1 else base ** (int(exponent) % 2)
        if base > 0 or exponent.denominator % 2:
            root = _exact_root(abs(base), exponent.denominator)
            sign = -1 if base < 0 and exponent.numerator % 2 else 1
            if root is not None:
                return sign * root ** int(exponent.numerator)
            return sign * mp.power(to_mp(abs(base)), to_mp(exponent))
    if isinstance(exponent, Fraction) and is_real(base) and not isinstance(base, Fraction):
        base = base.real
        if base < 0 and exponent.denominator % 2 and exponent.denominator > 1:
            return (-1 if exponent.numerator % 2 else 1) * mp.power(-base, to_mp(exponent))
    base, exponent = to_mp(base), to_mp(exponent)
    if base == 0:
        raise OutOfDomain("a power of zero")
    if abs(exponent) * (abs(mp.log(abs(base))) + 4) > 10**9:
        raise TooLarge
    return _finite(mp.power(base, exponent))


def _digits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length()) // 3 + 1


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    roots = []
    for part in (value.numerator, value.denominator):
        root, exact = sympy.integer_nthroot(part, degree)
        if not exact:
            return None
        roots.append(int(root))
    return Fraction(roots[0], roots[1])


def _finite(value: Value) -> Value:
    if isinstance(value, Fraction):
        return value
    if not mp.isfinite(value):
        raise OutOfDomain("no finite value")
    return value


def _series(expression: Any, point: Mapping[str, Value]) -> Value:
    """A sum or product with few terms, written out."""
    if len(expression.limits) != 1:
        raise Undecided("nested series")
    name, low, high = expression.limits[0]
    first, last = _value(low, point), _value(high, point)
    if not all(isinstance(end, Fraction) and end.denominator == 1 for end in (first, last)):
        raise Undecided("bounds that are no integers")
    if last - first > _MOST_TERMS:
        raise Undecided("a long series")
    terms = [
        _value(expression.function, {**point, name.name: Fraction(index)}) for index in range(int(first), int(last) + 1)
    ]
    return _sum(terms) if isinstance(expression, sympy.Sum) else _product(terms)


def _factorial(value: Value) -> Value:
    if not isinstance(value, Fraction) or value.denominator != 1:
        return mp.factorial(to_mp(value))
    if value < 0:
        raise OutOfDomain("the factorial of a negative number")
    if value > 5_000:
        raise TooLarge
    return Fraction(int(sympy.factorial(int(value))))


def _binomial(n: Value, k: Value) -> Value:
    if isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1 and 0 <= k <= n:
        if min(k, n - k) * (_digits(n) + 1) > MOST_DIGITS:
            raise TooLarge
        return Fraction(int(sympy.binomial(int(n), int(k))))
    return mp.binomial(to_mp(n), to_mp(k))


def _floor(value: Value) -> Value:
    if not is_real(value):
        raise Undecided("the floor of a complex number")
    return Fraction(value.__floor__() if isinstance(value, Fraction) else int(mp.floor(value.real)))


def _logarithm(value: Value, base: Value = None) -> Value:
    value = to_mp(value)
    if value == 0:
        raise OutOfDomain("the logarithm of zero")
    result = mp.log(value) if base is None else mp.log(value) / mp.log(to_mp(base))
    whole = mp.nint(result.real)
    exact = abs(result - whole) < mp.mpf(10) ** (12 - DIGITS)
    return Fraction(int(whole)) if exact else result


def _modulo(value: Value, modulus: Value) -> Value:
    if isinstance(value, Fraction) and isinstance(modulus, Fraction) and modulus:
        return value % modulus
    raise Undecided("a remainder of something inexact")


def _power_modulo(power: Any, modulus: Any, point: Mapping[str, Value]) -> Value:
    base, exponent, divisor = (_value(part, point) for part in (power.base, power.exp, modulus))
    whole = all(isinstance(value, Fraction) and value.denominator == 1 for value in (base, exponent, divisor))
    if whole and exponent >= 0 and divisor:
        return Fraction(pow(int(base), int(exponent), int(divisor)))
    return _modulo(_power(base, exponent), divisor)


def _largest(*values: Value) -> Value:
    return max(values, key=lambda value: to_mp(value).real)


def _smallest(*values: Value) -> Value:
    return min(values, key=lambda value: to_mp(value).real)


def _absolute(value: Value) -> Value:
    return abs(value)


_CONSTANTS: Mapping[type, Callable[[], Value]] = {
    type(sympy.pi): lambda: +mp.pi,
    type(sympy.E): lambda: +mp.e,
    type(sympy.I): lambda: mp.mpc(0, 1),
    type(sympy.GoldenRatio): lambda: +mp.phi,
    type(sympy.EulerGamma): lambda: +mp.euler,
}
_EXACT: Mapping[str, Callable[..., Value]] = {
    "factorial": _factorial,
    "binomial": _binomial,
    "floor": _floor,
    "ceiling": lambda value: -_floor(-value),
    "abs": _absolute,
    "log": _logarithm,
    "mod": _modulo,
    "max": _largest,
    "min": _smallest,
}
_FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "cot": mp.cot, "sec": mp.sec, "csc": mp.csc,
    "asin": mp.asin, "acos": mp.acos, "atan": mp.atan, "acot": mp.acot, "asec": mp.asec, "acsc": mp.acsc,
    "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh, "coth": mp.coth, "asinh": mp.asinh, "acosh": mp.acosh,
    "atanh": mp.atanh, "gamma": mp.gamma, "re": mp.re, "im": mp.im, "conjugate": mp.conj, "arg": mp.arg,
    "sign": mp.sign, "erf": mp.erf, "zeta": mp.zeta,
}  # fmt: skip

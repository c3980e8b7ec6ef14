"""Compare exact numbers: equal, equal up to the digits written, or how they differ."""

from __future__ import annotations

from fractions import Fraction

from rfenvs.graders.math_text import Number

FEWEST_DIGITS = 6
"""Significant digits a decimal must have to stand for a number that has no finite decimal, such as 1/3."""
_NOISE_DIGITS = 12
_NOISE = Fraction(1, 10**12)


def same_number(gold: Number, answer: Number) -> bool:
    """Whether two numbers are equal.

    A decimal also equals a number without finite decimal that it is the rounding of, to six significant digits or more:
    1/3 equals 0.333333, but not 0.333. Two decimals are equal only exactly: 0.1234567 is not 0.1234569.
    """
    if gold.value == answer.value:
        return True
    for exact, decimal in ((gold.value, answer), (answer.value, gold)):
        if not is_finite_decimal(exact) and decimal.digits >= FEWEST_DIGITS:
            error = abs(decimal.value - exact)
            if is_rounding(exact, decimal) or (decimal.digits >= _NOISE_DIGITS and error <= abs(exact) * _NOISE):
                return True
    return False


def is_rounding(exact: Fraction, decimal: Number) -> bool:
    """Whether `decimal` is `exact` to the digits written, rounded or cut off."""
    unit = Fraction(10) ** -decimal.places
    error = abs(decimal.value) - abs(exact)
    return decimal.value * exact > 0 and -unit < error <= unit / 2


def is_finite_decimal(value: Fraction) -> bool:
    """Whether a value can be written as a decimal that ends."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


PI = Fraction(314159265358979323846264338327950288419716939937510, 10**50)


def relation_of(gold: Fraction, answer: Fraction, slack: Fraction = Fraction(0)) -> str:
    """How an unequal number relates to the gold; `too_large` or `too_small` where nothing simpler fits.

    Args:
        gold: The right value.
        answer: The value given.
        slack: Relative error within which two values count as equal; for values that are roundings.

    >>> [relation_of(Fraction(6), Fraction(answer)) for answer in (-6, 7, 9)]
    ['sign', 'off_by_one', 'too_large']
    """

    def near(one: Fraction, other: Fraction) -> bool:
        return abs(one - other) <= slack * max(abs(one), abs(other))

    if near(answer, -gold):
        return "sign"
    if gold and answer and near(gold * answer, Fraction(1)):
        return "reciprocal"
    if near(abs(gold - answer), Fraction(1)) and (slack or gold.denominator == 1):
        return "off_by_one"
    if gold and answer:
        for factor in (2, 10, 100):
            if near(answer, gold * factor) or near(answer * factor, gold):
                return f"factor_{factor}"
        if near(answer, gold * PI) or near(answer * PI, gold):
            return "factor_pi"
        if near(answer, gold**2) or near(answer**2, gold):
            return "squared"
    return "too_large" if answer > gold else "too_small"

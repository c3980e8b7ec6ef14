"""`MathAPI`: arithmetic, statistics and units, without state."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from typing import Any

from rfenvs.envs.bfcl_apis.base import SimulatedApi, need, tool

_METRES = {"km": 1000, "m": 1, "cm": 0.01, "mm": 0.001, "um": 1e-6, "nm": 1e-9}
_FACTORS = {
    ("cm", "in"): 0.393701,
    ("in", "cm"): 2.54,
    ("m", "ft"): 3.28084,
    ("ft", "m"): 0.3048,
    ("m", "yd"): 1.09361,
    ("yd", "m"): 0.9144,
    ("km", "miles"): 0.621371,
    ("miles", "km"): 1.60934,
    ("kg", "lb"): 2.20462,
    ("lb", "kg"): 0.453592,
}
_MOST_DIGITS = 100
_LARGEST_BITS = 4096
_GUARD_DIGITS = 8


def _result(value: Any) -> dict[str, Any]:
    """Wrap a number that JSON can hold."""
    need(not isinstance(value, complex), "The result is not a real number")
    need(not isinstance(value, float) or math.isfinite(value), "The result is too large to represent")
    return {"result": value}


def _context(precision: int, guard: int = 0) -> Context:
    need(1 <= precision <= _MOST_DIGITS, f"Precision must be between 1 and {_MOST_DIGITS}")
    return Context(prec=precision + guard)


class MathAPI(SimulatedApi):
    """Arithmetic with bounded cost: no result has more than some thousand digits."""

    @tool
    def logarithm(self, value: float, base: float, precision: int) -> dict[str, Any]:
        """Logarithm of a number to a base, to `precision` significant digits."""
        need(value > 0, "Cannot calculate logarithm of a number that is not positive")
        need(base > 0 and base != 1, "The base of a logarithm must be positive and not 1")
        work = _context(precision, _GUARD_DIGITS)
        quotient = work.divide(work.ln(Decimal(value)), work.ln(Decimal(base)))
        return _result(float(_context(precision).plus(quotient)))

    @tool
    def mean(self, numbers: list[float]) -> dict[str, Any]:
        """Mean of a list of numbers."""
        need(numbers, "Cannot calculate mean of an empty list")
        return _result(sum(numbers) / len(numbers))

    @tool
    def standard_deviation(self, numbers: list[float]) -> dict[str, Any]:
        """Standard deviation of a list of numbers, taken as the whole population."""
        need(numbers, "Cannot calculate standard deviation of an empty list")
        mean = sum(numbers) / len(numbers)
        return _result(math.sqrt(sum((x - mean) ** 2 for x in numbers) / len(numbers)))

    @tool
    def si_unit_conversion(self, value: float, unit_in: str, unit_out: str) -> dict[str, Any]:
        """Convert a length between km, m, cm, mm, um and nm."""
        need(unit_in in _METRES and unit_out in _METRES, _unsupported(unit_in, unit_out))
        return _result(value * _METRES[unit_in] * (1 / _METRES[unit_out]))

    @tool
    def imperial_si_conversion(self, value: float, unit_in: str, unit_out: str) -> dict[str, Any]:
        """Convert between cm and in, m and ft, m and yd, km and miles, kg and lb, celsius and fahrenheit."""
        if unit_in == unit_out:
            return _result(value)
        if (unit_in, unit_out) == ("celsius", "fahrenheit"):
            return _result(value * 1.8 + 32)
        if (unit_in, unit_out) == ("fahrenheit", "celsius"):
            return _result((value - 32) * (5 / 9))
        need((unit_in, unit_out) in _FACTORS, _unsupported(unit_in, unit_out))
        return _result(value * _FACTORS[unit_in, unit_out])

    @tool
    def add(self, a: float, b: float) -> dict[str, Any]:
        """Sum of two numbers."""
        return _result(a + b)

    @tool
    def subtract(self, a: float, b: float) -> dict[str, Any]:
        """The first number less the second."""
        return _result(a - b)

    @tool
    def multiply(self, a: float, b: float) -> dict[str, Any]:
        """Product of two numbers."""
        return _result(a * b)

    @tool
    def divide(self, a: float, b: float) -> dict[str, Any]:
        """The first number divided by the second."""
        need(b != 0, "Cannot divide by zero")
        return _result(a / b)

    @tool
    def power(self, base: float, exponent: float) -> dict[str, Any]:
        """A number raised to a power."""
        if isinstance(base, int) and isinstance(exponent, int):
            need(exponent * base.bit_length() <= _LARGEST_BITS, "The result is too large to represent")
            need(-exponent <= _LARGEST_BITS, "The result is too small to represent")
        return _result(base**exponent)

    @tool
    def square_root(self, number: float, precision: int) -> dict[str, Any]:
        """Square root of a number, to `precision` significant digits."""
        need(number >= 0, "Cannot calculate square root of a negative number")
        return _result(float(_context(precision).sqrt(Decimal(number))))

    @tool
    def absolute_value(self, number: float) -> dict[str, Any]:
        """Absolute value of a number."""
        return _result(abs(number))

    @tool
    def round_number(self, number: float, decimal_places: int = 0) -> dict[str, Any]:
        """Round a number to a number of decimal places."""
        need(abs(decimal_places) <= _MOST_DIGITS, f"Decimal places must be between -{_MOST_DIGITS} and {_MOST_DIGITS}")
        return _result(round(number, decimal_places))

    @tool
    def percentage(self, part: float, whole: float) -> dict[str, Any]:
        """A part as a percentage of the whole."""
        need(whole != 0, "Whole value cannot be zero")
        return _result((part / whole) * 100)

    @tool
    def min_value(self, numbers: list[float]) -> dict[str, Any]:
        """Smallest number of a list."""
        need(numbers, "Cannot find minimum of an empty list")
        return _result(min(numbers))

    @tool
    def max_value(self, numbers: list[float]) -> dict[str, Any]:
        """Largest number of a list."""
        need(numbers, "Cannot find maximum of an empty list")
        return _result(max(numbers))

    @tool
    def sum_values(self, numbers: list[float]) -> dict[str, Any]:
        """Sum of a list of numbers."""
        need(numbers, "Cannot calculate sum of an empty list")
        return _result(sum(numbers))


def _unsupported(unit_in: str, unit_out: str) -> str:
    return f"Conversion from '{unit_in}' to '{unit_out}' is not supported"

"""Equations between plain numbers: wrong ones are found, right ones and everything else are left alone."""

from __future__ import annotations

import json
import os
import random
import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfenvs.graders.math_steps import MOST_EQUATIONS, check_steps

TEST_DATA = Path(os.environ.get("RFENVS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
ANNOTATED = re.compile(r"<<[^<>]*=[^<>=]*>>\$?([0-9][0-9,]*(?:\.[0-9]+)?)")

WRONG = [
    "3 + 4 = 8",
    "so 3*4=13.",
    "1/3 = 0.34",
    r"$\frac{1}{2} + \frac{1}{3} = \frac{2}{5}$",
    r"12 \times 4 = 46",
    r"2^{10} = 1000",
    "2**3 = 9",
    r"1{,}000 + 1 = 1{,}002",
    "1,000*3 = 3,001",
    "area = 3 \\cdot 4 = 14",
    "x &= 3 \\times 4 \\\\ &= 13",
    "3 + 4\n= 8",
    r"4 \div 2 = 3",
    r"90^\circ - 30^\circ = 50^\circ",
    "5 x 3 = 16",
    "(3+4)*2 = 15",
    r"\left(3 + 4\right) \cdot 2 = 15",
    "0.5 * 30 = 16",
    "$3 + $4 = $8",
    "20% * 50 = 11",
    "a total of 3 + 4 = 8",
    "- 3 + 4 = 8",
    "1. 3 + 4 = 8",
    "**3 + 4 = 8**",
    "(3 + 4 = 8)",
    "10 − 3 = 8",
    "2 + 2 = <<2+2=5>>5",
]

RIGHT = [
    "3 + 4 = 7 apples",
    "1/3 = 0.33",
    "2/3 = 0.67",
    "2/3 = 0.66",
    "7/2 = 4",
    "22/7 is about 22/7 = 3",
    "3 1/2 + 1 = 4 1/2",
    r"\frac{3}{4} = 75\%",
    "20/100 * 100 = 20%",
    "5^2 - 3^2 = (5-3)(5+3) = 2(8) = 16",
    r"2\times10^3 = 2000",
    r"\left(3 + 4\right) \cdot 2 = 14",
    "[3 + 4] * 2 = 14",
    r"90^\circ - 30^\circ = 60^\circ",
]

NOT_OURS = [
    "x = 5",
    "area = 5",
    "4 = 5",
    "f(3+1) = 16",
    "3x + 2 = 8",
    "x^2 + 3 = 5",
    "x - 3 + 5 = 9",
    "2 + 3 = 5x",
    r"2 + 3 = 6\pi",
    r"3 \sqrt{2} + 1 = 5",
    "3 + 4i = 5",
    r"7 + 8 = 3 \pmod{12}",
    "7 + 8 = 3 (mod 12)",
    "101_2 + 1_2 = 110_2",
    "3 + 2 = 5!",
    r"\log_2 8 + 1 = 4",
    r"\sin 30 + 1 = 1.5",
    "sin 30 + 1 = 1.5",
    "half of 10 + 6 = 11",
    "12*2 = 2 dozen",
    "3:30 + 2 = 5:30",
    "50 + 10% = 55",
    r"2\frac{1}{2} + 1 = 3.5",
    "6/2(1+2) = 9",
    "6/2(1+2) = 1",
    "-2^2 = 4",
    "3 / 1/2 = 7",
    "1 + 2 + ... + 10 = 55",
    r"1 + 2 + \dots + 10 = 55",
    r"\sum_{i=1}^{3} i = 6",
    r"a_{1} + 5 = 6",
    "1,2 + 3,4 = 4,6",
    "(2,3) + (1,1) = (3,4)",
    "17 % 5 = 2",
    "9^9^9 = 1",
    "9^{99999} = 1",
    "1/0 = 5",
    "1 + 1 == 3",
    "1 + 1 >= 3",
    "1 + 1 != 3",
    "1 + 1 ≈ 3",
    "2:3 + 1 = 5",
    r"|3 - 5| + 1 = 3",
    "5 choose 2 + 1 = 11",
    "10 mod 3 + 1 = 2",
    "30 cm + 2 m = 230 cm",
]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_equation_is_found_and_quoted(text: str) -> None:
    (slip,) = check_steps(text).slips
    assert text[slice(*slip.span)] == slip.text
    assert "=" in slip.text


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_equation_is_checked_and_not_complained_about(text: str) -> None:
    steps = check_steps(text)
    assert steps.checked >= 1
    assert steps.slips == ()


@pytest.mark.parametrize("text", NOT_OURS)
def test_what_is_no_plain_arithmetic_or_can_be_read_in_two_ways_is_left_alone(text: str) -> None:
    assert check_steps(text).slips == ()


def test_chains_are_checked_link_by_link() -> None:
    steps = check_steps("2 * 3 + 1 = 6 + 1 = 8 = 2 * 4")
    assert (steps.checked, [slip.text for slip in steps.slips]) == (2, ["6 + 1 = 8"])


def test_only_the_given_part_is_looked_at() -> None:
    text = "<think>1 + 1 = 3</think> 2 + 2 = 5"
    assert [slip.text for slip in check_steps(text, (text.index("</think>") + 8, len(text))).slips] == ["2 + 2 = 5"]


@given(
    st.lists(st.tuples(st.sampled_from("+-*"), st.integers(1, 500)), min_size=1, max_size=5),
    st.integers(1, 500),
    st.sampled_from([("*", "*"), ("*", r" \times "), ("*", " × "), ("*", r" \cdot ")]),
    st.integers(-50, 50),
)
def test_integer_arithmetic_is_exact(terms, first, times, error) -> None:
    text = str(first) + "".join(f" {operator} {number}" for operator, number in terms)
    value = eval(text)
    written = text.replace(*times)
    steps = check_steps(f"We get {written} = {value + error} here.")
    assert steps.checked == 1
    assert bool(steps.slips) == bool(error)


@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99), st.integers(1, 99), st.integers(-3, 3))
def test_fractions_are_exact(a, b, c, d, error) -> None:
    value = Fraction(a, b) + Fraction(c, d)
    wrong = Fraction(value.numerator + error, value.denominator)
    tex = rf"$\frac{{{a}}}{{{b}}} + \dfrac{{{c}}}{{{d}}} = \frac{{{wrong.numerator}}}{{{wrong.denominator}}}$"
    assert bool(check_steps(tex).slips) == (wrong != value)


@given(st.integers(1, 10_000), st.integers(1, 999), st.integers(0, 6))
def test_rounding_is_no_error(a, b, digits) -> None:
    assert check_steps(f"{a} / {b} = {a / b:.{digits}f}").slips == ()


PIECES = (*"=+-*/^(){}%$,.\n&x", "1", "23", "4.5", "= 7", "\\frac", "\\times", "of", "\\\\")


@given(st.lists(st.sampled_from(PIECES)))
def test_no_text_breaks_it(pieces) -> None:
    text = " ".join(pieces)
    for slip in check_steps(text).slips:
        assert text[slice(*slip.span)] == slip.text


HOSTILE = [
    "1+" * 50_000 + "=1",
    "(" * 100_000 + "=1",
    "1=1+1=" * 20_000,
    "1+1=3\n" * 20_000,
    "1 " * 50_000 + "=",
    "<<" * 50_000 + "=",
    "\\frac{" * 20_000 + "=",
    "\n" * 100_000 + "=",
    "\n \n" * 30_000 + "=1",
    "9" * 100_000 + "=9",
    "2^" * 50_000 + "=1",
    "9^9^9^9+1=1",
    "(((((2^99)^99)^99)^99)^99)=1",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{text[:8]!r} x {len(text)}")
def test_time_is_bounded(text: str) -> None:
    start = time.process_time()
    assert check_steps(text).checked <= MOST_EQUATIONS
    assert time.process_time() - start < 3, "below 1 s on a quiet machine"


@pytest.fixture(scope="module")
def solutions() -> list[str]:
    path = TEST_DATA / "math" / "gsm8k_test.jsonl"
    if not path.exists():
        pytest.skip(f"{path.name} is missing: set RFENVS_TEST_DATA")
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["answer"].split("####")[0] for line in file]


def test_false_alarms_on_right_solutions_are_rare(solutions: list[str]) -> None:
    found = [check_steps(text) for text in solutions]
    checked = sum(steps.checked for steps in found)
    assert checked >= 3300
    assert sum(len(steps.slips) for steps in found) <= 0.003 * checked
    assert sum(bool(steps.slips) for steps in found) <= 0.006 * len(solutions)


def test_most_injected_errors_are_caught(solutions: list[str]) -> None:
    rng = random.Random(0)
    tried = caught = 0
    for text in solutions:
        places = list(ANNOTATED.finditer(text))
        if not places:
            continue
        place = rng.choice(places)
        shown = place.group(1)
        value = Fraction(shown.replace(",", ""))
        wrong = value * 10 if value and rng.random() < 0.3 else value + rng.choice([1, 2, 5, 10])
        digits = len(shown.partition(".")[2])
        broken = f"{text[: place.start(1)]}{float(wrong):.{digits}f}{text[place.end(1) :]}"
        start = place.start(1)
        tried += 1
        caught += any(slip.span[0] <= start < slip.span[1] for slip in check_steps(broken).slips)
    assert tried >= 1250
    assert caught >= 0.70 * tried


def test_a_solution_takes_a_fraction_of_a_millisecond(solutions: list[str]) -> None:
    def once() -> float:
        start = time.process_time()
        for text in solutions:
            check_steps(text)
        return (time.process_time() - start) / len(solutions)

    assert min(once() for _ in range(3)) < 0.001, "0.25 ms on a quiet machine"

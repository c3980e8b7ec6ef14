"""Verdicts on math answers: what is equal, what is not, and what is said about it."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.math_rules import stripped
from rfenvs.graders.math_compare import Outcome, UnreadableGold, check_gold, compare
from rfenvs.graders.math_numbers import relation_of
from rfenvs.graders.math_structure import read
from rfenvs.graders.math_text import read_number, split_unit, squeezed, tidy
from rfenvs.graders.math_units import read_unit
from tests.math_pairs import NEGATIVES, POSITIVES, negatives, positives

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("RFENVS_TEST_DATA", ROOT.parent / "shared" / "data")) / "math"
algebra = pytest.mark.skipif(importlib.util.find_spec("math_verify") is None, reason="needs rfenvs[math]")


def rows(name: str) -> list[dict[str, object]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in RFENVS_TEST_DATA")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def is_equal(gold: str, answer: str) -> bool:
    outcome = compare(gold=gold, answer=answer).outcome
    assert outcome in (Outcome.EQUAL, Outcome.UNEQUAL), (gold, answer, outcome)
    return outcome is Outcome.EQUAL


# --- our own pairs ------------------------------------------------------------------------------------------------


def test_there_are_many_pairs():
    assert len(set(negatives())) >= 140
    assert len(set(positives())) >= 90


@algebra
@pytest.mark.parametrize("name", NEGATIVES)
def test_answers_that_look_alike_and_differ(name: str):
    assert [pair for pair in NEGATIVES[name] if is_equal(*pair)] == []


@algebra
@pytest.mark.parametrize("name", POSITIVES)
def test_answers_written_differently(name: str):
    assert [pair for pair in POSITIVES[name] if not is_equal(*pair)] == []


@algebra
def test_every_answer_of_the_pairs_equals_itself():
    texts = {text for pair in negatives() + positives() for text in pair}
    assert [text for text in sorted(texts) if not is_equal(text, text)] == []
    assert [text for text in sorted(texts) if not is_equal(text, f" ${text}$.")] == []


# --- public data --------------------------------------------------------------------------------------------------

KNOWN = {
    "4 | {35 cm,4}": "takes every box as an element; ours reads the last",
    "10455 | 255": "the answer stands in prose behind the last box",
    r"(\begin{pmatrix}\frac{1}{3}\\ \frac{1}{5} \end{pmatrix}) | \begin{pmatrix}0.33\\0.2 \end{pmatrix}": "two digits",
    r"10/9 | \frac{1}{2} \$ = \frac{10}{9}": "a half is not ten ninths",
    "9 | 9": "about finding a formula that spans lines, not about 9",
    "y_{1}=-2 x^{2}+4 x+3, y_{2}=3 x^{2}+12 x+10 | 3(x + 2)^2 - 2": "two boxes with words between",
    r"x \in [-2,7] | -2 \\le x \\le 7": "the same set; expected unequal for lack of an option",
    "f(x) | f(y)": "expected equal under an option that renames variables",
    r"1 - \frac{1}{\mathrm{e}} | 1 + \frac{1}{\mathrm{e}}": "expected equal, which it is not",
}
"""Where we differ from the label, and why."""


@algebra
def test_conformance_pairs_of_math_verify():
    found, judged = set(), 0
    for row in rows("math_verify_conformance.jsonl"):
        gold, answer = stripped(str(row["gold"])), stripped(str(row["pred"]))
        if gold is None or answer is None:
            continue
        judged += 1
        if (compare(gold=gold, answer=answer).outcome is Outcome.EQUAL) != bool(row["expected"]):
            found.add(f"{gold} | {answer}")
    assert judged >= 150
    assert found == set(KNOWN)


WRONG_IN_THE_PROBE = {
    ("50", r"50\%"), ("15", r"15\%"), (r"10\text{ cm}", r"10\text{ m}"), (r"10\text{ cm}", r"0.1\text{ m}"),
    ("(1,2)", r"\{1,2\}"), (r"30^\circ", r"\frac{\pi}{6}"), ("5", "5."), ("0.1234567", "0.1234569"),
    ("i", r"\sqrt{-1}"), (r"0.\overline{3}", r"\frac13"), ("6", r"\text{six}"), ("1200", "1.2e3"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
}  # fmt: skip
"""Where we mean to differ from math-verify 0.9.0."""


@algebra
def test_semantics_probe_differs_from_math_verify_only_where_meant():
    differing = set()
    for row in rows("semantics_probe.jsonl"):
        if row["math_verify"] is None:
            continue
        gold, answer = str(row["gold"]), str(row["pred"])
        if (compare(gold=gold, answer=answer).outcome is Outcome.EQUAL) != row["math_verify"]:
            differing.add((gold, answer))
    assert differing == WRONG_IN_THE_PROBE


def golds(name: str) -> list[str]:
    key = "answer"
    texts = [str(row[key]) for row in rows(name)]
    return [text.rpartition("####")[2].strip() for text in texts]


@pytest.mark.parametrize("name", ["aime24.jsonl", "amc23.jsonl", "gsm8k_test.jsonl"])
def test_contest_numbers_need_no_algebra(name: str):
    """Decided by text alone: equal to themselves, in other spellings too, and to no other."""
    texts = golds(name)
    shuffled = texts[:]
    random.Random(0).shuffle(shuffled)
    before = set(sys.modules)
    for gold, other in zip(texts, shuffled, strict=True):
        value = read_number(tidy(gold))
        assert value is not None, gold
        assert is_equal(gold, f"\\boxed{{{gold}}}.")
        assert is_equal(gold, f"{int(value.value):,}" if value.value.denominator == 1 else gold)
        same = read_number(tidy(other))
        assert same is not None
        assert is_equal(gold, other) == (value.value == same.value)
    assert not [name for name in set(sys.modules) - before if name.split(".")[0] in ("sympy", "math_verify")]


@algebra
def test_math500_golds_equal_themselves_and_no_other():
    texts = golds("math500.jsonl")
    for gold in sorted(set(texts)):
        check_gold(gold)
        assert is_equal(gold, f"{{{gold}}}"), gold
    shuffled = texts[:]
    random.Random(0).shuffle(shuffled)
    equal = {
        (gold, other)
        for gold, other in zip(texts, shuffled, strict=True)
        if gold != other and compare(gold=gold, answer=other).outcome is Outcome.EQUAL
    }
    assert {pair for pair in equal if not is_equal(pair[0], pair[1].replace("^\\circ", ""))} == set()
    assert len(equal) <= 1  # 120^\circ and 120


@algebra
@pytest.mark.slow
def test_math500_golds_with_one_character_changed_are_wrong():
    """Every digit and every sign in turn, and brackets, roots and names."""
    swaps = [(r"\pi", ""), (r"\sqrt", ""), ("x", "y"), ("[", "("), ("]", ")"), ("<", ">"), (r"\le", "<"), (r"\ge", ">")]
    accepted, tried = set(), 0
    for gold in sorted(set(golds("math500.jsonl"))):
        changed = {gold.replace(old, new, 1) for old, new in swaps if old in gold}
        for index, char in enumerate(gold):
            other = str((int(char) + 1) % 10) if char in "0123456789" else {"+": "-", "-": "+"}.get(char)
            if other is not None:
                changed.add(gold[:index] + other + gold[index + 1 :])
        for answer in changed:
            tried += 1
            if compare(gold=gold, answer=answer).outcome not in (Outcome.UNEQUAL, Outcome.UNPARSABLE):
                accepted.add((gold, answer))
    assert tried > 1000, tried
    assert accepted == {(r"x \in [-2,7]", r"y \in [-2,7]")}


# --- what is said about it ------------------------------------------------------------------------------------------


@algebra
@pytest.mark.parametrize(
    ("gold", "answer", "relation"),
    [
        ("6", "-6", "sign"),
        (r"\frac{3}{4}", r"\frac{4}{3}", "reciprocal"),
        ("41", "42", "off_by_one"),
        ("6", "12", "factor_2"),
        ("6", "0.6", "factor_10"),
        ("6", "600", "factor_100"),
        ("6", r"6\pi", "factor_pi"),
        (r"4\pi", "4", "factor_pi"),
        ("7", "49", "squared"),
        ("17", "40", "too_large"),
        ("17", r"3\sqrt{2}", "too_small"),
        ("50", r"50\%", "percent"),
        (r"10\text{ cm}", r"10\text{ m}", "unit"),
        ("1,2,3", "1,2", "missing_elements"),
        ("1,2", "1,2,3", "extra_elements"),
        ("(1,2)", "(2,1)", "order"),
        ("x-y", "y-x", "sign"),
        ("x^2", "2x^2", "factor_2"),
        ("x+1", "y+1", None),
        ("3+4i", "1+i", None),
    ],
)
def test_relation(gold: str, answer: str, relation: str | None):
    found = compare(gold=gold, answer=answer)
    assert (found.outcome, found.relation) == (Outcome.UNEQUAL, relation)


@algebra
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("5", "number"), ("1.2e3", "number"), (r"3\text{ cm}", "number"), ("x+1", "expression"),
        (r"2\pi", "expression"), ("x=5", "equation"), (r"x \le 5", "equation"), ("[1,2)", "interval"),
        (r"(-\infty,3)", "interval"), (r"\{1,2\}", "set"), ("1, 2", "set"),
        ("(1,2)", "tuple"), (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "matrix"),
        (r"\text{Evelyn}", "text"), ("Saturday", "text"), (r"\text{(C)}", "text"),
    ],
)  # fmt: skip
def test_kinds(text: str, kind: str):
    assert compare(gold=text, answer="7").gold_kind == kind
    assert compare(gold="7", answer=text).answer_kind == kind


@algebra
@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        (r"\frac{1}{2}", r"\dfrac12", True),
        (r"\frac{1}{2}", "1/2", True),
        (r"\frac{1}{2}", "0.5", False),
        (r"\frac{1}{2}", r"\frac{2}{4}", False),
        (r"1\frac12", r"\frac32", False),
        ("27.0", "27", True),
        ("1+x", "x+1", True),
        ("x^2-1", "(x-1)(x+1)", False),
        (r"2\sqrt2", r"\sqrt8", False),
        (r"\pi", "3.14159265", False),
        (r"10\text{ cm}", "10", True),
        (r"\{1,2\}", "2, 1", True),
        ("4", "2^2", False),
    ],
)
def test_same_form(gold: str, answer: str, same: bool):
    found = compare(gold=gold, answer=answer)
    assert (found.outcome, found.same_form) == (Outcome.EQUAL, same)


@algebra
@pytest.mark.parametrize(
    ("answer", "token"),
    [
        ("", ""),
        (" $ $ ", "$ $"),
        (r"\frac{1}{2", "{"),
        ("1}2", "}"),
        (r"3 \foo 4", r"\foo"),
        ("1 + 2 +", "1 + 2 +"),
        ("x + ☃", "☃"),
        ("the answer is 4", "the answer is"),
        ("(" * 40 + "1" + ")" * 40, "(" * 40),
    ],
)
def test_what_cannot_be_read_is_quoted_from_the_answer(answer: str, token: str):
    found = compare(gold="x^2+5", answer=answer)
    assert (found.outcome, found.bad_token) == (Outcome.UNPARSABLE, token)
    assert token in answer


def test_no_relation_or_token_where_there_is_none():
    equal = compare(gold="5", answer="5.0")
    assert (equal.relation, equal.bad_token, equal.same_form) == (None, None, True)
    assert compare(gold="5", answer="6").same_form is None


@pytest.mark.parametrize("gold", ["", "  ", "$$", r"\frac{1}{2", "1}", "1" * 2001, "(" * 31 + "1" + ")" * 31])
def test_golds_that_are_refused(gold: str):
    with pytest.raises(UnreadableGold, match="known_bad"):
        check_gold(gold)


@algebra
def test_a_gold_beyond_the_limits_is_refused_and_one_that_is_no_mathematics_is_text():
    with pytest.raises(UnreadableGold, match="limits"):
        check_gold("9^{9^{9^9}}")
    check_gold(r"x \equiv 2 \pmod{5}")
    assert compare(gold=r"x \equiv 2 \pmod{5}", answer=r"x\equiv 2\pmod{5}").outcome is Outcome.EQUAL
    assert compare(gold=r"x \equiv 2 \pmod{5}", answer=r"x \equiv 3 \pmod{5}").outcome is not Outcome.EQUAL


@algebra
def test_signs_of_letters_matter_whatever_the_letter():
    """The points to compare at are drawn by name: every name is negative at one."""
    letters = list("abcdfghjklmnopqrstuvwxyzABCXYZ")
    assert [letter for letter in letters if is_equal(rf"\sqrt{{{letter}^2}}", letter)] == []
    assert [letter for letter in letters if not is_equal(rf"\sqrt{{{letter}^2}}", f"|{letter}|")] == []


def test_arguments_cannot_be_swapped_unnoticed():
    with pytest.raises(TypeError):
        compare("5", "6")  # type: ignore[misc]


def test_numbers_and_words_work_without_the_extra():
    """In an interpreter where sympy cannot be imported; what needs it says how to get it."""
    code = (
        "import importlib.util, sys\n"
        "hidden = ('sympy', 'math_verify', 'mpmath')\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name in hidden else found(name, *more)\n"
        "for name in hidden: sys.modules[name] = None\n"
        "from rfenvs.graders.math_compare import compare\n"
        "assert compare(gold='1/2', answer='0.5').outcome == 'equal'\n"
        "assert compare(gold='(1,2)', answer='(1,3)').outcome == 'unequal'\n"
        "assert compare(gold='x+1', answer='$x+1$').outcome == 'equal'\n"
        "try: compare(gold='x+1', answer='1+x')\n"
        "except ImportError as error: assert 'rfenvs[math]' in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


# --- properties -----------------------------------------------------------------------------------------------------

fractions = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=10**4)
pieces = st.lists(
    st.sampled_from(
        [*"0123456789xyabi+-*/^_=<>()[]{}|,.;:!%$ \\'", r"\frac{1}{2}", r"\sqrt", r"\pi", r"\{", r"\}", r"\pm",
         r"\cup", r"\infty", r"\text{cm}", r"\text{and}", "and", r"\begin{pmatrix}", r"\end{pmatrix}", "&",
         r"\\", r"^\circ", "²"]
    ),
    max_size=14,
)  # fmt: skip


def spellings(value: Fraction) -> list[str]:
    a, b = value.numerator, value.denominator
    return [f"{a}/{b}", f"\\frac{{{a}}}{{{b}}}", f"\\dfrac{{{2 * a}}}{{{2 * b}}}", f"$ {a} / {b} $"]


@given(fractions, st.integers(0, 3), st.integers(0, 3))
def test_a_fraction_equals_itself_in_every_spelling(value: Fraction, one: int, other: int):
    assert is_equal(spellings(value)[one], spellings(value)[other])


@given(fractions, fractions)
def test_numbers_are_equal_only_if_they_are_and_both_ways(one: Fraction, other: Fraction):
    left, right = spellings(one)[0], spellings(other)[1]
    assert is_equal(left, right) == is_equal(right, left) == (one == other)


@given(st.integers(-(10**15), 10**15))
def test_thousands(value: int):
    assert is_equal(str(value), f"{value:,}")
    assert is_equal(f"{value:,}", f"{value:,}".replace(",", "{,}"))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=7), st.integers(1, 9))
def test_decimals_are_exact(value: object, step: int):
    text = f"{value:f}"
    assert is_equal(text, text)
    assert not is_equal(text, f"{text}{step}")


@given(pieces.map("".join))
@settings(max_examples=200, deadline=None)
def test_reading_never_raises_and_is_stable(text: str):
    squeezed(tidy(text))
    split_unit(tidy(text))
    read_unit(text)
    assert read(text) == read(text)


@algebra
@given(pieces.map("".join))
@settings(max_examples=150, deadline=None)
def test_comparing_never_raises_and_knows_an_answer_from_itself(text: str):
    same = compare(gold=text, answer=text).outcome
    assert same in (Outcome.EQUAL, Outcome.UNPARSABLE)
    assert same is Outcome.EQUAL or not tidy(text).strip() or not read(text).text
    other = compare(gold="x^2+1", answer=text)
    assert other.outcome in (Outcome.UNEQUAL, Outcome.UNPARSABLE, Outcome.EQUAL)
    assert other.bad_token is None or other.bad_token in text


@given(fractions, fractions)
def test_relations_hold(gold: Fraction, answer: Fraction):
    relation = relation_of(gold, answer) if gold != answer else "equal"
    holds = {
        "equal": gold == answer,
        "sign": answer == -gold,
        "reciprocal": gold * answer == 1,
        "off_by_one": abs(gold - answer) == 1,
        "factor_2": gold in (2 * answer, answer / 2),
        "factor_10": gold in (10 * answer, answer / 10),
        "factor_100": gold in (100 * answer, answer / 100),
        "squared": answer == gold**2 or answer**2 == gold,
        "too_large": answer > gold,
        "too_small": answer < gold,
    }
    assert holds[relation]


# --- documentation --------------------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "environments" / "math-verdicts.md"


@algebra
def test_the_page_says_what_is_so():
    page = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (equal|unequal) \| [^|]*\|$", page.partition("## Against")[0], re.M)
    assert len(found) >= 35
    assert [row for row in found if compare(gold=row[0], answer=row[1]).outcome != row[2]] == []


@algebra
def test_the_code_on_the_page_prints_what_its_comments_say(capsys: pytest.CaptureFixture[str]):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    exec(compile(code, PAGE.name, "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"  # (.*)$", code, re.M)


@pytest.mark.parametrize("name", ["compare", "match", "numbers", "structure", "text", "tokens", "units"])
def test_examples_in_docstrings(name: str):
    module = importlib.import_module(f"rfenvs.graders.math_{name}")
    assert doctest.testmod(module).failed == 0

"""Verdicts of reasoning-gym's verifiers, made safe and honest.

What is wrong with them as they are (reasoning-gym 0.1.25), and what is done about it here:

- nine of them run the answer as Python, by `eval` or `sympy.parse_expr`: here only plain literals and plain arithmetic
  get that far, countdown and 24 are computed by our own evaluator, and algebra is verified in a process that is killed
  when it takes too long;
- many pay 0.01 to 0.25 for any text at all: what junk earns on the same task is the zero here;
- many pay `len(right) / len(answer)` for any text that holds the right answer, so that "-1" earns half of "1", and a
  list of all answers something: that is nothing here;
- `coin_flip` takes "0" for any probability, since its digits begin so, and `number_sorting` takes numbers that are
  wrong by up to 1: both are compared here;
- `complex_arithmetic` takes "nan" for any number, and `coin_flip` hangs on "1e999999999": neither gets that far;
- some raise on text that they do not expect: that is an unreadable answer, if the task's own answer is fine;
- `game_of_life_halting` takes any text for True: here the answer must be one of the two words.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from rfenvs.graders.processes import NotStarted

Outcome = Literal["scored", "unreadable", "timeout"]
Entry = Mapping[str, Any]
Verify = Callable[[str | None, Entry], float]
"""A verifier of reasoning-gym: (answer, entry) to a score in [0, 1]."""

LONGEST = 100_000
"""Answers with more code points are unreadable."""
EVALUATED = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""Tasks whose verifier calls `eval` on an answer that is not the expected text."""
ARITHMETIC = frozenset({"countdown", "puzzle24"})
"""Tasks whose verifier evaluates an expression in numbers."""
ALGEBRA = frozenset({"intermediate_integration", "polynomial_multiplication", "simple_integration"})
"""Tasks whose verifier gives the answer to `sympy.parse_expr`, which evaluates Python."""
WORDS = {"game_of_life_halting": ("True", "False")}
"""Tasks whose answer is one of a few words."""

_JUNK = ("zzz", "[]", "0")
_TRIGONOMETRY = ("sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh")
_FUNCTIONS = frozenset((*_TRIGONOMETRY, "exp", "log", "ln", "sqrt", "Abs", "pi", "E"))
_LONGEST_FORMULA = 1000
_FORMULA = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|([A-Za-z]\w*)|(\*\*|[-+*/(),^]))")
_LARGEST_EXPONENT = 100
_HUGE = re.compile(r"\d\.?e[-+]?[\d_]{4,}")
_NO_NUMBERS = ("nan", "inf")


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth."""

    value: float
    """In [0, 1]; 0 for everything that junk would earn too."""
    outcome: Outcome = "scored"


def gold_of(entry: Entry) -> str | None:
    """A right answer: the entry's own, or one that its metadata hold; None where there is none.

    >>> gold_of({"answer": None, "metadata": {"example_answer": "P"}})
    'P'
    """
    if entry["answer"] is not None:
        return str(entry["answer"])
    metadata = entry["metadata"]
    if "possible_answer" in metadata:
        return json.dumps({str(key): value for key, value in metadata["possible_answer"].items()})
    gold: str | None = metadata.get("example_answer") or metadata.get("example_correct_answer")
    return gold


def score(task: str, verify: Verify, answer: str, entry: Entry) -> Score:
    """Score an answer.

    Args:
        task: Name of the task in reasoning-gym.
        verify: Its verifier; for `ALGEBRA` one that bounds time and raises `TimeoutError`.
        answer: What stands inside the answer tags.
        entry: The item: `question`, `answer`, `metadata`.

    Raises:
        ValueError: The verifier fails on the item's own answer too: nothing can be said about this one.
        NotStarted: The verifier's process did not start.
    """
    gold = gold_of(entry)
    if len(answer) > LONGEST or _absurd(answer, gold or ""):
        return Score(0.0, "unreadable")
    if task in WORDS:
        return _word(WORDS[task], answer, str(entry["answer"]))
    if task in _COMPARED and gold is not None:
        return _compared(_COMPARED[task], answer, gold)
    if task in ARITHMETIC:
        return _arithmetic(answer, entry["metadata"])
    safe = answer
    if task in EVALUATED and answer not in (entry["answer"], *entry["metadata"].get("valid_answers", ())):
        literal = _literal(answer)
        if literal is None:
            return Score(0.0)
        safe = literal
    if task in ALGEBRA and not _plain_algebra(answer, entry):
        return Score(0.0, "unreadable")
    try:
        value = float(verify(safe, entry))
    except TimeoutError:
        return Score(0.0, "timeout")
    except NotStarted:
        raise
    except Exception as error:  # a verifier of another package, on text that it did not expect
        _make_sure_of(verify, entry, error)
        return Score(0.0, "unreadable")
    value = min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
    if value < 1.0 and (_pays_for_holding(value, answer, gold) or value <= _junk_score(verify, entry)):
        return Score(0.0)
    return Score(value)


def _absurd(answer: str, gold: str) -> bool:
    """Whether an answer is blank, or is made of numbers that are none or too large to write out."""
    text, right = answer.casefold(), gold.casefold()
    if not text.strip():
        return bool(right.strip())
    if any(number not in right for number in _HUGE.findall(text)):
        return True
    return any(c.isdigit() for c in right) and any(word in text and word not in right for word in _NO_NUMBERS)


def _pays_for_holding(value: float, answer: str, gold: str | None) -> bool:
    """Whether a part of the score is nothing but the share that the right answer has in a longer text."""
    return gold is not None and gold in answer and math.isclose(value, len(gold) / len(answer))


def _make_sure_of(verify: Verify, entry: Entry, error: Exception) -> None:
    gold = gold_of(entry)
    if gold is None:
        return
    try:
        verify(gold, entry)
    except Exception:
        raise ValueError("the verifier fails on the task's own answer") from error


def _junk_score(verify: Verify, entry: Entry) -> float:
    """What the verifier pays for text that cannot be an answer; below 1."""
    best = 0.0
    for junk in _JUNK:
        try:
            paid = float(verify(junk, entry))
        except Exception:  # as above
            continue
        best = max(best, paid if paid < 1.0 else 0.0)
    return best


def _word(words: tuple[str, ...], answer: str, gold: str) -> Score:
    said = answer.strip().rstrip(".").casefold()
    if said not in {word.casefold() for word in words}:
        return Score(0.0, "unreadable")
    return Score(float(said == gold.casefold()))


def _compared(same: Callable[[str, str], bool], answer: str, gold: str) -> Score:
    try:
        return Score(float(same(answer, gold)))
    except (ValueError, SyntaxError, TypeError, ArithmeticError, MemoryError, RecursionError):
        return Score(0.0, "unreadable")


def _same_probability(answer: str, gold: str) -> bool:
    """Equal to four decimal places, and to one per cent, since small probabilities are near 0."""
    said, right = float(Fraction(answer.replace(",", ""))), float(Fraction(gold))
    return math.isclose(said, right, abs_tol=1e-4, rel_tol=0.0) and math.isclose(said, right, rel_tol=0.01)


def _same_numbers(answer: str, gold: str) -> bool:
    """Lists of numbers, or of texts that are numbers, that are equal one by one."""
    said, right = ([float(number) for number in ast.literal_eval(text.strip())] for text in (answer, gold))
    return said == right


_COMPARED = {"coin_flip": _same_probability, "number_sorting": _same_numbers}


def _literal(answer: str) -> str | None:
    """The answer as the text of a Python literal, which is safe to evaluate; None where it is none."""
    try:
        return repr(ast.literal_eval(answer.strip()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _plain_algebra(answer: str, entry: Entry) -> bool:
    """Whether an answer is made of numbers, known functions, the task's variables and + - * / ** ( ) alone."""
    if len(answer) > _LONGEST_FORMULA:
        return False
    known = _FUNCTIONS | {"C"} | set(re.findall(r"[A-Za-z]\w*", str(entry["answer"]) + _formula_of(entry)))
    position, after_power, powers = 0, False, 0
    text = answer.rstrip()
    while position < len(text):
        found = _FORMULA.match(text, position)
        if found is None:
            return False
        number, name, sign = found.groups()
        if name is not None and (name not in known or "_" in name):
            return False
        if after_power and number is not None and float(number) > _LARGEST_EXPONENT:
            return False
        if number is not None and len(number) > 30:
            return False
        powers += sign in ("**", "^")
        after_power = sign in ("**", "^") or (after_power and sign in ("-", "+", "("))
        position = found.end()
    return bool(text) and powers <= 60 and not re.search(r"(\*\*|\^)\s*[-+(]*[\w.]+\)*\s*(\*\*|\^)", text)


def _formula_of(entry: Entry) -> str:
    metadata = entry["metadata"]
    return " ".join(str(metadata.get(key, "")) for key in ("integrand", "variable", "variables", "polynomial_expr"))


# Countdown and 24, computed here.


@dataclass(frozen=True, slots=True)
class Sum:
    """An arithmetic expression, evaluated."""

    value: Fraction | None
    """None after a division by zero."""
    numbers: tuple[int, ...]
    """The numbers in it, in order."""


def evaluate(expression: str) -> Sum | None:
    """Evaluate + - * / and brackets over whole numbers, exactly; None where the text is something else.

    >>> evaluate("(8 - 5) / 2")
    Sum(value=Fraction(3, 2), numbers=(8, 5, 2))
    >>> evaluate("__import__('os')") is None
    True
    """
    if len(expression) > _LONGEST_FORMULA or not re.fullmatch(r"[\d\s()+*/\-×÷−]*", expression):
        return None
    text = expression.translate({0xD7: "*", 0xF7: "/", 0x2212: "-"})
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    numbers: list[int] = []
    try:
        return Sum(_value(tree, numbers), tuple(numbers))
    except ZeroDivisionError:
        return Sum(None, tuple(numbers))
    except (_NotArithmetic, RecursionError):
        return None


class _NotArithmetic(Exception):
    pass


def _value(node: ast.expr, numbers: list[int]) -> Fraction:
    match node:
        case ast.Constant(value=int() as number):
            if number.bit_length() > 64:
                raise _NotArithmetic
            numbers.append(number)
            return Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, numbers)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _value(left, numbers), _value(right, numbers)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
    raise _NotArithmetic


def _arithmetic(answer: str, metadata: Mapping[str, Any]) -> Score:
    result = evaluate(answer)
    if result is None:
        return Score(0.0, "unreadable")
    right = sorted(result.numbers) == sorted(metadata["numbers"])
    return Score(float(right and result.value == metadata.get("target", 24)))

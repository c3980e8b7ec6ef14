"""Whether an answer is the gold answer, as mathematics: text first, then a cache, then a worker with computer algebra.

`gold` and `answer` are what stands inside `\\boxed{...}`. Numbers, words and lists of them are decided here, without
sympy; the rest by `math_worker`, in a process that can be killed. Needs `pip install "rfenvs[math]"` for that rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rfenvs.graders.math_numbers import relation_of, same_number
from rfenvs.graders.math_text import read_number, squeezed, tidy

TIMEOUT_S = 5.0
"""Longest time that one comparison may take in the worker, in seconds."""


class Outcome(StrEnum):
    """What a comparison found. The last two say nothing about the answer: they are not "wrong"."""

    EQUAL = "equal"
    UNEQUAL = "unequal"
    UNPARSABLE = "unparsable"
    """The answer cannot be read as mathematics."""
    TIMEOUT = "timeout"
    """The comparison took longer than allowed, and its worker was killed."""
    CRASHED = "crashed"
    """The worker died, for want of memory for example."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on one answer, and what can be said about it without giving the gold away."""

    outcome: Outcome
    gold_kind: str = ""
    """number, expression, equation, interval, set, tuple, matrix, text, or "" where unknown."""
    answer_kind: str = ""
    relation: str | None = None
    """How an unequal answer relates to the gold, where that is known: sign, reciprocal, off_by_one, factor_2, factor_10,
    factor_100, factor_pi, squared, percent, unit, unit_missing, too_large, too_small, missing_elements,
    extra_elements, order."""
    same_form: bool | None = None
    """For an equal answer, False where it is written differently: a decimal for a fraction, a fraction unreduced."""
    bad_token: str | None = None
    """The first piece that cannot be read, quoted from the answer."""


class UnreadableGold(ValueError):
    """A gold answer that no answer could be compared with."""


def compare(*, gold: str, answer: str, timeout_s: float = TIMEOUT_S) -> Comparison:
    """Compare an answer with the gold answer; never raises for any text.

    Args:
        gold: The reference, as it stands in its box.
        answer: The model's, as it stands in its box.
        timeout_s: Longest time in the worker, in seconds; starting a worker does not count.
    """
    one, other = tidy(gold), tidy(answer)
    want, have = read_number(one), read_number(other)
    if not other:
        return Comparison(Outcome.UNPARSABLE, bad_token="")
    if want is not None and have is not None:
        if same_number(want, have):
            return Comparison(Outcome.EQUAL, "number", "number", same_form=want.form == have.form)
        return Comparison(Outcome.UNEQUAL, "number", "number", relation=relation_of(want.value, have.value))
    same = squeezed(one) == squeezed(other)
    return Comparison(Outcome.EQUAL if same else Outcome.UNEQUAL, same_form=True if same else None)


def check_gold(gold: str) -> None:
    """Refuse a gold answer that cannot be read.

    Raises:
        UnreadableGold: Empty, too long, or beyond what the worker may compute.
    """
    if not tidy(gold):
        raise UnreadableGold("The gold answer is empty.")

"""Whether an answer is the gold answer, as mathematics: text first, then a cache, then a worker with computer algebra.

`gold` and `answer` are what stands inside `\\boxed{...}`. Numbers, words and lists of them are decided here, without
sympy; the rest by `math_worker`, in a process that can be killed, which needs `pip install "rfenvs[math]"`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from rfenvs.graders.math_match import Found, Leaf, match
from rfenvs.graders.math_structure import LONGEST, Node, read
from rfenvs.graders.math_text import tidy
from rfenvs.graders.math_tokens import first_bad_token, nesting, unbalanced

TIMEOUT_S = 5.0
"""Longest time that one comparison may take in the worker, in seconds."""
DEEPEST = 30
"""Brackets within brackets that are read."""
_CACHED = 20_000
_QUOTED = 40


class Outcome(StrEnum):
    """What a comparison found. The last two say nothing about the answer: they are not "wrong"."""

    EQUAL = "equal"
    UNEQUAL = "unequal"
    UNPARSABLE = "unparsable"
    """The answer cannot be read as mathematics."""
    TIMEOUT = "timeout"
    """The comparison took longer than allowed, or would compute with more digits than allowed."""
    CRASHED = "crashed"
    """The worker died, for want of memory for example."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on one answer, and what can be said about it without giving the gold away."""

    outcome: Outcome
    gold_kind: str = ""
    """number, expression, equation, interval, set, tuple, matrix, text, or "" where unknown. A list without brackets
    is a set."""
    answer_kind: str = ""
    relation: str | None = None
    """How an unequal answer relates to the gold, where that is known: sign, reciprocal, off_by_one, factor_2,
    factor_10, factor_100, factor_pi, squared, percent (right but for a percent sign), unit (right but for the unit),
    too_large, too_small, missing_elements, extra_elements, order."""
    same_form: bool | None = None
    """For an equal answer, False where it is written differently: a decimal for a fraction, a fraction unreduced."""
    bad_token: str | None = None
    """The first piece that cannot be read, quoted from the answer; only where it is UNPARSABLE."""


class UnreadableGold(ValueError):
    """A gold answer that no answer could be compared with."""


class Unreadable(Exception):
    """A part of an answer that is not mathematics; raised by a `Leaf`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class TooCostly(Exception):
    """A comparison that would compute with too many digits; raised by a `Leaf`."""


class NeedsAlgebra(Exception):
    """Text alone does not decide."""


def compare(*, gold: str, answer: str, timeout_s: float = TIMEOUT_S) -> Comparison:
    """Compare an answer with the gold answer.

    Args:
        gold: The reference, as it stands in its box.
        answer: The model's, as it stands in its box.
        timeout_s: Longest time in the worker, in seconds; starting a worker and waiting for a free one do not count.

    Returns:
        The verdict, for any text whatever. The same pair is compared once; a timeout or crash is not remembered.

    Raises:
        ImportError: The pair needs computer algebra, and math-verify is not installed.

    >>> compare(gold="\\\\frac{1}{2}", answer="0.5").outcome, compare(gold="50", answer="50\\\\%").relation
    (<Outcome.EQUAL: 'equal'>, 'percent')
    """
    if len(answer) > LONGEST or len(gold) > LONGEST:
        return Comparison(Outcome.UNPARSABLE, bad_token=answer[:LONGEST].strip()[:_QUOTED])
    try:
        return _by_text(gold, answer)
    except NeedsAlgebra:
        pass
    try:
        return _by_algebra(gold, answer, timeout_s)
    except _Undecided as undecided:
        return undecided.comparison


def check_gold(gold: str) -> None:
    """Refuse a gold answer that no answer could be compared with; for use where tasks are loaded.

    What is merely not mathematics (a sentence, an unknown command) is accepted, and compared as text.

    Raises:
        UnreadableGold: Empty, longer than 2,000 characters, a brace without its other half, or beyond what is computed.
        ImportError: As `compare`.
    """
    reason = _fault(gold)
    if reason is None:
        outcome = compare(gold=gold, answer=f"{{{gold}}}+0").outcome
        if outcome in (Outcome.TIMEOUT, Outcome.CRASHED):
            reason = "cannot be computed within the limits"
    if reason is not None:
        raise UnreadableGold(
            f"The gold answer {gold[:_QUOTED]!r} {reason}; leave this task out or flag it as known_bad."
        )


def _fault(gold: str) -> str | None:
    if not tidy(gold).strip("$ "):
        return "is empty"
    if len(gold) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if unbalanced(gold):
        return "has a brace without its other half"
    if nesting(gold) > DEEPEST:
        return f"has brackets nested deeper than {DEEPEST}"
    return None


@lru_cache(maxsize=_CACHED)
def _by_text(gold: str, answer: str) -> Comparison:
    return decide(gold, answer, _no_leaf)


def _no_leaf(gold: Node, answer: Node) -> Found:
    raise NeedsAlgebra


class _Undecided(Exception):
    """Carries what is not to be remembered past the cache."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison.outcome)
        self.comparison = comparison


@lru_cache(maxsize=_CACHED)
def _by_algebra(gold: str, answer: str, timeout_s: float) -> Comparison:
    from rfenvs.graders import math_worker

    comparison = math_worker.shared().compare(gold, answer, timeout_s)
    if comparison.outcome in (Outcome.TIMEOUT, Outcome.CRASHED):
        raise _Undecided(replace(comparison, gold_kind=read(gold).name, answer_kind=read(answer).name))
    return comparison


def decide(gold: str, answer: str, leaf: Leaf) -> Comparison:
    """Compare two texts, asking `leaf` where text does not decide. Pure; this runs here and in the worker."""
    want = read(gold)
    if gold != answer and (unbalanced(answer) or nesting(answer) > DEEPEST):
        return Comparison(Outcome.UNPARSABLE, want.name, bad_token=first_bad_token(answer))
    have = read(answer, letters=any(node.unit is not None and node.unit.known for node in _nodes(want)))
    if not have.text and not have.parts:
        return Comparison(Outcome.UNPARSABLE, want.name, bad_token=answer.strip()[:_QUOTED])
    kinds = want.name, have.name
    try:
        found = match(want, have, leaf)
    except Unreadable as unreadable:
        if any(node.text == unreadable.text for node in _nodes(have)):
            return Comparison(Outcome.UNPARSABLE, *kinds, bad_token=first_bad_token(answer, unreadable.text))
        return Comparison(Outcome.UNEQUAL, *kinds)
    except TooCostly:
        return Comparison(Outcome.TIMEOUT, *kinds)
    if found.equal:
        return Comparison(Outcome.EQUAL, *kinds, same_form=found.same_form)
    return Comparison(Outcome.UNEQUAL, *kinds, relation=found.relation)


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for part in node.parts:
        yield from _nodes(part)

"""Is this the same equation, balanced? What an attempt at balancing gets wrong, from the attempt alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from rfenvs.feedback import Item, Severity, clip, item
from rfenvs.graders.chemistry import (
    LONGEST_EQUATION,
    ChemistryError,
    Equation,
    Formula,
    Term,
    arrows,
    parse_equation,
    surplus,
    totals,
)
from rfenvs.graders.thinking import visible_span

_OPEN, _CLOSE = "<answer>", "</answer>"
_BOX = "\\boxed{"
_MOST_LINES = 200
_MOST_ITEMS = 6
_LONGEST_QUOTE = 60
_SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Reaction:
    """The species to balance, as the task writes them."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    left_formulas: tuple[Formula, ...]
    right_formulas: tuple[Formula, ...]


@dataclass(slots=True)
class Outcome:
    """What came of grading one reply."""

    items: list[Item] = field(default_factory=list)
    """What is wrong; alone of severity `info` where the equation is right."""
    readable: bool = False
    same_species: bool = False
    balanced: float = 0.0
    """Share of the elements, and of the charge where there is any, that balance."""
    lowest: bool = False
    """Whether the coefficients have no common divisor."""

    @property
    def right(self) -> bool:
        """Whether the equation is balanced, with whole positive coefficients and the task's species."""
        return self.readable and all(entry["severity"] == "info" for entry in self.items)


def grade(reply: str, reaction: Reaction, *, lowest_terms: bool = False, cut_off: bool = False) -> Outcome:
    """Judge a reply.

    What counts is the last `<answer>...</answer>` after the thoughts; without one the last `\\boxed{}`; without that
    the last line that is an equation between the task's species, or else the last line with an arrow.

    Args:
        reply: The whole reply.
        reaction: The species and their sides.
        lowest_terms: Refuse coefficients with a common divisor, rather than remark on them.
        cut_off: Whether the sampler ran out of tokens.
    """
    start, end, missing = _find(reply, reaction)
    if missing:
        text = {
            "truncated": "The reply ends before its answer is complete.",
            "no_equation": "There is no equation: put it between <answer> and </answer>, as in A + B = C.",
        }[missing]
        said = [] if cut_off else [item("format_error", text, span=(start, end), data={"code": missing})]
        return Outcome(said)
    try:
        equation = parse_equation(reply[start:end])
    except ChemistryError as error:
        return Outcome([_unreadable(reply, start, error)])
    return _compare(equation, reaction, start, lowest_terms)


def _find(reply: str, reaction: Reaction) -> tuple[int, int, str]:
    """Where the equation stands, or what is missing."""
    begin, end = visible_span(reply)
    if end < len(reply):
        return len(reply), len(reply), "truncated"
    lower = reply.lower()
    opened = lower.rfind(_OPEN, begin) if len(lower) == len(reply) else reply.rfind(_OPEN, begin)
    if opened >= 0:
        start = opened + len(_OPEN)
        close = lower.find(_CLOSE, start) if len(lower) == len(reply) else reply.find(_CLOSE, start)
        start, end = _stripped(reply, start, close if close >= 0 else len(reply))
        start = _after_colon(reply, start, end)
        return (start, end, "") if start < end else (start, end, "no_equation" if close >= 0 else "truncated")
    box = reply.rfind(_BOX, begin)
    if box >= 0 and (close := _closing_brace(reply, box + len(_BOX))) >= 0:
        start, end = _stripped(reply, box + len(_BOX), close)
        if start < end:
            return start, end, ""
    last = readable = None
    for start, end in _equation_lines(reply, begin):
        last = last or (start, end)
        try:
            equation = parse_equation(reply[start:end])
        except ChemistryError:
            continue
        if not _species_items(_matched(equation, reaction), reaction, 0):
            return start, end, ""
        readable = readable or (start, end)
    chosen = readable or last
    return (*chosen, "") if chosen else (len(reply), len(reply), "no_equation")


def _equation_lines(reply: str, begin: int) -> Iterator[tuple[int, int]]:
    """Lines with an arrow, the last first, without what a colon introduces them by."""
    end = len(reply)
    for _ in range(_MOST_LINES):
        start = reply.rfind("\n", begin, end) + 1 or begin
        line = reply[start:end]
        if len(line) <= LONGEST_EQUATION and arrows(line):
            yield _stripped(reply, _after_colon(reply, start, end), end)
        if start <= begin or end <= begin:
            return
        end = reply.rfind("\n", begin, end)
        if end < 0:
            return


def _after_colon(reply: str, start: int, end: int) -> int:
    """Where an equation starts that words introduce: behind their colon."""
    if end - start > LONGEST_EQUATION:
        return start
    colon = reply.rfind(": ", start, end)
    if colon < 0 or not arrows(reply[colon:end]) or arrows(reply[start:colon]):
        return start
    return colon + 2


def _stripped(reply: str, start: int, end: int) -> tuple[int, int]:
    while start < end and reply[start] in " \t\r\n`*_\"'":
        start += 1
    while end > start and reply[end - 1] in " \t\r\n`*_\"'.":
        end -= 1
    return start, end


def _closing_brace(reply: str, start: int) -> int:
    depth = 1
    for at in range(start, min(len(reply), start + LONGEST_EQUATION)):
        depth += {"{": 1, "}": -1}.get(reply[at], 0)
        if not depth:
            return at
    return -1


def _unreadable(reply: str, start: int, error: ChemistryError) -> Item:
    span = (start + error.start, start + error.end)
    piece = clip(reply[span[0] : span[1]].strip(), _LONGEST_QUOTE)
    quoted = f'"{piece}" cannot be read: ' if error.code == "unreadable" and piece else "The equation cannot be read: "
    return item("format_error", f"{quoted}{error}.", span=span, data={"code": error.code})


_Side = list[tuple[Term, Formula]]


def _matched(equation: Equation, reaction: Reaction) -> tuple[_Side, _Side]:
    """Each term with the reading that fits the task best: a species of its side, of the other, or the likeliest."""
    own = (reaction.left_formulas, reaction.right_formulas)
    sides: list[_Side] = []
    for number, terms in enumerate((equation.left, equation.right)):
        known = (*own[number], *own[1 - number])
        sides.append(
            [(term, min(term.readings, key=lambda f: known.index(f) if f in known else len(known))) for term in terms]
        )
    return sides[0], sides[1]


def _species_items(sides: tuple[_Side, _Side], reaction: Reaction, offset: int) -> list[Item]:
    """What differs between the species of the attempt and the task's."""
    wanted = ((reaction.left, reaction.left_formulas), (reaction.right, reaction.right_formulas))
    given = [{formula for _, formula in side} for side in sides]
    asked = [set(formulas) for _, formulas in wanted]
    if given[0] == asked[1] and given[1] == asked[0] and given[0] != given[1]:
        text = "The two sides are swapped: keep the reactants on the left."
        return [item("wrong_answer", text, leak_level=0, data={"code": "sides_swapped"})]
    items = []
    for number, side in enumerate(sides):
        for term, formula in side:
            if formula in asked[number]:
                continue
            span = (offset + term.start, offset + term.end)
            name = clip(term.text, _LONGEST_QUOTE)
            if formula in asked[1 - number]:
                text = f"{name} stands on the {_SIDES[number]}; in the task it is on the {_SIDES[1 - number]}."
                code = "side_changed"
            else:
                text, code = f"{name} is not a species of the task.", "species_added"
            items.append(item("wrong_answer", text, span=span, leak_level=0, data={"code": code, "species": name}))
    for number, (names, formulas) in enumerate(wanted):
        for name, formula in zip(names, formulas, strict=True):
            other = 1 - number
            if formula not in given[number] and (formula not in given[other] or formula in asked[other]):
                text = f"{name} is missing on the {_SIDES[number]}."
                data = {"code": "species_missing", "species": name}
                items.append(item("wrong_answer", text, leak_level=0, data=data))
    return items[:_MOST_ITEMS]


def _compare(equation: Equation, reaction: Reaction, offset: int, lowest_terms: bool) -> Outcome:
    sides = _matched(equation, reaction)
    outcome = Outcome(readable=True, items=_species_items(sides, reaction, offset))
    outcome.same_species = not outcome.items
    for term, _ in (*sides[0], *sides[1]):
        if (problem := _coefficient_item(term, offset)) and len(outcome.items) < _MOST_ITEMS:
            outcome.items.append(problem)
    sums = [totals((term.coefficient, formula) for term, formula in side) for side in sides]
    off = surplus(sums[0][0], sums[1][0])
    charged = any(formula.charge for side in sides for _, formula in side)
    counted = len({*sums[0][0], *sums[1][0]}) + charged
    wrong = len(off) + (sums[0][1] != sums[1][1])
    outcome.balanced = 1 - wrong / counted if counted and outcome.same_species else 0.0
    if not outcome.same_species:
        return outcome
    data: dict[str, Any]
    for symbol, numbers in list(off.items())[:_MOST_ITEMS]:
        left, right = map(str, numbers)
        text = f"{symbol}: {left} on the left, {right} on the right."
        data = {"code": "unbalanced", "element": symbol, "left": left, "right": right}
        outcome.items.append(item("wrong_answer", text, leak_level=0, data=data))
    if sums[0][1] != sums[1][1]:
        left, right = (f"{'+' if value > 0 else ''}{value}" for value in (sums[0][1], sums[1][1]))
        text = f"Charge: {left} on the left, {right} on the right."
        data = {"code": "charge", "left": left, "right": right}
        outcome.items.append(item("wrong_answer", text, leak_level=0, data=data))
    divisor = _divisor(sides)
    outcome.lowest = divisor == 1
    if not outcome.items and divisor > 1:
        text = f"All coefficients can be divided by {divisor}."
        data = {"code": "not_lowest_terms", "divisor": divisor}
        severity: Severity = "error" if lowest_terms else "info"
        outcome.items.append(item("wrong_answer", text, severity=severity, leak_level=0, data=data))
    return outcome


def _coefficient_item(term: Term, offset: int) -> Item | None:
    span = (offset + term.start, offset + term.end)
    name = clip(term.text, _LONGEST_QUOTE)
    if term.coefficient <= 0:
        text = f"The coefficient of {name} is 0: every species takes part."
        return item("wrong_answer", text, span=span, leak_level=0, data={"code": "zero_coefficient", "species": name})
    if term.coefficient.denominator > 1:
        text = f"The coefficient {term.coefficient} of {name} is no whole number."
        return item("wrong_answer", text, span=span, leak_level=0, data={"code": "fraction", "species": name})
    return None


def _divisor(sides: Sequence[_Side]) -> int:
    """Common divisor of the coefficients, those of a species that is written twice added up."""
    sums: dict[tuple[int, Formula], Fraction] = {}
    for number, side in enumerate(sides):
        for term, formula in side:
            sums[number, formula] = sums.get((number, formula), Fraction(0)) + term.coefficient
    values = list(sums.values())
    return math.gcd(*map(int, values)) if values and all(value.denominator == 1 for value in values) else 1

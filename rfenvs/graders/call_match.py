"""Hold calls against the expected ones: which belongs to which, and in what arguments they differ.

What an argument may be is an `Accepts`: values, and how to compare with them. Calls are paired with expected calls
so that as many as possible are right, and among the rest the fewest arguments differ: a minimum-cost assignment,
since taking the first that fits can use up the only match of another call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from rfenvs.graders.call_reader import Call
from rfenvs.graders.json_values import canonical, same

Compare = Callable[[Any, Any], bool]
"""Whether a given value counts as the expected one: `compare(got, want)`."""
Order = Literal["any", "same", "prefix"]
"""`any`: calls in any order; `same`: in the expected order; `prefix`: the first of the expected, in order."""
Difference = tuple[str, Literal["wrong_value", "left_out", "not_asked"]]
"""An argument, and what is wrong about it."""

_SURPLUS = 64
"""Calls beyond the expected number that are looked at; further ones are superfluous without a look."""
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%B %d %Y", "%Y%m%d")
_LOOSE = str.maketrans("'", '"', " ,./-_*^")


def same_text(got: Any, want: Any) -> bool:
    """Exact, but letters of strings may differ in case."""
    return got.casefold() == want.casefold() if isinstance(got, str) and isinstance(want, str) else same(got, want)


def loose(text: str) -> str:
    """A string as BFCL compares it: without blanks and ``,./-_*^``, in lower case, quotes alike.

    >>> loose("April 1, 2024") == loose("april 1 2024")
    True
    """
    return text.translate(_LOOSE).lower()


def same_loosely(got: Any, want: Any) -> bool:
    """Exact, but strings by `loose`, also within lists and objects."""
    if isinstance(got, str) and isinstance(want, str):
        return got == want or loose(got) == loose(want)
    if isinstance(got, list) and isinstance(want, list):
        return len(got) == len(want) and all(map(same_loosely, got, want))
    if isinstance(got, dict) and isinstance(want, dict):
        return got.keys() == want.keys() and all(same_loosely(got[key], want[key]) for key in got)
    return same(got, want)


def same_number(got: Any, want: Any) -> bool:
    """Numbers equal to one part in 10**9; anything else exactly."""
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (got, want)):
        return same(got, want)
    return bool(got == want) or (max(abs(got), abs(want)) < 1e300 and math.isclose(got, want, rel_tol=1e-9))


def same_date(got: Any, want: Any) -> bool:
    """Dates equal as days, however written: 2024-01-05, 5 January 2024, Jan 5, 2024; else `same_text`."""
    left, right = _day(got), _day(want)
    return left == right if left and right else same_text(got, want)


def same_set(got: Any, want: Any) -> bool:
    """Lists with the same elements, in any order, repetitions aside; anything else exactly."""
    if isinstance(got, list) and isinstance(want, list):
        return set(map(canonical, got)) == set(map(canonical, want))
    return same(got, want)


COMPARATORS: dict[str, Compare] = {
    "exact": same,
    "text": same_text,
    "loose": same_loosely,
    "number": same_number,
    "date": same_date,
    "set": same_set,
}
"""Ways to compare an argument, by name."""


@dataclass(frozen=True, slots=True)
class Accepts:
    """What one argument may be."""

    options: tuple[Any, ...]
    """Any of these is right."""
    optional: bool = False
    """It may be left out."""
    compare: Compare = same

    def holds(self, value: Any) -> bool:
        """Whether a given value is right.

        >>> Accepts(("NYC", "New York"), compare=same_loosely).holds("new york")
        True
        """
        return any(self.compare(value, option) for option in self.options)


@dataclass(frozen=True, slots=True)
class Expected:
    """A call that is asked for."""

    name: str
    arguments: Mapping[str, Accepts]
    optional: bool = False
    """The call may be left out."""


@dataclass(slots=True)
class Matching:
    """Which call is held against which expected one."""

    differences: dict[int, list[Difference]] = field(default_factory=dict)
    """For each call that has a partner of the same tool: its differences; none where it is right."""
    unmatched: list[int] = field(default_factory=list)
    """Calls without a partner."""
    lacking: int = 0
    """Expected calls without a partner that may not be left out."""
    in_order: bool = True
    """False where the calls would be right in another order."""

    @property
    def correct(self) -> int:
        """How many expected calls were made."""
        return sum(not found for found in self.differences.values())

    @property
    def complete(self) -> bool:
        """Whether all calls are right and none is missing."""
        return self.in_order and not self.unmatched and not self.lacking and self.correct == len(self.differences)


def expect(call: Call, schema: Mapping[str, Any], compare: Compare = same) -> Expected:
    """The expectation of exactly `call`, where leaving an argument out and writing its default are the same."""
    arguments = {name: Accepts((value,), compare=compare) for name, value in call.arguments.items()}
    properties: Mapping[str, Any] = schema.get("properties", {})
    for name, entry in properties.items():
        if "default" in entry and (name not in arguments or same(arguments[name].options[0], entry["default"])):
            arguments[name] = Accepts((entry["default"],), optional=True, compare=compare)
    return Expected(call.name, arguments)


def differences(call: Call, expected: Expected) -> list[Difference]:
    """Arguments in which a call differs from the expected one."""
    found: list[Difference] = []
    for name, value in call.arguments.items():
        accepts = expected.arguments.get(name)
        if accepts is None:
            found.append((name, "not_asked"))
        elif not accepts.holds(value):
            found.append((name, "wrong_value"))
    for name, accepts in expected.arguments.items():
        if not accepts.optional and name not in call.arguments:
            found.append((name, "left_out"))
    return found


def match(calls: Sequence[Call], expected: Sequence[Expected], order: Order = "any") -> Matching:
    """Pair calls with expected calls of the same tool."""
    looked_at = calls[: len(expected) + _SURPLUS]
    table = [
        [differences(call, wanted) if call.name == wanted.name else None for call in looked_at] for wanted in expected
    ]
    if order == "any":
        return _matching(table, _assign(table), calls, expected)
    along = list(range(min(len(looked_at), len(expected))))
    matching = _matching(table, [*along, *[None] * (len(expected) - len(along))], calls, expected)
    if order == "prefix":
        matching.lacking = 0
    if not matching.complete and _matching(table, _assign(table), calls, expected).complete:
        return Matching({number: [] for number in along}, in_order=False)
    return matching


_Table = list[list[list[Difference] | None]]
"""Differences of each call (columns) from each expected call (rows); None where the tool is another."""


def _matching(
    table: _Table, columns: Sequence[int | None], calls: Sequence[Call], expected: Sequence[Expected]
) -> Matching:
    matching = Matching()
    for row, column in enumerate(columns):
        found = None if column is None else table[row][column]
        if column is None or found is None or (found and expected[row].optional and len(calls) < len(expected)):
            matching.lacking += not expected[row].optional
        else:
            matching.differences[column] = found
    matching.unmatched = [number for number in range(len(calls)) if number not in matching.differences]
    return matching


def _assign(table: _Table) -> list[int | None]:
    """The best column for each row, by the number of right calls first and of differing arguments then."""
    width = len(table[0]) if table else 0
    greedy: list[int | None] = []
    for cells in table:
        fits = (column for column in range(width) if cells[column] == [] and column not in greedy)
        greedy.append(next(fits, None))
    if None not in greedy:
        return greedy
    right, alike, apart = 0, 10**9, 10**9 + 10**6
    costs = [
        [apart if cell is None else alike + len(cell) if cell else right for cell in cells] + [apart] * len(table)
        for cells in table
    ]
    return [
        column if column < width and table[row][column] is not None else None
        for row, column in enumerate(_cheapest(costs))
    ]


def _cheapest(costs: Sequence[Sequence[int]]) -> list[int]:
    """A column for each row so that the sum is least; no fewer columns than rows.

    The Hungarian method by shortest augmenting paths, O(rows**2 * columns): H. W. Kuhn, "The Hungarian method for
    the assignment problem", 1955.

    >>> _cheapest([[1, 2], [1, 9]])
    [1, 0]
    """
    rows, columns = len(costs), len(costs[0]) if costs else 0
    row_price, column_price = [0] * (rows + 1), [0] * (columns + 1)
    owner = [0] * (columns + 1)  # row of each column, counted from 1; 0: free. Column 0 holds the row being placed.
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        slack, came_from = [math.inf] * (columns + 1), [0] * (columns + 1)
        used = [False] * (columns + 1)
        while owner[column]:
            used[column] = True
            here, step, nearest = owner[column], math.inf, 0
            for other in range(1, columns + 1):
                if used[other]:
                    continue
                reduced = costs[here - 1][other - 1] - row_price[here] - column_price[other]
                if reduced < slack[other]:
                    slack[other], came_from[other] = reduced, column
                if slack[other] < step:
                    step, nearest = slack[other], other
            for other in range(columns + 1):
                if used[other]:
                    row_price[owner[other]] += int(step)
                    column_price[other] -= int(step)
                else:
                    slack[other] -= step
            column = nearest
        while column:
            owner[column], column = owner[came_from[column]], came_from[column]
    placed = {owner[column]: column - 1 for column in range(1, columns + 1) if owner[column]}
    return [placed[row] for row in range(1, rows + 1)]


def _day(value: Any) -> datetime | None:
    if isinstance(value, str) and len(value) < 40:
        for layout in _DATES:
            try:
                return datetime.strptime(value.strip(), layout)
            except ValueError:
                continue
    return None

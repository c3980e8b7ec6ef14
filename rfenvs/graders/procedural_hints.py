"""What can be said about a wrong answer to a puzzle from the puzzle alone, without its solution.

Each hint is a rule that the answer breaks: the puzzle states the rule, so nothing is given away (leak level 0).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from rfenvs.graders.procedural import evaluate

Metadata = Mapping[str, Any]

_MOST_EDGES = 100_000


def hint(task: str, answer: str, metadata: Metadata) -> str | None:
    """The first rule that `answer` breaks; None where no rule is known or none is broken.

    >>> hint("countdown", "94*4 - 61", {"numbers": [6, 61, 94, 4], "target": 309})
    'The expression uses 94, 4, 61; the numbers to use are 6, 61, 94, 4.'
    """
    check = _CHECKS.get(task)
    return None if check is None else check(answer, metadata)


def _sum(answer: str, metadata: Metadata) -> str | None:
    result = evaluate(answer)
    if result is None:
        return None
    numbers, target = metadata["numbers"], metadata.get("target", 24)
    if sorted(result.numbers) != sorted(numbers):
        used = ", ".join(map(str, result.numbers)) or "no numbers"
        return f"The expression uses {used}; the numbers to use are {', '.join(map(str, numbers))}."
    if result.value is None:
        return "The expression divides by zero."
    return None if result.value == target else f"The expression is {_show(result.value)}, not {target}."


def _show(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


def _sudoku(answer: str, metadata: Metadata) -> str | None:
    given: Sequence[Sequence[int]] = metadata["puzzle"]
    size = len(given)
    grid = _grid(answer)
    if len(grid) != size or any(len(row) != size for row in grid):
        shape = f"{len(grid)} rows of {', '.join(sorted({str(len(row)) for row in grid}))} cells"
        return f"The grid has {shape}; the puzzle is {size} by {size}."
    symbols = {str(number) for number in range(1, size + 1)}
    for r in range(size):
        for c in range(size):
            if grid[r][c] not in symbols:
                return f"Row {r + 1}, column {c + 1} holds no number from 1 to {size}."
            if given[r][c] and str(given[r][c]) != grid[r][c]:
                return f"Row {r + 1}, column {c + 1} is {given[r][c]} in the puzzle, and {grid[r][c]} in the answer."
    box = round(size**0.5)
    units = [(f"Row {r + 1}", [grid[r][c] for c in range(size)]) for r in range(size)]
    units += [(f"Column {c + 1}", [grid[r][c] for r in range(size)]) for c in range(size)]
    units += [
        (f"The box with row {r + 1}, column {c + 1} at its top left",
         [grid[r + i][c + j] for i in range(box) for j in range(box)])
        for r in range(0, size, box) for c in range(0, size, box)
    ]  # fmt: skip
    for name, cells in units:
        number, count = Counter(cells).most_common(1)[0]
        if count > 1:
            return f"{name} holds {number} more than once."
    return None


def _queens(answer: str, metadata: Metadata) -> str | None:
    given: Sequence[Sequence[str]] = metadata["puzzle"]
    size = len(given)
    grid = _grid(answer)
    if len(grid) != size or any(len(row) != size for row in grid):
        return f"The board must have {size} rows of {size} cells, separated by spaces."
    for r in range(size):
        for c in range(size):
            if given[r][c] == "Q" and grid[r][c] != "Q":
                return f"The queen in row {r + 1}, column {c + 1} was there from the start, and is gone."
    queens = [(r, c) for r in range(size) for c in range(size) if grid[r][c] == "Q"]
    if len(queens) != size:
        return f"There are {len(queens)} queens on the board; there must be {size}."
    for i, (r, c) in enumerate(queens):
        for other_r, other_c in queens[i + 1 :]:
            if r == other_r or c == other_c or abs(r - other_r) == abs(c - other_c):
                return f"The queens in row {r + 1}, column {c + 1} and row {other_r + 1}, column {other_c + 1} attack."
    return None


def _colouring(answer: str, metadata: Metadata) -> str | None:
    puzzle = metadata["puzzle"]
    try:
        colours = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(colours, dict) or len(puzzle["edges"]) > _MOST_EDGES:
        return None
    for vertex in puzzle["vertices"]:
        if str(vertex) not in colours:
            return f"Vertex {vertex} has no colour."
        if colours[str(vertex)] not in puzzle["color_options"]:
            return f"Vertex {vertex} has a colour that is not on offer."
    for a, b in puzzle["edges"]:
        if colours[str(a)] == colours[str(b)]:
            return f"Vertices {a} and {b} are joined and have the same colour."
    return None


def _grid(answer: str) -> list[list[str]]:
    return [row.split() for row in answer[:5000].strip().splitlines()]


_CHECKS: dict[str, Callable[[str, Metadata], str | None]] = {
    "countdown": _sum,
    "puzzle24": _sum,
    "sudoku": _sudoku,
    "mini_sudoku": _sudoku,
    "n_queens": _queens,
    "graph_color": _colouring,
}

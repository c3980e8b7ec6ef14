"""Take an answer apart into numbers, words, expressions, and lists, sets, tuples, intervals and matrices of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rfenvs.graders.math_text import Number, read_number, read_words, split_unit, squeezed, tidy
from rfenvs.graders.math_units import Unit

LONGEST = 2000
"""Characters of an answer that are read; more cannot be an answer."""
_DEEPEST = 12


@dataclass(frozen=True, slots=True)
class Node:
    """One answer, or a part of one."""

    kind: str
    """number, text, expression, equation, list, set, tuple, interval, union or matrix."""
    text: str
    """Squeezed, its unit taken off."""
    number: Number | None = None
    unit: Unit | None = None
    parts: tuple[Node, ...] = ()
    """Elements in the order written; of a matrix row by row; of an equation its sides."""
    ends: str = ""
    """The brackets of an interval or tuple, the operators of an equation, the width of a matrix; `bare` for words
    outside of markup, which may be a product of letters."""

    @property
    def name(self) -> str:
        """The kind in public words."""
        return {"list": "set", "union": "interval"}.get(self.kind, self.kind)


_MATRIX = re.compile(
    r"\\begin\{(?P<name>[pbvBV]?matrix|array|smallmatrix)\}(?:\{[clr|]*\})?(?P<body>.*)\\end\{(?P=name)\}", re.S
)
_OPERATOR = re.compile(
    r"\\(?:le|leq|leqslant|ge|geq|geqslant|lt|gt|ne|neq|approx|equiv|simeq)(?![a-zA-Z])|[<>!]=|[=<>]"
)
_SPELLING = {
    "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">",
    "ne": "!=", "neq": "!=", "approx": "~", "simeq": "~", "equiv": "=",
}  # fmt: skip
_AND = re.compile(
    r"\\(?:text|mbox|textrm|mathrm)\s*\{\s*,?\s*(?:and|or|y)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|\\(?:lor|land|vee|wedge)(?![a-zA-Z])"
)
_EITHER_SIGN = re.compile(r"\\[pm][pm](?![a-zA-Z])")
_MEMBER = re.compile(r"^\(?\s*[a-zA-Z](?:_\{?\w+\}?)?(?:\([a-zA-Z]\))?\s*(?:,\s*[a-zA-Z]\s*)*\)?\s*\\in(?![a-zA-Z])\s*")


def read(text: str, *, letters: bool = False) -> Node:
    """Read an answer.

    Args:
        text: What stands in the box.
        letters: Read plain single letters after a number (`10 m`) as units.

    >>> read("(1, \\\\frac12)").kind, [part.text for part in read("1, 2 and 3").parts], read("x > 5").ends
    ('tuple', ['1', '2', '3'], '>')
    """
    return _read(tidy(text[: LONGEST + 1]), letters, 0)


def _read(text: str, letters: bool, depth: int) -> Node:
    text = text.strip()
    leaf = _leaf(text, letters)
    if leaf.kind != "expression" or depth > _DEEPEST or leaf.unit is not None:
        return leaf
    text = re.sub(r"(?<!\\)\$", "", _MEMBER.sub("", text)).strip()
    if _EITHER_SIGN.search(text):
        plus, minus = _both_signs(text)
        return Node("list", squeezed(text), parts=(_read(plus, letters, depth + 1), _read(minus, letters, depth + 1)))
    for divider in (";", ","):
        pieces = _split(_AND.sub(f" {divider} ", text) if divider == "," or ";" in text else text, divider)
        pieces = [piece for piece in map(str.strip, pieces) if piece]
        if len(pieces) > 1:
            return _list(text, [_read(piece, letters, depth + 1) for piece in pieces])
    return _single(text, letters, depth)


def _single(text: str, letters: bool, depth: int) -> Node:
    """Read a text that has no divider outside of brackets."""
    bare = squeezed(text)
    sides = _sides(text)
    if sides is not None:
        operators, pieces = sides
        return Node("equation", bare, parts=tuple(_read(piece, letters, depth + 1) for piece in pieces), ends=operators)
    unions = _split(text, "\\cup")
    if len(unions) > 1:
        return Node("union", bare, parts=tuple(_read(piece, letters, depth + 1) for piece in unions))
    matrix = _MATRIX.fullmatch(_unwrapped(text))
    if matrix and "\\end{" not in matrix["body"]:
        rows = [row for row in re.split(r"\\\\|\\cr(?![a-z])", matrix["body"].replace("\\hline", "")) if row.strip()]
        cells = [_split(row, "&") for row in rows]
        if cells and len({len(row) for row in cells}) == 1:
            parts = tuple(_read(cell, letters, depth + 1) for row in cells for cell in row)
            return Node("matrix", bare, parts=parts, ends=str(len(cells[0])))
    return _bracketed(text, letters, depth) or Node("expression", bare)


def _bracketed(text: str, letters: bool, depth: int) -> Node | None:
    for name in ("\\langle", "\\lbrace", "\\lbrack"):
        text = text.replace(name, {"\\langle": "(", "\\lbrace": "\\{", "\\lbrack": "["}[name])
    text = text.replace("\\rangle", ")").replace("\\rbrace", "\\}").replace("\\rbrack", "]")
    if text.startswith("\\{") and text.endswith("\\}") and _closes(text, 1) == len(text) - 1:
        inside = [piece.strip() for piece in _split(text[2:-2].replace(";", ","), ",") if piece.strip()]
        if "\\mid" in text or re.search(r"\||(?<!\d)\s*:", text):
            return None
        return Node("set", squeezed(text), parts=tuple(_read(piece, letters, depth + 1) for piece in inside))
    if not text or text[0] not in "([{" or text[-1] not in ")]}" or _closes(text, 0) != len(text) - 1:
        return None
    pieces = [piece.strip() for piece in _split(text[1:-1], ",")]
    if len(pieces) == 1:
        pieces = [piece.strip() for piece in _split(text[1:-1], ";")]
    if text[0] == "{" or (len(pieces) == 1 and text[0] == "("):
        inner = _read(text[1:-1], letters, depth + 1)
        return inner if inner.kind != "expression" else Node("expression", squeezed(text[1:-1]))
    if not all(pieces) or len(pieces) == 1:
        return None
    ends = text[0] + text[-1]
    parts = tuple(_read(piece, letters, depth + 1) for piece in pieces)
    infinite = any("\\infty" in piece for piece in pieces)
    kind = "interval" if len(parts) == 2 and (ends != "()" or infinite) else "tuple"
    return Node(kind, squeezed(text), parts=parts, ends=ends)


def _leaf(text: str, letters: bool) -> Node:
    core, unit = split_unit(text, letters=letters)
    number = read_number(core)
    if number is not None:
        return Node("number", squeezed(core), number=number, unit=unit)
    words = read_words(text)
    if words is not None:
        return Node("text", words, ends="" if "\\" in text else "bare")
    if unit is not None and not _split_any(core):
        return Node("expression", squeezed(core), unit=unit)
    return Node("expression", squeezed(text))


def _split_any(text: str) -> bool:
    return (
        len(_split(text, ",")) > 1 or len(_split(text, ";")) > 1 or _sides(text) is not None or bool(_AND.search(text))
    )


def _list(text: str, parts: list[Node]) -> Node:
    """A list; `n = 2, 3, 4` names its elements once."""
    first, rest = parts[0], parts[1:]
    named = first.kind == "equation" and set(first.ends) == {"="} and is_name(first.parts[0].text)
    if named and all(part.kind not in ("equation", "tuple") for part in rest):
        parts[0] = first.parts[-1]
    return Node("list", squeezed(text), parts=tuple(parts))


def _both_signs(text: str) -> tuple[str, str]:
    def signed(plus: str, minus: str) -> str:
        text_ = re.sub(r"\\pm(?![a-zA-Z])", lambda _: plus, text)
        return re.sub(r"\\mp(?![a-zA-Z])", lambda _: minus, text_).lstrip("+ ")

    return signed("+", "-"), signed("-", "+")


def _sides(text: str) -> tuple[str, list[str]] | None:
    """Operators, joined by blanks, and sides of an equation or inequality; None where there is none."""
    operators, pieces, start = [], [], 0
    for position, depth in _depths(text):
        if depth or position < start:
            continue
        match = _OPERATOR.match(text, position)
        if match and (match[0] != "=" or text[position - 1 : position] not in ("\\",)):
            operators.append(_SPELLING.get(match[0].lstrip("\\"), match[0]))
            pieces.append(text[start:position].strip())
            start = match.end()
    pieces.append(text[start:].strip())
    if not operators or not all(pieces):
        return None
    return " ".join(operators), pieces


def _split(text: str, divider: str) -> list[str]:
    """Split where the divider stands outside of all brackets, environments and thousands."""
    pieces, start = [], 0
    for position, depth in _depths(text):
        if depth or position < start or not text.startswith(divider, position):
            continue
        if divider[0] == "\\" and text[position + len(divider) : position + len(divider) + 1].isalpha():
            continue
        pieces.append(text[start:position])
        start = position + len(divider)
    pieces.append(text[start:])
    if divider == "," and len(pieces) > 1:
        return _rejoin_thousands(pieces)
    return pieces


def _rejoin_thousands(pieces: list[str]) -> list[str]:
    """`1,234, 5` is two numbers: a comma before exactly three digits, with no blank, groups digits."""
    joined = [pieces[0]]
    for piece in pieces[1:]:
        if re.fullmatch(r"\d{3}(?:\D.*)?", piece, re.S) and re.search(r"(?:^|\D)[1-9]\d{0,2}(?:,\d{3})*$", joined[-1]):
            joined[-1] += "," + piece
        else:
            joined.append(piece)
    return joined


def _depths(text: str) -> list[tuple[int, int]]:
    """Every position with how many brackets and environments are open there."""
    found, depth, position = [], 0, 0
    while position < len(text):
        if text.startswith("\\begin", position):
            depth += 1
        char = text[position]
        opens = char in "([{"
        if char in ")]}" or text.startswith("\\end", position):
            depth = max(0, depth - 1)
        if char == "\\" and text[position + 1 : position + 2] in ("{", "}", "\\", ",", ";"):
            depth += {"{": 1, "}": -1}.get(text[position + 1], 0)
            found.append((position, max(depth, 1)))
            position += 2
            continue
        found.append((position, depth))
        depth += opens
        position += 1
    return found


def _closes(text: str, opening: int) -> int:
    """Position of the bracket that closes the one at `opening`, half-open intervals included; -1 for none."""
    depth = 0
    for position in range(opening, len(text)):
        if text[position] in "([{":
            depth += 1
        elif text[position] in ")]}":
            depth -= 1
            if depth == 0:
                return position
    return -1


def _unwrapped(text: str) -> str:
    text = text.strip()
    while text[:1] in ("(", "{", "[") and _closes(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    return text


_NAME = re.compile(
    r"\\?[a-zA-Z]+'*|_(?:\{[^{}]*\}|\w)|[|(){}\s,:/']|\\(?:frac|angle|triangle|overline|widehat|mathrm|text)"
)


def is_name(text: str) -> bool:
    """Whether a left side names what the right side is: `x`, `a_{3}`, `f(x)`, `(p,q)`, `|AB|`; not `2x + z`."""
    return bool(text) and not _NAME.sub("", text)

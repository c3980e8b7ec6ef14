"""Match two answers taken apart by `math_structure`: what kinds may meet, in which order, with which units.

Numbers and words are decided here. Where computer algebra is needed, the function handed in is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from rfenvs.graders.math_numbers import relation_of, same_number
from rfenvs.graders.math_structure import Node, is_name
from rfenvs.graders.math_text import Number
from rfenvs.graders.math_units import Unit


@dataclass(frozen=True, slots=True)
class Found:
    """Whether two answers are equal, and how they differ."""

    equal: bool
    relation: str | None = None
    same_form: bool | None = None


Leaf = Callable[[Node, Node], Found]
"""Decides two expressions, equations or other things of which only the text is known."""

SAME = Found(True, same_form=True)
OTHERWISE = Found(True, same_form=False)
"""Equal, but written differently."""
DIFFERENT = Found(False)
_FEW = ("missing_elements", "extra_elements")
_SETS = re.compile(r"\\(?:mathbb|emptyset|varnothing|cup|cap|setminus|infty|backslash|begin|Reals|in)(?![a-zA-Z])|\\\{")
_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_NUMBER_WORDS = {word: Fraction(value) for value, word in enumerate(_COUNTED.split())}


def match(gold: Node, answer: Node, leaf: Leaf) -> Found:
    """Compare two answers.

    A gold without order (`1, 2` or `{1, 2}`) takes its elements in any order, a tuple only in its own; a list without
    brackets may stand for either. A set is not a tuple, an interval neither, and `x = 5` may be answered by `5`.
    """
    if gold.kind == answer.kind and gold.text == answer.text and gold.unit == answer.unit:
        return SAME
    if "text" in (gold.kind, answer.kind):
        return _words(gold, answer, leaf)
    if "equation" in (gold.kind, answer.kind):
        return _equations(gold, answer, leaf)
    if _decimal_comma(gold, answer) or _decimal_comma(answer, gold):
        return OTHERWISE
    handler = _BY_KIND.get(gold.kind, _single)
    return handler(gold, answer, leaf)


def _decimal_comma(one: Node, other: Node) -> bool:
    """`1,22` for 1.22: only where the digits agree, and not after a single digit, for `1,2` is rather a list."""
    pair = one.kind == "list" and other.kind == "number" and re.fullmatch(r"-?\d+,\d{2,}", one.text)
    return bool(pair) and one.text.replace(",", ".") == other.text


# --- words -----------------------------------------------------------------------------------------------------------


def _words(gold: Node, answer: Node, leaf: Leaf) -> Found:
    if gold.kind == answer.kind:
        if gold.text == answer.text:
            return SAME
        letters = max(len(gold.text), len(answer.text)) <= 3 and gold.ends == answer.ends == "bare"
        return leaf(gold, answer) if letters and sorted(gold.text) == sorted(answer.text) else DIFFERENT
    text, other = (gold, answer) if gold.kind == "text" else (answer, gold)
    if other.kind == "number" and other.number is not None and text.text in _NUMBER_WORDS:
        equal = other.number.value == _NUMBER_WORDS[text.text]
        return OTHERWISE if equal else DIFFERENT
    if other.text.isalpha() and other.text.casefold() == text.text:
        return OTHERWISE
    if other.kind == "equation" and other.ends == "=" and answer is other:
        return match(gold, other.parts[-1], leaf)
    return DIFFERENT


# --- equations and inequalities --------------------------------------------------------------------------------------


def _equations(gold: Node, answer: Node, leaf: Leaf) -> Found:
    gold, answer = _without_approximation(gold), _without_approximation(answer)
    if gold.kind == answer.kind == "equation":
        if _is_assignment(gold) and _is_assignment(answer) and gold.parts[0].text == answer.parts[0].text:
            return match(gold.parts[-1], answer.parts[-1], leaf)
        return leaf(gold, answer)
    if gold.kind == "equation":
        if _is_assignment(gold):
            return match(gold.parts[-1], answer, leaf)
        region = _interval_of(gold)
        if answer.kind in ("interval", "union", "tuple", "set") or _SETS.search(answer.text):
            return match(region, answer, leaf) if region is not None else leaf(gold, answer)
        return DIFFERENT
    if answer.kind == "equation":
        if set(answer.ends.split()) == {"="}:
            named = is_name(answer.parts[0].text) or not re.search(r"[a-zA-Z]", answer.parts[0].text)
            return match(gold, answer.parts[-1], leaf) if named else DIFFERENT
        region = _interval_of(answer)
        if gold.kind in ("interval", "union", "tuple", "set") or _SETS.search(gold.text):
            return match(gold, region, leaf) if region is not None else leaf(gold, answer)
        return DIFFERENT
    return match(gold, answer, leaf)


def _is_assignment(node: Node) -> bool:
    return set(node.ends.split()) == {"="} and is_name(node.parts[0].text)


def _without_approximation(node: Node) -> Node:
    """`x = 1/3 ~ 0.33` says `x = 1/3`; `x ~ 11` says `x = 11`."""
    if node.kind != "equation" or "~" not in node.ends:
        return node
    operators = node.ends.split()
    first = operators.index("~")
    if first == 0:
        if not re.search(r"[a-zA-Z]", node.parts[0].text) or not is_name(node.parts[0].text):
            return node.parts[0]
        return replace(node, parts=node.parts[:2], ends="=")
    return replace(node, parts=node.parts[: first + 1], ends=" ".join(operators[:first]))


def _interval_of(node: Node) -> Node | None:
    """`-2 <= x < 7` as an interval; None for anything more than one name between bounds."""
    operators, parts = node.ends.split(), node.parts
    flipped = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
    if not set(operators) <= set(flipped) or len(parts) > 3:
        return None
    if operators[0].startswith(">"):
        operators, parts = [flipped[operator] for operator in reversed(operators)], tuple(reversed(parts))
    if not all(operator.startswith("<") for operator in operators):
        return None
    if len(parts) == 2:
        if is_name(parts[0].text):
            low, high, ends = Node("expression", "-\\infty"), parts[1], "(" + (")" if operators[0] == "<" else "]")
        elif is_name(parts[1].text):
            low, high, ends = parts[0], Node("expression", "\\infty"), ("(" if operators[0] == "<" else "[") + ")"
        else:
            return None
    elif is_name(parts[1].text) and "|" not in parts[1].text:
        low, high = parts[0], parts[2]
        ends = ("(" if operators[0] == "<" else "[") + (")" if operators[1] == "<" else "]")
    else:
        return None
    if any("|" in part.text and is_name(part.text) for part in parts):
        return None
    return Node("interval", f"{ends[0]}{low.text},{high.text}{ends[1]}", parts=(low, high), ends=ends)


# --- lists, sets, tuples, intervals, matrices ------------------------------------------------------------------------


def _list(gold: Node, answer: Node, leaf: Leaf) -> Found:
    if answer.kind == "tuple":
        return _ordered(gold.parts, answer.parts, leaf)
    if answer.kind in ("list", "set"):
        names = [part.parts[0].text for part in gold.parts if part.kind == "equation"]
        if len(set(names)) == len(gold.parts) > 1 and not any(part.kind == "equation" for part in answer.parts):
            return _ordered(gold.parts, answer.parts, leaf)  # x = 1, y = 2 answered by 1, 2
        return _unordered(gold.parts, answer.parts, leaf)
    if answer.kind in ("number", "expression"):
        return _unordered(gold.parts, (answer,), leaf)
    return DIFFERENT


def _set(gold: Node, answer: Node, leaf: Leaf) -> Found:
    if answer.kind in ("list", "set"):
        return _unordered(gold.parts, answer.parts, leaf)
    if answer.kind == "tuple":
        return DIFFERENT
    if _SETS.search(answer.text):
        return leaf(gold, answer)
    return _unordered(gold.parts, (answer,), leaf)


def _tuple(gold: Node, answer: Node, leaf: Leaf) -> Found:
    if answer.kind == "list" or (answer.kind == "tuple" and answer.ends in ("()", "[]")):
        return _ordered(gold.parts, answer.parts, leaf)
    if answer.kind == "matrix" and answer.ends in ("1", str(len(answer.parts))):
        return _ordered(gold.parts, answer.parts, leaf)
    if answer.kind == "interval" and answer.ends == "()":
        return _ordered(gold.parts, answer.parts, leaf)
    if answer.kind in ("expression", "union") and _SETS.search(answer.text):
        return leaf(gold, answer)
    return DIFFERENT


def _interval(gold: Node, answer: Node, leaf: Leaf) -> Found:
    ends = "()" if answer.kind == "tuple" and len(answer.parts) == 2 else answer.ends
    if answer.kind in ("interval", "tuple"):
        return _ordered(gold.parts, answer.parts, leaf) if ends == gold.ends else DIFFERENT
    if answer.kind in ("expression", "union") and _SETS.search(answer.text):
        return leaf(gold, answer)
    return DIFFERENT


def _union(gold: Node, answer: Node, leaf: Leaf) -> Found:
    if answer.kind in ("union", "list"):
        found = _unordered(gold.parts, answer.parts, leaf)
        if found.equal or answer.kind == "list":
            return found
    if answer.kind in ("union", "interval", "tuple", "set", "expression"):
        return leaf(gold, answer)
    return DIFFERENT


def _matrix(gold: Node, answer: Node, leaf: Leaf) -> Found:
    vector = gold.ends == "1" or gold.ends == str(len(gold.parts))
    if (answer.kind == "matrix" and answer.ends == gold.ends) or (answer.kind in ("tuple", "list") and vector):
        return _ordered(gold.parts, answer.parts, leaf, report_order=False)
    return leaf(gold, answer) if answer.kind == "expression" and "\\begin" in answer.text else DIFFERENT


def _single(gold: Node, answer: Node, leaf: Leaf) -> Found:
    """A number or an expression."""
    if answer.kind in ("number", "expression"):
        return _quantities(gold, answer, leaf)
    if (answer.kind in ("list", "set") and gold.kind == "number") or not _SETS.search(gold.text):
        if answer.kind in ("list", "set") and answer.parts:
            return _unordered((gold,), answer.parts, leaf)
        return DIFFERENT
    return leaf(gold, answer)


_BY_KIND: dict[str, Callable[[Node, Node, Leaf], Found]] = {
    "list": _list,
    "set": _set,
    "tuple": _tuple,
    "interval": _interval,
    "union": _union,
    "matrix": _matrix,
}


def _ordered(gold: Sequence[Node], answer: Sequence[Node], leaf: Leaf, *, report_order: bool = True) -> Found:
    if len(gold) != len(answer):
        return Found(False, _FEW[len(answer) > len(gold)])
    results = [match(one, other, leaf) for one, other in zip(gold, answer, strict=True)]
    if all(result.equal for result in results):
        return _all_of(results)
    if report_order and sorted(part.text for part in gold) == sorted(part.text for part in answer):
        return Found(False, "order")
    return DIFFERENT


def _unordered(gold: Sequence[Node], answer: Sequence[Node], leaf: Leaf) -> Found:
    """Every element has its equal on the other side; equality carries over, so any pairing will do."""
    left = list(_once(answer))
    wanted = _once(gold)
    results: list[Found] = []
    missing = 0
    for one in wanted:
        for index, other in enumerate(left):
            result = match(one, other, leaf)
            if result.equal:
                results.append(result)
                del left[index]
                break
        else:
            missing += 1
    left = [other for other in left if not any(match(one, other, leaf).equal for one in wanted)]
    if not missing and not left:
        return _all_of(results)
    if results and not (missing and left):
        return Found(False, _FEW[not missing])
    if len(wanted) == len(left) == 1:
        return match(wanted[0], left[0], leaf)
    return DIFFERENT


def _once(parts: Sequence[Node]) -> list[Node]:
    return list({(part.kind, part.text, part.unit): part for part in parts}.values())


def _all_of(results: Sequence[Found]) -> Found:
    return SAME if all(result.same_form for result in results) else OTHERWISE


# --- quantities ------------------------------------------------------------------------------------------------------


def _quantities(gold: Node, answer: Node, leaf: Leaf) -> Found:
    one, other = _known(gold.unit), _known(answer.unit)
    if one == other:
        return _plain(gold, answer, leaf)
    bare = replace(gold, unit=None), replace(answer, unit=None)
    if one is not None and other is not None:
        if one.dimension == other.dimension and _plain(_scaled(gold, one), _scaled(answer, other), leaf).equal:
            return OTHERWISE
        return Found(False, "unit" if _plain(*bare, leaf).equal else None)
    unit = one or other
    if unit is not None and unit.dimension == (("percent", 1),):
        return _percent(gold, answer, one, leaf)
    if unit is not None and unit.dimension == (("angle", 1),):
        return _degrees(bare, gold_has_it=one is not None, leaf=leaf)
    return _plain(*bare, leaf)  # one of them left the unit to the question


def _percent(gold: Node, answer: Node, in_gold: Unit | None, leaf: Leaf) -> Found:
    """50% is 0.5 and not 50; whether the question asked for a percentage only the caller knows."""
    hundredth = Unit((), Fraction(1, 100))
    one = _scaled(gold, hundredth) if in_gold else replace(gold, unit=None)
    other = replace(answer, unit=None) if in_gold else _scaled(answer, hundredth)
    if _plain(one, other, leaf).equal:
        return OTHERWISE
    same = _plain(replace(gold, unit=None), replace(answer, unit=None), leaf)
    return Found(False, "percent") if same.equal else Found(False, same.relation)


def _degrees(bare: tuple[Node, Node], *, gold_has_it: bool, leaf: Leaf) -> Found:
    """30 degrees is 30 where the sign was left out, and pi/6."""
    gold, answer = bare
    found = _plain(gold, answer, leaf)
    if found.equal:
        return found
    angle, other = (gold, answer) if gold_has_it else (answer, gold)
    if "\\pi" not in other.text:
        return found
    radians = Node("expression", f"\\frac{{({angle.text})\\pi}}{{180}}")
    if (leaf(radians, answer) if gold_has_it else leaf(gold, radians)).equal:
        return OTHERWISE
    return found


def _base(text: str) -> str:
    return str(_NUMBER_WORDS.get(text, text))


def _known(unit: Unit | None) -> Unit | None:
    return unit if unit is not None and unit.known else None


def _scaled(node: Node, unit: Unit) -> Node:
    """The node in base units."""
    factor = unit.factor
    if node.number is not None:
        number = Number(node.number.value * factor, "decimal", 0)
        return Node("number", f"{number.value}", number=number)
    return Node("expression", f"\\frac{{{factor.numerator}}}{{{factor.denominator}}}({node.text})")


_BASED = re.compile(r"([0-9A-F]+)_\{?(?:\\text\{)?(\w+)\}*")


def _plain(gold: Node, answer: Node, leaf: Leaf) -> Found:
    one, other = _BASED.fullmatch(gold.text), _BASED.fullmatch(answer.text)
    if one and other:  # 17_8 is another writing than 15_{10}: the base is what was asked for
        return SAME if (one[1], _base(one[2])) == (other[1], _base(other[2])) else DIFFERENT
    if one or other:
        return SAME if (one[1] if one else gold.text) == (other[1] if other else answer.text) else DIFFERENT
    if gold.number is not None and answer.number is not None:
        if same_number(gold.number, answer.number):
            form = gold.number.form == answer.number.form and answer.number.reduced
            return SAME if form else OTHERWISE
        return Found(False, relation_of(gold.number.value, answer.number.value))
    if gold.text == answer.text:
        return SAME
    return leaf(gold, answer)

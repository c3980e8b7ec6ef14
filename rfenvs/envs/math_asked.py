r"""What the words of a problem say about the form of its answer: a percentage, `m+n`, millions, a value worked out."""

from __future__ import annotations

import re

from rfenvs.graders.math_structure import Node, read
from rfenvs.graders.math_text import squeezed, tidy
from rfenvs.graders.math_units import MAGNITUDES

_PERCENT = re.compile(
    r"\b(?:what|which|how many|as an?|in|find the|calculate the)\s+(?:\w+\s+){0,3}percent(?:age)?s?\b", re.IGNORECASE
)
_WANTS_SIGN = re.compile(r"(?:percent|%|\\%)[- ](?:sign|symbol)", re.IGNORECASE)
_ASKED = re.compile(
    r"\b(?:find|compute|determine|evaluate|calculate|what is|value of)\s+([^$.?!,\\]{1,60})(?=[.?!,]|\Z)", re.IGNORECASE
)
_TASK = re.compile(
    r"\b(?:compute|simplify|evaluate|calculate|expand|factor|rationalize|find|determine|what is|value of)\b"
    r"[^$.?!\\]{0,60}(?:\$\$?|\\\(|\\\[)([^$]{1,400}?)(?:\$|\\\)|\\\])",
    re.IGNORECASE,
)
_AMOUNT = re.compile(
    r"(.*?\d)\s*(?:\\text\s*\{)?\s*(" + "|".join((*MAGNITUDES, "hundred", "dozen")) + r")s?\b(.*)", re.DOTALL
)
_TO_DO = re.compile(
    r"\\(?:sum|prod|i*nt|oint|lim|gcd|det|max|min|lfloor|lceil|[bp]?mod)(?![a-zA-Z])|"
    r"\\(?:operatorname|mathrm|text)\s*\{\s*(?:lcm|gcd|mod|max|min|det)"
)
_RESIDUE = re.compile(r"\\pmod\s*\{?\s*\d+\s*\}?$")


def asks_percent(problem: str) -> bool:
    r"""Whether a problem asks for a percentage and leaves the sign open, so that 50 and 50\\% answer it alike.

    >>> asks_percent("What percent of 60 is 30?"), asks_percent("After a 20 percent rise, how much is it?")
    (True, False)
    >>> asks_percent("What percentage is it? Answer with the percent sign.")
    False
    """
    return bool(_PERCENT.search(problem)) and not _WANTS_SIGN.search(problem)


def as_asked(problem: str, answer: str) -> str | None:
    r"""What an answer says to the question that was asked; None where that is just the answer.

    `m+n = 55` says 55 where `m+n` was asked for, and `10 million` says 10 where millions were.

    >>> as_asked("Find $m+n$.", "m + n = 55"), as_asked("If $2x=5$, find $x$.", "2x = 5")
    ('55', None)
    >>> as_asked("How many million people is that?", r"10\text{ million}")
    '10'
    """
    left, equals, right = answer.partition("=")
    if equals and left.strip() and squeezed(tidy(left)) in map(squeezed, map(tidy, _asked_for(problem))):
        return right.strip()
    amount = _AMOUNT.fullmatch(answer.strip())
    if amount and re.search(rf"\b(?:in|how many|number of)\s+(?:\w+\s+)?{amount[2]}s?\b", problem, re.IGNORECASE):
        return amount[1].strip()
    return None


def is_unfinished(problem: str, gold: str, answer: str) -> bool:
    r"""Whether an answer, though equal to the gold, leaves the work to the grader.

    That is an expression that the problem itself gives to be computed, or, where a number is asked for, one with a sum,
    product, integral, limit, remainder, divisor, floor or the like in it. Arithmetic, powers, roots, factorials and
    binomials are forms of a number.

    >>> is_unfinished("What is $7^{99}$ mod 5?", "3", r"7^{99} \\bmod 5"), is_unfinished("How many?", "120", "5!")
    (True, False)
    >>> is_unfinished(r"Simplify $\\sqrt{75}-\\sqrt{12}$.", r"3\\sqrt{3}", r"\\sqrt{75} - \\sqrt{12}")
    True
    """
    node = _last_side(read(answer))
    if node.kind != "expression" or node.text == squeezed(tidy(gold)):
        return False
    if read(gold).kind == "number" and _TO_DO.search(_RESIDUE.sub("", node.text)):
        return True
    return node.text in map(squeezed, map(tidy, _asked_for(problem)))


def _asked_for(problem: str) -> list[str]:
    """Formulas that the problem asks to be found or worked out."""
    return [found[1] for pattern in (_ASKED, _TASK) for found in pattern.finditer(problem)]


def _last_side(node: Node) -> Node:
    return node.parts[-1] if node.kind == "equation" and set(node.ends.split()) == {"="} else node

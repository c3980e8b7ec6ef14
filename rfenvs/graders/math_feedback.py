r"""Say why a mathematical answer earned nothing: extraction, comparison and checked steps become feedback items.

Nothing here quotes the gold answer or a value computed from it: texts quote the attempt, or name a kind or a relation.

| code | kind | leak level | said when |
|---|---|---|---|
| `no_box`, `unclosed_box`, `empty_box` | `format_error` | 0 | no whole `\boxed{}`, or nothing in the last one |
| `box_in_thinking` | `format_error` | 0 | the only box stands inside `<think>` |
| `unparsable` | `format_error` | 0 | the box cannot be read as mathematics; quotes the first piece that cannot |
| `too_costly` | `format_error` | 0 | the box is too long, or asks for numbers too large to compute |
| `not_equal` | `wrong_answer` | 0 | the answer is not the right one |
| `several_boxes` | `hint` | 0 | two boxes disagree; the last one counted |
| `arithmetic_slip` | `hint` | 0 | an equation of the working does not hold |
| `wrong_kind` | `wrong_answer` | 1 | a number was expected and a set was given, for example |
| `wrong_form` | `wrong_answer` | 1 | right but for the unit or the percent sign |
| `near_miss` | `wrong_answer` | 2 | how the answer relates to the right one, never by how much |
| `other_form` | `hint` | 0 | the answer is right and written in another form; severity `info`, for the teacher |
| `timeout`, `crashed` | `env_error` | 0 | no verdict; for the log |
"""

from __future__ import annotations

import re

from rfenvs.feedback import Item, LeakLevel, clip, item
from rfenvs.graders.math_compare import Comparison, Outcome
from rfenvs.graders.math_extract import Extraction, State
from rfenvs.graders.math_steps import Steps

LONGEST_ANSWER = 2000
"""Code points of an answer that is read at all."""
_QUOTE = 120
_DEEPEST = 30
_LARGEST_DIGITS = 5
_TOWER = re.compile(r"\^\s*\{?[^\s{}^]{1,20}\s*\^\s*\{?[^\s{}^]{1,20}\s*\^")
_HUGE_EXPONENT = re.compile(rf"\^\s*\{{?\s*[-+(]?\d[\d,]{{{_LARGEST_DIGITS - 1},}}|\^\s*\{{?\s*\(?\d+\s*\^\s*\{{?\s*\d")
_HUGE_FACTORIAL = re.compile(rf"\d{{{_LARGEST_DIGITS},}}\s*!|!\s*\)\s*!|\(\s*\d+\s*!|\^\s*\{{?\s*\d+\s*!|!!!")

_A_KIND = {
    "number": "a number",
    "expression": "an expression",
    "equation": "an equation",
    "interval": "an interval",
    "set": "a set",
    "tuple": "an ordered tuple",
    "matrix": "a matrix or vector",
    "text": "a word or a label",
}
_FORMS = {
    "unit": "The unit is wrong, or missing.",
    "unit_missing": "The unit is wrong, or missing.",
    "percent": "Right but for a percent sign: check whether a percentage was asked for.",
}
_RELATIONS = {
    "sign": "The answer has the wrong sign.",
    "reciprocal": "The answer is the reciprocal of the right one.",
    "off_by_one": "The answer is off by one.",
    "factor_2": "The answer is off by a factor of two.",
    "factor_10": "The answer is off by a power of ten.",
    "factor_100": "The answer is off by a power of ten.",
    "factor_pi": "The answer is off by a factor of pi.",
    "squared": "The answer is the square, or the square root, of the right one.",
    "too_large": "The answer is too large.",
    "too_small": "The answer is too small.",
    "missing_elements": "All that is there is right, but something is missing.",
    "extra_elements": "All that is wanted is there, but so is something else.",
    "order": "The right values, in the wrong order.",
}


def explain(action: str, found: Extraction, verdict: Comparison | None, steps: Steps, *, cut_off: bool) -> list[Item]:
    """Make the items for an answer that is not right; at least one.

    Args:
        action: The whole reply.
        found: What was extracted from it.
        verdict: How the extracted answer compares; None where there was nothing to compare.
        steps: The equations of the working.
        cut_off: Whether the length limit ended the reply.
    """
    if verdict is None:
        problems = [_no_answer(action, found, cut_off)]
    elif verdict.outcome is Outcome.UNPARSABLE:
        problems = [_unparsable(found, verdict)]
    else:
        problems = _unequal(found, verdict)
    if found.rival is not None and found.found:
        text = (
            f"{found.boxes} boxes that disagree, such as \\boxed{{{_quoted(found.rival)}}} and "
            f"\\boxed{{{_quoted(found.answer)}}}: the last one counts."
        )
        problems.append(item("hint", text, severity="warning", span=found.span, data={"code": "several_boxes"}))
    if steps.slips:
        slip = steps.slips[0]
        text = f'Check this step, it does not hold: "{_quoted(slip.text)}".'
        data = {"code": "arithmetic_slip", "count": len(steps.slips)}
        problems.append(item("hint", text, severity="warning", span=slip.span, data=data))
    return problems


def too_costly(found: Extraction) -> Item:
    """The item for an answer that nobody could compute."""
    text = (
        f'The box asks for too much: "{_quoted(found.answer)}". Give a value or a closed form of at most '
        f"{LONGEST_ANSWER:,} characters, without towers of powers or huge factorials."
    )
    return item("format_error", text, span=found.span, data={"code": "too_costly"})


def other_form() -> Item:
    """The item for a right answer that is written in another form than the reference."""
    text = "Right, in another form than the reference's."
    return item("hint", text, severity="info", visibility="teacher", leak_level=0, data={"code": "other_form"})


def no_verdict(outcome: Outcome) -> Item:
    """The item for a comparison that came to no end."""
    what = "took too long" if outcome is Outcome.TIMEOUT else "broke down"
    text = f"The answer could not be judged: the comparison {what}."
    return item("env_error", text, severity="fatal", visibility="log", data={"code": outcome.value})


def expected(gold: str) -> Item:
    """The item that states the answer, for the teacher alone."""
    data = {"code": "expected", "expected": gold}
    return item("reference", f"Expected: {gold}", visibility="teacher", leak_level=3, data=data)


def is_absurd(answer: str) -> bool:
    r"""Whether an answer is, by its text alone, beyond what a comparison may compute.

    Longer than 2,000 characters, brackets nested 30 deep, a tower of three powers, an exponent with five digits or
    that is itself a power of numbers, the factorial of a five-digit number or of a factorial.

    >>> is_absurd("9^{9^{9^9}}"), is_absurd("2^{100}"), is_absurd("(10!)!")
    (True, False, True)
    """
    if len(answer) > LONGEST_ANSWER:
        return True
    depth = deepest = 0
    for char in answer:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest > _DEEPEST or any(p.search(answer) for p in (_TOWER, _HUGE_EXPONENT, _HUGE_FACTORIAL))


def _no_answer(action: str, found: Extraction, cut_off: bool) -> Item:
    span = found.span or (len(action), len(action))
    if found.state is State.UNCLOSED_BOX:
        text = "The last \\boxed{ is never closed: count its braces."
    elif found.state is State.EMPTY_BOX:
        text = "The last \\boxed{} is empty: write the final answer into it."
    elif found.state is State.BOX_IN_THINKING:
        text = "The only \\boxed{} stands in the thinking, which does not count: repeat it after </think>."
    elif found.bare and not cut_off:
        quoted = _quoted(found.bare)
        text = f'The final answer must stand in a box: put "{quoted}" into \\boxed{{}}.'
    elif cut_off:
        text = "There is no \\boxed{} yet: reach the final answer in fewer words."
    else:
        text = "There is no \\boxed{}: write the final answer as \\boxed{...}."
    return item("format_error", text, span=span, data={"code": found.state.value})


def _unparsable(found: Extraction, verdict: Comparison) -> Item:
    if is_absurd(found.answer):
        return too_costly(found)
    text = f'The answer cannot be read as mathematics: "{_quoted(found.answer)}"'
    token = verdict.bad_token
    span = found.span
    if token and token != found.answer:
        text += f', first at "{_quoted(token)}"'
        offset = found.answer.find(token)
        if span is not None and offset >= 0:
            span = span[0] + offset, span[0] + offset + len(token)
    return item("format_error", f"{text}.", span=span, data={"code": "unparsable"})


def _unequal(found: Extraction, verdict: Comparison) -> list[Item]:
    text = f'The final answer "{_quoted(found.answer)}" is not correct.'
    problems = [item("wrong_answer", text, span=found.span, leak_level=0, data={"code": "not_equal"})]
    wanted, given = _A_KIND.get(verdict.gold_kind), _A_KIND.get(verdict.answer_kind)
    relation = verdict.relation or ""
    if relation in _FORMS:
        problems.append(_detail(found, _FORMS[relation], 1, "wrong_form", relation))
    elif relation in _RELATIONS:
        problems.append(_detail(found, _RELATIONS[relation], 2, "near_miss", relation))
    if wanted and given and wanted != given and {verdict.gold_kind, verdict.answer_kind} != {"number", "expression"}:
        problems.append(_detail(found, f"The right answer is {wanted}; this is {given}.", 1, "wrong_kind"))
    return problems


def _detail(found: Extraction, text: str, leak_level: LeakLevel, code: str, relation: str = "") -> Item:
    data = {"code": code, "relation": relation} if relation else {"code": code}
    return item("wrong_answer", text, span=found.span, leak_level=leak_level, data=data)


def _quoted(text: str) -> str:
    return clip(" ".join(text.split()), _QUOTE)

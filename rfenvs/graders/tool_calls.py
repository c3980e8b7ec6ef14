"""Grade a reply that should be tool calls: read, check against the catalogue, compare with the answer.

Every stage reports what it finds, in a fixed order, and names what is wrong without naming what is right: the
reference is compared with, never quoted. What the catalogue alone can tell has leak level 0, what needs the
reference has level 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rfenvs.feedback import Item, Kind, item
from rfenvs.graders.call_match import Expected, Matching, Order, expect, match
from rfenvs.graders.call_syntax import FORMS, Call, Form, ParseError, Span, parse_calls
from rfenvs.graders.json_values import faults, quote, suggest

__all__ = [
    "Call",
    "Expected",
    "Grade",
    "ParseError",
    "Problem",
    "check",
    "compare",
    "grade",
    "grade_calls",
    "no_tool_fits",
    "parse_calls",
    "unreadable",
    "write_call",
]

Tool = Mapping[str, Any]
"""`{"name": str, "description": str, "parameters": JSON schema of an object}`."""

_ERROR_NAMES = {
    "missing": "TypeError",
    "unexpected": "TypeError",
    "type": "TypeError",
    "enum": "ValueError",
    "range": "ValueError",
}
_MOST_PROBLEMS = 32


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the calls."""

    kind: Kind
    code: str
    message: str
    call: int | None = None
    """Number of the call, from 0; None: all of them together."""
    span: Span | None = None

    def item(self) -> Item:
        """Word the problem as a feedback item, visible to the policy."""
        data: dict[str, Any] = {"code": self.code}
        if self.call is not None:
            data["call"] = self.call
        return item(self.kind, self.message, span=self.span, data=data)


@dataclass(frozen=True, slots=True)
class Grade:
    """The outcome: no problems means that the calls are the expected ones."""

    problems: list[Problem]
    calls: list[Call] | None
    """None where the reply could not be read."""
    correct: int
    """How many of the expected calls were made."""


def grade(
    text: str,
    expected: Sequence[Call | Expected],
    tools: Sequence[Tool],
    *,
    forms: Sequence[Form] = FORMS,
    order: Order = "any",
    reference_wins: bool = False,
) -> Grade:
    """Read `text`, check the calls against `tools`, and compare them with `expected`.

    Args:
        text: The reply.
        expected: The calls asked for; a plain `Call` stands for exactly its arguments, defaults aside.
        tools: The catalogue.
        forms: The notations that are read.
        order: Whether the order of the calls matters.
        reference_wins: Calls that are the expected ones have no problems, even where they break the catalogue: for
            public data sets, some of whose answers do.

    >>> tool = {"name": "timer", "parameters": {"properties": {"minutes": {"type": "integer"}}}}
    >>> grade("timer(minutes=6)", [Call("timer", {"minutes": 5})], [tool]).problems[0].message
    'ValueError: "minutes" is not what the request asks for.'
    """
    calls = parse_calls(text, forms)
    if isinstance(calls, ParseError):
        return Grade([unreadable(text, calls)], None, 0)
    return grade_calls(calls, expected, tools, order=order, reference_wins=reference_wins)


def grade_calls(
    calls: list[Call],
    expected: Sequence[Call | Expected],
    tools: Sequence[Tool],
    *,
    order: Order = "any",
    reference_wins: bool = False,
) -> Grade:
    """What `grade` does with calls that have been read."""
    schemas = {tool["name"]: tool.get("parameters", {}) for tool in tools}
    wanted = [e if isinstance(e, Expected) else expect(e, schemas.get(e.name, {})) for e in expected]
    matching = match(calls, wanted, order)
    problems: list[Problem] = []
    if not (matching.complete and reference_wins):
        problems = check(calls, schemas)
        problems += _count_problem(calls, wanted, order) if problems else _explain(matching, calls, wanted, order)
    return Grade(problems[:_MOST_PROBLEMS], calls, matching.correct)


def unreadable(text: str, error: ParseError) -> Problem:
    """The problem with a reply that holds no calls."""
    end = min(error.position + 1, len(text))
    return Problem("format_error", "syntax", f"SyntaxError: {error.message}.", span=(min(error.position, end), end))


def check(calls: Sequence[Call], schemas: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """The ways in which calls break the catalogue: unknown tools, and arguments against their schema."""
    problems: list[Problem] = []
    for number, call in enumerate(calls):
        if len(problems) >= _MOST_PROBLEMS:
            break
        schema = schemas.get(call.name)
        if schema is None:
            message = f"NameError: there is no tool {quote(call.name)}{suggest(call.name, schemas)}"
            message += "" if message.endswith("?") else "."
            problems.append(Problem("tool_error", "unknown_tool", message, number, call.name_span))
            continue
        for fault in faults(call.arguments, {"type": "object", **schema}):
            message = f"{_ERROR_NAMES[fault.code]} in {call.name}: {fault.message}"
            message += "" if message.endswith("?") else "."
            span = call.argument_spans.get(str(fault.path[0])) if fault.path else None
            problems.append(Problem("tool_error", fault.code, message, number, span or call.span))
    return problems


def no_tool_fits(calls: Sequence[Call]) -> list[Problem]:
    """What is wrong with calls where none was right; in the words of `compare`, so that they do not say so."""
    several = len(calls) > 1
    return [_no_rival(call, number, False, several) for number, call in enumerate(calls[:_MOST_PROBLEMS])]


def compare(
    calls: Sequence[Call],
    expected: Sequence[Call | Expected],
    schemas: Mapping[str, Mapping[str, Any]],
    order: Order = "any",
) -> list[Problem]:
    """How valid calls differ from the expected ones; nothing expected is quoted.

    Each call is held against the expected call of the same tool that `match` pairs it with, and differs from it in
    arguments; one that has no partner is a wrong or superfluous call.
    """
    wanted = [e if isinstance(e, Expected) else expect(e, schemas.get(e.name, {})) for e in expected]
    return _explain(match(calls, wanted, order), calls, wanted, order)


def _explain(matching: Matching, calls: Sequence[Call], expected: Sequence[Expected], order: Order) -> list[Problem]:
    if not matching.in_order:
        message = "ValueError: the calls are right, but not in the order that the request needs."
        return [Problem("wrong_answer", "order", message)]
    problems = _count_problem(calls, expected, order)
    several = len(calls) > 1
    for number, call in enumerate(calls):
        if number not in matching.differences:
            problems.append(_no_rival(call, number, len(calls) > len(expected), several))
            continue
        where = f" of call {number + 1}" if several else ""
        for argument, code in matching.differences[number]:
            span = call.argument_spans.get(argument, call.span)
            name = f"{quote(argument)}{where}"
            message = {
                "wrong_value": f"ValueError: {name} is not what the request asks for.",
                "not_asked": f"ValueError: {name} is not asked for; leave it out.",
                "left_out": f"ValueError: {name} is left out, but the request asks for it.",
            }[code]
            problems.append(Problem("wrong_answer", code, message, number, span))
    if matching.lacking and not problems:  # the number is right thanks to a call that may be left out
        message = "ValueError: a call that the request needs is missing."
        problems.append(Problem("wrong_answer", "missing_call", message))
    return problems


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Write a call in its canonical notation; `parse_calls` reads it back.

    >>> write_call("weather", {"city": "Oslo", "days": 3})
    'weather(city="Oslo", days=3)'
    """
    return f"{name}({', '.join(f'{key}={_literal(value)}' for key, value in arguments.items())})"


def _literal(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_scalar(k)}: {_literal(v)}' for k, v in value.items())}}}"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """Write a string or number as JSON does, in full."""
    return json.dumps(value, ensure_ascii=False)


def _no_rival(call: Call, number: int, too_many: bool, several: bool) -> Problem:
    if too_many:
        message = f"ValueError: call {number + 1} is not one that the request asks for."
        return Problem("wrong_answer", "extra_call", message, number, call.span)
    where = f" in call {number + 1}" if several else ""
    message = f"ToolError: {call.name}{where} is not the tool that the request needs."
    return Problem("wrong_answer", "wrong_tool", message, number, call.name_span)


def _count_problem(calls: Sequence[Call], expected: Sequence[Expected], order: Order) -> list[Problem]:
    most = len(expected)
    fewest = 0 if order == "prefix" else sum(not wanted.optional for wanted in expected)
    if fewest <= len(calls) <= most:
        return []
    if order == "prefix":
        message = f"ValueError: expected {most} call{'s' if most != 1 else ''} at most, got {len(calls)}."
    else:
        number = str(most) if fewest == most else f"{fewest} or {most}" if most == fewest + 1 else f"{fewest} to {most}"
        message = f"ValueError: expected {number} call{'s' if most != 1 else ''}, got {len(calls)}."
    return [Problem("wrong_answer", "count", message)]

"""Grade a reply that should be tool calls: read, check against the catalogue, compare with the answer.

Every stage reports all that it finds, in a fixed order, and names what is wrong without naming what is right:
the reference is compared with, never quoted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rfenvs.feedback import Item, Kind, item
from rfenvs.graders.call_syntax import Call, ParseError, Span, parse_calls
from rfenvs.graders.json_values import canonical, faults, quote, same, suggest

__all__ = ["Call", "Grade", "ParseError", "Problem", "check", "compare", "grade", "parse_calls", "write_call"]

Tool = Mapping[str, Any]
"""`{"name": str, "description": str, "parameters": JSON schema of an object}`."""

_ERROR_NAMES = {
    "missing": "TypeError",
    "unexpected": "TypeError",
    "type": "TypeError",
    "enum": "ValueError",
    "range": "ValueError",
}


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


def grade(text: str, expected: Sequence[Call], tools: Sequence[Tool]) -> Grade:
    """Read `text`, check the calls against `tools`, and compare them with `expected` in any order.

    >>> tool = {"name": "timer", "parameters": {"properties": {"minutes": {"type": "integer"}}}}
    >>> grade("timer(minutes=6)", [Call("timer", {"minutes": 5})], [tool]).problems[0].message
    'ValueError: "minutes" is not what the request asks for.'
    """
    calls = parse_calls(text)
    if isinstance(calls, ParseError):
        message = f"SyntaxError: {calls.message}."
        end = min(calls.position + 1, len(text))
        span = (min(calls.position, end), end)
        return Grade([Problem("format_error", "syntax", message, span=span)], None, 0)
    schemas = {tool["name"]: tool.get("parameters", {}) for tool in tools}
    wanted = Counter(_key(call, schemas) for call in expected)
    correct = (wanted & Counter(_key(call, schemas) for call in calls)).total()
    problems = check(calls, schemas)
    problems += _count_problem(calls, expected) if problems else compare(calls, expected, schemas)
    return Grade(problems, calls, correct)


def check(calls: Sequence[Call], schemas: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Every way in which calls break the catalogue: unknown tools, and arguments against their schema."""
    problems: list[Problem] = []
    for number, call in enumerate(calls):
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


def compare(calls: Sequence[Call], expected: Sequence[Call], schemas: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """How valid calls differ from the expected ones, as multisets; nothing expected is quoted.

    Equal calls are set aside first. Each call left is then held against the most similar expected call of
    the same tool that is left, and differs from it in arguments; one that finds none is a wrong or
    superfluous call.
    """
    wanted = list(expected)
    wanted_keys = [_key(call, schemas) for call in wanted]
    left: list[tuple[int, Call]] = []
    for number, call in enumerate(calls):
        key = _key(call, schemas)
        if key in wanted_keys:
            at = wanted_keys.index(key)
            del wanted[at], wanted_keys[at]
        else:
            left.append((number, call))
    problems = _count_problem(calls, expected)
    several = len(calls) > 1
    for number, call in left:
        rivals = [other for other in wanted if other.name == call.name]
        where = f" of call {number + 1}" if several else ""
        if not rivals:
            problems.append(_no_rival(call, number, len(calls) > len(expected), several))
            continue
        schema = schemas.get(call.name, {})
        best = min(rivals, key=lambda other: len(_differences(call, other, schema)))
        wanted.remove(best)
        for argument, code in _differences(call, best, schema):
            span = call.argument_spans.get(argument, call.span)
            name = f"{quote(argument)}{where}"
            message = {
                "wrong_value": f"ValueError: {name} is not what the request asks for.",
                "not_asked": f"ValueError: {name} is not asked for; leave it out.",
                "left_out": f"ValueError: {name} is left out, but the request asks for it.",
            }[code]
            problems.append(Problem("wrong_answer", code, message, number, span))
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


def _key(call: Call, schemas: Mapping[str, Mapping[str, Any]]) -> str:
    return canonical([call.name, _with_defaults(call.arguments, schemas.get(call.name, {}))])


def _with_defaults(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults that the schema states: leaving one out and writing it are the same call."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    return {key: p["default"] for key, p in properties.items() if "default" in p} | dict(arguments)


def _differences(call: Call, other: Call, schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Arguments in which `call` differs from `other`, each with what is wrong about it."""
    got, want = _with_defaults(call.arguments, schema), _with_defaults(other.arguments, schema)
    found = []
    for name in [*got, *(name for name in want if name not in got)]:
        if name not in want:
            found.append((name, "not_asked"))
        elif name not in got or (name not in call.arguments and not same(got[name], want[name])):
            found.append((name, "left_out"))
        elif not same(got[name], want[name]):
            found.append((name, "wrong_value"))
    return found


def _no_rival(call: Call, number: int, too_many: bool, several: bool) -> Problem:
    if too_many:
        message = f"ValueError: call {number + 1} is not one that the request asks for."
        return Problem("wrong_answer", "extra_call", message, number, call.span)
    where = f" in call {number + 1}" if several else ""
    message = f"ToolError: {call.name}{where} is not the tool that the request needs."
    return Problem("wrong_answer", "wrong_tool", message, number, call.name_span)


def _count_problem(calls: Sequence[Call], expected: Sequence[Call]) -> list[Problem]:
    if len(calls) == len(expected):
        return []
    plural = "s" if len(expected) != 1 else ""
    message = f"ValueError: expected {len(expected)} call{plural}, got {len(calls)}."
    return [Problem("wrong_answer", "count", message)]

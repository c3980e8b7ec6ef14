"""Check JSON values against the part of JSON schema that tool catalogues use, and compare them.

Understood: `type` (one or a list), `enum`, `required`, `properties`, `additionalProperties`, `items`,
`minimum`, `maximum`. Other keywords are ignored. Messages quote the value at hand and the schema, never an
expected answer.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_TYPE_NAMES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_LONGEST_QUOTE = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a value breaks its schema."""

    code: str
    """`missing`, `unexpected`, `type`, `enum` or `range`."""
    path: tuple[str | int, ...]
    """Where: keys and indices from the value checked."""
    message: str


def faults(value: Any, schema: Mapping[str, Any], path: tuple[str | int, ...] = ()) -> list[Fault]:
    """Every fault of `value`, in the schema's order; empty where it is valid.

    >>> faults({"n": "3"}, {"properties": {"n": {"type": "integer"}}})[0].message
    '"n" must be an integer, got the string "3"'
    """
    where = quote_path(path)
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else list(types)
    if types and not any(_has_type(value, name) for name in types):
        wanted = " or ".join(_TYPE_NAMES.get(name, name) for name in types)
        return [Fault("type", path, f"{where} must be {wanted}, got {describe(value)}")]
    if "enum" in schema and not any(same(value, option) for option in schema["enum"]):
        options = ", ".join(quote(option) for option in schema["enum"])
        return [Fault("enum", path, f"{where} must be one of {options}, got {quote(value)}")]
    found: list[Fault] = []
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            found.append(Fault("range", path, f"{where} must be at least {schema['minimum']}, got {quote(value)}"))
        if "maximum" in schema and value > schema["maximum"]:
            found.append(Fault("range", path, f"{where} must be at most {schema['maximum']}, got {quote(value)}"))
    if isinstance(value, dict):
        found += _object_faults(value, schema, path)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for index, entry in enumerate(value):
            found += faults(entry, schema["items"], (*path, index))
    return found


def _object_faults(value: dict[str, Any], schema: Mapping[str, Any], path: tuple[str | int, ...]) -> list[Fault]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    found = [
        Fault("missing", (*path, key), f"{quote_path((*path, key))} is missing")
        for key in schema.get("required", ())
        if key not in value
    ]
    extra = schema.get("additionalProperties", not properties)
    for key, entry in value.items():
        here = (*path, key)
        if key in properties:
            found += faults(entry, properties[key], here)
        elif isinstance(extra, Mapping):
            found += faults(entry, extra, here)
        elif not extra:
            message = f"there is no {quote_path(here)}{suggest(key, properties)}"
            found.append(Fault("unexpected", here, message))
    return found


def suggest(name: str, known: Iterable[str]) -> str:
    """Word a hint at close names, or list the few there are; empty where neither helps.

    >>> suggest("citty", ["city", "days"])
    '; did you mean "city"?'
    """
    known = list(known)
    close = difflib.get_close_matches(name[:100], known, n=2, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(map(quote, close))}?"
    return f"; use {', '.join(map(quote, known))}" if 0 < len(known) <= 12 else ""


def quote_path(path: tuple[str | int, ...]) -> str:
    """Write a path as `"user.names[0]"`."""
    if not path:
        return "the value"
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return quote(text)


def quote(value: Any) -> str:
    """Write a JSON value, shortened where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > _LONGEST_QUOTE:
        text = text[: _LONGEST_QUOTE - 4] + "..." + (text[-1] if text[-1] in '"]}' else "")
    return text


def describe(value: Any) -> str:
    """Name a value's type and quote it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {quote(value)}"
    names = {str: "string", int: "integer", float: "number", list: "list", dict: "object"}
    return f"the {names[type(value)]} {quote(value)}"


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: 1 equals 1.0, but true equals neither; order matters in lists only."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, str | int | float) or isinstance(right, str | int | float):
        return bool(left == right)
    return canonical(left) == canonical(right)


def canonical(value: Any) -> str:
    """One text for all equal JSON values."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _has_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    match name:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, int | float)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case "null":
            return value is None
        case "boolean":
            return False
    return True  # a type that JSON schema does not know constrains nothing

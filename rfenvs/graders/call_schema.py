"""Tool catalogues in other people's words, as JSON schema: the Berkeley leaderboard's, and ToolAlpaca's prose."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

TYPE_WORDS = {
    "dict": "object",
    "hashmap": "object",
    "float": "number",
    "double": "number",
    "int": "integer",
    "long": "integer",
    "bool": "boolean",
    "str": "string",
    "tuple": "array",
    "list": "array",
    "arraylist": "array",
}
"""Type words that are not JSON schema's own, in lower case."""
_KNOWN = ("string", "integer", "number", "boolean", "array", "object", "null")
_SCHEMA_KEYS = ("description", "default", "enum", "required", "minimum", "maximum", "format")

_PROSE = re.compile(r"\s*(Required\. ?)?\s*(Array\[|\w+)", re.ASCII)
_ITEMS = re.compile(r"Array\[(\w+)", re.ASCII)
_DEFAULT = re.compile(r"default(?: is|:) ([^\s,;()]+)")
_ONE_OF = re.compile(r"One of: \[([^\]]*)\]")


def json_type(word: str) -> str | None:
    """The JSON type of a type word; None where it allows anything, or is unknown.

    >>> json_type("float"), json_type("String"), json_type("any")
    ('number', 'string', None)
    """
    word = word.lower()
    word = TYPE_WORDS.get(word, word)
    return word if word in _KNOWN else None


def from_bfcl(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of the Berkeley Function-Calling Leaderboard as JSON schema, its parts too; a default of null allows it.

    >>> from_bfcl({"type": "dict", "properties": {"x": {"type": "float", "optional": True}}, "required": []})
    {'required': [], 'type': 'object', 'properties': {'x': {'type': 'number'}}}
    """
    converted = {key: schema[key] for key in _SCHEMA_KEYS if key in schema}
    kind = json_type(schema["type"]) if isinstance(schema.get("type"), str) else None
    if kind:
        converted["type"] = [kind, "null"] if schema.get("default", kind) is None else kind
    if isinstance(schema.get("properties"), Mapping):
        converted["properties"] = {name: from_bfcl(part) for name, part in schema["properties"].items()}
    if isinstance(schema.get("items"), Mapping):
        converted["items"] = from_bfcl(schema["items"])
    return converted


def from_prose(parameters: str) -> dict[str, Any] | None:
    """ToolAlpaca's `Parameters: {...}` as JSON schema; None where it is not JSON.

    Each argument is described as "Required. string. One of: [sms, email]. The identity provider."; "Required." and
    "One of" may be absent, lists are "Array[string]", and a whole number may have a "(default is 1)".

    >>> from_prose('{"n": "Required. integer. How many."}')["properties"]
    {'n': {'type': 'integer', 'description': 'Required. integer. How many.'}}
    """
    try:
        described = json.loads(parameters)
    except ValueError:
        return None
    if not isinstance(described, dict):
        return None
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, text in described.items():
        said = _PROSE.match(str(text))
        properties[name] = {}
        if said:
            required += [name] * bool(said.group(1))
            items = _ITEMS.search(str(text))
            kind = "array" if items else json_type(said.group(2))
            properties[name] = {"type": kind} if kind else {}
            if items and (inner := json_type(items.group(1))):
                properties[name]["items"] = {"type": inner}
            options = _ONE_OF.search(str(text))
            if options and kind == "string":
                properties[name]["enum"] = [option.strip() for option in options.group(1).split(",")]
            default = _DEFAULT.search(str(text))
            if default and not said.group(1) and kind in ("integer", "number") and default.group(1).isdecimal():
                properties[name]["default"] = int(default.group(1))
        properties[name]["description"] = str(text)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

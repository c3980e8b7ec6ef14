"""Tools over a database: how a method becomes a tool, and how a call is checked, run and answered.

A world has two sides, the agent's and the user's, each a `Toolkit`: a database and the methods that work on it.
Three decorators say who may name a method. Calls of the policy reach `@tool`s alone, and nothing is ever looked up by
a name that no decorator marked.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from rfenvs.graders.call_syntax import Call
from rfenvs.graders.tool_calls import check

Schema = dict[str, Any]
"""JSON schema of one argument; one with a `default` may be left out."""
Kind = Literal["read", "write", "generic"]
"""Whether a tool only looks, changes a database, or neither."""
Side = Literal["assistant", "user"]
"""Whose toolkit, in the data's words; in solo mode the agent holds both."""

_ROLE = "_rfenvs_role"
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Record(BaseModel):
    """A record of a database: no unknown fields."""

    model_config = ConfigDict(extra="forbid")


_Database = TypeVar("_Database", bound=Record)


class ToolError(ValueError):
    """A tool refuses; the caller reads the message."""


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """What the policy is told of a tool; equal to itself alone."""

    name: str
    description: str
    parameters: Schema
    kind: Kind

    def schema(self) -> dict[str, Any]:
        """`{"name", "description", "parameters"}`."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}

    def signature(self) -> str:
        """The tool on one line; a question mark follows an optional argument."""
        required = self.parameters["required"]
        arguments = ", ".join(
            f"{name}{'' if name in required else '?'}: {_type_name(schema)}"
            for name, schema in self.parameters["properties"].items()
        )
        return f"{self.name}({arguments}): {self.description}"


@dataclass(frozen=True, slots=True)
class _Setup:
    """A step of an initial state; the policy cannot call it."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A check on an end state."""

    about: str
    """What it looks at, in words that give no expected value away."""


def tool(kind: Kind, description: str, /, **arguments: Schema) -> Callable[[_Function], _Function]:
    """Mark a method as a tool."""

    def mark(function: _Function) -> _Function:
        parameters = {
            "type": "object",
            "properties": arguments,
            "required": [name for name, schema in arguments.items() if "default" not in schema],
            "additionalProperties": False,
        }
        setattr(function, _ROLE, Tool(function.__name__, description, parameters, kind))
        return function

    return mark


def setup(function: _Function) -> _Function:
    """Mark a method as a step of initial states."""
    setattr(function, _ROLE, _Setup())
    return function


def assertion(about: str) -> Callable[[_Function], _Function]:
    """Mark a method as a check on end states; it returns whether the check holds."""

    def mark(function: _Function) -> _Function:
        setattr(function, _ROLE, Assertion(about))
        return function

    return mark


class Toolkit(Generic[_Database]):
    """One side of a world. Subclasses mark their methods with `tool`, `setup` and `assertion`."""

    tools: ClassVar[Mapping[str, Tool]] = {}
    assertions: ClassVar[Mapping[str, Assertion]] = {}
    _setups: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, db: _Database) -> None:
        self.db = db

    def __init_subclass__(cls) -> None:
        members = [entry for base in reversed(cls.__mro__) for entry in vars(base).items()]
        roles = {name: getattr(value, _ROLE) for name, value in members if hasattr(value, _ROLE)}
        cls.tools = {name: role for name, role in roles.items() if isinstance(role, Tool)}
        cls.assertions = {name: role for name, role in roles.items() if isinstance(role, Assertion)}
        cls._setups = frozenset(name for name, role in roles.items() if isinstance(role, _Setup))

    def method(self, name: str) -> Callable[..., Any]:
        """A marked method, for initial states and assertions.

        Raises:
            LookupError: No such method is marked.
        """
        if name not in self.tools and name not in self.assertions and name not in self._setups:
            raise LookupError(f"{type(self).__name__} has no function {name!r}.")
        function: Callable[..., Any] = getattr(self, name)
        return function

    def update(self, values: Mapping[str, Any]) -> None:
        """Merge nested values into the database, as an initial state asks.

        Raises:
            pydantic.ValidationError: The result is no valid database.
        """
        self.db = type(self.db).model_validate(merged(self.db.model_dump(), values))


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes of one call."""

    text: str
    """For the policy; an error starts with `Error: `."""
    fault: str = ""
    """Empty where the tool ran; else `unknown_tool`, a schema fault (`missing`, `unexpected`, `type`, `enum`, `range`),
    or `refused`."""


class World:
    """Two toolkits that are kept in step."""

    def __init__(self, agent: Toolkit[Any], user: Toolkit[Any]) -> None:
        self.sides: dict[Side, Toolkit[Any]] = {"assistant": agent, "user": user}
        self.sync()

    def sync(self) -> None:
        """Carry over to one side what happened on the other; runs after every call."""

    @property
    def tools(self) -> dict[str, Tool]:
        """The tools of both sides, the agent's first."""
        return {**self.sides["assistant"].tools, **self.sides["user"].tools}

    def state(self) -> dict[str, Any]:
        """Both databases, as plain values."""
        return {side: toolkit.db.model_dump() for side, toolkit in self.sides.items()}

    def run(self, side: Side, name: str, arguments: Mapping[str, Any]) -> Any:
        """Run a trusted function of an initial state, or an assertion.

        Raises:
            LookupError: There is no such function.
            ToolError: It refuses.
        """
        result = self.sides[side].method(name)(**arguments)
        self.sync()
        return result

    def call(self, call: Call) -> Answer:
        """Run a call of the policy: any name, any arguments. Only a call that keeps to the tool's schema is run."""
        owner = next((toolkit for toolkit in self.sides.values() if call.name in toolkit.tools), None)
        if owner is None:
            return Answer(f"Error: Tool '{call.name}' not found.", "unknown_tool")
        problems = check([call], {call.name: owner.tools[call.name].parameters})
        if problems:
            return Answer("Error: " + " ".join(problem.message for problem in problems), problems[0].code)
        try:
            result = getattr(owner, call.name)(**call.arguments)
            self.sync()
        except ToolError as error:
            return Answer(f"Error: {error}", "refused")
        return Answer(text_of(result))


def text_of(result: Any) -> str:
    """Write a tool's result as tau2-bench does: text as it is, anything else as JSON.

    Numbers that do not stand in a record come out as strings, and dates in a record with a blank before the time.
    """
    return result if isinstance(result, str) else json.dumps(_plain(result), default=str)


def _plain(result: Any) -> Any:
    if isinstance(result, Record):
        return result.model_dump()
    if isinstance(result, list):
        return [_plain(entry) for entry in result]
    if isinstance(result, dict):
        return {key: _plain(entry) for key, entry in result.items()}
    if isinstance(result, datetime.date):
        return result.isoformat()
    return result if result is None else str(result)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; anything else is replaced.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    result = dict(values)
    for key, change in changes.items():
        old = result.get(key)
        result[key] = merged(old, change) if isinstance(old, Mapping) and isinstance(change, Mapping) else change
    return result


def _type_name(schema: Schema) -> str:
    if "enum" in schema:
        return "|".join(json.dumps(option) for option in schema["enum"])
    if schema["type"] == "object" and "properties" in schema:
        return f"{{{', '.join(f'{name}?: {_type_name(value)}' for name, value in schema['properties'].items())}}}"
    kinds = schema["type"]
    return kinds if isinstance(kinds, str) else "|".join(kinds)

"""What the simulated services share: state as dataclass fields, tools as marked methods, one way to call them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from rfenvs.feedback import Item
from rfenvs.graders.call_syntax import Call
from rfenvs.graders.tool_calls import Problem, check

_Method = TypeVar("_Method", bound=Callable[..., Any])

_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "str | None": {"type": ["string", "null"]},
    "int": {"type": "integer"},
    "int | str": {"type": ["integer", "string"]},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list[str]": {"type": "array", "items": {"type": "string"}},
    "list[float]": {"type": "array", "items": {"type": "number"}},
    "dict[str, Any]": {"type": "object"},
}
_UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a tool raises for values too large for arithmetic, texts that are no date, and scenarios of an odd shape."""


class ToolError(Exception):
    """A tool refuses; `fields` come before `"error"` in its result."""

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.fields = fields


def need(condition: object, message: str, **fields: Any) -> None:
    """Refuse with `message` unless `condition` holds."""
    if not condition:
        raise ToolError(message, **fields)


def tool(method: _Method) -> _Method:
    """Mark a method as one that calls may name; its docstring is the tool's description."""
    method.is_tool = True  # type: ignore[attr-defined]
    return method


def hidden(default: Any, *, key: str = "") -> Any:
    """A field that belongs to the state but is not compared; `key` is its name in a scenario."""
    return field(default=default, compare=False, metadata={"key": key} if key else {})


def copy_json(value: Any) -> Any:
    """Copy a JSON value; much faster than `copy.deepcopy`.

    Raises:
        OverflowError: It holds a number that JSON cannot.
    """
    if isinstance(value, dict):
        return {key: copy_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [copy_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError("the number is too large to represent")
    return value


@dataclass(kw_only=True)
class SimulatedApi:
    """A service in memory. Fields are its state; those with `compare=True` decide whether two states are equal.

    Subclasses are dataclasses. A scenario replaces the defaults of fields by name (or by `metadata["key"]`).
    """

    tools: ClassVar[dict[str, dict[str, Any]]] = {}
    """The tools of a class: `{"name", "description", "parameters": JSON schema}` by name."""
    parameters: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Names of each tool's arguments in the order of its signature."""

    random_seed: int = hidden(0)

    def __init_subclass__(cls) -> None:
        """Collect the marked methods."""
        methods = {name: m for name, m in vars(cls).items() if getattr(m, "is_tool", False)}
        cls.tools = {name: _describe(cls, method) for name, method in methods.items()}
        cls.parameters = {name: tuple(t["parameters"]["properties"]) for name, t in cls.tools.items()}

    def __post_init__(self) -> None:
        self._random = Random(self.random_seed)

    @classmethod
    def load(cls, scenario: Mapping[str, Any]) -> Self:
        """Start from a scenario, which is copied; entries that name no field are ignored."""
        fields = {entry.name: entry.metadata.get("key", entry.name) for entry in dataclasses.fields(cls)}
        return cls(**{name: copy_json(scenario[key]) for name, key in fields.items() if key in scenario})

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool with arguments that fit its schema; what goes wrong becomes `{"error": ...}`."""
        properties = self.tools[name]["parameters"]["properties"]
        given = {key: _fit(value, properties[key]) for key, value in arguments.items()}
        try:
            return copy_json(getattr(self, name)(**given))  # a later call may change what this one shows
        except ToolError as error:
            return {**error.fields, "error": str(error)}
        except _UNFIT as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def differences(self, other: Self) -> list[str]:
        """Names of the compared fields in which two states differ."""
        names = [entry.name for entry in dataclasses.fields(self) if entry.compare]
        return [name for name in names if getattr(self, name) != getattr(other, name)]


class Outcome(NamedTuple):
    """What one call came to."""

    result: Any
    """What the tool returned: a JSON value."""
    problem: Item | None
    """The same as a feedback item, where it is an error."""


class Toolbox:
    """The services of one episode behind one table of tools. Nothing is shared between two toolboxes."""

    def __init__(self, apis: Iterable[SimulatedApi], tools: Iterable[str]) -> None:
        self.apis = list(apis)
        allowed = set(tools)
        self._owners = {name: api for api in self.apis for name in api.tools if name in allowed}
        self._schemas = {name: api.tools[name]["parameters"] for name, api in self._owners.items()}

    def call(self, call: Call, number: int = 0) -> Outcome:
        """Check one call against the catalogue and carry it out; `number` is its place in the message."""
        problems = check([call], self._schemas)
        if problems:
            problem = problems[0]
            item = Problem(problem.kind, problem.code, problem.message, number, problem.span).item()
            return Outcome({"error": problem.message}, item)
        result = self._owners[call.name].call(call.name, call.arguments)
        message = error_of(result)
        if message is None:
            return Outcome(result, None)
        return Outcome(result, Problem("tool_error", "refused", message, number, call.span).item())

    def differences(self, other: Toolbox) -> dict[str, list[str]]:
        """Which fields of which services differ from those of a toolbox with the same services."""
        pairs = zip(self.apis, other.apis, strict=True)
        found = {type(mine).__name__: mine.differences(theirs) for mine, theirs in pairs}
        return {name: fields for name, fields in found.items() if fields}


def error_of(result: Any) -> str | None:
    """The error that a result states, or None: `{"error": ...}`, or a list that holds one."""
    if isinstance(result, list) and len(result) == 1:
        result = result[0]
        if isinstance(result, str) and result.startswith("Error: "):
            return result.removeprefix("Error: ")
    if isinstance(result, dict) and "error" in result:
        return str(result["error"])
    return None


def _fit(value: Any, schema: Mapping[str, Any]) -> Any:
    """Copy an argument, so that no state holds a list of the caller's; 5.0 becomes 5 where an integer is due."""
    if schema["type"] == "integer" and isinstance(value, float):
        return int(value)
    return copy_json(value)


def _describe(cls: type, method: Callable[..., Any]) -> dict[str, Any]:
    """Write the JSON schema of a method from its signature."""
    properties: dict[str, dict[str, Any]] = {}
    required = []
    for name, parameter in list(inspect.signature(method).parameters.items())[1:]:
        schema = json.loads(json.dumps(_TYPES[parameter.annotation]))
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
        else:
            schema["default"] = copy_json(parameter.default)
        properties[name] = schema
    return {
        "name": method.__name__,
        "description": f"{cls.__name__}. {' '.join((method.__doc__ or '').split())}",
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        },
    }

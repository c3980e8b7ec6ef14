"""Episodes of BFCL's multi-turn part: reading the public files, and what is known to be wrong with them."""

from __future__ import annotations

import ast
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rfenvs.datasets import DataFile, DatasetSpec, Source, locate
from rfenvs.envs.bfcl_apis import APIS
from rfenvs.graders.tool_calls import Call
from rfenvs.rows import DataError, Row, read_rows

_FOLDER = "berkeley-function-call-leaderboard/bfcl_eval/data/"
_EPISODES = "BFCL_v4_multi_turn_base.json"
_DOCUMENTATION = """
GorillaFileSystem gorilla_file_system  18  13953 c4c1b741c71e2a17c97a5dc9c4a91d89978c4eaece56494d14272d5df6c650e9
MathAPI           math_api             17   9158 83fa31708c89442bdcf12ac4dfbe3be8663ec9183a1b1524a9fda98164bc7e0b
MessageAPI        message_api          10   6027 4d58ea933a5d2b280d7a52366617fb47fecd333d7b0e08e724db6fa12fb5f847
TicketAPI         ticket_api            9   6648 31324e0380782664fe82ba05bd23517808ad55692b45a5fe7c3d4d395fe4f0f8
TradingBot        trading_bot          20  12608 1a7933fd8f0cb8fbec38aeae05cb8c24132747cad4904fe1c13ac3d01fc22c2d
TravelAPI         travel_booking       18  16979 f17b950c13adddf41d0848077df58788252e4c2e7cad5cfa71c8c4bf04f57b26
TwitterAPI        posting_api          14  10573 87f9fc404a06e4107d7c366f1399c596440e84c16cb119faf374b2f532d86e8b
VehicleControlAPI vehicle_control      22  17545 0c8a66292844874ef7b168f343bc394d8615d2d9e1f4387999a9ee23011eac78
"""
"""Service, file, tools, bytes and SHA-256."""
_DOCS = tuple(tuple(line.split()) for line in _DOCUMENTATION.strip().splitlines())

SPEC = DatasetSpec(
    id="bfcl-multi-turn",
    hub_id="ShishirPatil/gorilla",
    host="github",
    revision="6ea57973c7a6097fd7c5915698c54c17c5b1b6c8",
    files=(
        DataFile(
            _FOLDER + _EPISODES,
            rows=200,
            size=390_425,
            sha256="1a21a995d06fd6f20ba55de7bced30ef953ec35e998f502ec2ecf4d66ef1c43a",
        ),
        DataFile(
            f"{_FOLDER}possible_answer/{_EPISODES}",
            rows=200,
            size=78_931,
            sha256="1fee67823b317571649177dd89d63969feaae4e810cc7448ee55ba797fb7c8fc",
        ),
        *(
            DataFile(f"{_FOLDER}multi_turn_func_doc/{name}.json", rows=int(rows), size=int(size), sha256=hash)
            for _, name, rows, size, hash in _DOCS
        ),
    ),
    licence="Apache-2.0",
    columns={"id": str, "question": list, "initial_config": dict, "involved_classes": list},
    sample=Path(__file__).parent / "samples" / "bfcl_multi_turn.jsonl",
    split_rule="a benchmark without a training set: both splits hold every episode",
)
"""The data set: episodes, their expected calls, and the documentation of the tools."""

_JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}

KNOWN_BAD = {
    "multi_turn_base_4": "the expected post reorders a line that sorting leaves as it is",
    "multi_turn_base_18": "the expected post lacks the line break of the difference it quotes",
    "multi_turn_base_30": "the expected post lacks the quotation marks of the file it should quote exactly",
    "multi_turn_base_171": "the expected message ends with a full stop that the request does not have",
    "multi_turn_base_173": "the ticket to cancel is named nowhere, and no tool lists it",
    "multi_turn_base_176": "the expected ticket says 2023 where the request says 2026",
    "multi_turn_base_178": "the expected ticket has priority 4, which nobody asks for",
    "multi_turn_base_184": "the expected message ends with a full stop that the request does not have",
    "multi_turn_base_187": "the expected ticket has a text of its own, which the request does not give",
    "multi_turn_base_188": "a failed login with a name and password that nobody gives is expected",
}
"""Episodes of the public data that cannot be won by doing what the user says, with the reason; a test shows it."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One conversation: what the user says turn by turn, and the calls that each turn needs."""

    id: str
    apis: tuple[str, ...]
    """Names of the services it plays on."""
    scenario: Mapping[str, Mapping[str, Any]]
    """Initial state by service."""
    requests: tuple[str, ...]
    """The user's messages, at least one."""
    gold: tuple[tuple[Call, ...], ...]
    """The expected calls of each user turn; none where the user only chats."""
    excluded: frozenset[str]
    """Tools that are not on offer in this episode."""


class Tool(NamedTuple):
    """A tool on offer."""

    schema: dict[str, Any]
    """`{"name", "description", "parameters": JSON schema}`."""
    line: str
    """The same as one line of JSON."""


Tools = Mapping[str, tuple[Tool, ...]]
"""The tools of each service."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Episodes, the tools they play with, and where both come from."""

    episodes: tuple[Episode, ...]
    tools: Tools
    revision: str
    source: Source


def load(data: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the episodes.

    Args:
        data: A folder with the public files, one file whose rows hold `ground_truth` themselves, `"hub"`,
            `"sample"`, or None for the best there is (`rfenvs.datasets`).

    Raises:
        DataError: A file is damaged, or an episode names a service, a tool or an argument that does not exist.
        DataUnavailable: `data="hub"` and no hub.
        FileNotFoundError: `data` is a path, and nothing is there.
    """
    located = locate(SPEC, data, [entry.path for entry in SPEC.files])
    stamps = tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in located.paths)
    episodes, tools = _read(located.paths, stamps)
    return Dataset(episodes, tools, located.revision, located.source)


@functools.lru_cache(maxsize=4)
def _read(paths: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> tuple[tuple[Episode, ...], Tools]:
    """The episodes and tools of some files; files of another size or time are other files."""
    path, *others = paths
    answers: dict[str, Any] = {}
    if others:
        answers = {row.values["id"]: row.values for row in read_rows(others[0], {"id": str, "ground_truth": list})}
    episodes = []
    for row in read_rows(path, SPEC.columns):
        answer = answers.get(row.values["id"], row.values)
        try:
            episodes.append(_episode(row.values, answer["ground_truth"]))
        except KeyError as error:
            raise DataError(f"{path.name}, line {row.line}: there is no {error}.") from None
        except _Unreadable as error:
            raise DataError(f"{path.name}, line {row.line}: {error}.") from None
    schemas = {name: list(api.tools.values()) for name, api in APIS.items()}
    schemas |= {name: _documented(doc) for (name, *_), doc in zip(_DOCS, others[1:], strict=False)}
    tools = {name: tuple(Tool(s, json.dumps(s, ensure_ascii=False)) for s in group) for name, group in schemas.items()}
    return tuple(episodes), tools


class _Unreadable(Exception):
    """An episode is not what it should be."""


def _episode(values: Mapping[str, Any], turns: Sequence[Sequence[str]]) -> Episode:
    names = tuple(values["involved_classes"])
    for name in names:
        if name not in APIS:
            raise _Unreadable(f'there is no service "{name}"; use {", ".join(APIS)}')
    requests = tuple(_request(messages) for messages in values["question"])
    if not requests or len(requests) != len(turns):
        raise _Unreadable(f"{len(requests)} requests, but expected calls for {len(turns)}")
    parameters = {tool: keys for name in names for tool, keys in APIS[name].parameters.items()}
    return Episode(
        id=values["id"],
        apis=names,
        scenario={name: values["initial_config"].get(name, {}) for name in names},
        requests=requests,
        gold=tuple(tuple(read_gold(text, parameters) for text in turn) for turn in turns),
        excluded=frozenset(values.get("excluded_function", ())),
    )


def _request(messages: Sequence[Mapping[str, str]]) -> str:
    if not messages or any(message["role"] != "user" for message in messages):
        raise _Unreadable("a user turn must hold messages of the user, and nothing else")
    return "\n".join(message["content"] for message in messages)


def read_gold(text: str, parameters: Mapping[str, tuple[str, ...]]) -> Call:
    """Read an expected call, such as `tail("a.txt", lines=2)`; arguments without a name get one. Only literals.

    Args:
        text: The call, from the data set and not from a model.
        parameters: Names of the arguments of every tool, in order.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError("no call")
        name = node.func.id
        if name not in parameters:
            raise _Unreadable(f"the expected call {text} names no tool of these services")
        arguments = dict(zip(parameters[name], map(ast.literal_eval, node.args), strict=False))
        arguments |= {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    except (SyntaxError, ValueError) as error:
        raise _Unreadable(f"the expected call {text} cannot be read: {error}") from None
    return Call(name, json.loads(json.dumps(arguments)))


def _documented(path: Path) -> list[dict[str, Any]]:
    """The tools of a file of the data set, as JSON schema."""
    columns = {"name": str, "description": str, "parameters": dict}
    return [_tool(row) for row in read_rows(path, columns)]


def _tool(row: Row) -> dict[str, Any]:
    values = row.values
    return {
        "name": values["name"],
        "description": values["description"],
        "parameters": _schema(values["parameters"]),
    }


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_entries(schema))


def _entries(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key == "type":
            kind = _JSON_TYPES.get(value, value)
            if kind is not None:
                yield key, kind
        elif key == "properties":
            yield key, {name: _schema(entry) for name, entry in value.items()}
        elif key == "items":
            yield key, _schema(value)
        elif key == "default":
            yield key, None if value == "None" else value
        else:
            yield key, value

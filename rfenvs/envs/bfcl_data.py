"""The data of `rfenvs/BFCL-v0`: questions of the Berkeley Function-Calling Leaderboard, and what counts as right."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfenvs.datasets import DataFile, DatasetSpec, Located, Source, locate
from rfenvs.graders.call_match import Accepts, Expected, same_loosely
from rfenvs.graders.call_schema import from_bfcl
from rfenvs.graders.json_values import faults, same
from rfenvs.graders.tool_calls import Call
from rfenvs.rows import DataError, Row, read_rows
from rfenvs.tasks import Message

FOLDER = "berkeley-function-call-leaderboard/bfcl_eval/data"
"""Where the files are in the leaderboard's repository."""
CATEGORIES = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "irrelevance",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
)
"""Categories whose answers are calls in one reply, or no call."""
_FILES = (
    ("BFCL_v4_irrelevance.json", 240, 159940, "2b6ed4c2e992cdcf5f1678a701851f944bef7550ee026ed1ddb89efed5be01a6"),
    ("BFCL_v4_live_irrelevance.json", 884, 2209534, "6559fda2beaceb609a2cd2e504c65b4a56cb448e1ef88fddfd199e163d163349"),
    ("BFCL_v4_live_multiple.json", 1053, 3891277, "fd8ccfad4d911420d0e3341dbe2fff77d1d341da934248b9bb2bda24ab3a10c8"),
    ("BFCL_v4_live_parallel.json", 16, 15649, "6c26e9fdc3350cf596e6d1ea9c179cbff834761bccf562f4141ed29a839ca421"),
    (
        "BFCL_v4_live_parallel_multiple.json",
        24,
        82332,
        "21d4b9319c1faac431e22757b367ea28917fe467364c3a4b17f16ec06d4f6e79",
    ),
    ("BFCL_v4_live_simple.json", 258, 260140, "1af2ac87dca47556db7b7e37e51e28b459a38b594e3c7b3c792b4903598ca0c4"),
    ("BFCL_v4_multiple.json", 200, 316583, "aef168155ebd74b7ac2401198b201343bc7d16d7a3d7e0d4e6d8ee82c6969b2a"),
    ("BFCL_v4_parallel.json", 200, 171896, "19f51a82eff42e5d62541aa500115a056eb78f437c2ba1f10415fd7c8e5dda84"),
    ("BFCL_v4_parallel_multiple.json", 200, 347080, "8863ea8433239f55c5f016154cf0830853c89f693c6ea270396a2fa121960579"),
    ("BFCL_v4_simple_python.json", 400, 283274, "82dd63ba502eb2520c6b5d1d9a5c4b590e03ff261565175561f6228a367d1991"),
    (
        "possible_answer/BFCL_v4_live_multiple.json",
        1053,
        199668,
        "97e90d59c5bd76c55a2920ce93e5566e9046307d3f558578f085f9d3a56c3084",
    ),
    (
        "possible_answer/BFCL_v4_live_parallel.json",
        16,
        4972,
        "8a9f189ff0e832ebbbbdade1fd95a7dbcc67406e9177df3f0aad76f59ab00350",
    ),
    (
        "possible_answer/BFCL_v4_live_parallel_multiple.json",
        24,
        7420,
        "f5b5f360556c5feb51db46fb9f56ee4b304f4b45b161599bbb14161c98a2873f",
    ),
    (
        "possible_answer/BFCL_v4_live_simple.json",
        258,
        46972,
        "fec9cfa9744a936f9126981e85a2023da1e63e273eafebc81923a1162fad70ce",
    ),
    (
        "possible_answer/BFCL_v4_multiple.json",
        200,
        32254,
        "244e00ce9395df948bcafc7bee64e8f9c87ef70887587d83cae45b13699f3047",
    ),
    (
        "possible_answer/BFCL_v4_parallel.json",
        200,
        66005,
        "8a6aa19c1adddc6a5a2f7e40f9dbf30cc7e95815e7b830c90589ab318229e0f0",
    ),
    (
        "possible_answer/BFCL_v4_parallel_multiple.json",
        200,
        74602,
        "5ebf24f458c1f16300c05505d83d6f0a1b68b79be273a033febd0d4f840507e3",
    ),
    (
        "possible_answer/BFCL_v4_simple_python.json",
        400,
        63627,
        "90cd5bc653690ee8e459b5b3f3fc9458606f7f3fcbf795bb51b7dc581f8c86dc",
    ),
)
SPEC = DatasetSpec(
    id="bfcl",
    hub_id="ShishirPatil/gorilla",
    host="github",
    revision="6ea57973c7a6097fd7c5915698c54c17c5b1b6c8",
    files=tuple(DataFile(f"{FOLDER}/{name}", rows, size, sha256) for name, rows, size, sha256 in _FILES),
    licence="Apache-2.0",
    columns={"id": str, "question": list, "function": list},
    sample=Path(__file__).parent / "samples" / "bfcl.jsonl",
    default=tuple(f"{FOLDER}/{name}" for name, *_ in _FILES if "live" not in name),
    split_rule="none: the leaderboard has one set of questions, which both splits hold",
)
"""The questions of BFCL v4, and its accepted answers."""

_TYPE, _ENUM = (
    "the accepted value has another type than the tool says",
    "the accepted value is none that the tool lists",
)
_LACKS = "the accepted calls leave out arguments that the tool requires"
_EXTRA = "the accepted call has an argument that the tool does not have"
KNOWN_BAD: dict[str, str] = {
    "parallel_multiple_21": "the accepted arguments are names of variables, where the tool wants lists of numbers",
    "parallel_multiple_94": "the accepted lists hold words, where the tool wants numbers",
    "live_simple_71-35-0": _ENUM,
    "live_simple_106-63-0": _LACKS,
    "live_simple_112-68-0": _LACKS,
    "live_multiple_17-4-9": "the accepted cuisine is not that of the dish (gorilla issue 1169)",
    "live_multiple_87-38-4": _ENUM,
    "live_multiple_152-58-6": _ENUM,
    "live_multiple_189-83-0": _EXTRA,
    "live_multiple_507-149-4": _LACKS,
    "live_multiple_552-153-1": _TYPE,
    "live_multiple_595-158-1": _TYPE,
    "live_multiple_596-158-2": _TYPE,
    "live_multiple_731-167-2": _TYPE,
    "live_multiple_733-167-4": _TYPE,
    "live_multiple_735-167-6": _TYPE,
    "live_multiple_750-169-5": _ENUM,
    "live_multiple_756-169-11": _ENUM,
    "live_multiple_835-178-10": _ENUM,
    "live_multiple_862-181-3": _EXTRA,
    "live_multiple_871-182-8": _ENUM,
    "live_multiple_947-197-0": _ENUM,
    "live_multiple_964-207-0": _LACKS,
    "live_parallel_multiple_2-2-0": _ENUM,
}
"""Questions of the pinned revision whose answer is wrong or cannot be given by who follows the tools' descriptions, by
id, with the reason. Questions of one's own are checked against the tools' schemas when they are loaded."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, its tools, and the calls that answer it."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    """Tools as `{"name", "description", "parameters": JSON schema}`."""
    expected: tuple[Expected, ...]
    """What is accepted; empty: no tool fits, and no call is right."""
    gold: tuple[Call, ...]
    """Calls that are accepted."""
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """The questions of a category, and where they come from."""

    questions: tuple[Question, ...]
    revision: str
    source: Source


def load(category: str, data: str | os.PathLike[str] | None = None) -> Dataset:
    """Load one category.

    Args:
        category: One of `CATEGORIES`.
        data: A folder with the leaderboard's own files, or a file of questions. Answers are read from the row's own
            `"ground_truth"` where it has one, else from the file of the same name in the folder `possible_answer`.
            Also `"hub"`, `"sample"`, or None for the best there is (`rfenvs.datasets`).

    Raises:
        DataError: A file is damaged or of another layout, or a question has no answer.
        DataUnavailable: `data="hub"` and no hub.
        FileNotFoundError: `data` is a path, and nothing is there.
    """
    names = [f"BFCL_v4_{category}.json"]
    if "irrelevance" not in category:
        names.append(f"possible_answer/{names[0]}")
    located = _locate(data, names)
    paths = located.paths
    if located.source == "file" and len(paths) == 1 and "irrelevance" not in category:
        beside = paths[0].parent / "possible_answer" / paths[0].name
        paths += (beside,) * beside.is_file()
    stats = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    return Dataset(_read(category, stats), located.revision, located.source)


def _locate(data: str | os.PathLike[str] | None, names: Sequence[str]) -> Located:
    """As `locate`, but a folder may also be the leaderboard's data folder itself."""
    whole = [f"{FOLDER}/{name}" for name in names]
    if data in (None, "hub", "sample") or not Path(data).is_dir() or (Path(data) / whole[0]).is_file():
        return locate(SPEC, data, whole)
    found = [locate(SPEC, Path(data) / name, [full]) for name, full in zip(names, whole, strict=True)]
    revision = (
        found[0].revision
        if len({entry.revision for entry in found}) == 1
        else f"file:{'+'.join(entry.revision.removeprefix('file:') for entry in found)}"
    )
    return Located(tuple(entry.paths[0] for entry in found), "file", revision, all(entry.verified for entry in found))


@functools.lru_cache(maxsize=32)
def _read(category: str, files: tuple[tuple[Path, int, int], ...]) -> tuple[Question, ...]:
    """The questions of a category; a file of another size or time is another file."""
    answers: dict[str, Any] = {}
    for path, *_ in files[1:]:
        for row in read_rows(path, {"id": str, "ground_truth": list}):
            answers[row.values["id"]] = row.values["ground_truth"]
    path = files[0][0]
    rows = [row for row in read_rows(path, SPEC.columns) if _category(row.values["id"]) in (category, None)]
    if not rows:
        raise DataError(f"{path.name} has no questions of the category {category}.")
    questions: dict[str, Question] = {}
    for row in rows:
        question = _question(path.name, row, row.values.get("ground_truth", answers.get(row.values["id"])), category)
        if question.id in questions:
            raise DataError(f'{path.name}, line {row.line}: the id "{question.id}" is there twice.')
        questions[question.id] = question
    return tuple(questions.values())


def _category(id: str) -> str | None:
    """The category that an id names, such as `live_simple` of `live_simple_12-3-0`; None where it names none."""
    name = id.rpartition("_")[0]
    return name if name in CATEGORIES else None


def _question(file: str, row: Row, answer: Any, category: str) -> Question:
    values = row.values
    where = f'{file}, line {row.line}, question "{values["id"]}"'
    turns, functions = values["question"], values["function"]
    if not turns or not all(isinstance(turn, list) for turn in turns):
        raise DataError(f'{where}: "question" must be a list of turns, each a list of messages.')
    tools = tuple(map(_tool, functions))
    messages = tuple({"role": m["role"], "content": m["content"]} for m in turns[0])
    if "irrelevance" in category:
        flag = "no_op_passes: no tool fits, so that any reply without a call is right"
        return Question(values["id"], messages, tools, (), (), (flag,))
    if not isinstance(answer, list) or not answer or not all(isinstance(c, dict) and len(c) == 1 for c in answer):
        raise DataError(f"{where}: no list of accepted calls in the row or in possible_answer/{file}.")
    by_name = {tool["name"]: tool["parameters"] for tool in tools}
    expected: list[Expected] = []
    gold: list[Call] = []
    for name, arguments in (next(iter(call.items())) for call in answer):
        schema = by_name.get(name, {})
        expected.append(_expected(name, arguments, schema))
        gold.append(_gold(expected[-1], schema))
    return Question(values["id"], messages, tools, tuple(expected), tuple(gold), _flags(values["id"], gold, by_name))


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {**from_bfcl(function["parameters"]), "additionalProperties": False}
    return {"name": function["name"], "description": function.get("description", ""), "parameters": parameters}


def _expected(name: str, arguments: Mapping[str, list[Any]], schema: Mapping[str, Any]) -> Expected:
    """The accepted arguments. One may be left out where an empty string or its default is among the accepted values,
    unless the tool requires it.
    """
    properties, required = schema.get("properties", {}), schema.get("required", ())
    accepted: dict[str, Accepts] = {}
    for argument, options in arguments.items():
        described = properties.get(argument, {})
        text = described.get("type") in ("string", ["string", "null"])
        values = tuple(option for option in options if option != "" or text)
        left_out = "" in options or ("default" in described and any(same(described["default"], v) for v in values))
        left_out = left_out and (argument not in required or not any(option != "" for option in options))
        if argument in properties or not left_out:
            accepted[argument] = Accepts(values, left_out, same_answer)
    return Expected(name, accepted)


def same_answer(got: Any, want: Any) -> bool:
    """Whether a value is the accepted one; objects give for each key a list of accepted values.

    >>> same_answer({"name": "ann lee"}, {"name": ["Ann Lee"], "age": [30, ""]})
    True
    """
    if isinstance(got, dict) and isinstance(want, dict):
        return all(
            key in want and any(same_loosely(got[key], option) for option in _listed(want[key])) for key in got
        ) and all(key in got or "" in _listed(want[key]) for key in want)
    if isinstance(got, list) and isinstance(want, list):
        return len(got) == len(want) and all(map(same_answer, got, want))
    return same_loosely(got, want)


def _listed(options: Any) -> list[Any]:
    return options if isinstance(options, list) else [options]


def _gold(expected: Expected, schema: Mapping[str, Any]) -> Call:
    """A call that is accepted: for each argument the first accepted value that fits the schema."""
    properties = schema.get("properties", {})
    chosen: dict[str, Any] = {}
    for argument, accepts in expected.arguments.items():
        values = [_plain(option) for option in accepts.options if option != "" or not accepts.optional]
        known = argument in properties
        fitting = [value for value in values if known and not faults(value, properties[argument])]
        if fitting or (values and not accepts.optional):
            chosen[argument] = (fitting or values)[0]
    return Call(expected.name, chosen)


def _plain(option: Any) -> Any:
    """One value of an accepted option: for each key of an object the first that is given."""
    if isinstance(option, dict):
        given = {key: [value for value in _listed(options) if value != ""] for key, options in option.items()}
        return {key: values[0] for key, values in given.items() if values}
    return [_plain(entry) for entry in option] if isinstance(option, list) else option


def _flags(id: str, gold: Sequence[Call], schemas: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    if id in KNOWN_BAD:
        return (f"known_bad: {KNOWN_BAD[id]}",)
    for call in gold:
        if call.name not in schemas:
            return (f"known_bad: the answer calls {call.name}, which is not among the tools",)
        for fault in faults(call.arguments, schemas[call.name]):
            return (f"known_bad: the answer breaks the schema of {call.name}: {fault.path[0]} ({fault.code})",)
    return ()

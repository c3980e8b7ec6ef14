"""The data of `rfenvs/ToolAlpaca-v0`: requests to simulated APIs, and the calls that were planned for them."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rfenvs.datasets import DataFile, DatasetSpec, Source, locate
from rfenvs.graders.call_match import COMPARATORS, Compare, Expected, expect
from rfenvs.graders.call_schema import from_prose
from rfenvs.graders.json_values import faults
from rfenvs.graders.tool_calls import Call
from rfenvs.rows import DataError, read_rows
from rfenvs.tasks import digest

SPEC = DatasetSpec(
    id="toolalpaca",
    hub_id="lasgroup/SDPO",
    host="github",
    revision="0e6d5106abe69f578c63bf38a9394e22905c8773",
    files=(
        DataFile("datasets/tooluse/train.json"),
        DataFile(
            "datasets/tooluse/test.json",
            68,
            475880,
            "947dbf5d93a79448dbf41f00c6701402e5f2c8324936e89ed5623c553675e438",
        ),
    ),
    licence="Apache-2.0",
    columns={"prompt": str, "answer": str},
    sample=Path(__file__).parent / "samples" / "toolalpaca.jsonl",
    split_rule="the data set's own files",
)
"""ToolAlpaca's requests as SDPO trains on them. A file of one's own may also be upstream's `eval_simulated.json`."""

OPTIONAL = "[Optional]"
"""Mark before the name of a call that the data's authors leave to the caller."""
_UNKNOWABLE = "an argument has a value that the request does not tell"
KNOWN_BAD: dict[str, str] = {
    "3c1656d72f80": _UNKNOWABLE,
    "9ad04d3f7774": _UNKNOWABLE,
    "b26240c354df": "a key of an object without a schema, which only its author could know",
    "601e84bfef1d": _UNKNOWABLE,
    "82eb07a1298c": "an identifier that only a search could tell, of which the answer makes none",
    "9e759aee75af": _UNKNOWABLE,
    "ef23327214d0": "the calls get a whole chapter and one verse, where some verses are asked for",
    "2edb9c15a870": "identifiers that the request does not tell, and a call of a tool that is not there",
    "9f13f98aa382": "identifiers that the request does not tell, and a call of a tool that is not there",
}
"""Requests whose planned calls nobody could know, by `digest(request, size=6)`, with the reason. What breaks the tools'
own descriptions is found when the data are loaded."""

_DOCUMENTED = re.compile(r"^(\S+): (.*)\nParameters: (.*)$", re.MULTILINE)
_HOLE = re.compile(r'"?\$\{([^{}",]*)\}?"?')
_PROMPT = """\
Answer the request with calls of the tools of this API: {name}. {description}

{documentation}

Reply in this form, once for each call that is needed, all in one reply:
Thought: what to do
Action: the name of one tool
Action Input: its arguments, one JSON object

Use what the request says and leave out optional arguments that it does not speak of.

Question: {question}"""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its tools, and the calls that were planned for it."""

    id: str
    prompt: str
    tools: tuple[dict[str, Any], ...]
    """Tools as `{"name", "description", "parameters": JSON schema}`."""
    gold: tuple[Call, ...]
    """The planned calls, `OPTIONAL` in front of a name removed."""
    optional: tuple[bool, ...]
    """For each planned call, whether it may be left out."""
    flags: tuple[str, ...]

    def expected(self, compare: Compare = COMPARATORS["exact"]) -> tuple[Expected, ...]:
        """What is accepted, texts and numbers compared by `compare`."""
        wanted = []
        for call, optional in zip(self.gold, self.optional, strict=True):
            schema = self.schemas.get(call.name, {})
            exactly = expect(without_blanks(call, schema), schema, compare)
            wanted.append(Expected(call.name, exactly.arguments, optional))
        return tuple(wanted)

    @property
    def schemas(self) -> dict[str, Mapping[str, Any]]:
        """The schema of each tool's arguments."""
        return {tool["name"]: tool["parameters"] for tool in self.tools}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Requests, and where they come from."""

    requests: tuple[Request, ...]
    revision: str
    source: Source


def load(split: str, data: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the requests of a split.

    Args:
        split: `"train"` or `"test"`: SDPO's files. A single file is both.
        data: A folder with SDPO's files, a file in SDPO's layout or in that of ToolAlpaca's `eval_simulated.json`,
            `"hub"`, `"sample"`, or None for the best there is (`rfenvs.datasets`).

    Raises:
        DataError: A file is damaged or of another layout.
        DataUnavailable: `data="hub"` and no hub.
        FileNotFoundError: `data` is a path, and nothing is there.
    """
    located = locate(SPEC, data, [f"datasets/tooluse/{split}.json"])
    (path,) = located.paths
    stat = path.stat()
    return Dataset(_read(path, stat.st_size, stat.st_mtime_ns), located.revision, located.source)


def without_blanks(call: Call, schema: Mapping[str, Any]) -> Call:
    """The call without optional arguments that are an empty string: the data write so what is not given."""
    properties, required = schema.get("properties", {}), schema.get("required", ())
    blank = [n for n, value in call.arguments.items() if value == "" and n in properties and n not in required]
    if not blank:
        return call
    given = {name: value for name, value in call.arguments.items() if name not in blank}
    return Call(call.name, given, call.span, call.name_span, call.argument_spans)


def without_mark(call: Call) -> Call:
    """The call under its plain name, where it stands under the data's mark for optional calls."""
    name = call.name.removeprefix(OPTIONAL).strip()
    return Call(name, call.arguments, call.span, call.name_span, call.argument_spans)


def read_documentation(text: str) -> tuple[dict[str, Any], ...]:
    """The tools that a documentation describes: `name: what it does`, and on the next line `Parameters: {...}`.

    >>> read_documentation('ping: Try it.\\nParameters: {"host": "Required. string."}')[0]["parameters"]["required"]
    ['host']
    """
    found = []
    for name, description, parameters in _DOCUMENTED.findall(text):
        schema = from_prose(parameters) or {"type": "object"}
        found.append({"name": name, "description": description, "parameters": schema})
    return tuple(found)


@functools.lru_cache(maxsize=8)
def _read(path: Path, size: int, mtime_ns: int) -> tuple[Request, ...]:
    """The requests of a file; a file of another size or time is another file."""
    requests: dict[str, Request] = {}
    for row in read_rows(path, {}):
        where = f"{path.name}, row {row.line}"
        for request in _simulated(row.values, where) if "Instructions" in row.values else _planned(row.values, where):
            number = 2
            id = request.id
            while id in requests:  # the same request twice is two tasks
                id, number = f"{request.id}#{number}", number + 1
            requests[id] = replace(request, id=id)
    return tuple(requests.values())


def _planned(values: Mapping[str, Any], where: str) -> Iterator[Request]:
    """A row of SDPO's: the prompt, with the tools in it, and the calls as a JSON list in a string."""
    for column in ("prompt", "answer"):
        if not isinstance(values.get(column), str):
            raise DataError(f'{where}: column "{column}" must be str.')
    prompt = values["prompt"]
    question = prompt.rpartition("Question:")[2].strip()
    try:
        answer = json.loads(values["answer"])
    except ValueError as error:
        raise DataError(f'{where}: "answer" is not JSON ({error}).') from error
    id = str(values["idx"]) if "idx" in values else digest(prompt)
    yield _request(id, prompt, question, read_documentation(prompt), answer, where)


def _simulated(api: Mapping[str, Any], where: str) -> Iterator[Request]:
    """A row of ToolAlpaca's: an API with its requests, and for each the calls."""
    tools = read_documentation(api["NLDocumentation"])
    for number, (question, answer) in enumerate(zip(api["Instructions"], api["Golden_Answers"], strict=True)):
        prompt = _PROMPT.format(
            name=api["Name"],
            description=api["Description"],
            documentation=api["NLDocumentation"].strip(),
            question=question.strip(),
        )
        yield _request(f"{api['Name']}/{number}", prompt, question.strip(), tools, answer, where)


def _request(
    id: str, prompt: str, question: str, tools: tuple[dict[str, Any], ...], answer: Sequence[Any], where: str
) -> Request:
    gold, optional, flags = [], [], []
    schemas = {tool["name"]: tool["parameters"] for tool in tools}
    for entry in answer:
        try:
            name, given = entry["Action"], entry["Action_Input"]
            holes = _HOLE.search(given) is not None
            arguments = json.loads(_HOLE.sub(r'"\1"', given) if holes else given)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{where}, request "{id}": a call cannot be read ({error}).') from error
        if not isinstance(arguments, dict):
            raise DataError(f'{where}, request "{id}": "Action_Input" must hold an object.')
        optional.append(name.startswith(OPTIONAL))
        call = without_mark(Call(name, arguments))
        gold.append(call)
        flags += [f"known_bad: {reason}" for reason in _reasons(call, schemas, holes)]
    reason = KNOWN_BAD.get(digest(question, size=6))
    return Request(
        id, prompt, tools, tuple(gold), tuple(optional), (f"known_bad: {reason}",) if reason else tuple(flags[:1])
    )


def _reasons(call: Call, schemas: Mapping[str, Mapping[str, Any]], holes: bool) -> Iterator[str]:
    """Why nobody could give a planned call."""
    if holes:
        yield "an argument of the answer is a hole, which only the result of another call could fill"
    if call.name not in schemas:
        yield f"the answer calls {call.name}, which is not among the tools"
        return
    for fault in faults(without_blanks(call, schemas[call.name]).arguments, schemas[call.name]):
        yield f"the answer breaks the schema of {call.name}: {fault.path[0]} ({fault.code})"

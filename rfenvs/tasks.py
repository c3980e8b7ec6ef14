"""`Task`: one problem, with its reference answer for trusted code, and where problems come from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Message = dict[str, str]
"""A chat message: `{"role": "system" | "user" | "assistant" | "tool", "content": str}`."""

_ROLE_NAMES = {"user": "User", "assistant": "Assistant", "tool": "Tool"}


def plain_text(messages: Sequence[Message]) -> str:
    """Write chat messages as one plain text; a lone message is just its content.

    >>> plain_text([{"role": "system", "content": "Add."}, {"role": "user", "content": "2 + 3"}])
    'Add.\\n\\nUser: 2 + 3'
    """
    if len(messages) == 1:
        return messages[0]["content"]
    parts: list[str] = []
    for message in messages:
        name = _ROLE_NAMES.get(message["role"])
        separator = "\n" if name == "Assistant" else "\n\n"
        parts.append((separator if parts else "") + (f"{name}: " if name else "") + message["content"])
    return "".join(parts)


def digest(*values: Any, size: int = 8) -> str:
    """Hash JSON values into `2 * size` hexadecimal digits, the same on every machine and run."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=size).hexdigest()


KNOWN_BAD = "known_bad"
"""Flag: the data's own answer is wrong or cannot be given; do not train or evaluate on the task."""
NO_OP_PASSES = "no_op_passes"
"""Flag: doing nothing earns the full reward."""


@dataclass(frozen=True, slots=True)
class Task:
    """One problem.

    `reference` is for graders, validation and demonstrations: it is never part of an observation.
    Give `messages` or `prompt`: each is made from the other; an empty `id` becomes a hash of the content.
    """

    id: str = ""
    """Stable identifier within a split; by default a hash of the messages and the reference."""
    prompt: str = ""
    """Everything the policy is shown before it acts, as plain text."""
    reference: str = ""
    """An answer that earns the full reward."""
    messages: tuple[Message, ...] = ()
    """The same prompt as chat messages: system, few-shot turns, the request. Copied before use."""
    tools: tuple[dict[str, Any], ...] = ()
    """Tools the policy may call, each `{"name", "description", "parameters": JSON schema}`."""
    source: str = "procedural"
    """Where the task comes from: `procedural`, `sample`, `file`, or the name of a data set."""
    flags: tuple[str, ...] = ()
    """What is wrong with the task itself, `<flag>` or `<flag>: <reason>`; see `KNOWN_BAD` and `NO_OP_PASSES`."""
    data: dict[str, Any] = field(default_factory=dict)
    """What the grader needs beside the reference. Never shown."""

    def flagged(self, flag: str) -> bool:
        """Whether the task carries `flag`.

        >>> Task(prompt="?", flags=("known_bad: no such argument",)).flagged(KNOWN_BAD)
        True
        """
        return any(entry.partition(":")[0] == flag for entry in self.flags)

    def __post_init__(self) -> None:
        if not self.messages:
            object.__setattr__(self, "messages", ({"role": "user", "content": self.prompt},))
        elif not self.prompt:
            object.__setattr__(self, "prompt", plain_text(self.messages))
        if not self.id:
            object.__setattr__(self, "id", digest(self.messages, self.reference))


def index_in(task_id: str, part: int, parts: int) -> int:
    """The number at place `part` of an id of `parts` parts with dashes between: where a generated task's index stands.

    >>> index_in("L1-train-17-d6a0343a", 2, 4)
    17

    Raises:
        KeyError: The id is of another form.
    """
    found = task_id.split("-")
    if len(found) == parts and re.fullmatch("[0-9]{1,10}", found[part]):
        return int(found[part])
    raise KeyError(task_id)


def load_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read a `.jsonl` file (one object a line) or a `.json` file (a list of objects).

    Raises:
        ValueError: The file holds something else; the message names the line.
    """
    file = Path(path)
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        rows = json.loads(text)
        if not isinstance(rows, list):
            raise ValueError(f"{file.name}: expected a list of objects.")
    else:
        rows = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ValueError(f"{file.name}, line {number}: not JSON ({error}).") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{file.name}, row {number}: expected an object, got {type(row).__name__}.")
    return rows

"""Which command a reply gives: the last line that counts, read leniently."""

from __future__ import annotations

import re
from typing import NamedTuple

from rfenvs.graders.thinking import visible_span

_OPEN_TAG = re.compile("<action>", re.IGNORECASE)
_CLOSE_TAG = re.compile("</action>", re.IGNORECASE)
_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_PREFIX = re.compile(r"(?:>\s*|action:\s*)+", re.IGNORECASE)
_THOUGHT = re.compile(r"think:", re.IGNORECASE)


class Reply(NamedTuple):
    """What a reply asks for."""

    command: str
    """Lower case, single blanks, no final full stop; empty where the reply holds no command."""
    span: tuple[int, int]
    """Where its line stands in the reply, in code points, without what was dropped before it."""
    others: tuple[str, ...]
    """The lines before it, read the same way."""

    @property
    def thought(self) -> bool:
        """Whether it is no command, but ReAct's `think: ...`, which does nothing."""
        return _THOUGHT.match(self.command) is not None


def read_reply(reply: str) -> Reply:
    """Read the command of a reply.

    Only what stands after the last `</think>` and before the next `<think>` counts; of that, what stands in the last
    `<action>...</action>`, where there is one; of that, the last line that is not blank. A leading `>` or `Action:` is
    dropped, so are a final full stop and superfluous blanks, and upper case becomes lower case.

    >>> read_reply("<think>The desk?</think>I look there.\\nAction: Go to  desk 1.")
    Reply(command='go to desk 1', span=(46, 60), others=('i look there',))
    """
    start, end = visible_span(reply)
    tags = list(_OPEN_TAG.finditer(reply, start, end))
    if tags:
        start = tags[-1].end()
        close = _CLOSE_TAG.search(reply, start, end)
        end = close.start() if close else end
    lines = [(line.start(), line[0]) for line in _LINE.finditer(reply, start, end) if line[0].strip()]
    if not lines:
        return Reply("", (end, end), ())
    spans = [_inner(*line) for line in lines]
    *others, command = (normal(reply[first:last]) for first, last in spans)
    return Reply(command, spans[-1], tuple(others))


def _inner(offset: int, line: str) -> tuple[int, int]:
    stripped = line.rstrip()
    left = len(stripped) - len(stripped.lstrip())
    prefix = _PREFIX.match(stripped, left)
    return offset + (prefix.end() if prefix else left), offset + len(stripped)


def normal(line: str) -> str:
    """A command as the engine reads it.

    >>> normal(" Take  Mug 1 from desk 1. ")
    'take mug 1 from desk 1'
    """
    return " ".join(line.lower().split()).removesuffix(".").rstrip()

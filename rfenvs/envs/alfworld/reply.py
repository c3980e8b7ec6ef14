"""Which command a reply gives: the last line that counts, read leniently."""

from __future__ import annotations

import re
from typing import NamedTuple

from rfenvs.graders.thinking import visible_span

_OPEN_TAG = re.compile("<action>", re.IGNORECASE)
_CLOSE_TAG = re.compile("</action>", re.IGNORECASE)
_TAG = re.compile("</?action>", re.IGNORECASE)
_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_MARKS = "\"'`*\u201c\u201d-"
_BEFORE = re.compile(rf"\s*(?:(?:[>{_MARKS}]|action:)\s*)*", re.IGNORECASE)


class Reply(NamedTuple):
    """What a reply asks for."""

    command: str
    """Lower case, single blanks, no final full stop; empty where the reply holds no command."""
    span: tuple[int, int]
    """Where it stands in the reply, in code points, without what was dropped around it."""
    others: tuple[str, ...]
    """The lines before it, and what stands in earlier tags, read the same way; none is empty."""

    @property
    def thought(self) -> bool:
        """Whether it is no command, but ReAct's `think: ...`, which does nothing."""
        return self.command.startswith("think:")


def read_reply(reply: str) -> Reply:
    """Read the command of a reply.

    Only what stands after the last `</think>` and before the next `<think>` counts; of that, what stands in the last
    `<action>...</action>`, where there is one; of that, the last line that is not blank, nor a fence of Markdown. What
    `normal` drops is dropped.

    >>> read_reply("<think>The desk?</think>I look there.\\nAction: `Go to  desk 1`.")
    Reply(command='go to desk 1', span=(47, 60), others=('i look there',))
    """
    start, end = visible_span(reply)
    first = start
    for tag in _OPEN_TAG.finditer(reply, start, end):
        first = tag.end()
    close = _CLOSE_TAG.search(reply, first, end) if first > start else None
    spans = [_inner(line[0], line.start()) for line in _LINE.finditer(reply, first, close.start() if close else end)]
    spans = [span for span in spans if span[0] < span[1]]
    if not spans:
        return Reply("", (end, end), ())
    begin, stop = spans[-1]
    before = _LINE.findall(_TAG.sub("\n", reply[start:begin])) if begin > start else ()
    return Reply(_plain(reply[begin:stop]), (begin, stop), tuple(filter(None, map(normal, before))))


def normal(line: str) -> str:
    """A command as the engine reads it: lower case, single blanks, without what a reply may put around it.

    That is a `>` or `Action:` before it, full stops behind it, and quotes and marks of Markdown on both sides.

    >>> normal('> "Take  Mug 1 from desk 1." ')
    'take mug 1 from desk 1'
    """
    first, last = _inner(line, 0)
    return _plain(line[first:last])


def _inner(line: str, offset: int) -> tuple[int, int]:
    """Where the command of a line begins and ends, the line itself beginning at `offset`."""
    before = _BEFORE.match(line)
    first = before.end() if before else 0
    return offset + first, offset + max(first, len(line.rstrip().rstrip(f"{_MARKS}. ")))


def _plain(command: str) -> str:
    return " ".join(command.lower().split())

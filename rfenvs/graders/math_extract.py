r"""Find the final answer in a written solution: the last balanced `\boxed{}` or `\fbox{}` after the thinking.

Text inside `<think>...</think>` never counts; where the tag was never closed, all that follows it is thinking. One
pass over the text, whatever it holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from rfenvs.graders.thinking import visible_span

Accept = Literal["box", "any"]
"""`box`: only a box counts. `any`: else "#### x", "Answer: x", or a short last line."""

Span = tuple[int, int]

_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_WHOLE_BOX = re.compile(r"\s*\\(?:boxed|fbox)\s*\{")
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*)$", re.MULTILINE)
_ANSWER = re.compile(
    r"^[ \t>*_#]*(?:so,? |thus,? |therefore,? |hence,? )?(?:the |my )?(?:final |correct )?answer"
    r"(?:\*\*|__)?(?: is\b:?|:(?:\*\*|__)?)[ \t]*(\S.*)$",
    re.MULTILINE | re.IGNORECASE,
)
_LONGEST_LINE = 200
_MOST_WORDS = 6
_MOST_NESTED = 3
_PAIRS = (("**", "**"), ("__", "__"), ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("`", "`"))


class State(StrEnum):
    """What was found."""

    FOUND = "found"
    NO_BOX = "no_box"
    UNCLOSED_BOX = "unclosed_box"
    """The last box was never closed; an earlier one does not stand in for it."""
    EMPTY_BOX = "empty_box"
    """The last box holds nothing."""
    BOX_IN_THINKING = "box_in_thinking"
    """There is a box, but only inside the thinking."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """The final answer of a solution, or why there is none. Spans count code points of the whole text."""

    state: State
    answer: str = ""
    """What stands inside the box, without blanks around it; empty unless `state` is FOUND."""
    span: Span | None = None
    """Where the answer stands; without one, the box that is broken or out of place."""
    boxes: int = 0
    """Number of whole boxes outside the thinking."""
    rival: str | None = None
    """The last other box that says something else than the one that counts."""
    bare: str = ""
    """Without a box: what looks like the final answer all the same."""
    visible: Span = (0, 0)
    """The part of the text that counts."""

    @property
    def found(self) -> bool:
        """Whether there is an answer to compare."""
        return self.state is State.FOUND


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    inner: Span
    end: int


def extract(text: str, accept: Accept = "box") -> Extraction:
    r"""Find the final answer.

    >>> found = extract(r"So \boxed{3}... no, \boxed{\frac{1}{2}}.")
    >>> found.answer, found.span, found.rival
    ('\\frac{1}{2}', (27, 38), '3')
    """
    visible = visible_span(text)
    boxes, unclosed = _boxes(text, visible)
    if unclosed is not None and (not boxes or unclosed > boxes[-1].start):
        return Extraction(State.UNCLOSED_BOX, span=(unclosed, visible[1]), boxes=len(boxes), visible=visible)
    if boxes:
        return _from_boxes(text, boxes, visible)
    bare = _bare(text, visible)
    if bare is not None and accept == "any":
        return Extraction(State.FOUND, text[slice(*bare)], bare, visible=visible)
    said = "" if bare is None else text[slice(*bare)]
    hidden, cut = _boxes(text, (0, visible[0])) if visible[0] else ([], None)
    late, _ = _boxes(text, (visible[1], len(text))) if visible[1] < len(text) else ([], None)
    thought = [*hidden, *late]
    if thought and cut is None:
        box = thought[-1]
        return Extraction(State.BOX_IN_THINKING, span=(box.start, box.end), bare=said, visible=visible)
    return Extraction(State.NO_BOX, span=bare, bare=said, visible=visible)


def _boxes(text: str, span: Span) -> tuple[list[_Box], int | None]:
    """The outermost balanced boxes of a part of the text, and where the last box without an end starts."""
    found: list[_Box] = []
    open_braces: list[tuple[int, int] | None] = []
    for token in _TOKEN.finditer(text, *span):
        word = token.group()
        if word == "{":
            open_braces.append(None)
        elif word == "}":
            if open_braces and (box := open_braces.pop()) is not None:
                while found and found[-1].start > box[0]:
                    found.pop()
                found.append(_Box(box[0], (box[1], token.start()), token.end()))
        elif word[-1] == "{" and len(word) > 2:
            open_braces.append((token.start(), token.end()))
    unclosed = [box[0] for box in open_braces if box is not None]
    return found, unclosed[-1] if unclosed else None


def _from_boxes(text: str, boxes: list[_Box], visible: Span) -> Extraction:
    last = boxes[-1]
    span = _inside(text, last.inner)
    if span[0] == span[1]:
        return Extraction(State.EMPTY_BOX, span=(last.start, last.end), boxes=len(boxes), visible=visible)
    answer = text[slice(*span)]
    plain = _plain(answer)
    others = (text[slice(*_inside(text, box.inner))] for box in reversed(boxes[:-1]))
    rival = next((other for other in others if other and _plain(other) != plain), None)
    return Extraction(State.FOUND, answer, span, len(boxes), rival, visible=visible)


def _inside(text: str, span: Span) -> Span:
    """Without blanks around it, and without a box that is all there is in the box."""
    span = _strip(text, span)
    for _ in range(_MOST_NESTED):
        inner = _WHOLE_BOX.match(text, *span)
        if inner is None or text[span[1] - 1] != "}":
            break
        boxes, _unclosed = _boxes(text, span)
        if len(boxes) != 1 or boxes[0].end != span[1]:
            break
        span = _strip(text, (inner.end(), span[1] - 1))
    return span


def _strip(text: str, span: Span) -> Span:
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _plain(answer: str) -> str:
    """The answer as far as two boxes are held to say the same."""
    return "".join(answer.split()).rstrip(".").replace("dfrac", "frac").replace("tfrac", "frac")


def _bare(text: str, visible: Span) -> Span | None:
    """Where the final answer seems to stand in a text without a box."""
    for pattern in (_HASHES, _ANSWER):
        spans = [match.span(1) for match in pattern.finditer(text, *visible)]
        if spans and spans[-1][1] - spans[-1][0] <= _LONGEST_LINE:
            return _unwrap(text, spans[-1])
    start, end = _strip(text, visible)
    start = max(start, text.rfind("\n", start, end) + 1)
    if end - start > _LONGEST_LINE or not 0 < len(text[start:end].split()) <= _MOST_WORDS:
        return None
    return _unwrap(text, (start, end))


def _unwrap(text: str, span: Span) -> Span | None:
    """Without blanks, a closing full stop, emphasis and mathematics delimiters; None where nothing is left."""
    while True:
        before = span
        start, end = _strip(text, span)
        if end > start and text[end - 1] in ".,;" and not text.endswith("\\,", start, end):
            end -= 1
        for left, right in _PAIRS:
            whole = end - start >= len(left) + len(right)
            if whole and text.startswith(left, start, end) and text.endswith(right, start, end):
                start, end = start + len(left), end - len(right)
        span = start, end
        if span == before:
            return span if start < end else None

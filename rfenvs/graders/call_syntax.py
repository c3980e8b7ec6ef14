"""Read tool calls out of a reply, in any of the notations that models write, without evaluating anything.

| form | looks like |
|---|---|
| `python` | `weather(city="Oslo", days=3)`: keyword arguments with literal values; names may have dots |
| `json` | `{"name": "weather", "arguments": {"city": "Oslo"}}` |
| `openai` | `{"function": {"name": "weather", "arguments": "{...}"}}`, or a message with `"tool_calls"` |
| `tags` | `<tool_call>{"name": ..., "arguments": ...}</tool_call>`, one or more; words may come before the first |
| `react` | `Action: weather` and on the next line `Action Input: {"city": "Oslo"}`, pairs between thoughts |
| `thinking` | not a call: `<think>...</think>` is skipped, and no call is looked for in it |

In the first three, several calls stand one a line (or apart by a comma or semicolon), or in a list, and nothing
else may be there. A Markdown code fence round the whole reply, or round the JSON of `tags` and `react`, is ignored.
Reading takes time linear in the length, and nesting is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar, get_args

from rfenvs.graders.call_reader import MAX_DEPTH, Call, ParseError, Reader, Span, Unreadable

__all__ = ["FORMS", "MAX_DEPTH", "Call", "Form", "ParseError", "Span", "parse_calls"]

Form = Literal["python", "json", "openai", "tags", "react", "thinking"]
"""A notation; see the table of this module."""
FORMS: tuple[Form, ...] = get_args(Form)

_HINTS: dict[str, str] = {
    "python": "name(argument=value)",
    "json": '{"name": ..., "arguments": {...}}',
    "openai": '{"function": {"name": ..., "arguments": "{...}"}}',
    "tags": '<tool_call>{"name": ..., "arguments": {...}}</tool_call>',
    "react": '"Action: name" and on the next line "Action Input: {...}"',
}
_T = TypeVar("_T")
_TAG, _END_TAG = "<tool_call>", "</tool_call>"
_THINK, _END_THINK = "<think>", "</think>"
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n")
_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"\s*")
_END_OF_THOUGHT = re.compile(r"</think>[ \t]*(?:\n|\Z)")
_CALL_HEAD = re.compile(r"[^\W\d]\w*(?:[.-]\w+)*[ \t]*\(")
_LIST_HEAD = re.compile(r"\[\s*(?:\]|\{|[^\W\d]\w*(?:[.-]\w+)*[ \t]*\()")
_RECORD_HEAD = re.compile(r"\{\s*[\"'}]")
_MARK = re.compile(r"<think>|<tool_call>|(?:^|(?<=</think>))[ \t]*Action(?: Input)?:", re.MULTILINE)
_ACTION = re.compile(r"[ \t]*Action:\s*")
_INPUT = re.compile(r"\s*Action Input:\s*")
_LABEL = re.compile(r"(?:Thought|Observation|Final Answer|Action|Action Input)[ \t]*:|<think>")
_REST_OF_LINE = re.compile(r"[^\n]*")


def parse_calls(text: str, forms: Sequence[Form] = FORMS) -> list[Call] | ParseError:
    """Read the calls of a reply, or say what is wrong with it. Never raises on any text.

    Args:
        text: The reply.
        forms: The notations that are read; messages recommend the first.

    Raises:
        ValueError: `forms` names no notation of a call, or one that there is not.

    >>> [call.arguments for call in parse_calls('timer(minutes=5)\\nweather(city="Oslo")')]
    [{'minutes': 5}, {'city': 'Oslo'}]
    >>> [call.name for call in parse_calls('<think>timer()?</think>Action: weather\\nAction Input: {"city": "Oslo"}')]
    ['weather']
    >>> parse_calls("weather(city=Oslo)")
    ParseError(message='"Oslo" is not a literal value; put text in quotes', position=13)
    """
    if not set(forms) <= set(FORMS) or set(forms) <= {"thinking"}:
        raise ValueError(f"forms={forms!r}: use at least one notation of calls; there are {', '.join(FORMS)}.")
    try:
        start = _after_thinking(text) if "thinking" in forms else 0
        return _read(text, *_inside_fence(text, start, len(text)), forms)
    except _NoCall as error:
        return ParseError(error.message, error.position, attempted=False)
    except Unreadable as error:
        return ParseError(error.message, error.position)


class _NoCall(Unreadable):
    """The text is no attempt at a call."""


def _read(text: str, start: int, end: int, forms: Sequence[Form]) -> list[Call]:
    reader = Reader(text, start, end, forms)
    reader.skip()
    at = reader.at
    first = next(form for form in forms if form in _HINTS)
    if at == end:
        raise _NoCall(f"the reply is empty; write a tool call such as {_HINTS[first]}", at)
    if reader.peek() == "[" and {"python", "json", "openai"} & set(forms):
        return _attempt(reader.listed_calls, _LIST_HEAD.match(text, at, end))
    if reader.peek() == "{" and {"json", "openai"} & set(forms):
        return _attempt(reader.records_to_end, _RECORD_HEAD.match(text, at, end))
    wrong: Unreadable | None = None
    if "python" in forms and _CALL_HEAD.match(text, at, end):
        try:
            return reader.named_calls()
        except Unreadable as error:  # it may still be words before a call in another notation
            wrong = error
    mark = _next_mark(text, at, end, forms)
    if mark is not None:
        return _tagged(text, mark, end) if text.startswith(_TAG, mark) else _react(text, mark, end, forms)
    if wrong is not None:
        raise wrong
    if first == "python":
        return _attempt(Reader(text, at, end, forms).named_calls, None)
    raise _NoCall(f"the reply holds no tool call; write {_HINTS[first]}", at)


def _attempt(read: Callable[[], list[Call]], head: re.Match[str] | None) -> list[Call]:
    """Read calls; where even their beginning is not there, a failure is no attempt at a call."""
    try:
        return read()
    except Unreadable as error:
        if head is None:
            raise _NoCall(error.message, error.position) from None
        raise


def _after_thinking(text: str) -> int:
    """Where the reply goes on after its leading thoughts; their opening tag may be part of the prompt."""
    at = _past_space(text, 0)
    if not text.startswith(_THINK, at):
        closing = _END_OF_THOUGHT.search(text)
        if closing is None or text.find(_THINK, 0, closing.start()) >= 0:
            return 0
        at = _past_space(text, closing.start() + len(_END_THINK))
    while text.startswith(_THINK, at):
        at = _end_of_thought(text, at, len(text))
        at = _past_space(text, at)
    return at


def _past_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _end_of_thought(text: str, at: int, end: int) -> int:
    closing = text.find(_END_THINK, at, end)
    if closing < 0:
        raise Unreadable(f"the thinking has no end: {_END_THINK} is missing", at)
    return closing + len(_END_THINK)


def _inside_fence(text: str, start: int, whole: int) -> Span:
    """The text inside a Markdown fence that encloses all of it; else all of it."""
    opening = _FENCE.match(text, _past_space(text, start), whole)
    end = whole
    while opening and end > opening.end() and text[end - 1].isspace():
        end -= 1
    if opening is None or end - 3 < opening.end() or not text.startswith("```", end - 3):
        return start, whole
    end -= 3
    while end > opening.end() and text[end - 1] in " \t":
        end -= 1
    return opening.end(), end - (end > opening.end() and text[end - 1] == "\n")


def _next_mark(text: str, at: int, end: int, forms: Sequence[Form]) -> int | None:
    """Where the next tag or action begins, thoughts skipped."""
    while mark := _MARK.search(text, at, end):
        at = mark.end()
        if mark.group() == _THINK:
            if "thinking" in forms:
                at = _end_of_thought(text, mark.start(), end)
        elif ("tags" if mark.group() == _TAG else "react") in forms:
            return mark.start()
    return None


def _tagged(text: str, at: int, end: int) -> list[Call]:
    calls: list[Call] = []
    while True:
        reader = Reader(text, at + len(_TAG), end, ("json", "openai"))
        calls += _fenced(reader, reader.record)
        reader.skip()
        if not text.startswith(_END_TAG, reader.at, end):
            reader.fail(f"expected {_END_TAG} after the call, found {reader.found()}")
        reader.at += len(_END_TAG)
        reader.skip()
        at = reader.at
        if at == end:
            return calls
        if not text.startswith(_TAG, at, end):
            reader.fail(f"unexpected text after the call: {reader.found()}")


def _react(text: str, at: int, end: int, forms: Sequence[Form]) -> list[Call]:
    calls: list[Call] = []
    mark: int | None = at
    while mark is not None:
        call, at = _action(text, mark, end)
        calls.append(call)
        reader = Reader(text, at, end)
        reader.skip(_BLANK)
        if reader.at < end and reader.peek() not in "\r\n":
            reader.fail(f"unexpected text after the action input: {reader.found()}")
        reader.skip()
        if reader.at < end and not _LABEL.match(text, reader.at, end):
            reader.fail(f'unexpected text after the action input: {reader.found()}; begin it with "Thought:"')
        mark = _next_mark(text, at, end, [form for form in forms if form != "tags"])
    return calls


def _action(text: str, at: int, end: int) -> tuple[Call, int]:
    """One pair of action and input, and where it ends."""
    label = _ACTION.match(text, at, end)
    if label is None:
        raise Unreadable('"Action Input:" needs an "Action:" on the line before it', at)
    line = _REST_OF_LINE.match(text, label.end(), end)
    assert line is not None
    name = line.group().rstrip()
    name_span = (line.start(), line.start() + len(name))
    if not name or name.startswith("Action Input:"):
        raise Unreadable('"Action:" names no tool', label.end())
    given = _INPUT.match(text, line.end(), end)
    reader = Reader(text, given.end() if given else line.end(), end)
    if given is None:
        reader.skip()
        reader.fail(f'expected "Action Input:" after the action, found {reader.found()}')
    reader.json = True
    spans: dict[str, Span] = {}

    def arguments() -> dict[str, object]:
        if reader.peek() != "{":
            reader.fail(f"the input of an action is a JSON object, found {reader.found()}")
        return reader.mapping(0, spans)

    values = _fenced(reader, arguments)
    return Call(name, values, (at, reader.at), name_span, spans), reader.at


def _fenced(reader: Reader, read: Callable[[], _T]) -> _T:
    """Read one thing, which a Markdown fence may enclose."""
    reader.skip()
    fence = _FENCE.match(reader.text, reader.at, reader.end)
    if fence is None:
        return read()
    reader.at = fence.end()
    reader.skip()
    value = read()
    reader.skip()
    if not reader.text.startswith("```", reader.at, reader.end):
        reader.fail(f"expected ``` after the call, found {reader.found()}")
    reader.at += 3
    return value

"""Read tool calls out of text, without evaluating anything.

Two notations, told apart by their first character:

    weather(city="Oslo", days=3)                              keyword arguments with literal values
    {"name": "weather", "arguments": {"city": "Oslo"}}        JSON

Several calls stand one a line (or apart by a comma or semicolon), or in a list. A Markdown code fence
around the whole reply is ignored. The reader is a small recursive descent of its own rather than
`ast.parse`: it counts positions in code points, words its messages the same on every Python version, and
cannot be crashed by nesting.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

Span = tuple[int, int]
"""Start and end of a piece of the text, in code points."""

MAX_DEPTH = 32
"""Deepest nesting of lists and objects that is read."""

_FENCE = re.compile(r"\s*```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_SPACE = re.compile(r"\s*")
_BLANK = re.compile(r"[ \t]*")
_NAME = re.compile(r"[^\W\d]\w*(?:[.-]\w+)*")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_JSON_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_LONGEST_NUMBER = 300
_CONSTANTS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0", "\n": ""}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call, and where its pieces stand in the text."""

    name: str
    arguments: dict[str, Any]
    span: Span = (0, 0)
    name_span: Span = (0, 0)
    argument_spans: dict[str, Span] = field(default_factory=dict)
    """Span of each top-level argument's value."""


@dataclass(frozen=True, slots=True)
class ParseError:
    """Why a text is no sequence of tool calls, and the code point at which that shows."""

    message: str
    position: int


def parse_calls(text: str) -> list[Call] | ParseError:
    """Read the calls of a reply, or say what is wrong with it. Never raises on any text.

    >>> [call.arguments for call in parse_calls('timer(minutes=5)\\nweather(city="Oslo")')]
    [{'minutes': 5}, {'city': 'Oslo'}]
    >>> parse_calls("weather(city=Oslo)")
    ParseError(message='"Oslo" is not a literal value; put text in quotes', position=13)
    """
    fence = _FENCE.match(text)
    start, end = fence.span(1) if fence else (0, len(text))
    reader = _Reader(text, start, end)
    try:
        return reader.reply()
    except _Unreadable as error:
        return ParseError(error.message, error.position)


class _Unreadable(Exception):
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message, self.position = message, position


class _Reader:
    """A cursor over `text[:end]`; every method reads one construct and moves past it."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text, self.at, self.end = text, start, end
        self.json = False

    def reply(self) -> list[Call]:
        self.skip()
        if self.at == self.end:
            self.fail("the reply is empty; write a tool call such as name(argument=value)")
        if self.peek() == "{":
            self.json = True
            calls = self.sequence(self.json_call, closing="")
        elif self.peek() == "[":
            opening = self.at
            self.at += 1
            self.skip()
            if self.peek() == "]":
                self.fail("the list of calls is empty", opening)
            self.json = self.peek() == "{"
            calls = self.sequence(self.json_call if self.json else self.named_call, closing="]")
            self.skip()
            if self.at < self.end:
                self.fail(f"unexpected text after the calls: {self.found()}")
        else:
            calls = self.sequence(self.named_call, closing="")
        return calls

    def sequence(self, read: Any, closing: str) -> list[Call]:
        """Read calls up to the closing bracket, or to the end of the text where there is none."""
        calls = [read()]
        while True:
            before = self.at
            self.skip(_BLANK if not closing else _SPACE)
            if self.at >= self.end:
                if closing:
                    self.fail(f'"{closing}" is missing at the end')
                return calls
            if closing and self.peek() == closing:
                self.at += 1
                return calls
            separators = "," if closing else ",;\n\r"
            if self.peek() not in separators:
                self.at = max(before, self.at)
                self.fail(f"unexpected text after the call: {self.found()}")
            self.at += 1
            self.skip()
            if self.at >= self.end and not closing:
                return calls
            if closing and self.peek() == closing and not self.json:
                self.at += 1
                return calls
            calls.append(read())

    def named_call(self) -> Call:
        start = self.at
        name = self.name("a tool call such as name(argument=value)")
        name_span = (start, self.at)
        self.skip(_BLANK)
        if self.peek() != "(":
            self.fail(f'expected "(" after "{name}", as in name(argument=value), found {self.found()}')
        self.at += 1
        arguments: dict[str, Any] = {}
        spans: dict[str, Span] = {}
        self.skip()
        while self.peek() != ")":
            key_at = self.at
            if self.at < self.end and not (self.peek().isalpha() or self.peek() == "_"):
                self.fail(f"argument {len(arguments) + 1} of {name} has no name; write {name}(argument=value)")
            key = self.name("an argument name", _IDENTIFIER)
            self.skip()
            if self.peek() != "=":
                if self.at < self.end and self.peek() in ",)":
                    self.at = key_at
                    self.fail(f"argument {len(arguments) + 1} of {name} has no name; write {name}(argument=value)")
                self.fail(f'expected "=" after "{key}", found {self.found()}')
            if key in arguments:
                self.fail(f'argument "{key}" is given twice', key_at)
            self.at += 1
            self.skip()
            value_at = self.at
            arguments[key] = self.value(0)
            spans[key] = (value_at, self.at)
            self.skip()
            if self.peek() == ",":
                self.at += 1
                self.skip()
            elif self.peek() != ")":
                self.fail(f'expected "," or ")" after the value of "{key}", found {self.found()}')
        self.at += 1
        return Call(name, arguments, (start, self.at), name_span, spans)

    def json_call(self) -> Call:
        start = self.at
        if self.peek() != "{":
            self.fail(f'expected "{{", found {self.found()}')
        spans: dict[str, Span] = {}
        inner: dict[str, Span] = {}
        record = self.mapping(0, spans, inner)
        unknown = [key for key in record if key not in ("name", "arguments")]
        if unknown:
            self.fail(f'unexpected key "{unknown[0]}"; a call has "name" and "arguments"', spans[unknown[0]][0])
        if not isinstance(record.get("name"), str):
            self.fail('a call needs "name", a string', spans.get("name", (start, start))[0])
        arguments = record.get("arguments")
        if not isinstance(arguments, dict):
            self.fail('a call needs "arguments", an object', spans.get("arguments", (start, start))[0])
        return Call(record["name"], arguments, (start, self.at), spans["name"], inner)

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")
        char = self.peek()
        if char == "{":
            return self.mapping(depth)
        if char == "[":
            return self.items(depth, "]")
        if char == "(" and not self.json:
            values = self.items(depth, ")")
            grouped = len(values) == 1 and self.text[: self.at - 1].rstrip()[-1] != ","
            return values[0] if grouped else values
        if char == '"' or (char == "'" and not self.json):
            return self.string()
        if char and (char in "-.+" or char in "0123456789"):
            return self.number()
        start = self.at
        match = _NAME.match(self.text, self.at, self.end)
        word = match.group() if match else ""
        constants = ("true", "false", "null") if self.json else tuple(_CONSTANTS)
        if word in constants:
            self.at += len(word)
            return _CONSTANTS[word]
        if word:
            self.fail(f'"{word}" is not a literal value; put text in quotes', start)
        self.fail(f"expected a value, found {self.found()}")

    def items(self, depth: int, closing: str) -> list[Any]:
        self.at += 1
        values: list[Any] = []
        self.skip()
        while self.peek() != closing:
            values.append(self.value(depth + 1))
            self.comma(closing)
        self.at += 1
        return values

    def mapping(
        self, depth: int, spans: dict[str, Span] | None = None, inner: dict[str, Span] | None = None
    ) -> dict[str, Any]:
        """Read an object; `spans` receives the spans of its values, `inner` those of its "arguments"."""
        self.at += 1
        record: dict[str, Any] = {}
        self.skip()
        while self.peek() != "}":
            key_at = self.at
            if self.peek() != '"' and (self.json or self.peek() != "'"):
                self.fail(f"expected a key in quotes, found {self.found()}")
            key = self.string()
            if key in record:
                self.fail(f'key "{key}" is given twice', key_at)
            self.skip()
            if self.peek() != ":":
                self.fail(f'expected ":" after the key "{key}", found {self.found()}')
            self.at += 1
            self.skip()
            value_at = self.at
            if inner is not None and key == "arguments" and self.peek() == "{":
                record[key] = self.mapping(depth + 1, inner)
            else:
                record[key] = self.value(depth + 1)
            if spans is not None:
                spans[key] = (value_at, self.at)
            self.comma("}")
        self.at += 1
        return record

    def comma(self, closing: str) -> None:
        """Move past a comma, or to the closing bracket; only JSON forbids a comma before it."""
        self.skip()
        if self.peek() == closing:
            return
        if self.peek() != ",":
            self.fail(f'expected "," or "{closing}", found {self.found()}')
        self.at += 1
        self.skip()
        if self.json and self.peek() == closing:
            self.fail(f'expected a value after ",", found "{closing}"')

    def number(self) -> int | float:
        match = (_JSON_NUMBER if self.json else _NUMBER).match(self.text, self.at, self.end)
        if not match:
            self.fail(f"expected a number, found {self.found()}")
        digits = match.group()
        after = self.text[match.end() : match.end() + 1] if match.end() < self.end else ""
        if after and (after.isalnum() or after in "._"):
            self.fail(f"expected a number, found {self.found()}")
        if not digits.isascii() or len(digits) > _LONGEST_NUMBER:
            self.fail("this number is too long" if digits.isascii() else "write numbers with the digits 0 to 9")
        self.at = match.end()
        if digits.lstrip("+-").isdigit():
            if not self.json and len(digits.lstrip("+-")) > 1 and digits.lstrip("+-")[0] == "0":
                self.fail("a number cannot start with 0", match.start())
            return int(digits)
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            self.fail("this number is too large", match.start())
        return number

    def string(self) -> str:
        if self.json:
            match = _JSON_STRING.match(self.text, self.at, self.end)
            if match:
                try:
                    value = str(json.loads(match.group()))
                    value.encode("utf-8")
                except (json.JSONDecodeError, UnicodeEncodeError):
                    self.fail("this string has a bad escape sequence")
                self.at = match.end()
                return value
            self.fail("this string has no closing quote or holds a line break")
        start, quote = self.at, self.peek()
        if self.text.startswith(quote * 3, self.at, self.end):
            quote *= 3
        self.at += len(quote)
        pieces: list[str] = []
        while True:
            if self.at >= self.end or (len(quote) == 1 and self.peek() in "\n\r"):
                self.fail("this string has no closing quote", start)
            if self.text.startswith(quote, self.at, self.end):
                self.at += len(quote)
                return "".join(pieces)
            pieces.append(self.escape() if self.peek() == "\\" else self.peek())
            self.at += 1

    def escape(self) -> str:
        """Read a backslash sequence and stop on its last character; an unknown one stands for itself."""
        code = self.text[self.at + 1 : self.at + 2] if self.at + 1 < self.end else ""
        width = _HEX_DIGITS.get(code)
        if width is not None:
            digits = self.text[self.at + 2 : min(self.at + 2 + width, self.end)]
            if not re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
                self.fail("this string has a bad escape sequence")
            point = int(digits, 16)
            if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
                self.fail("this string has a bad escape sequence")
            self.at += 1 + width
            return chr(point)
        if code in _ESCAPES:
            self.at += 1
            return _ESCAPES[code]
        if code and code in "\\'\"":
            self.at += 1
            return code
        return "\\"

    def name(self, wanted: str, pattern: re.Pattern[str] = _NAME) -> str:
        match = pattern.match(self.text, self.at, self.end)
        if not match:
            self.fail(f"expected {wanted}, found {self.found()}")
        self.at = match.end()
        return match.group()

    def peek(self) -> str:
        return self.text[self.at] if self.at < self.end else ""

    def skip(self, pattern: re.Pattern[str] = _SPACE) -> None:
        match = pattern.match(self.text, self.at, self.end)
        assert match is not None
        self.at = match.end()

    def found(self) -> str:
        """Quote the next word, for a message."""
        if self.at >= self.end:
            return "the end of the reply"
        word = re.compile(r"\w{1,30}|.", re.DOTALL).match(self.text, self.at, self.end)
        assert word is not None
        return json.dumps(word.group(), ensure_ascii=False)

    def fail(self, message: str, position: int | None = None) -> NoReturn:
        raise _Unreadable(message, self.at if position is None else position)

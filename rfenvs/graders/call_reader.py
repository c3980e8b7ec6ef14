"""A cursor over text that reads calls and literal values: Python's notation and JSON's.

A small recursive descent of its own rather than `ast.parse`: it counts positions in code points, words its
messages the same on every Python version, and cannot be crashed by nesting. Nothing is evaluated. What a whole
reply may look like is `rfenvs.graders.call_syntax`'s matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

Span = tuple[int, int]
"""Start and end of a piece of the text, in code points."""

MAX_DEPTH = 32
"""Deepest nesting of lists and objects that is read."""

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
_CODE_POINT = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|[^\\]", re.DOTALL)
_PLAIN = {quote: re.compile(rf"[^{quote}\\\n\r]+") for quote in "\"'"}
_PLAIN_LINES = {quote * 3: re.compile(rf"[^{quote}\\]+") for quote in "\"'"}
_WORD = re.compile(r"\w{1,30}|.", re.DOTALL)
_MESSAGE_KEYS = ("role", "content", "refusal", "tool_calls")
_CALL_KEYS = ("id", "index", "type", "function")


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
    attempted: bool = field(default=True, compare=False, repr=False)
    """Whether the text looks like a call that went wrong; False where it is empty or plain words."""


class Unreadable(Exception):
    """Raised by `Reader`; becomes a `ParseError`."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message, self.position = message, position


class Reader:
    """A cursor over `text[start:end]`; every method reads one construct and moves past it.

    Args:
        text: The whole reply: positions count from its start.
        start: Where to begin.
        end: Where to stop; by default the end of the text.
        records: What a call may look like: `python`, `json`, `openai` (`rfenvs.graders.call_syntax.Form`), and inside
            a message of OpenAI's, `function`.
        whole: What ends at `end`, for messages.
    """

    def __init__(
        self,
        text: str,
        start: int = 0,
        end: int | None = None,
        records: Collection[str] = ("python", "json"),
        whole: str = "reply",
    ) -> None:
        self.text, self.at, self.end = text, start, len(text) if end is None else end
        self.records, self.whole = records, whole
        self.json = False

    def named_calls(self) -> list[Call]:
        """Calls in Python's notation, one a line or apart by a comma or semicolon, to the end."""
        return self.sequence(self.named_call, closing="")

    def records_to_end(self) -> list[Call]:
        """JSON calls, one a line or apart by a comma or semicolon, to the end; or one assistant message."""
        self.json = True
        return self.sequence(self.record, closing="")

    def listed_calls(self) -> list[Call]:
        """A list of calls in either notation, and nothing behind it."""
        opening = self.at
        self.at += 1
        self.skip()
        if self.peek() == "]":
            self.fail("the list of calls is empty", opening)
        self.json = self.peek() == "{" or "python" not in self.records
        calls = self.sequence(self.record if self.json else self.named_call, closing="]")
        self.skip()
        if self.at < self.end:
            self.fail(f"unexpected text after the calls: {self.found()}")
        return calls

    def sequence(self, read: Callable[[], list[Call]], closing: str) -> list[Call]:
        """Read calls up to the closing bracket, or to the end of the text where there is none."""
        calls = read()
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
            calls += read()

    def named_call(self) -> list[Call]:
        """`name(argument=value, ...)`."""
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
        return [Call(name, arguments, (start, self.at), name_span, spans)]

    def record(self) -> list[Call]:
        """A JSON object: a call, or where `openai` is read, one of OpenAI's, or a message with its `tool_calls`."""
        start = self.at
        self.json = True
        if self.peek() != "{":
            self.fail(f'expected "{{", found {self.found()}')
        spans: dict[str, Span] = {}
        inner: dict[str, Span] = {}
        record = self.mapping(0, spans, inner)
        if "tool_calls" in record and "openai" in self.records:
            return self._message(record, spans)
        if "function" in record and ("openai" in self.records or "function" in self.records):
            return [self._function_call(record, spans, start)]
        if "json" not in self.records:
            self.fail('a call needs "function", an object', start)
        return [self._flat_call(record, spans, inner, (start, self.at))]

    def _flat_call(self, record: dict[str, Any], spans: dict[str, Span], inner: dict[str, Span], span: Span) -> Call:
        self._only(("name", "arguments"), record, spans, 'a call has "name" and "arguments"')
        if not isinstance(record.get("name"), str):
            self.fail('a call needs "name", a string', spans.get("name", span)[0])
        arguments = record.get("arguments")
        if isinstance(arguments, str) and self.whole == "function":
            arguments, inner = self._encoded(arguments, spans["arguments"])
        if not isinstance(arguments, dict):
            self.fail('a call needs "arguments", an object', spans.get("arguments", span)[0])
        return Call(record["name"], arguments, span, spans["name"], inner)

    def _message(self, record: dict[str, Any], spans: dict[str, Span]) -> list[Call]:
        self._only(_MESSAGE_KEYS, record, spans, f"a message has {', '.join(_MESSAGE_KEYS)}")
        start, end = spans["tool_calls"]
        if not isinstance(record["tool_calls"], list) or not record["tool_calls"]:
            self.fail('"tool_calls" is a list of calls', start)
        return Reader(self.text, start, end, ("function",)).listed_calls()

    def _function_call(self, record: dict[str, Any], spans: dict[str, Span], start: int) -> Call:
        self._only(_CALL_KEYS, record, spans, f"a call has {', '.join(_CALL_KEYS)}")
        at, end = spans["function"]
        if record.get("type", "function") != "function":
            self.fail('"type" of a call is "function"', spans["type"][0])
        if not isinstance(record["function"], dict):
            self.fail('a call needs "function", an object', at)
        reader = Reader(self.text, at, end, whole="function")
        [call] = reader.record()
        return replace(call, span=(start, self.at))

    def _only(self, known: Sequence[str], record: dict[str, Any], spans: dict[str, Span], hint: str) -> None:
        for key in record:
            if key not in known:
                self.fail(f'unexpected key "{key}"; {hint}', spans[key][0])

    def _encoded(self, text: str, span: Span) -> tuple[dict[str, Any], dict[str, Span]]:
        """Read the JSON object that a string holds, as OpenAI writes arguments; positions are the reply's."""
        raw = self.text[span[0] + 1 : span[1] - 1]
        at = [match.start() for match in _CODE_POINT.finditer(raw)] if "\\" in raw else range(len(raw))
        reader = Reader(text, whole="string")
        reader.json = True
        spans: dict[str, Span] = {}

        def here(position: int) -> int:
            return span[0] + 1 + (at[position] if position < len(at) else len(raw))

        try:
            reader.skip()
            if reader.peek() != "{":
                reader.fail(f'"arguments" holds a JSON object, found {reader.found()}')
            arguments = reader.mapping(0, spans)
            reader.skip()
            if reader.at < reader.end:
                reader.fail(f"unexpected text after the arguments: {reader.found()}")
        except Unreadable as error:
            raise Unreadable(error.message, here(error.position)) from None
        return arguments, {key: (here(start), here(end)) for key, (start, end) in spans.items()}

    def value(self, depth: int) -> Any:
        """A literal value; JSON has fewer."""
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")
        char = self.peek()
        if char == "{":
            return self.mapping(depth)
        if char == "[":
            return self.items(depth, "]")[0]
        if char == "(" and not self.json:
            values, comma = self.items(depth, ")")
            return values[0] if len(values) == 1 and not comma else values
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

    def items(self, depth: int, closing: str) -> tuple[list[Any], bool]:
        """Read a list, and whether a comma stood before its closing bracket."""
        self.at += 1
        values: list[Any] = []
        comma = False
        self.skip()
        while self.peek() != closing:
            values.append(self.value(depth + 1))
            comma = self.comma(closing)
        self.at += 1
        return values, comma

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

    def comma(self, closing: str) -> bool:
        """Move past a comma (True), or to the closing bracket; only JSON forbids a comma before it."""
        self.skip()
        if self.peek() == closing:
            return False
        if self.peek() != ",":
            self.fail(f'expected "," or "{closing}", found {self.found()}')
        self.at += 1
        self.skip()
        if self.json and self.peek() == closing:
            self.fail(f'expected a value after ",", found "{closing}"')
        return True

    def number(self) -> int | float:
        """A number, as an integer where it is written as one."""
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
        """A string in quotes, with its escapes resolved."""
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
        plain = (_PLAIN if len(quote) == 1 else _PLAIN_LINES)[quote]
        pieces: list[str] = []
        while True:
            if self.at >= self.end or (len(quote) == 1 and self.peek() in "\n\r"):
                self.fail("this string has no closing quote", start)
            if self.text.startswith(quote, self.at, self.end):
                self.at += len(quote)
                return "".join(pieces)
            run = plain.match(self.text, self.at, self.end)
            if run:
                pieces.append(run.group())
                self.at = run.end()
            else:
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
        """A name, or a complaint that `wanted` was expected."""
        match = pattern.match(self.text, self.at, self.end)
        if not match:
            self.fail(f"expected {wanted}, found {self.found()}")
        self.at = match.end()
        return match.group()

    def peek(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.at] if self.at < self.end else ""

    def skip(self, pattern: re.Pattern[str] = _SPACE) -> None:
        """Move past what `pattern` matches, by default white space."""
        match = pattern.match(self.text, self.at, self.end)
        assert match is not None
        self.at = match.end()

    def found(self) -> str:
        """Quote the next word, for a message."""
        if self.at >= self.end:
            return f"the end of the {self.whole}"
        word = _WORD.match(self.text, self.at, self.end)
        assert word is not None
        return json.dumps(word.group(), ensure_ascii=False)

    def fail(self, message: str, position: int | None = None) -> NoReturn:
        """Say what is wrong, here or at `position`."""
        raise Unreadable(message, self.at if position is None else position)

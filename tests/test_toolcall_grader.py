"""Reading, checking and comparing tool calls: text in, problems out."""

import ast
import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfenvs.graders.call_syntax import MAX_DEPTH, Call, ParseError, parse_calls
from rfenvs.graders.json_values import canonical, faults, same
from rfenvs.graders.tool_calls import grade, write_call

WEATHER = {
    "name": "weather",
    "parameters": {
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        },
        "required": ["city"],
    },
}
EVENT = {
    "name": "event",
    "parameters": {
        "properties": {
            "when": {
                "type": "object",
                "properties": {"day": {"type": "string"}, "hour": {"type": "integer"}},
                "required": ["day", "hour"],
            },
            "guests": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["when"],
    },
}
TIMER = {
    "name": "timer",
    "parameters": {"properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]},
}
TOOLS = [WEATHER, EVENT, TIMER]
OSLO = Call("weather", {"city": "Oslo"})


@pytest.mark.parametrize(
    "text",
    [
        'weather(city="Oslo", days=3)',
        "weather(days=3, city='Oslo',)",
        ' \n weather ( city = "Oslo" , days = 3 ) \n',
        'weather(\n  city="""Oslo""",\n  days=+3\n)',
        '[weather(city="Oslo", days=3)]',
        '```python\nweather(city="Oslo", days=3)\n```',
        '```\nweather(city="Oslo", days=3)```',
        '{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}',
        '[{"arguments": {"days": 3.0, "city": "\\u004fslo"}, "name": "weather"}]',
        '```json\n{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}\n```',
        'weather(city="Oslo", days=3, unit="celsius")',
    ],
)
def test_ways_to_write_one_call(text: str) -> None:
    assert grade(text, [Call("weather", {"city": "Oslo", "days": 3})], TOOLS).problems == []


@pytest.mark.parametrize(
    "text",
    [
        'timer(minutes=5)\nweather(city="Oslo")',
        'weather(city="Oslo")\n\n  timer(minutes=5)',
        'weather(city="Oslo"); timer(minutes=5)',
        'weather(city="Oslo"), timer(minutes=5)',
        '[weather(city="Oslo"),\n timer(minutes=5)]',
        '{"name": "timer", "arguments": {"minutes": 5}}\n{"name": "weather", "arguments": {"city": "Oslo"}}',
        '[{"name": "timer", "arguments": {"minutes": 5}},{"name": "weather", "arguments": {"city": "Oslo"}}]',
    ],
)
def test_ways_to_write_two_calls_in_any_order(text: str) -> None:
    assert grade(text, [OSLO, Call("timer", {"minutes": 5})], TOOLS).problems == []


SYNTAX = [
    ("", "the reply is empty; write a tool call such as name(argument=value)", 0),
    (" \n ", "the reply is empty; write a tool call such as name(argument=value)", 3),
    ("Sure! weather()", 'expected "(" after "Sure", as in name(argument=value), found "!"', 4),
    ("weather", 'expected "(" after "weather", as in name(argument=value), found the end of the reply', 7),
    ("weather(city=Oslo)", '"Oslo" is not a literal value; put text in quotes', 13),
    ('weather("Oslo")', "argument 1 of weather has no name; write weather(argument=value)", 8),
    ("weather(Oslo)", "argument 1 of weather has no name; write weather(argument=value)", 8),
    ('weather(city="Oslo)', "this string has no closing quote", 13),
    ('weather(city="Oslo"', 'expected "," or ")" after the value of "city", found the end of the reply', 19),
    ('weather(city="Oslo") please', 'unexpected text after the call: "please"', 21),
    ('weather(city="a", city="b")', 'argument "city" is given twice', 18),
    ("timer(minutes=1+1)", 'expected "," or ")" after the value of "minutes", found "+"', 15),
    ("timer(minutes=f(1))", '"f" is not a literal value; put text in quotes', 14),
    ("timer(minutes=007)", "a number cannot start with 0", 14),
    ("timer(minutes=1e999)", "this number is too large", 14),
    ("timer(minutes=2x)", 'expected a number, found "2x"', 14),
    ("timer(minutes=)", 'expected a value, found ")"', 14),
    ("timer(**{})", "argument 1 of timer has no name; write timer(argument=value)", 6),
    ("[]", "the list of calls is empty", 0),
    ("[timer(minutes=1)", '"]" is missing at the end', 17),
    ("[timer(minutes=1)] x", 'unexpected text after the calls: "x"', 19),
    ("{}", 'a call needs "name", a string', 0),
    ('{"name": "timer"}', 'a call needs "arguments", an object', 0),
    ('{"name": "timer", "arguments": [1]}', 'a call needs "arguments", an object', 31),
    (
        '{"name": "timer", "arguments": {}, "id": 1}',
        'unexpected key "id"; a call has "name" and "arguments"',
        41,
    ),
    ("{'name': 'timer'}", 'expected a key in quotes, found "\'"', 1),
    ('{"name": "a", "name": "b"}', 'key "name" is given twice', 14),
    (
        '{"name": "timer", "arguments": {"minutes": NaN}}',
        '"NaN" is not a literal value; put text in quotes',
        43,
    ),
    ('{"name": "timer",}', 'expected a value after ",", found "}"', 17),
    ('{"name": "\\ud800", "arguments": {}}', "this string has a bad escape sequence", 9),
    ("😀(x=1)", 'expected a tool call such as name(argument=value), found "😀"', 0),
]


@pytest.mark.parametrize(("text", "message", "position"), SYNTAX)
def test_unreadable_replies(text: str, message: str, position: int) -> None:
    assert parse_calls(text) == ParseError(message, position)
    [problem] = grade(text, [OSLO], TOOLS).problems
    assert (problem.kind, problem.message) == ("format_error", f"SyntaxError: {message}.")
    assert problem.span == (min(position, len(text)), min(position + 1, len(text)))


PROBLEMS = [
    # text, expected calls, [(kind, code, message, blamed text)]
    (
        'wether(city="Oslo")',
        [OSLO],
        [
            (
                "tool_error",
                "unknown_tool",
                'NameError: there is no tool "wether"; did you mean "weather"?',
                "wether",
            )
        ],
    ),
    (
        "xyz()",
        [OSLO],
        [
            (
                "tool_error",
                "unknown_tool",
                'NameError: there is no tool "xyz"; use "weather", "event", "timer".',
                "xyz",
            )
        ],
    ),
    (
        "weather()",
        [OSLO],
        [("tool_error", "missing", 'TypeError in weather: "city" is missing.', "weather()")],
    ),
    (
        'weather(citty="Oslo")',
        [OSLO],
        [
            ("tool_error", "missing", 'TypeError in weather: "city" is missing.', 'weather(citty="Oslo")'),
            (
                "tool_error",
                "unexpected",
                'TypeError in weather: there is no "citty"; did you mean "city"?',
                '"Oslo"',
            ),
        ],
    ),
    (
        'timer(minutes="5")',
        [Call("timer", {"minutes": 5})],
        [
            (
                "tool_error",
                "type",
                'TypeError in timer: "minutes" must be an integer, got the string "5".',
                '"5"',
            )
        ],
    ),
    (
        "timer(minutes=True)",
        [Call("timer", {"minutes": 1})],
        [
            (
                "tool_error",
                "type",
                'TypeError in timer: "minutes" must be an integer, got the boolean true.',
                "True",
            )
        ],
    ),
    (
        'weather(city="Oslo", unit="kelvin")',
        [OSLO],
        [
            (
                "tool_error",
                "enum",
                'ValueError in weather: "unit" must be one of "celsius", "fahrenheit", got "kelvin".',
                '"kelvin"',
            )
        ],
    ),
    (
        'weather(city="Oslo", days=12)',
        [OSLO],
        [("tool_error", "range", 'ValueError in weather: "days" must be at most 9, got 12.', "12")],
    ),
    (
        'event(when={"day": "Monday", "hour": "9"}, guests=["Anna", 3])',
        [OSLO],
        [
            (
                "tool_error",
                "type",
                'TypeError in event: "when.hour" must be an integer, got the string "9".',
                '{"day": "Monday", "hour": "9"}',
            ),
            (
                "tool_error",
                "type",
                'TypeError in event: "guests[1]" must be a string, got the integer 3.',
                '["Anna", 3]',
            ),
        ],
    ),
    (
        '{"name": "timer", "arguments": {"minutes": null}}',
        [OSLO],
        [("tool_error", "type", 'TypeError in timer: "minutes" must be an integer, got null.', "null")],
    ),
    (
        "timer(minutes=5)",
        [OSLO],
        [("wrong_answer", "wrong_tool", "ToolError: timer is not the tool that the request needs.", "timer")],
    ),
    (
        'weather(city="Rome")',
        [OSLO],
        [("wrong_answer", "wrong_value", 'ValueError: "city" is not what the request asks for.', '"Rome"')],
    ),
    (
        'weather(city="Oslo", days=3)',
        [OSLO],
        [("wrong_answer", "not_asked", 'ValueError: "days" is not asked for; leave it out.', "3")],
    ),
    (
        'weather(city="Oslo")',
        [Call("weather", {"city": "Oslo", "days": 3})],
        [
            (
                "wrong_answer",
                "left_out",
                'ValueError: "days" is left out, but the request asks for it.',
                'weather(city="Oslo")',
            )
        ],
    ),
    (
        'weather(city="Oslo")',
        [Call("weather", {"city": "Oslo", "unit": "fahrenheit"})],
        [
            (
                "wrong_answer",
                "left_out",
                'ValueError: "unit" is left out, but the request asks for it.',
                'weather(city="Oslo")',
            )
        ],
    ),
    (
        'weather(city="Oslo")',
        [OSLO, Call("timer", {"minutes": 5})],
        [("wrong_answer", "count", "ValueError: expected 2 calls, got 1.", None)],
    ),
    (
        'weather(city="Oslo")\ntimer(minutes=5)',
        [OSLO],
        [
            ("wrong_answer", "count", "ValueError: expected 1 call, got 2.", None),
            (
                "wrong_answer",
                "extra_call",
                "ValueError: call 2 is not one that the request asks for.",
                "timer(minutes=5)",
            ),
        ],
    ),
    (
        'weather(city="Oslo")\nweather(city="Oslo")',
        [OSLO, Call("timer", {"minutes": 5})],
        [
            (
                "wrong_answer",
                "wrong_tool",
                "ToolError: weather in call 2 is not the tool that the request needs.",
                "weather",
            )
        ],
    ),
    (
        'timer(minutes=6)\nweather(city="Oslo")',
        [OSLO, Call("timer", {"minutes": 5})],
        [
            (
                "wrong_answer",
                "wrong_value",
                'ValueError: "minutes" of call 1 is not what the request asks for.',
                "6",
            )
        ],
    ),
    (
        '```\nwether(city="é")\ntimer()\n```',
        [OSLO],
        [
            (
                "tool_error",
                "unknown_tool",
                'NameError: there is no tool "wether"; did you mean "weather"?',
                "wether",
            ),
            ("tool_error", "missing", 'TypeError in timer: "minutes" is missing.', "timer()"),
            ("wrong_answer", "count", "ValueError: expected 1 call, got 2.", None),
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected", "problems"), PROBLEMS)
def test_what_is_said_about_each_mistake(text: str, expected: list, problems: list) -> None:
    found = grade(text, expected, TOOLS).problems
    assert [(p.kind, p.code, p.message, p.span and text[slice(*p.span)]) for p in found] == problems


def test_the_most_similar_expected_call_is_compared_with() -> None:
    expected = [Call("weather", {"city": "Rome", "days": 2}), Call("weather", {"city": "Oslo", "days": 3})]
    text = 'weather(city="Oslo", days=4)\nweather(city="Rome", days=2)'
    [problem] = grade(text, expected, TOOLS).problems
    assert problem.message == 'ValueError: "days" of call 1 is not what the request asks for.'
    assert grade(text, expected, TOOLS).correct == 1


def test_nothing_is_evaluated_and_nothing_crashes() -> None:
    for text in (
        "__import__('os').system('true')",
        "timer(minutes=[].__class__)",
        "(" * 100_000,
        "[" * 100_000,
        "timer(minutes=" + "[" * 100_000,
        "timer(minutes=" + "-" * 100_000,
        '{"a":' * 100_000,
        "timer(minutes=" + "9" * 100_000 + ")",
        "a" * 100_000,
        "a(" * 50_000,
        "\x00",
        "timer(minutes=\x00)",
        'timer(minutes="\\N{DIGIT ONE}")',
        'timer(minutes="\\x0")',
        "timer(minutes=٣)",
        "```" * 30_000,
        "timer(minutes=0x10)",
        "timer(minutes=1_000)",
        "timer(minutes=1j)",
        'timer(minutes=b"x")',
    ):
        assert grade(text, [OSLO], TOOLS).problems, text[:40]


def test_nesting_is_bounded() -> None:
    inside, outside = ("f(x=" + "[" * depth + "]" * depth + ")" for depth in (MAX_DEPTH, MAX_DEPTH + 2))
    assert isinstance(parse_calls(inside), list)
    assert parse_calls(outside).message == f"nested more than {MAX_DEPTH} deep"  # type: ignore[union-attr]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)


@given(NAMES, ARGUMENTS)
def test_every_call_reads_back_in_both_notations(name: str, arguments: dict) -> None:
    for text in (
        write_call(name, arguments),
        json.dumps({"name": name, "arguments": arguments}),
        json.dumps([{"name": name, "arguments": arguments}], ensure_ascii=False, indent=1),
    ):
        [call] = parse_calls(text)  # type: ignore[misc]
        assert (call.name, call.arguments) == (name, arguments)
        for key, span in call.argument_spans.items():
            assert text[slice(*span)].strip() == text[slice(*span)]
            assert key in arguments


@given(VALUES)
def test_python_literals_read_as_python_reads_them(value: object) -> None:
    [call] = parse_calls(f"f(x={value!r})")  # type: ignore[misc]
    assert call.arguments["x"] == ast.literal_eval(repr(value))


def plain(value: object) -> object:
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


@given(st.text(alphabet="f(x=1,)[]{}\"'e:-. ", max_size=14).map(lambda t: f"f(x={t})"))
def test_whatever_can_be_read_python_reads_alike(text: str) -> None:
    calls = parse_calls(text)
    if isinstance(calls, ParseError) or len(calls) != 1:
        return
    tree = ast.parse(text.rstrip(", "), mode="eval").body
    assert isinstance(tree, ast.Call)
    assert {k.arg: plain(ast.literal_eval(k.value)) for k in tree.keywords} == calls[0].arguments


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    assert grade(text, [OSLO], TOOLS).problems


SCHEMAS = st.recursive(
    st.sampled_from([{"type": t} for t in ("string", "integer", "number", "boolean", "null")])
    | st.just({"enum": ["a", 1, None]})
    | st.just({"type": ["string", "null"]})
    | st.just({"type": "number", "minimum": 0, "maximum": 5}),
    lambda inner: (
        st.builds(lambda s: {"type": "array", "items": s}, inner)
        | st.builds(
            lambda p, extra: {
                "type": "object",
                "properties": p,
                "required": sorted(p)[:1],
                "additionalProperties": extra,
            },
            st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
            st.booleans(),
        )
    ),
    max_leaves=4,
)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 7) | st.sampled_from(["a", "b"]) | st.just(2.0),
        lambda i: st.lists(i, max_size=2) | st.dictionaries(st.sampled_from("abcd"), i, max_size=3),
        max_leaves=5,
    ),
    SCHEMAS,
)
def test_the_validator_agrees_with_jsonschema(value: object, schema: dict) -> None:
    assert (not faults(value, schema)) == jsonschema.Draft202012Validator(schema).is_valid(value)


def test_equality_of_values() -> None:
    assert same(1, 1.0)
    assert same({"a": 1, "b": [2.0]}, {"b": [2], "a": 1})
    assert not same(1, True)
    assert not same("1", 1)
    assert not same([1, 2], [2, 1])
    assert canonical({"é": -0.0}) == '{"\\u00e9":0}'
    assert math.isfinite(float(canonical(1e300)))

"""Every notation of tool calls that models write, and the pairing of calls with the expected ones."""

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfenvs.graders.call_match import (
    COMPARATORS,
    Accepts,
    Expected,
    differences,
    match,
    same_loosely,
)
from rfenvs.graders.call_syntax import FORMS, Call, ParseError, parse_calls
from rfenvs.graders.tool_calls import grade, write_call

OSLO = Call("weather", {"city": "Oslo", "days": 3})
FLAT = {"name": "weather", "arguments": {"city": "Oslo", "days": 3}}
OPENAI = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": json.dumps(FLAT["arguments"])}}
REACT = 'Action: weather\nAction Input: {"city": "Oslo", "days": 3}'
WAYS = {
    "python": 'weather(city="Oslo", days=3)',
    "json": json.dumps(FLAT),
    "openai": json.dumps(OPENAI),
    "openai message": json.dumps({"role": "assistant", "content": None, "tool_calls": [OPENAI]}),
    "openai list": json.dumps([OPENAI]),
    "openai without an encoded string": json.dumps({"function": FLAT}),
    "tags": f"<tool_call>\n{json.dumps(FLAT)}\n</tool_call>",
    "tags after words": f"Let me look (one moment).\n<tool_call>{json.dumps(FLAT)}</tool_call>",
    "tags with a fence": f"<tool_call>\n```json\n{json.dumps(FLAT)}\n```\n</tool_call>",
    "react": REACT,
    "react with thoughts": f"Thought: I need the weather.\n{REACT}\nObservation: sunny\nFinal Answer: sunny",
    "react with a fence": 'Action: weather\nAction Input:\n```json\n{"city": "Oslo", "days": 3}\n```',
    "a fence round it all": f"```\n{REACT}\n```",
    "after thinking": '<think>weather(city="Rome")?</think>\n\nweather(city="Oslo", days=3)',
    "after thinking that the prompt opened": 'timer(minutes=1)?\n</think>\n\nweather(city="Oslo", days=3)',
    "after a thought in a thought": f"Thought: hm <think>\nAction: no\nAction Input: {{}}\n</think>\n{REACT}",
}


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS)
def test_ways_to_write_one_call(text: str) -> None:
    [call] = parse_calls(text)  # type: ignore[misc]
    assert (call.name, call.arguments) == (OSLO.name, OSLO.arguments)
    assert text[slice(*call.name_span)].strip('"') == "weather"
    assert "Oslo" in text[slice(*call.argument_spans["city"])]
    assert "3" in text[slice(*call.argument_spans["days"])]


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>{json.dumps(FLAT)}</tool_call>\n<tool_call>{json.dumps(FLAT)}</tool_call>",
        f"{REACT}\n{REACT}",
        f"{REACT}\n\nThought: and again\n{REACT}\n",
        json.dumps({"tool_calls": [OPENAI, OPENAI]}),
        f"{json.dumps(OPENAI)}\n{json.dumps(OPENAI)}",
    ],
)
def test_ways_to_write_two(text: str) -> None:
    calls = parse_calls(text)
    assert isinstance(calls, list)
    assert [call.arguments for call in calls] == [OSLO.arguments] * 2
    assert calls[0].span[1] <= calls[1].span[0]


@pytest.mark.parametrize("name", ["math.factorial", "[Optional]updateUserProfile", "a b-c", "búsqueda"])
def test_names_beyond_identifiers(name: str) -> None:
    arguments = {"data": {"deep": [{"x": 1}, {}]}}
    for text in (
        f"Action: {name}\nAction Input: {json.dumps(arguments)}",
        json.dumps({"name": name, "arguments": arguments}),
    ):
        [call] = parse_calls(text)  # type: ignore[misc]
        assert (call.name, call.arguments) == (name, arguments)
    assert parse_calls("math.factorial(n=5)") == [Call("math.factorial", {"n": 5}, (0, 19), (0, 14), {"n": (17, 18)})]


UNREADABLE = [
    # text, message, what stands at the position
    ("Action: f\nAction Input: {not json}", 'expected a key in quotes, found "not"', "not"),
    ("Action: f\nAction Input: nothing", 'the input of an action is a JSON object, found "nothing"', "nothing"),
    ("Action: f\nAction Input: {} and so on", 'unexpected text after the action input: "and"', "and"),
    (
        "Action: f\nAction Input: {}\nDone.",
        'unexpected text after the action input: "Done"; begin it with "Thought:"',
        "Done",
    ),
    ("Action: f\nThought: {}", 'expected "Action Input:" after the action, found "Thought"', "Thought"),
    ("Action Input: {}", '"Action Input:" needs an "Action:" on the line before it', "Action Input"),
    ("Action:\nAction Input: {}", '"Action:" names no tool', "Action Input"),
    (
        '<tool_call>{"name": "f", "arguments": {}}',
        "expected </tool_call> after the call, found the end of the reply",
        "",
    ),
    ('<tool_call>{"name": "f", "arguments": {}}</tool_call> ok', 'unexpected text after the call: "ok"', "ok"),
    ("<tool_call>f(x=1)</tool_call>", 'expected "{", found "f"', "f(x"),
    (
        '{"function": {"name": "f", "arguments": "{\\"a\\": oops}"}}',
        '"oops" is not a literal value; put text in quotes',
        "oops",
    ),
    ('{"function": {"name": "f", "arguments": "[]"}}', '"arguments" holds a JSON object, found "["', "[]"),
    ('{"function": {"name": "f", "arguments": "{} x"}}', 'unexpected text after the arguments: "x"', "x"),
    (
        '{"function": {"name": "f", "arguments": "{}", "strict": 1}}',
        'unexpected key "strict"; a call has "name" and "arguments"',
        "1}",
    ),
    ('{"function": "f"}', 'a call needs "function", an object', '"f"'),
    ('{"tool_calls": []}', '"tool_calls" is a list of calls', "[]"),
    ('{"tool_calls": [{"tool_calls": []}]}', 'a call needs "function", an object', '{"tool_calls": []}'),
    ("<think>f(x=1)", "the thinking has no end: </think> is missing", "<think>"),
]


@pytest.mark.parametrize(("text", "message", "there"), UNREADABLE)
def test_what_is_wrong_and_where(text: str, message: str, there: str) -> None:
    error = parse_calls(text)
    assert error == ParseError(message, error.position)  # type: ignore[union-attr]
    assert text[error.position :].startswith(there)  # type: ignore[union-attr]
    assert error.attempted  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text", ["", "I cannot do that.", "<think>f(x=1)</think>", "1. First, a question", "[1] says so", "{x}"]
)
def test_plain_words_are_no_attempt_at_a_call(text: str) -> None:
    error = parse_calls(text)
    assert isinstance(error, ParseError)
    assert not error.attempted


def test_an_environment_picks_the_notations() -> None:
    forms = {"python", "json", "openai", "tags", "react"}
    for name, form in itertools.product(("python", "json", "openai", "tags", "react"), forms):
        calls = parse_calls(WAYS[name], (form,))  # type: ignore[arg-type]
        assert isinstance(calls, list) == (name == form), (name, form)
    assert isinstance(parse_calls(WAYS["after thinking"], ("python",)), ParseError)
    error = parse_calls("No.", ("react", "json"))
    assert error == ParseError(
        'the reply holds no tool call; write "Action: name" and on the next line "Action Input: {...}"', 0
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), VALUES, max_size=3)


@given(st.lists(ARGUMENTS, min_size=1, max_size=3), st.booleans())
def test_every_call_reads_back_in_every_notation(several: list, ascii: bool) -> None:
    dumps = [json.dumps(arguments, ensure_ascii=ascii) for arguments in several]
    functions = [{"function": {"name": "f", "arguments": text}} for text in dumps]
    for text in (
        "\n".join(write_call("f", arguments) for arguments in several),
        json.dumps({"tool_calls": functions}, ensure_ascii=ascii),
        "".join(f'<tool_call>{{"name": "f", "arguments": {text}}}</tool_call>' for text in dumps),
        "\n".join(f"Action: f\nAction Input: {text}" for text in dumps),
    ):
        calls = parse_calls(text)
        assert isinstance(calls, list), (text, calls)
        assert [call.arguments for call in calls] == several
        for call, arguments in zip(calls, several, strict=True):
            assert call.argument_spans.keys() == arguments.keys()


PIECES = st.sampled_from(
    [
        *(
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "```\n",
            "\nThought: ",
            "\nAction:",
            "\nAction Input: ",
        ),
        *(" f", "{}", '{"a": ', "1}", '{"name": "f", "arguments": {}}', '{"function": ', '{"tool_calls": ['),
        *("]", "}", '"', "\\", "f(x=1)", "\n", ","),
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.permutations(FORMS).map(lambda forms: forms[:4]))
def test_no_text_raises(text: str, forms: list) -> None:
    result = parse_calls(text, forms)
    if isinstance(result, ParseError):
        assert 0 <= result.position <= len(text)
    else:
        assert result
        assert all(0 <= call.span[0] <= call.name_span[0] <= call.span[1] <= len(text) for call in result)


def test_code_marks_round_the_reply_are_ignored() -> None:
    for text in ("`ls()`", " `ls()`\n", "```python\r\nls()\r\n```\r\n", "<think>x</think>\n`ls()`"):
        calls = parse_calls(text)
        assert isinstance(calls, list), text
        assert text[slice(*calls[0].span)] == "ls()"
    assert isinstance(parse_calls("`ls()` `ls()`"), ParseError)


def test_a_flood_of_wrong_arguments_is_cut_short() -> None:
    names = [f"parameter_{number}" for number in range(20)]
    tool = {"name": "f", "parameters": {"properties": {name: {"type": "integer"} for name in names}}}
    tool["parameters"]["additionalProperties"] = False
    text = f"f({', '.join(f'parametre_{number}=1' for number in range(10_000))})"
    start = time.process_time()
    result = grade(text, [Call("f", {})], [tool])
    assert time.process_time() - start < 0.5
    assert len(result.problems) == 32


def test_time_is_linear_in_the_length() -> None:
    long = 100_000
    for text in (
        "<think></think>" * 7_000,
        "<think>" * 10_000 + "</think>" * 10_000,
        "x</think>" * 10_000,
        f"{REACT}\n" * 2_000,
        "Action:\n" * 10_000,
        "<tool_call>" * 9_000,
        "```\n" + " " * long,
        "f(x=(" + "(1)," * 25_000 + "))",
        'f(x="' + "a\\n" * 30_000 + '")',
        '{"function": {"name": "f", "arguments": "{\\"a\\": [' + "[]," * 30_000 + '"}}',
        '{"tool_calls": [' * 5_000,
        "f." * 50_000,
        "{" + " " * long,
    ):
        start = time.process_time()
        parse_calls(text)
        assert time.process_time() - start < 1.0, text[:20]


# Pairing.


def accepts(*options: object, **more: object) -> Accepts:
    return Accepts(options, **more)  # type: ignore[arg-type]


def test_taking_the_first_that_fits_would_use_up_the_only_match_of_another() -> None:
    expected = [Expected("t", {"n": accepts(1, 2)}), Expected("t", {"n": accepts(1)})]
    matching = match([Call("t", {"n": 1}), Call("t", {"n": 2})], expected)
    assert matching.complete
    assert matching.correct == 2


@given(
    st.lists(st.sets(st.integers(0, 4), max_size=3), max_size=4),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4)), min_size=1, max_size=5),
)
def test_no_other_pairing_has_more_right_calls(options: list, given: list) -> None:
    expected = [Expected("ab"[len(values) % 2], {"n": accepts(*sorted(values))}) for values in options]
    calls = [Call(name, {"n": value}) for name, value in given]
    right = [[call.name == e.name and not differences(call, e) for call in calls] for e in expected]
    spare = list(range(len(calls))) + [None] * len(expected)
    best = max(
        sum(call is not None and right[row][call] for row, call in enumerate(chosen))
        for chosen in set(itertools.permutations(spare, len(expected)))
    )
    matching = match(calls, expected)
    assert matching.correct == best
    assert sorted([*matching.differences, *matching.unmatched]) == list(range(len(calls)))


def test_among_wrong_calls_the_fewest_arguments_differ() -> None:
    expected = [Expected("t", {k: accepts(v) for k, v in row.items()}) for row in ({"a": 1, "b": 1}, {"a": 2, "b": 2})]
    matching = match([Call("t", {"a": 2, "b": 9}), Call("t", {"a": 1, "b": 9})], expected)
    assert matching.differences == {0: [("b", "wrong_value")], 1: [("b", "wrong_value")]}


TIMER = {"name": "t", "parameters": {"properties": {"n": {"type": "integer"}}}}


@pytest.mark.parametrize(
    ("order", "text", "codes"),
    [
        ("any", "t(n=2)\nt(n=1)", []),
        ("same", "t(n=1)\nt(n=2)", []),
        ("same", "t(n=2)\nt(n=1)", ["order"]),
        ("same", "t(n=1)", ["count"]),
        ("prefix", "t(n=1)", []),
        ("prefix", "t(n=2)", ["wrong_value"]),
        ("prefix", "t(n=1)\nt(n=2)\nt(n=3)", ["count", "extra_call"]),
    ],
)
def test_order(order: str, text: str, codes: list) -> None:
    expected = [Call("t", {"n": 1}), Call("t", {"n": 2})]
    assert [p.code for p in grade(text, expected, [TIMER], order=order).problems] == codes  # type: ignore[arg-type]


def test_a_call_that_may_be_left_out() -> None:
    expected = [Expected("t", {"n": accepts(1)}), Expected("t", {"n": accepts(2)}, optional=True)]
    assert grade("t(n=1)", expected, [TIMER]).problems == []
    assert grade("t(n=2)\nt(n=1)", expected, [TIMER]).problems == []
    assert [p.code for p in grade("t(n=2)", expected, [TIMER]).problems] == ["missing_call"]
    [problem] = grade("t(n=1)\nt(n=2)\nt(n=2)", expected, [TIMER]).problems[:1]
    assert problem.message == "ValueError: expected 1 or 2 calls, got 3."


COMPARED = [
    ("exact", "a b", "a b", "A b"),
    ("exact", 1, 1.0, True),
    ("text", "straße", "STRASSE", "strase"),
    ("loose", "April 1, 2024", "april 1 2024", "april 2 2024"),
    ("loose", ["New York, NY"], ["new york ny"], ["new york"]),
    ("number", 0.3, 0.1 + 0.2, 0.31),
    ("number", 10**400, 10**400, 10**400 + 1),
    ("date", "2024-01-05", "Jan 5, 2024", "2024-05-01"),
    ("date", "5 January 2024", "2024/01/05", "soon"),
    ("set", [1, 2, 2], [2, 1.0], [1, 2, 3]),
]


@pytest.mark.parametrize(("how", "value", "same", "other"), COMPARED)
def test_comparators(how: str, value: object, same: object, other: object) -> None:
    compare = COMPARATORS[how]
    assert compare(value, same)
    assert compare(same, value)
    assert not compare(value, other)
    assert not compare(other, value)


@given(VALUES)
def test_every_comparator_is_reflexive(value: object) -> None:
    for compare in COMPARATORS.values():
        assert compare(value, value)


def test_any_of_and_left_out() -> None:
    expected = Expected("t", {"city": accepts("NYC", "New York", compare=same_loosely), "n": accepts(1, optional=True)})
    assert differences(Call("t", {"city": "new york"}), expected) == []
    assert differences(Call("t", {"city": "Boston", "x": 1}), expected) == [("city", "wrong_value"), ("x", "not_asked")]
    assert differences(Call("t", {"n": 2}), expected) == [("n", "wrong_value"), ("city", "left_out")]


def test_a_flood_of_calls_is_cut_short() -> None:
    start = time.process_time()
    result = grade("\n".join(["t(n=7)"] * 5_000), [Call("t", {"n": n}) for n in range(6)], [TIMER])
    assert time.process_time() - start < 2.0
    assert len(result.problems) <= 32
    assert result.problems[0].message == "ValueError: expected 6 calls, got 5000."
    result = grade("\n".join(f"unknown_{n}()" for n in range(5_000)), [Call("t", {"n": 1})], [TIMER])
    assert len(result.problems) <= 32

"""Multiple choice: which replies name which option, what never counts, and when the working contradicts the choice."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rfenvs.graders.choice
import rfenvs.graders.quantity
from rfenvs.graders.choice import LETTERS, final_number, mismatch, option_values, read_choice
from rfenvs.graders.quantity import quantity

OPTIONS = ["12 cm", "15 cm", "19 cm", "42 cm"]


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("<answer>B</answer>", "B"),
        ("<answer>\nb\n</answer>", "B"),
        ("<answer>B.</answer>", "B"),
        ("<answer>(B)</answer>", "B"),
        ("<answer>B: 15 cm</answer>", "B"),
        ("<answer>B) 15 cm.</answer>", "B"),
        ("<answer>B: it is the longest</answer>", "B"),
        ("<answer>Option B</answer>", "B"),
        ("<answer>The correct answer is B.</answer>", "B"),
        ("<answer>**B**</answer>", "B"),
        ("<answer>\\boxed{B}</answer>", "B"),
        ("<answer>$15$ cm</answer>", "B"),
        ("<answer>15 CM</answer>", "B"),
        ("<Answer>B</Answer>", "B"),
        ("so it is \\boxed{\\text{B}}", "B"),
        ("<answer>A</answer> no: <answer>B</answer>", "B"),
        ("<think>A? <answer>A</answer></think><answer>B</answer>", "B"),
        ("B", "B"),
        ("15 cm", "B"),
        ("B: 15 cm", "B"),
        ("The answer is B.", "B"),
        ("<answer>B", "B"),
    ],
)
def test_one_option_is_named(reply: str, letter: str) -> None:
    choice = read_choice(reply, OPTIONS)
    assert (choice.state, choice.letter) == ("ok", letter)
    assert choice.span is not None
    assert letter in reply[slice(*choice.span)].upper() or "15" in reply[slice(*choice.span)]


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        ("", "no_answer"),
        ("<answer></answer>", "no_answer"),
        ("<answer> \n </answer>", "no_answer"),
        ("I think it is B", "no_answer"),
        ("A: We compute the length. It is B", "no_answer"),
        ("I don't know.", "no_answer"),
        ("Plan B it is. CASE A CLOSED", "no_answer"),
        ("<answer>A or B</answer>", "several_answers"),
        ("<answer>A, B and D</answer>", "several_answers"),
        ("<answer>A: 15 cm</answer>", "several_answers"),
        ("<answer>A: 12 cm\nB: 15 cm</answer>", "several_answers"),
        ("A, B, C, D", "several_answers"),
        ("<answer>E</answer>", "not_an_option"),
        ("<answer>16 cm</answer>", "not_an_option"),
        ("<answer>BB</answer>", "not_an_option"),
        ("<answer>" + "A" * 9000 + "</answer>", "not_an_option"),
        ("<think>The answer is <answer>B</answer>", "truncated"),
        ("so <answer>The answ", "truncated"),
        ("<answer>", "truncated"),
    ],
)
def test_none_is(reply: str, state: str) -> None:
    choice = read_choice(reply, OPTIONS)
    assert (choice.state, choice.letter, choice.index) == (state, "", None)


def test_a_reply_cut_off_in_its_answer_is_not_read() -> None:
    assert read_choice("<answer>B", OPTIONS, cut_off=True).state == "truncated"
    assert read_choice("The length is", OPTIONS, cut_off=True).state == "truncated"
    assert read_choice("<answer>B</answer> and", OPTIONS, cut_off=True).letter == "B"


def test_a_letter_beats_an_option_that_looks_like_one() -> None:
    assert read_choice("<answer>C</answer>", ["C", "N", "O"]).letter == "C"
    assert read_choice("<answer>N</answer>", ["C", "N", "O"]).state == "not_an_option"


@given(st.text(alphabet="ABCD<answer>/\\boxed{}: .15cm\nI", max_size=80), st.booleans())
def test_whatever_is_said_is_read(reply: str, cut_off: bool) -> None:
    choice = read_choice(reply, OPTIONS, cut_off=cut_off)
    assert (choice.state == "ok") == (choice.index is not None)
    assert choice.span is not None
    assert 0 <= choice.span[0] <= choice.span[1] <= len(reply)
    if found := mismatch(reply, choice, OPTIONS):
        assert 0 <= found.span[0] < found.span[1] <= len(reply)


@given(st.text(max_size=200), st.integers(0, 3))
def test_words_before_the_answer_do_not_change_it(prose: str, index: int) -> None:
    assert read_choice(f"{prose.replace('<think>', '')}\n<answer>{LETTERS[index]}</answer>", OPTIONS).index == index


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("627.91 Å³\n", 627.91, "Å^3"),
        ("0.81 x 10^(-5) Tesla", 0.81e-5, "Tesla"),
        ("$1.7 \\times 10^{10} \\mathrm{~N}$", 1.7e10, "N"),
        ("1.50 $10^4 \\mathrm{bar}$", 1.5e4, "bar"),
        ("$42.3^\\circ$", 42.3, "°"),
        ("-0.09", -0.09, ""),
        ("96,219.46 m", 96219.46, "m"),
        ("4.02e-27 kg/m^3", 4.02e-27, "kg/m^3"),
        ("7 x 10^18 m^-3", 7e18, "m^-3"),
        ("3.0·10⁻⁷ J", 3e-7, "J"),
    ],
)
def test_quantities(text: str, value: float, unit: str) -> None:
    read = quantity(text)
    assert read is not None
    assert read.value == pytest.approx(value)
    assert read.unit == unit


@pytest.mark.parametrize("text", ["", "Cu", "58433 A/m 7.3e+13 A/m^2", "about 3", "1e999", "Material: Cu35Ag25"])
def test_no_quantities(text: str) -> None:
    assert quantity(text) is None


@pytest.mark.parametrize(
    ("working", "chosen", "code", "index"),
    [
        ("x = 3 * 5 = 15 cm", "A", "working_is_option", 1),
        ("$$x = 15.02\\,\\mathrm{cm}$$", "A", "working_is_option", 1),
        ("x \\approx 14.5 cm", "D", "working_is_closer", 1),
        ("x = 100 cm", "A", "working_is_far", 3),
    ],
)
def test_the_working_contradicts_the_choice(working: str, chosen: str, code: str, index: int) -> None:
    reply = f"{working}.\n<answer>{chosen}</answer>"
    found = mismatch(reply, read_choice(reply, OPTIONS), OPTIONS)
    assert found is not None
    assert (found.code, found.index) == (code, index)
    assert reply[slice(*found.span)] == found.value


@pytest.mark.parametrize(
    ("working", "chosen"),
    [
        ("x = 15 cm", "B"),
        ("x = 15 mm", "A"),
        ("x = 15 cm^2", "A"),
        ("x = 15 * y", "A"),
        ("x = 15 cm, but the rope is 12 cm", "A"),
        ("it is 15 cm", "A"),
        ("x = y", "A"),
        ("x = 13.5 cm", "A"),
        ("", "A"),
    ],
)
def test_nothing_is_said_unless_the_case_is_clear(working: str, chosen: str) -> None:
    reply = f"{working}.\n<answer>{chosen}</answer>"
    assert mismatch(reply, read_choice(reply, OPTIONS), OPTIONS) is None


def test_options_of_different_kinds_are_not_compared() -> None:
    assert option_values(["12 cm", "15 mm"]) is None
    assert option_values(["12 cm", "12.0 cm"]) is None
    assert option_values(["12 cm", "none"]) is None
    assert [value.value for value in option_values(OPTIONS) or []] == [12, 15, 19, 42]


def test_the_final_number_is_the_last_result() -> None:
    found = final_number("a = 2, b = 3 and a + b = 5 m")
    assert found is not None
    assert found[0].value == 5
    assert final_number("a = 5, of 7 in all") is None


@pytest.mark.parametrize(
    "reply", ["<answer>A" + " " * 3900 + "!</answer>", "\\boxed{" * 20_000, "= 1" * 30_000, " " * 10**6]
)
def test_long_replies_take_no_time(reply: str) -> None:
    import time

    start = time.process_time()
    mismatch(reply, read_choice(reply, OPTIONS), OPTIONS)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("module", [rfenvs.graders.choice, rfenvs.graders.quantity])
def test_examples_in_docstrings(module: object) -> None:
    results = doctest.testmod(module)  # type: ignore[arg-type]
    assert results.attempted
    assert not results.failed

"""Where the final answer of a written solution stands."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfenvs.graders.math_extract import State, extract


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{3} no, \boxed{4}", "4"),
        (r"\fbox{7}", "7"),
        (r"\boxed {5}", "5"),
        (r"\boxed{ \frac{1}{2} }", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{4 \boxed{5}", "5"),
        (r"a } stray brace \boxed{6}", "6"),
        (r"an { open one \boxed{6}", "6"),
        (r"<think>\boxed{1}</think> \boxed{2}", "2"),
        (r"\boxed{1}</think>\boxed{2}", "2"),
        (r"<think>a</think> b <think>c</think> \boxed{3} <think>\boxed{4}", "3"),
        ("\\boxed{\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
        (r"é🙂 \boxed{ü}", "ü"),
    ],
)
def test_the_last_balanced_box_after_the_thinking_counts(text: str, answer: str) -> None:
    found = extract(text)
    assert found.answer == answer
    assert found.span is not None
    assert text[slice(*found.span)] == answer


@pytest.mark.parametrize(
    ("text", "state", "blamed"),
    [
        ("the answer is 5", State.NO_BOX, "5"),
        ("", State.NO_BOX, None),
        (r"\boxed 5 is no box of many words, and so on", State.NO_BOX, None),
        (r"\boxed{5", State.UNCLOSED_BOX, r"\boxed{5"),
        (r"\boxed{4} or \boxed{", State.UNCLOSED_BOX, r"\boxed{"),
        (r"\boxed{\frac{1}{2}", State.UNCLOSED_BOX, r"\boxed{\frac{1}{2}"),
        (r"\boxed{5\}", State.UNCLOSED_BOX, r"\boxed{5\}"),
        (r"\boxed{4} or \boxed{ }", State.EMPTY_BOX, r"\boxed{ }"),
        (r"<think>\boxed{5}</think> done, as I have said in the thinking", State.BOX_IN_THINKING, r"\boxed{5}"),
        (r"\boxed{5}</think>", State.BOX_IN_THINKING, r"\boxed{5}"),
        (r"<think> \boxed{5}", State.BOX_IN_THINKING, r"\boxed{5}"),
        (r"<think> \boxed{5", State.NO_BOX, None),
    ],
)
def test_without_an_answer_the_state_says_why(text: str, state: State, blamed: str | None) -> None:
    found = extract(text)
    assert found.state is state
    assert found.answer == ""
    assert (None if found.span is None else text[slice(*found.span)]) == blamed


@pytest.mark.parametrize(
    ("text", "rival"),
    [
        (r"\boxed{3} \boxed{4}", "3"),
        (r"\boxed{3} \boxed{5} \boxed{4}", "5"),
        (r"\boxed{3} \boxed{4} \boxed{4}", "3"),
        (r"\boxed{4} \boxed{4}", None),
        (r"\boxed{\dfrac{1}{2}} \boxed{\frac12} \boxed{\frac{1}{2}.}", r"\frac12"),
        (r"<think>\boxed{3}</think>\boxed{4}", None),
        (r"\boxed{} \boxed{4}", None),
    ],
)
def test_boxes_that_disagree_are_noticed(text: str, rival: str | None) -> None:
    assert extract(text).rival == rival


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 + 3 = 5\n#### 5", "5"),
        ("#### 1,200\n", "1,200"),
        ("Answer: 42", "42"),
        ("so\n**Answer:** $17$.", "17"),
        ("The final answer is **$5$**.", "5"),
        ("Thus, the answer is: \\( \\frac{1}{2} \\)", r"\frac{1}{2}"),
        ("Answer: 1\nAnswer: 2", "2"),
        ("long words\n\n42", "42"),
        (r"Answer: 1 and \boxed{2}", "2"),
    ],
)
def test_other_ways_to_state_an_answer_count_on_request(text: str, answer: str) -> None:
    found = extract(text, "any")
    assert found.answer == answer
    assert found.span is not None
    assert text[slice(*found.span)] == answer
    strict = extract(text)
    assert strict.bare == answer if not strict.boxes else strict.answer == answer


def test_a_last_line_of_many_words_is_no_answer() -> None:
    assert extract("I do not know what the answer might be here", "any").state is State.NO_BOX


PIECES = st.sampled_from(
    [*"{}\\5$. \n", "\\boxed{", "\\fbox{", "\\{", "<think>", "</think>", "####", "Answer:", "**"],
)


@given(st.lists(PIECES).map("".join))
def test_any_text_has_a_consistent_extraction(text: str) -> None:
    for accept in ("box", "any"):
        found = extract(text, accept)
        start, end = found.visible
        assert 0 <= start <= end <= len(text)
        if found.span is not None:
            assert 0 <= found.span[0] <= found.span[1] <= len(text)
        if found.found:
            assert found.answer
            assert found.span is not None
            assert text[slice(*found.span)] == found.answer
            assert start <= found.span[0] <= found.span[1] <= end


@given(st.text(alphabet="ab {}\\\n", max_size=30), st.text(alphabet="ab \n", max_size=30))
def test_a_box_at_the_end_always_counts(before: str, inside: str) -> None:
    found = extract(f"{before} \n\\boxed{{x{inside}y}}")
    assert found.answer == f"x{inside}y" or before.endswith("\\")


HOSTILE = [
    "\\boxed{" * 100_000,
    "{" * 100_000,
    "}" * 100_000,
    "\\boxed{" * 50_000 + "}" * 50_000,
    "\\boxed{x " * 50_000 + "}" * 49_999,
    "\\" * 100_001,
    "<think>" * 50_000,
    " " * 100_000,
    ("\\boxed" + " " * 100) * 1000,
    "Answer: " + "*" * 100_000,
    "answer is " * 20_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{text[:8]!r} x {len(text)}")
def test_time_is_linear_in_the_text(text: str) -> None:
    start = time.process_time()
    extract(text)
    extract(text, "any")
    assert time.process_time() - start < 3, "0.5 s on a quiet machine"

"""What the teacher sees: the paper's treatment table, and nothing that it must not see."""

from __future__ import annotations

from typing import Any

import pytest
from models import tiny_tokenizer

from agents.batch import samples_of
from agents.chat import Chat
from agents.teachers.contexts import Context, Hint, add_contexts, reworded, without_thinking
from agents.trajectory import Group, Trajectory, Turn

CHAT = Chat(tiny_tokenizer())
QUESTION = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "Phone {Bob}."}]


def item(text: str, **extra: Any) -> dict[str, Any]:
    return {"kind": "wrong_answer", "severity": "error", "text": text, "visibility": "teacher",
            "reveals_reference": False, "data": {}, **extra}  # fmt: skip


def group(*attempts: tuple[float, str, list[dict[str, Any]]]) -> Group:
    return Group(
        {"id": "t"},
        [
            Trajectory([Turn(CHAT.encode(QUESTION), [5, 6], [-1, -1], text, QUESTION, r, fb)])
            for r, text, fb in attempts
        ],
    )


def taught(context: Context, *groups: Group, limit: int = 10_000) -> list[Any]:
    samples = samples_of(groups)
    add_contexts(context, samples, groups, CHAT, limit, "0")
    return samples


DEFAULT = Context(sources=["sibling", "feedback"])


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        # own result, sibling success?, feedback? -> what reaches the teacher of attempt 0
        ([(0, "bad", [item("wrong tool")]), (1, "GOOD", [])], "GOOD"),
        ([(0, "bad", []), (1, "GOOD", [])], "GOOD"),
        ([(0, "bad", [item("wrong tool")]), (0, "bad2", [])], "wrong tool"),
        ([(0, "bad", []), (0, "bad2", [item("x")])], None),
        ([(1, "mine", []), (1, "GOOD", [])], "GOOD"),
        ([(1, "mine", []), (0, "bad", [item("x")])], None),
    ],
)
def test_the_treatment_table(attempts, expected):
    sample = taught(DEFAULT, group(*attempts))[0]
    if expected is None:
        assert sample.teacher_ids is None
        return
    text = sample.teacher_messages[-1]["content"]
    assert expected in text
    assert ("wrong tool" in text) == (expected == "wrong tool"), "feedback only where there is no demonstration"
    assert "bad" not in text, "the student's own attempt is never shown"
    assert sample.teacher_ids == CHAT.encode(sample.teacher_messages)
    assert sample.teacher_messages[0] == QUESTION[0]


def test_demonstrations_stay_in_their_group():
    samples = taught(DEFAULT, group((0, "bad", [])), group((1, "GOOD", [])))
    assert [s.teacher_ids for s in samples] == [None, None]


def test_both_sources_at_once():
    sample = taught(Context(sources=["sibling+feedback"]), group((0, "b", [item("wrong tool")]), (1, "GOOD", [])))[0]
    assert "GOOD" in sample.teacher_messages[-1]["content"]
    assert "wrong tool" in sample.teacher_messages[-1]["content"]


def test_braces_survive():
    sample = taught(DEFAULT, group((0, "b", [item("expected {0} and {name}")])))[0]
    assert "Phone {Bob}." in sample.teacher_messages[-1]["content"]
    assert "expected {0} and {name}" in sample.teacher_messages[-1]["content"]


REVEALING = item("Expected: call()", reveals_reference=True, data={"expected": "call()"})


def test_a_reference_reaches_the_teacher_only_where_allowed():
    attempts = [(0, "b", [item("wrong tool"), REVEALING]), (1, "won", [])]
    closed = taught(Context(sources=["feedback"]), group(*attempts))
    assert "wrong tool" in closed[0].teacher_messages[-1]["content"]
    assert "call()" not in closed[0].teacher_messages[-1]["content"]
    opened = taught(Context(sources=["expected"], wording="turn", allow_reference=True), group(*attempts))
    for sample in opened:  # the successful sibling may see it too
        assert sample.teacher_messages == [
            *QUESTION, {"role": "assistant", "content": "call()"}, QUESTION[-1],
        ]  # fmt: skip


def test_everybody_who_can_sees_the_same_random_sibling():
    samples = taught(DEFAULT, group(*[(1, f"answer {k}", []) for k in range(6)], (0, "b", [])))
    seen = [s.teacher_messages[-1]["content"] for s in samples]
    assert len(set(seen)) == 2, "one for all, and another for that one"
    for k, text in enumerate(seen[:6]):
        assert f"answer {k}" not in text


def test_length_does_not_choose_the_demonstration():
    attempts = [(1, "long " * 20, []), (1, "s", []), (0, "b", [])]
    chosen = set()
    for seed in range(20):
        groups = [group(*attempts)]
        samples = samples_of(groups)
        add_contexts(DEFAULT, samples, groups, CHAT, 10_000, str(seed))
        chosen.add("long" in samples[2].teacher_messages[-1]["content"])
    assert chosen == {True, False}


def test_truncation_shortens_feedback_and_nothing_else():
    long = item("word " * 500)
    sample = taught(Context(sources=["feedback"], max_tokens=20), group((0, "b", [long])))[0]
    assert len(sample.teacher_ids) < 200
    assert "Phone {Bob}." in sample.teacher_messages[-1]["content"]
    assert sample.teacher_messages[-1]["content"].endswith("Correctly solve the original question.")


def test_a_context_that_does_not_fit_is_counted():
    groups = [group((0, "b", [item("word " * 200)]))]
    samples = samples_of(groups)
    assert add_contexts(DEFAULT, samples, groups, CHAT, 100, "0") == 1
    assert samples[0].teacher_ids is None


def test_thinking_is_removed_from_demonstrations_closed_or_not():
    assert without_thinking("<think>a\nb</think>\n yes <think>c</think> no") == "yes no"
    assert without_thinking("<think>never closed, call()") == ""


def test_wordings():
    assert reworded("inline", QUESTION, Hint(answer="x()"))[-1]["content"] == "Phone {Bob}. (answer: x())"
    assert [m["role"] for m in reworded("turn", QUESTION, Hint(answer="x()", feedback="fb"))] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    paper = reworded("paper", QUESTION, Hint(answer="x()", feedback="fb"))[-1]["content"]
    assert paper.index("Phone") < paper.index("Correct solution:") < paper.index("x()") < paper.index("fb")

"""A text memory keeps to its budgets, drops what harms, and comes back as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.memory import Memory

WORDS = st.sampled_from(["check units", "Check units.", "call weather first", "names", "a", "", "read twice"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), WORDS),
        st.tuples(st.just("set"), WORDS),
        st.tuples(st.sampled_from(["help", "harm"]), st.integers(0, 8)),
        st.tuples(st.just("prune"), st.just(0)),
    ),
    max_size=30,
)


def played(actions, limit=3):
    memory = Memory(limit, longest=12)
    for step, (what, value) in enumerate(actions):
        if what == "add":
            memory.add(value, step)
        elif what == "set":
            memory.add(value, step, key="fixed")
        elif what == "prune":
            memory.prune()
        else:
            memory.tag(f"m{value}", step, helpful=what == "help")
    return memory


@given(ACTIONS, st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_never_over_its_budgets_and_the_same_after_a_round_trip(actions, budget):
    memory = played(actions)
    assert len(memory) <= 3
    assert all(0 < len(e.text) <= 12 for e in memory)
    plain = [e.text.lower().rstrip(".") for e in memory]
    assert len(plain) == len(set(plain)), "nothing is kept twice"
    again = Memory(3, longest=12)
    again.load_state_dict(json.loads(json.dumps(memory.state_dict())))
    assert again.state_dict() == memory.state_dict()
    shown = memory.render(budget, len)
    assert len(shown) <= budget or not shown
    assert shown == again.render(budget, len)
    assert again.add("something new", 99).key == memory.add("something new", 99).key, "new keys go on where they were"


def test_what_harms_goes_and_what_is_stale_next():
    memory = Memory(2)
    first, second = memory.add("one", 0), memory.add("two", 1)
    memory.tag(first.key, 2, helpful=True)
    memory.add("three", 3)
    assert [e.text for e in memory] == ["one", "three"], "two was not used since step 1"
    memory.tag(first.key, 4, helpful=False)
    assert memory.prune() == 1
    assert [e.text for e in memory] == ["three"]
    assert memory.get(second.key) is None
    assert memory.add("THREE!", 5) is None


def test_the_most_helpful_are_shown_where_not_all_fit():
    memory = Memory(9)
    for text in ("aa", "bb", "cc"):
        memory.add(text, 0)
    memory.tag("m2", 1, helpful=True)
    assert memory.render(7, len) == "[m2] cc"
    assert memory.render(3, len) == ""
    assert memory.render(99, len).splitlines()[0] == "[m2] cc"


def test_a_key_is_replaced_and_keeps_its_counts():
    memory = Memory(3)
    memory.add("old", 0, key="task 1")
    memory.tag("task 1", 0, helpful=True)
    memory.add("new", 1, key="task 1")
    assert [(e.text, e.helpful) for e in memory] == [("new", 1)]


def test_an_empty_memory_is_refused():
    with pytest.raises(ValueError, match="could hold nothing"):
        Memory(0)

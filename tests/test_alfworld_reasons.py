"""Why nothing happened in ALFWorld: every failed precondition of every command, and nothing that was not seen."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import get_args

import pytest
from alfworld_games import kitchen as odd_kitchen
from alfworld_rooms import kitchen
from hypothesis import given, settings
from hypothesis import strategies as st

from rfenvs.envs.alfworld import engine
from rfenvs.envs.alfworld.game import Game
from rfenvs.envs.alfworld.reasons import Code, Reason, Seen, explain, forms, see
from rfenvs.envs.alfworld.reply import normal, read_reply

GAME = kitchen()
COUNTER, DESK, CABINET = "go to countertop 1", "go to desk 1", "go to cabinet 2"


def played(*commands: str, game=GAME) -> tuple[engine.State, Seen]:
    state, seen = engine.start(game), Seen()
    for command in commands:
        step = engine.apply(game, state, command)
        assert step.outcome.kind, command
        state, seen = step.state, see(game, step.state, seen, step.outcome.command)
    return state, seen


def why(text: str, *before: str, dialect: engine.Dialect = "alfworld-0.4") -> Reason:
    return explain(GAME, *played(*before), text, dialect)


CASES: list[tuple[str, tuple[str, ...], Code, str]] = [
    ("", (), "empty_action", 'The reply holds no command. Reply with one, such as "look".'),
    ("go to desk 1, then look", (), "several_commands", 'Give one at a time: "go to desk 1".'),
    ("go to desk 1 and go to shelf 1", (), "several_commands", "none of them was carried out"),
    ("go to desk 1; open drawer 1. look", (), "several_commands", "several commands"),
    ("walk to desk 1", (), "unknown_command", 'There is no command "walk to desk 1"; say "go to RECEPTACLE".'),
    ("pick up mug 1", (), "unknown_command", 'say "take OBJECT from RECEPTACLE".'),
    ("opne cabinet 1", (), "unknown_command", 'say "open RECEPTACLE".'),
    ("that is it", (), "unknown_command", "it begins with one of"),
    ("ok", (), "unknown_command", "it begins with one of"),
    ("xyzzy", (), "unknown_command", "it begins with one of: go, open, close, take, move, clean"),
    ("take mug 1", (), "malformed_command", '"take mug 1" has not the form "take OBJECT from RECEPTACLE".'),
    ("put mug 1 on desk 1", (), "malformed_command", 'has not the form "move OBJECT to RECEPTACLE".'),
    ("look around", (), "malformed_command", 'has not the form "look".'),
    ("take mug 2 from countertop 1", (), "no_such_object", "has been seen so far; go and look what is there."),
    ("take mug 1 from countertop 1", (COUNTER,), "no_such_object", 'the nearest name seen is "mug 2".'),
    ("take mugg 2 from countertop 1", (COUNTER,), "no_such_object", 'the nearest name seen is "mug 2".'),
    ("go to desk", (), "no_such_receptacle", 'There is no receptacle "desk" here; the nearest name is "desk 1".'),
    ("go to mug 2", (), "no_such_receptacle", 'There is no receptacle "mug 2" here'),
    ("go to mug 2", (COUNTER,), "not_a_receptacle", "mug 2 is an object, not a receptacle"),
    ("use desk 1", (), "not_an_object", "desk 1 is a receptacle"),
    ("open fridge 1", (), "not_at_receptacle", 'You are not at fridge 1: "go to fridge 1" first.'),
    ("examine fridge 1", (), "not_at_receptacle", "go to fridge 1"),
    ("take mug 2 from countertop 1", (COUNTER, DESK), "not_at_receptacle", "go to countertop 1"),
    ("move mug 2 to desk 1", (COUNTER, "take mug 2 from countertop 1"), "not_at_receptacle", "go to desk 1"),
    ("heat mug 2 with microwave 1", (COUNTER, "take mug 2 from countertop 1"), "not_at_receptacle", "microwave 1"),
    ("go to shelf 1", (DESK,), "already_here", "You are at shelf 1 already."),
    ("take plate 1 from cabinet 2", (CABINET, "open cabinet 2", "close cabinet 2"), "closed", '"open cabinet 2" first'),
    ("move mug 2 to fridge 1", (COUNTER, "take mug 2 from countertop 1", "go to fridge 1"), "closed", "is closed"),
    ("open desk 1", (DESK,), "not_openable", "cannot be opened or closed"),
    ("close desk 1", (DESK,), "not_openable", "cannot be opened or closed"),
    ("open cabinet 2", (CABINET, "open cabinet 2"), "already_open", "cabinet 2 is open already"),
    ("close cabinet 2", (CABINET,), "already_closed", "cabinet 2 is closed already"),
    ("take mug 2 from desk 1", (COUNTER, DESK), "wrong_place", "It was last seen in or on countertop 1."),
    ("take desklamp 1 from desk 1", (DESK,), "not_pickupable", "desklamp 1 cannot be picked up"),
    ("take tomato 1 from countertop 1", (COUNTER, "take mug 2 from countertop 1"), "already_holding", "You hold mug 2"),
    ("take mug 2 from countertop 1", (COUNTER, "take mug 2 from countertop 1"), "already_holding", "mug 2 already"),
    ("move mug 2 to countertop 1", (COUNTER,), "not_holding", "your hand is empty. It was last seen in or on counter"),
    ("clean mug 2 with sinkbasin 1", (COUNTER, "take knife 1 from countertop 1"), "not_holding", "you hold knife 1"),
    ("examine mug 2", (COUNTER,), "not_holding", "only what you hold can be examined"),
    ("slice tomato 1 with knife 1", (COUNTER,), "not_holding", "You do not hold knife 1"),
    ("move tomato 1 to shelf 1", (COUNTER, "take tomato 1 from countertop 1", DESK), "cannot_contain", "not belong"),
    ("heat mug 2 with fridge 1", (COUNTER, "take mug 2 from countertop 1"), "wrong_appliance",
     'fridge 1 cannot heat anything: it takes a microwave, such as microwave 1: "heat mug 2 with microwave 1".'),
    ("clean book 1 with sinkbasin 1", (DESK, "take book 1 from desk 1"), "cannot_clean", "book 1 is nothing to clean."),
    ("heat book 1 with microwave 1", (DESK, "take book 1 from desk 1"), "cannot_heat", "book 1 is nothing to heat."),
    ("cool book 1 with fridge 1", (DESK, "take book 1 from desk 1"), "cannot_cool", "book 1 is nothing to cool."),
    ("use desklamp 1", (DESK, COUNTER), "not_here", "desklamp 1 is not where you stand. It was last seen in or on"),
    ("slice tomato 1 with knife 1", (COUNTER, "take knife 1 from countertop 1", DESK), "not_here", "tomato 1 is not"),
    ("use mug 2", (COUNTER,), "not_toggleable", "mug 2 has no switch"),
    ("slice mug 2 with knife 1", (COUNTER, "take knife 1 from countertop 1"), "not_sliceable", "cannot be sliced"),
    ("slice tomato 1 with mug 2", (COUNTER, "take mug 2 from countertop 1"), "not_a_knife", "mug 2 cannot slice"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "before", "code", "said"), CASES)
def test_every_failed_precondition_has_its_reason(text: str, before: tuple[str, ...], code: Code, said: str) -> None:
    reason = why(text, *before)
    assert reason.code == code
    assert said in reason.text


def test_every_reason_is_shown_above() -> None:
    assert {code for _, _, code, _ in CASES} == set(get_args(Code))


def test_what_is_suggested_can_be_done() -> None:
    for text, before, _, _ in CASES:
        suggestion = why(text, *before).data.get("try", "look")
        if (command := engine.parse(GAME, suggestion)) and command.kind in ("go", "open", "examine"):
            state, _ = played(*before)
            assert engine.possible(GAME, state, command), (text, suggestion)


def test_the_older_wording_is_suggested_in_the_older_dialect() -> None:
    old = why("put mug 1 on desk 1", dialect="alfworld-0.3")
    assert old.data["try"] == "put OBJECT in/on RECEPTACLE"
    assert why("help", dialect="alfworld-0.3").code == "unknown_command"
    assert "move OBJECT to RECEPTACLE" not in forms("alfworld-0.3")


def test_what_does_something_has_no_reason() -> None:
    with pytest.raises(ValueError, match="'look' does something here"):
        why("look")


FORMS = dict.fromkeys(
    re.sub("OBJECT|KNIFE|RECEPTACLE", "{}", form) for form in (*forms("alfworld-0.4"), *forms("alfworld-0.3"))
)
GAMES = (GAME, odd_kitchen(3))
"""The second has objects in two places, one inside another, and receptacles side by side."""


def commands(game: Game) -> list[str]:
    """Every form with every name, of things that are there or not."""
    names = (*game.object_names, *game.receptacle_names, "mug 9", "stove 1")
    return [form.format(*pair) for form in FORMS for pair in itertools.product(names, repeat=form.count("{}"))]


@st.composite
def moments(draw) -> tuple[Game, engine.State, Seen]:
    """Some way into a game."""
    game = draw(st.sampled_from(GAMES))
    state, seen = engine.start(game), Seen()
    for _ in range(draw(st.integers(0, 12))):
        step = engine.apply(game, state, draw(st.sampled_from(engine.admissible(game, state))))
        state, seen = step.state, see(game, step.state, seen, step.outcome.command)
    return game, state, seen


def test_what_was_taken_unseen_is_seen() -> None:
    game = odd_kitchen()
    state = engine.apply(game, engine.start(game), "go to countertop 1").state
    taken = engine.apply(game, state, "take bowl 1 from shelf 2")
    assert taken.outcome.command is not None
    seen = see(game, taken.state, Seen(), taken.outcome.command)
    assert explain(game, taken.state, seen, "move bowl 1 to fridge 1").code == "not_at_receptacle"


@settings(max_examples=12, deadline=None)
@given(moments())
def test_every_command_does_something_or_has_a_reason(moment: tuple[Game, engine.State, Seen]) -> None:
    game, state, seen = moment
    admissible = {*engine.admissible(game, state), *engine.admissible(game, state, "alfworld-0.3")}
    for text in commands(game):
        if text not in admissible:
            reason = explain(game, state, seen, text)
            assert reason.code not in ("unknown_command", "malformed_command", "several_commands", "empty_action")
            assert reason.text.endswith(".")
            assert len(reason.text) < 300


@settings(max_examples=12, deadline=None)
@given(moments())
def test_a_reason_tells_nothing_that_was_not_seen(moment: tuple[Game, engine.State, Seen]) -> None:
    """Take away, under the agent's nose, all that it has not seen: every reason stays the same."""
    game, state, seen = moment
    poorer = state._replace(contents=tuple(bits & seen.objects for bits in state.contents))
    names = tuple(
        name if seen.objects >> o & 1 else f"unheard-of {o}" for o, name in enumerate(game.object_names)
    )  # fmt: skip
    other = replace(game, object_names=names, tables={})
    admissible = {*engine.admissible(game, state), *engine.admissible(game, state, "alfworld-0.3")}
    for text in commands(game):
        if text not in admissible:
            assert explain(game, state, seen, text) == explain(other, poorer, seen, text)


@given(st.text(max_size=60))
def test_any_text_has_a_reason_or_does_something(text: str) -> None:
    state, seen = played(COUNTER)
    line = normal(text)
    asked = engine.parse(GAME, line)
    if asked is None or not engine.possible(GAME, state, asked):
        assert len(explain(GAME, state, seen, line).text) < 300


@pytest.mark.parametrize(
    ("reply", "command"),
    [
        ("go to desk 1", "go to desk 1"),
        ("> go to desk 1", "go to desk 1"),
        ("Action: Go to  Desk 1.", "go to desk 1"),
        ("action: > look", "look"),
        ("<think>\nopen it\n</think>\n\nopen fridge 1\n\n", "open fridge 1"),
        ("open fridge 1 <think> or not", "open fridge 1"),
        ("<think>never closed", ""),
        ("I go.\nThen:\ngo to desk 1", "go to desk 1"),
        ("<action>look</action> and see", "look"),
        ("<action>look</action>\n<ACTION>\ninventory\n</ACTION>", "inventory"),
        ("<action>look", "look"),
        ("<action> </action>", ""),
        ("<think><action>look</action></think>inventory", "inventory"),
        ("```text\ngo to desk 1\n```\n", "go to desk 1"),
        ("**Action:** `look`.", "look"),
        ('"Look."', "look"),
        ("- look", "look"),
        ("look...", "look"),
        ("1. look", "1. look"),
        ("look!", "look!"),
        ("desk\uff11", "desk\uff11"),
        ("", ""),
    ],
)
def test_replies_are_read_leniently(reply: str, command: str) -> None:
    assert read_reply(reply).command == command


@given(st.text(alphabet=st.sampled_from("ab>.: \n\tİ<action></think>Action:"), max_size=60))
def test_the_span_of_a_reply_is_its_command(reply: str) -> None:
    command, (start, end), _ = read_reply(reply)
    assert 0 <= start <= end <= len(reply)
    assert normal(reply[start:end]) == command
    assert reply[start:end] == reply[start:end].strip()


def test_what_stands_before_the_command_is_kept_to_be_counted() -> None:
    assert read_reply("<action>open fridge 1</action> and <action>look</action>").others == ("open fridge 1", "and")
    assert read_reply("go to desk 1\n<action>look</action>").others == ("go to desk 1",)
    assert read_reply("```\nAction: look\n```").others == ()


def test_thoughts_are_told_from_commands() -> None:
    assert read_reply("> think: I need a mug.").thought
    assert not read_reply("think: I need a mug.\n> look").thought

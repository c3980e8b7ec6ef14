"""What the environment made of a turn: its words, and the plain signs of failure that need no judge."""

from __future__ import annotations

from typing import Any

from agents.trajectory import Trajectory, Turn
from rfenvs.feedback import visible
from rfenvs.graders.thinking import visible_span

FAILURES = frozenset(
    {"runtime_error", "compile_error", "timeout", "memory", "format_error", "tool_error", "invalid_action"}
)
"""Kinds of feedback that say outright that an action did not work, whatever was wanted."""

_REFUSALS = ("nothing happens", "traceback (most recent call last)")
"""Openings of what an environment without feedback items says of an action that did not work."""


def complaints(turn: Turn, leak_level: int) -> list[dict[str, Any]]:
    """Feedback items about this one turn that the teacher may see, of at most ``leak_level`` (3: references too).

    Items about the whole episode, which the last turn happens to carry, are left out.
    """
    return [
        entry
        for entry in visible(turn.feedback, "teacher")
        if entry.get("scope") != "episode" and entry.get("leak_level", 0) <= leak_level
    ]


def answer(turn: Turn, leak_level: int) -> str:
    """All that the environment said after the turn: its reply, then the feedback that is not part of it."""
    more = [entry["text"] for entry in complaints(turn, leak_level) if entry["text"] not in turn.reply]
    return "\n".join([turn.reply, *more] if turn.reply else more)


def failure(turn: Turn, leak_level: int) -> str | None:
    """Why the turn failed outright: a parse, tool or runtime error, or an environment that says nothing happened."""
    items = complaints(turn, leak_level)
    for entry in items:
        if entry["kind"] in FAILURES and entry["severity"] in ("error", "fatal"):
            return _first_line(entry["text"])
    for text in (turn.reply, *(entry["text"] for entry in items)):
        if text.strip().lower().startswith(_REFUSALS):
            return _first_line(text.strip())
    return None


def repeats(trajectory: Trajectory, t: int, leak_level: int) -> bool:
    """Whether an earlier turn did the same and was told the same, or did it in the very same state."""
    turn = trajectory.turns[t]
    state, told = turn.before.get("state_key"), answer(turn, leak_level)
    return any(
        _said(earlier) == _said(turn)
        and (
            (state is not None and earlier.before.get("state_key") == state)
            or (turn.reply != "" and earlier.reply == turn.reply)
            or (told != "" and answer(earlier, leak_level) == told)
        )
        for earlier in trajectory.turns[:t]
    )


def unchanged(turn: Turn) -> bool:
    """Whether the environment's state key is the same after the turn; False where it tells none."""
    state = turn.after.get("state_key")
    return state is not None and state == turn.before.get("state_key")


def returns(trajectory: Trajectory, t: int) -> bool:
    """Whether turn ``t`` leads to a state that the episode was in before; False where no state keys are told."""
    state = trajectory.turns[t].after.get("state_key")
    return state is not None and any(turn.before.get("state_key") == state for turn in trajectory.turns[: t + 1])


def _said(turn: Turn) -> str:
    start, end = visible_span(turn.text)
    return " ".join(turn.text[start:end].split())


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""

"""Feedback items of an ALFWorld episode: what a turn is told, from the rules alone up to the expert's command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rfenvs.envs.alfworld.progress import STALLED, Condition
from rfenvs.envs.alfworld.reasons import Reason
from rfenvs.feedback import Item, Kind, LeakLevel, Severity, Visibility, item

Span = tuple[int, int]


def nothing_happened(reason: Reason, span: Span, to: Visibility) -> Item:
    """Why a command did nothing."""
    kind: Kind = "format_error" if reason.code == "empty_action" else "invalid_action"
    data = {"code": reason.code, **reason.data}
    return item(kind, reason.text, source="env", span=span, visibility=to, leak_level=0, data=data)


def ignored(count: int, span: Span, to: Visibility) -> Item:
    """Lines before the last one were commands, too."""
    were = "1 command before it was" if count == 1 else f"{count} commands before it were"
    said = f"Only the last line of a reply counts: {were} not carried out."
    return _note("format_error", "ignored_commands", said, to, "warning", span=span, ignored=count)


def tried_before(turn: int, span: Span, to: Visibility) -> Item:
    """The same command in the same state."""
    said = f"The same command was given in the same situation at turn {turn + 1}, and had the same reply."
    return _note("invalid_action", "repeated_command", said, to, "warning", span=span, since=turn)


def been_before(turn: int, span: Span, to: Visibility) -> Item:
    """A command led back."""
    when = "at the start" if turn < 0 else f"after turn {turn + 1}"
    said = f"Everything is again as it was {when}."
    return _note("hint", "repeated_state", said, to, "warning", span=span, since=turn)


def stalled(turns: int, to: Visibility) -> list[Item]:
    """Nothing new for a while: said every `STALLED` turns."""
    if turns == 0 or turns % STALLED:
        return []
    said = f"The last {turns} turns led to no situation that had not been there before."
    return [_note("hint", "no_progress", said, to, "warning", turns=turns)]


def goal_progress(before: Sequence[Condition], after: Sequence[Condition]) -> list[Item]:
    """Parts of the goal that were reached or lost."""
    found = []
    for old, new in zip(before, after, strict=True):
        if new.met and not old.met:
            said = f"A part of the task is reached: {new.name}."
            found.append(_note("success", "condition_met", said, "teacher", "info", 1, condition=new.name))
        elif old.met and not new.met:
            said = f"A part of the task is lost again: {new.name}."
            found.append(_note("hint", "condition_lost", said, "teacher", "warning", 1, condition=new.name))
    return found


def plan_distance(before: int, after: int) -> Item:
    """How much nearer the goal is, in commands of a shortest plan."""
    moved = "nearer" if after < before else "farther" if after > before else "no nearer"
    by = f"{abs(after - before)} " if after != before else ""
    said = f"A shortest plan now needs {after} {'command' if after == 1 else 'commands'}: {by}{moved} than before."
    severity: Severity = "info" if after < before else "warning"
    return _note("hint", "plan_distance", said, "teacher", severity, 2, before=before, after=after)


def dead_end() -> Item:
    """A command after which nothing can win."""
    said = "With this command the task has become impossible: no commands lead to it any more."
    return _note("hint", "dead_end", said, "teacher", "error", 2)


def expected(command: str, *, given: bool) -> Item:
    """What this turn should have been: the command that was given, where it is on a shortest plan."""
    said = f'The command is on a shortest plan: "{command}".' if given else f'A shortest plan goes on with "{command}".'
    return _note("reference", "expected", said, "teacher", "info" if given else "warning", 3, expected=command)


def open_conditions(found: Sequence[Condition]) -> Item:
    """At the end of a failed episode: which parts of the goal are missing."""
    missing = [part.name for part in found if not part.met]
    said = f"{len(found) - len(missing)} of {len(found)} parts of the task were reached. Missing: {'; '.join(missing)}."
    return _at_the_end("open_conditions", said, 1, conditions=missing)


def target_was(places: Sequence[tuple[str, str]]) -> Item:
    """At the end of a failed episode: where at the start the things were that the goal is about."""
    said = f"At the start, {'; '.join(f'{thing} was in or on {place}' for thing, place in places)}."
    return _at_the_end("target_was", said, 2, places=[list(pair) for pair in places])


def expected_plan(commands: Sequence[str]) -> Item:
    """At the end of a failed episode: a shortest plan from the start."""
    said = "A shortest plan from the start:\n" + "\n".join(commands)
    return _at_the_end("expected_plan", said, 3, commands=list(commands))


def _note(
    kind: Kind,
    code: str,
    text: str,
    to: Visibility,
    severity: Severity,
    leak_level: LeakLevel = 0,
    span: Span | None = None,
    **data: Any,
) -> Item:
    return item(
        kind,
        text,
        severity=severity,
        source="env",
        span=span,
        visibility=to,
        leak_level=leak_level,
        data={"code": code, **data},
    )


def _at_the_end(code: str, text: str, leak_level: LeakLevel, **data: Any) -> Item:
    return item(
        "reference" if leak_level == 3 else "hint",
        text,
        severity="warning",
        source="env",
        scope="episode",
        turn=-1,
        visibility="teacher",
        leak_level=leak_level,
        data={"code": code, **data},
    )

"""Feedback on calls and on the end of an episode, each item with its leak level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rfenvs.envs.tau2.evaluate import Outcome, matches
from rfenvs.envs.tau2.rows import Action, AssertionCall, Basis
from rfenvs.envs.tau2.toolkit import Answer, World
from rfenvs.feedback import Item, item
from rfenvs.graders.call_syntax import Call
from rfenvs.graders.json_values import quote
from rfenvs.graders.tool_calls import write_call

_MOST = 12
"""Most items of one kind, and most entries in one text."""


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was made, and what came of it."""

    call: Call
    answer: Answer
    turn: int

    @property
    def valid(self) -> bool:
        """Whether the call kept to its tool's schema; the tool may have refused it all the same."""
        return self.answer.fault in ("", "refused")


def tool_error(call: Call, answer: Answer) -> Item:
    """What a call was answered with, where that is an error."""
    unknown = answer.fault == "unknown_tool"
    return item(
        "tool_error",
        answer.text,
        source="env" if unknown else f"tool:{call.name}",
        span=call.name_span if unknown else call.span,
        data={"code": answer.fault, "tool": call.name},
    )


def not_closed() -> Item:
    """The episode ended, and the ticket was still open."""
    text = "The ticket was not closed with done(), so it counts as not resolved."
    return item("invalid_action", text, source="env", scope="episode", turn=-1, data={"code": "not_closed"})


def shortfalls(
    outcome: Outcome, basis: Sequence[Basis], world: World, made: Sequence[Made], actions: Sequence[Action]
) -> list[Item]:
    """Why an end state is not worth the full reward, up to what it should have been."""
    items: list[Item] = []
    if "ENV_ASSERTION" in basis:
        items += [_failed(check, world) for check in outcome.failed]
    if outcome.differences:
        items.append(_differences(outcome, in_basis="DB" in basis))
    if "ACTION" in basis and outcome.missing:
        text = "The policy asks for an action on this ticket that was not taken."
        items.append(_item("wrong_answer", text, "missing_action", 1))
    if "COMMUNICATE" in basis and outcome.untold:
        text = f"{len(outcome.untold)} facts that the user needs were not told."
        items.append(_item("wrong_answer", text, "not_told", 1, {"facts": len(outcome.untold)}))
    items.append(_progress(outcome, actions))
    items += _extra(world, made, actions)
    items.append(_reference(outcome, actions))
    return items


def _item(
    kind: str, text: str, code: str, leak_level: int, data: Mapping[str, object] | None = None, turn: int = -1
) -> Item:
    """An item about the episode; the policy sees it up to level 1."""
    return item(
        kind,  # type: ignore[arg-type]
        text,
        scope="episode" if turn < 0 else "turn",
        turn=turn,
        visibility="policy" if leak_level <= 1 else "teacher",
        leak_level=leak_level,  # type: ignore[arg-type]
        data={"code": code, **(data or {})},
    )


def _failed(check: AssertionCall, world: World) -> Item:
    about = world.sides[check.env_type].assertions[check.func_name].about
    text = f"At the end, {about} is not as the ticket needs ({check.func_name})."
    return _item("wrong_answer", text, "assertion", 1, {"assertion": check.func_name})


def _differences(outcome: Outcome, *, in_basis: bool) -> Item:
    """Where the databases differ from the solution's. Where they do not count, another end may be as good."""
    places = [difference.place for difference in outcome.differences]
    shown = ", ".join(places[:_MOST]) + (f" and {len(places) - _MOST} more" if len(places) > _MOST else "")
    data = {"places": places[:_MOST], "count": len(places)}
    if in_basis:
        return _item("wrong_answer", f"At the end, these are not as they should be: {shown}.", "database", 1, data)
    return _item("hint", f"After the known solution, these are different: {shown}.", "database", 2, data)


def _progress(outcome: Outcome, actions: Sequence[Action]) -> Item:
    taken, total = len(actions) - len(outcome.missing), len(actions)
    text = f"Of the {total} actions of the known solution, {taken} were taken."
    return _item("hint", text, "progress", 2, {"taken": taken, "total": total})


def _extra(world: World, made: Sequence[Made], actions: Sequence[Action]) -> list[Item]:
    """Changes beyond the solution's: every one of a tool that it does not use, and repetitions of those it does."""
    tools = world.tools
    left = Counter(action.name for action in actions)
    items = []
    for entry in made:
        name = entry.call.name
        if entry.answer.fault or tools[name].kind != "write":
            continue
        if left[name] and any(matches(action, entry.call) for action in actions):
            left[name] -= 1
            continue
        text = f"{name} changed something that the known solution leaves alone."
        items.append(_item("hint", text, "extra_action", 2, {"tool": name}, turn=entry.turn))
    return items[:_MOST]


def _reference(outcome: Outcome, actions: Sequence[Action]) -> Item:
    calls = [write_call(action.name, action.arguments) for action in actions]
    lines = ["A solution: " + "; ".join([*calls, "done()"])]
    lines += [
        f"Failed: {write_call(check.func_name, check.arguments)} is {check.assert_value}" for check in outcome.failed
    ]
    lines += [f"To be told: {fact}" for fact in outcome.untold]
    for entry in outcome.differences[:_MOST]:
        lines.append(f"{entry.place}: {_short(entry.found)} instead of {_short(entry.wanted)}")
    data = {"calls": calls, "assertions": [check.func_name for check in outcome.failed]}
    return _item("reference", "\n".join(lines), "expected", 3, data)


def _short(value: object) -> str:
    return quote(value) if value is None or isinstance(value, str | bool | int | float) else quote(str(value))

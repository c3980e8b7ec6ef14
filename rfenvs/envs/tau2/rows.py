"""A task's row in tau2-bench's layout, the world it starts in, and whether solo mode can play it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rfenvs.envs.tau2.toolkit import Side, World

Basis = Literal["DB", "ENV_ASSERTION", "ACTION", "COMMUNICATE", "NL_ASSERTION"]
"""A part of the reward; the reward is the product over a task's basis."""
SCORED: tuple[Basis, ...] = ("DB", "ENV_ASSERTION", "ACTION", "COMMUNICATE")
"""The parts that need no judge."""


class _Part(BaseModel):
    """A part of a row; columns that are not named here are not needed."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class FunctionCall(_Part):
    """A function of one side of the world."""

    env_type: Side
    func_name: str
    arguments: dict[str, Any]


class AssertionCall(FunctionCall):
    """A check on the end state, met where it returns `assert_value`."""

    assert_value: bool = True


class Action(_Part):
    """A call of the solution."""

    name: str
    arguments: dict[str, Any]
    compare_args: tuple[str, ...] | None = None
    """The arguments that an equal call must share; None means all."""


class InitialData(_Part):
    """Values to merge into the databases."""

    agent_data: dict[str, Any] | None = None
    user_data: dict[str, Any] | None = None


class InitialState(_Part):
    """How the world of a task differs from the common one."""

    initialization_data: InitialData | None = None
    initialization_actions: tuple[FunctionCall, ...] | None = None
    message_history: tuple[dict[str, Any], ...] | None = None


class Criteria(_Part):
    """What an end state is compared with. Never shown."""

    actions: tuple[Action, ...] | None = None
    env_assertions: tuple[AssertionCall, ...] | None = None
    communicate_info: tuple[str, ...] | None = None
    nl_assertions: tuple[str, ...] | None = None
    reward_basis: tuple[Basis, ...] = ("DB", "COMMUNICATE")


class TaskRow(_Part):
    """One task."""

    id: str
    ticket: str | None = None
    initial_state: InitialState = Field(default_factory=InitialState)
    evaluation_criteria: Criteria | None = None


def obstacle(row: TaskRow) -> str | None:
    """Why a task cannot be played in solo mode; None where it can."""
    criteria = row.evaluation_criteria
    if row.initial_state.message_history:
        return "it goes on from a conversation with the user"
    if row.ticket is None:
        return "it has no ticket"
    if criteria is None or not (criteria.actions or criteria.env_assertions):
        return "nothing is checked without a judge"
    if "NL_ASSERTION" in criteria.reward_basis:
        return "its reward needs a judge"
    return None


def check_names(world: World, row: TaskRow) -> None:
    """Make sure that the world has every function that a row names.

    Raises:
        LookupError: It has not.
    """
    criteria = row.evaluation_criteria or Criteria()
    for call in (*(row.initial_state.initialization_actions or ()), *(criteria.env_assertions or ())):
        world.sides[call.env_type].method(call.func_name)
    for action in criteria.actions or ():
        if action.name not in world.tools:
            raise LookupError(f"There is no tool {action.name!r}.")


def start(world: World, row: TaskRow) -> World:
    """Put a fresh world into the task's initial state.

    Raises:
        LookupError, ToolError, pydantic.ValidationError: The row asks for what the world does not have.
    """
    state = row.initial_state
    if state.initialization_data is not None:
        if state.initialization_data.agent_data:
            world.sides["assistant"].update(state.initialization_data.agent_data)
        if state.initialization_data.user_data:
            world.sides["user"].update(state.initialization_data.user_data)
    for step in state.initialization_actions or ():
        world.run(step.env_type, step.func_name, step.arguments)
    world.sync()
    return world


def planted(row: TaskRow, word: str) -> TaskRow:
    """Copy a row with `word` in every text of its criteria that a grader could quote."""
    if row.evaluation_criteria is None:
        return row
    criteria = row.evaluation_criteria.model_dump()
    for entry in (*(criteria["actions"] or ()), *(criteria["env_assertions"] or ())):
        entry["arguments"] = _with_word(entry["arguments"], word)
    for name in ("communicate_info", "nl_assertions"):
        criteria[name] = _with_word(criteria[name], word)
    return row.model_copy(update={"evaluation_criteria": Criteria.model_validate(criteria)})


def _with_word(value: Any, word: str) -> Any:
    if isinstance(value, str):
        return f"{value} {word}"
    if isinstance(value, dict):
        return {key: _with_word(entry, word) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_with_word(entry, word) for entry in value]
    return value

"""What the end of an episode is worth: the four parts of tau2-bench's reward that need no judge.

Differences from tau2-bench, each for a reason:

- The solution is replayed as an agent would play it, both sides kept in step after every call.
- An action counts as taken only where the call keeps to the tool's schema and, unless the row names the arguments to
  compare, has all of the action's arguments. There, a call without any argument equals every action of that tool.
- An assertion about a record that is not there is not met. There, it breaks the evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rfenvs.envs.tau2.rows import SCORED, Action, AssertionCall, Basis, Criteria
from rfenvs.envs.tau2.toolkit import ToolError, World
from rfenvs.graders.call_syntax import Call
from rfenvs.graders.json_values import same


@dataclass(frozen=True, slots=True)
class Difference:
    """One value in which an end state differs from the solution's."""

    place: str
    """`table/record/field`, such as `lines/L1002/roaming_enabled`."""
    found: Any
    wanted: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on an end state."""

    parts: dict[Basis, float]
    """Every part, 0 or 1, also those that are not in the basis."""
    reward: float
    """Product over the basis."""
    failed: tuple[AssertionCall, ...]
    """Assertions that are not met."""
    differences: tuple[Difference, ...]
    missing: tuple[Action, ...]
    """Actions of the solution that were not taken."""
    untold: tuple[str, ...]
    """Facts that were not told."""


def evaluate(
    world: World,
    solved: World,
    criteria: Criteria,
    calls: Sequence[Call],
    basis: Iterable[Basis] | None = None,
    said: Sequence[str] = (),
) -> Outcome:
    """Compare the end of an episode with a task's criteria.

    Args:
        world: The world at the end.
        solved: A world in the same initial state; the solution is played in it.
        criteria: The task's.
        calls: The calls that kept to their tools' schemas, in order.
        basis: Parts that make up the reward; None means the task's own.
        said: Messages to the user; solo mode has none.
    """
    actions = criteria.actions or ()
    for action in actions:
        solved.call(Call(action.name, action.arguments))
    differences = tuple(compare(world.state(), solved.state()))
    failed = tuple(check for check in criteria.env_assertions or () if not _holds(world, check))
    missing = tuple(action for action in actions if not any(matches(action, call) for call in calls))
    told = [text.lower().replace(",", "") for text in said]
    untold = tuple(fact for fact in criteria.communicate_info or () if not any(fact.lower() in text for text in told))
    problems: dict[Basis, tuple[Any, ...]] = dict(zip(SCORED, (differences, failed, missing, untold), strict=True))
    parts = {name: 0.0 if found else 1.0 for name, found in problems.items()}
    reward = min((parts[name] for name in (criteria.reward_basis if basis is None else basis)), default=1.0)
    return Outcome(parts, reward, failed, differences, missing, untold)


def matches(action: Action, call: Call) -> bool:
    """Whether a call is an action of the solution, as far as its arguments are to be compared."""
    if action.name != call.name:
        return False
    if action.compare_args is None:
        return same(action.arguments, call.arguments)
    wanted, got = (
        {name: arguments[name] for name in action.compare_args if name in arguments}
        for arguments in (action.arguments, call.arguments)
    )
    return same(wanted, got)


def compare(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Difference]:
    """Every difference between two states of a world, in the order of the databases."""
    for side, database in wanted.items():
        for table, rows in database.items():
            yield from _differences(table, found[side][table], rows)


def _differences(place: str, found: Any, wanted: Any) -> Iterator[Difference]:
    if found == wanted:
        return
    left, right = _keyed(found), _keyed(wanted)
    if left is None or right is None:
        yield Difference(place, found, wanted)
        return
    for key in [*right, *(key for key in left if key not in right)]:
        yield from _differences(f"{place}/{key}", left.get(key), right.get(key))


def _keyed(value: Any) -> Mapping[str, Any] | None:
    """A mapping as it is; a list of records by their first field, which is their id; None for anything else."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        keyed = {str(next(iter(entry.values()))): entry for entry in value}
        return keyed if len(keyed) == len(value) else None
    return None


def _holds(world: World, check: AssertionCall) -> bool:
    try:
        return bool(world.run(check.env_type, check.func_name, check.arguments)) is check.assert_value
    except ToolError:
        return False

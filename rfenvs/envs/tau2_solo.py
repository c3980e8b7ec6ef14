"""`rfenvs/Tau2Solo-v0`: resolve a support ticket alone, with the tools of the company and of the customer's phone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs.tau2.data import Domain, Policy, TaskSet, load
from rfenvs.envs.tau2.evaluate import Outcome, evaluate
from rfenvs.envs.tau2.explain import Made, not_closed, shortfalls, tool_error
from rfenvs.envs.tau2.rows import SCORED, Basis, Criteria, TaskRow, planted, start
from rfenvs.envs.tau2.toolkit import Tool, World
from rfenvs.feedback import Item, LeakLevel, item
from rfenvs.graders.call_syntax import Call, ParseError, parse_calls
from rfenvs.graders.tool_calls import write_call
from rfenvs.tasks import KNOWN_BAD, NO_OP_PASSES, Task

DONE = Tool(
    "done",
    "Close the ticket; this ends the episode.",
    {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    "generic",
)
MOST_CALLS = 32
"""Most calls in one reply; a reply with more is refused whole."""

_PROMPT = """\
You resolve a support ticket alone, by calling tools: the company's, and those on the customer's phone or account.
Nobody answers questions. Keep to the policy.

Reply with a tool call and nothing else: name(argument="value"), or {{"name": "...", "arguments": {{...}}}}.
Each reply is answered with the result. When you consider the ticket resolved, reply with done() alone.

<policy>
{policy}
</policy>

<tools>
{tools}
</tools>"""
_TICKET = "<ticket>\n{}\n</ticket>"


class Tau2SoloEnv(TextEnv):
    """Resolve a support ticket alone, with the tools of the company and of the customer's phone (tau2-bench, solo).

    ## Observation
    The policy, the tools, and the ticket. After each reply: the results of its calls, one a line, in the words of
    tau2-bench; an error starts with `Error: `.

    ## Action
    Tool calls in any form that `rfenvs.graders.call_syntax.parse_calls` reads, such as
    `enable_roaming(customer_id="C1001", line_id="L1002")`; nothing is evaluated. `done()` closes the ticket, and the
    other calls of that reply are not run. A call that breaks its tool's schema is not run either.

    ## Reward
    0 until the ticket is closed, then the product over the task's reward basis of

    | part | is 1 where |
    |---|---|
    | `db` | both databases are as after the known solution |
    | `env_assertion` | every assertion of the task is met |
    | `action` | every action of the solution was taken |
    | `communicate` | every fact that the user needs was told; solo mode tells nobody anything |

    All four are in `info["reward_parts"]` at the end, whether or not they count. An episode that ends in another way
    is worth 0. `info["metrics"]`: `calls` and `errors` so far, and at the end `assertions_met`, a share.

    ## End of the episode
    `terminated` with `done()`; with `stop_reason="tool_stopped"` after `max_errors` errors; and with
    `stop_reason="parse_error"` on a reply that is no tool call, as in tau2-bench, where solo mode has nobody to send
    a message to (`on_text="retry"` counts it as an error instead). `truncated` with `stop_reason="max_turns"` after
    100 replies: tau2-bench's limit of 200 steps counts replies and results.

    ## Tasks
    Telecom: 74 to train and 40 to test on (`task_set="base"`), 20 small ones in both splits (`"small"`), or all 2,285
    but the test tasks to train on (`"full"`). Mock: 7 of 10 in both splits; those that go on from a conversation or
    have nothing to check without a judge are left out, see `excluded`. A task whose own solution does not earn 1 is
    flagged `known_bad`, one that closing the ticket at once solves `no_op_passes`. An id is the data set's.

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `syntax`, `too_many_calls` | 0 | the reply is no tool call, or more than 32 |
    | `tool_error` | `unknown_tool` | 0 | no tool has that name |
    | `tool_error` | `missing`, `unexpected`, `type`, `enum`, `range` | 0 | a call breaks its tool's schema |
    | `tool_error` | `refused` | 0 | the tool itself says no |
    | `invalid_action` | `not_run` | 0 | `done()` came with other calls |
    | `invalid_action` | `not_closed` | 0 | the episode ended without `done()` |
    | `invalid_action` | `too_many_errors` | 0 | that is why it ended |
    | `wrong_answer` | `assertion` | 1 | an assertion is not met: its name and what it is about |
    | `wrong_answer` | `database` | 1 | the databases count and differ: table, record and field |
    | `wrong_answer` | `missing_action` | 1 | the actions count, and one was not taken |
    | `wrong_answer` | `not_told` | 1 | facts count, and some were not told: how many |
    | `hint` | `database` | 2 | the same differences where they do not count; for the teacher |
    | `hint` | `progress` | 2 | how many of the solution's actions were taken; for the teacher |
    | `hint` | `extra_action` | 2 | a change that the solution does not make; for the teacher |
    | `reference` | `expected` | 3 | the solution, and every value that differs; for the teacher |

    Levels 1 to 3 are for the end of an episode that earns less than 1.

    ## Arguments
    Args:
        split: `"train"` or `"test"`.
        data: A folder with the domain's files (in the repository's layout, or side by side), a file of tasks with the
            others next to it, `"hub"` or `"sample"`. By default the first that can be had of `$RFENVS_DATA_DIR`, the
            hub, and the packaged sample: see `info["task"]["source"]`.
        max_turns: Replies in an episode; 100 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Items that give away more are left out.
        domain: `"telecom"` or `"mock"`.
        task_set: `"base"`, `"small"` or `"full"`; telecom only.
        policy: Telecom's technical support as a `"manual"` or as a `"workflow"` of steps.
        basis: Parts that make up the reward, such as `("DB",)`, in place of each task's own.
        max_errors: Errors that end the episode.
        on_text: What a reply that is no tool call does: `"end"` the episode, or count as an error (`"retry"`).

    ## Version history
    - v0: first release.
    """

    splits = ("train", "test")
    default_max_turns = 100
    reward_part_names = ("db", "env_assertion", "action", "communicate")
    metric_names = ("calls", "errors", "assertions_met")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        domain: Domain = "telecom",
        task_set: TaskSet = "base",
        policy: Policy = "manual",
        basis: Sequence[Basis] | None = None,
        max_errors: int = 10,
        on_text: str = "end",
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        for name, value, options in (
            ("domain", domain, get_args(Domain)),
            ("task_set", task_set, get_args(TaskSet)),
            ("policy", policy, get_args(Policy)),
            ("on_text", on_text, ("end", "retry")),
        ):
            if value not in options:
                raise ValueError(f"{name}={value!r}: use one of {', '.join(options)}.")
        if basis is not None and (isinstance(basis, str) or not set(basis) <= set(SCORED) or not basis):
            raise ValueError(f"basis={basis!r}: use None or some of {', '.join(SCORED)}.")
        if not isinstance(max_errors, int) or max_errors < 1:
            raise ValueError(f"max_errors={max_errors!r}: use an integer of at least 1.")
        self.basis = None if basis is None else tuple(basis)
        self.max_errors = max_errors
        self.on_text = on_text
        self._load = functools.partial(load, domain, data, task_set, policy)
        self._at = functools.lru_cache(maxsize=256)(self._make)
        self._world: World | None = None
        self._made: list[Made] = []
        self._errors = 0

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data."""
        return self._load().revision

    @property
    def excluded(self) -> dict[str, str]:
        """Ids of the data set's tasks that solo mode cannot play, with the reason."""
        return dict(self._load().excluded)

    def num_tasks(self, split: str) -> int:
        """As many as the task set has in this split."""
        return len(self._load().splits[split])

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: tasks in the order of the data set."""
        return self._at(self._load().splits[split][index])

    def task_index(self, split: str, task_id: str) -> int:
        """Find a task by its id."""
        data = self._load()
        for index, number in enumerate(data.splits[split]):
            if data.rows[number].id == task_id:
                return index
        raise KeyError(task_id)

    def begin(self, task: Task) -> None:
        """Put a fresh world into the task's initial state."""
        self._world = self._start(task.data["row"])
        self._made, self._errors = [], 0

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Run the calls of `action`, and evaluate the end state where they close the ticket."""
        calls = parse_calls(action)
        if isinstance(calls, ParseError):
            return self._unreadable(action, calls, turn)
        if len(calls) > MOST_CALLS:
            text = f"A reply may hold {MOST_CALLS} calls at most, this one has {len(calls)}; none was run."
            problem = item("format_error", text, data={"code": "too_many_calls"})
            return self._next([problem], f"Error: {text}", 1, turn)
        if any(call.name == DONE.name for call in calls):
            return self._close(task.data["row"], calls)
        assert self._world is not None
        made = [Made(call, self._world.call(call), turn) for call in calls]
        self._made += made
        problems = [tool_error(entry.call, entry.answer) for entry in made if entry.answer.fault]
        return self._next(problems, "\n".join(entry.answer.text for entry in made), len(problems), turn)

    def gold_actions(self, task: Task) -> list[str]:
        """The solution's calls, one a turn, and `done()`."""
        return [*_calls(task.data["row"]), "done()"]

    def wrong_answers(self, task: Task) -> list[str]:
        """Closing at once, a first call without an end, the whole solution in the reply that closes it, and text."""
        calls = _calls(task.data["row"])
        return ["done()", *calls[:1], "\n".join([*calls, "done()"]), "close_ticket()", "The ticket is resolved."]

    def plant(self, task: Task, word: str) -> Task:
        """The task with `word` in every text of its criteria."""
        row = planted(task.data["row"], word)
        return replace(task, reference="\n".join([*_calls(row), "done()"]), data={"row": row})

    def _start(self, row: TaskRow) -> World:
        return start(self._load().world(), row)

    def _basis(self, row: TaskRow) -> Sequence[Basis]:
        return _criteria(row).reward_basis if self.basis is None else self.basis

    def _outcome(self, row: TaskRow, world: World, made: Sequence[Made]) -> Outcome:
        valid = [entry.call for entry in made if entry.valid]
        return evaluate(world, self._start(row), _criteria(row), valid, self._basis(row))

    def _next(self, problems: list[Item], observation: str | None, errors: int, turn: int) -> Verdict:
        """A turn that does not close the ticket; the last one of an episode says so."""
        self._errors += errors
        stuck = self._errors >= self.max_errors
        if stuck:
            text = f"The episode ended after {self._errors} errors."
            problems.append(item("invalid_action", text, source="env", data={"code": "too_many_errors"}))
        if stuck or turn + 1 >= self.max_turns:
            problems.append(not_closed())
        return Verdict(
            0.0,
            problems,
            success=False,
            done=stuck,
            observation=observation,
            stop_reason="tool_stopped" if stuck else "completed",
            metrics=self._counts(),
        )

    def _unreadable(self, action: Action, error: ParseError, turn: int) -> Verdict:
        text = f"Error: this is no tool call: {error.message}."
        end = min(error.position + 1, len(action))
        problem = item("format_error", text, span=(min(error.position, end), end), data={"code": "syntax"})
        if self.on_text == "retry":
            return self._next([problem], text, 1, turn)
        self._errors += 1
        problems = [problem, not_closed()]
        return Verdict(0.0, problems, done=True, stop_reason="parse_error", metrics=self._counts())

    def _close(self, row: TaskRow, calls: Sequence[Call]) -> Verdict:
        assert self._world is not None
        outcome = self._outcome(row, self._world, self._made)
        criteria = _criteria(row)
        problems: list[Item] = []
        if outcome.reward < 1.0:
            if len(calls) > 1:
                text = "done() ends the episode: the other calls of that reply were not run."
                problems.append(item("invalid_action", text, source="env", data={"code": "not_run"}))
            actions = criteria.actions or ()
            problems += shortfalls(outcome, self._basis(row), self._world, self._made, actions)
        checks = len(criteria.env_assertions or ())
        met = 1.0 - len(outcome.failed) / checks if checks else 1.0
        return Verdict(
            outcome.reward,
            problems,
            done=True,
            reward_parts={name.lower(): value for name, value in outcome.parts.items()},
            metrics={**self._counts(), "assertions_met": met},
        )

    def _counts(self) -> dict[str, float]:
        return {"calls": float(len(self._made)), "errors": float(self._errors)}

    def _make(self, number: int) -> Task:
        data = self._load()
        row, world = data.rows[number], data.world()
        return Task(
            id=row.id,
            reference="\n".join([*_calls(row), "done()"]),
            messages=(
                {"role": "system", "content": _system(data.policy, tuple(world.tools.values()))},
                {"role": "user", "content": _TICKET.format(row.ticket)},
            ),
            tools=tuple(tool.schema() for tool in (*world.tools.values(), DONE)),
            source=data.source,
            flags=self._flags(row),
            data={"row": row},
        )

    def _flags(self, row: TaskRow) -> tuple[str, ...]:
        """What is wrong with the task, found out by doing nothing and by playing the solution."""
        flags = []
        world = self._start(row)
        if self._outcome(row, world, []).reward >= 1.0:
            flags.append(f"{NO_OP_PASSES}: closing the ticket at once earns the full reward")
        played = (Call(action.name, action.arguments) for action in _criteria(row).actions or ())
        made = [Made(call, world.call(call), 0) for call in played]
        outcome = self._outcome(row, world, made)
        if outcome.reward < 1.0:
            short = ", ".join(part for part, value in outcome.parts.items() if not value and part in self._basis(row))
            flags.append(f"{KNOWN_BAD}: the known solution falls short in {short}")
        return tuple(flags)


def _criteria(row: TaskRow) -> Criteria:
    assert row.evaluation_criteria is not None, "rows without criteria are left out when loading"
    return row.evaluation_criteria


def _calls(row: TaskRow) -> list[str]:
    return [write_call(action.name, action.arguments) for action in _criteria(row).actions or ()]


@functools.lru_cache(maxsize=8)
def _system(policy: str, tools: tuple[Tool, ...]) -> str:
    return _PROMPT.format(policy=policy, tools="\n".join(tool.signature() for tool in (*tools, DONE)))

"""`rfenvs/BFCL-v0`: answer a question with calls of the tools on offer, or say that none fits."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs.bfcl_data import CATEGORIES, SPEC, Dataset, Question, load
from rfenvs.feedback import LeakLevel, item
from rfenvs.graders.call_match import Accepts, Expected
from rfenvs.graders.call_syntax import ParseError, parse_calls
from rfenvs.graders.tool_calls import check, grade, no_tool_fits, unreadable, write_call
from rfenvs.tasks import Message, Task

__all__ = ["SPEC", "BFCLEnv"]

_SYSTEM = (
    "You have the tools below. If they can do what the user asks for, reply with the calls and nothing else, one a "
    'line: name(argument="value", other=3). Make every call that is needed, and give only arguments that the user '
    "asks for or the tool requires. If no tool fits, or the user has not said enough to fill in what a tool requires, "
    "say so in a sentence, without a call.\n\nTools, as JSON:\n"
)
_NO_CALL = "None of the tools can do that."


class BFCLEnv(TextEnv):
    """Answer a question with calls of the tools on offer, or say that none fits.

    ## Observation
    The prompt: a system message with how to reply and the tools as JSON, one a line, then the messages of the
    question. After a failed turn (with `max_turns` above 1): what is wrong.

    ## Action
    The calls and nothing else, in any notation of `rfenvs.graders.call_syntax`: `f(x=1)` one a line or in a list,
    JSON, OpenAI's `tool_calls`, `<tool_call>` tags, or `Action:` and `Action Input:`. `<think>...</think>` before
    them is skipped. Nothing is evaluated. Where no tool fits: words without a call.

    ## Reward
    1.0 where the calls are accepted, in any order, otherwise 0.0: each expected call made once, every argument one of
    the accepted values, none left out that must be there, and no other. Strings are compared without case, blanks and
    `,./-_*^`. In the irrelevance categories: 1.0 for a reply in words. `info["metrics"]`: `readable` (the reply could
    be read as calls), `correct_calls` (share of the expected calls made).

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several. A single-turn reply that cannot be read where calls are
    expected ends with `stop_reason="parse_error"`.

    ## Tasks
    The single-turn questions of the Berkeley Function-Calling Leaderboard, version 4, of one `category`, in the order
    of its file; both splits hold them all, since the leaderboard has no training set. `info["task"]["flags"]` says
    `known_bad` where the accepted calls cannot be given by who follows the tools' descriptions, and `no_op_passes` in
    the irrelevance categories.

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `syntax` | 0 | the reply cannot be read as calls |
    | `format_error` | `empty` | 0 | an empty reply where words are right |
    | `format_error` | `truncated` | 0 | the sampler ran out of tokens |
    | `tool_error` | `unknown_tool` | 0 | no tool has that name |
    | `tool_error` | `missing`, `unexpected`, `type`, `enum`, `range` | 0 | an argument breaks the tool's schema |
    | `wrong_answer` | `count` | 1 | there are too many or too few calls |
    | `wrong_answer` | `wrong_tool`, `extra_call` | 1 | the request needs another tool, or no such call |
    | `wrong_answer` | `wrong_value`, `left_out`, `not_asked` | 1 | an argument is not what the request says |
    | `reference` | `expected` | 3 | with `leak_level=3`: accepted calls, for the teacher only |

    All but the last are visible to the policy. Spans mark the blamed characters.

    ## Arguments
    Args:
        split: `"train"` or `"test"`; both hold the same questions.
        data: A folder with the leaderboard's files, a file of questions in its layout (answers in a field
            `"ground_truth"` of the row or in `possible_answer/<name of the file>`), `"hub"` or `"sample"`. By default
            the first that can be had of `$RFENVS_DATA_DIR`, the hub, and the packaged sample: see
            `info["task"]["source"]`.
        max_turns: Attempts at a question; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Feedback that gives away more than this is left out; 3 adds the accepted calls, for the teacher.
        category: One of `simple_python`, `multiple`, `parallel`, `parallel_multiple`, `irrelevance` and the same with
            `live_`.

    ## Version history
    - v0: first release.
    """

    splits = ("train", "test")
    reward_part_names = ("calls",)
    metric_names = ("readable", "correct_calls")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        category: str = "simple_python",
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        if category not in CATEGORIES:
            raise ValueError(f"category={category!r}: use one of {', '.join(CATEGORIES)}.")
        self.category = category
        self._load = functools.partial(_cached, category, data)

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data."""
        return self._load().revision

    def num_tasks(self, split: str) -> int:
        """The questions of the category."""
        return len(self._load().questions)

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: questions in the order of the file."""
        data = self._load()
        question = data.questions[index]
        return Task(
            id=question.id,
            reference="\n".join(write_call(call.name, call.arguments) for call in question.gold) or _NO_CALL,
            messages=_messages(question),
            tools=question.tools,
            source=data.source,
            flags=question.flags,
            data={"expected": question.expected},
        )

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Hold the calls of `action` against the accepted ones."""
        expected: tuple[Expected, ...] = task.data["expected"]
        verdict = _grade_calls(task, action) if expected else _grade_words(task, action)
        if verdict.reward < 1 and self.leak_level >= 3:
            verdict.feedback.append(_reference(task))
        return verdict

    def wrong_answers(self, task: Task) -> list[str]:
        """The reference with a call lost, doubled, cut or changed; where no call is right, a call of the first tool."""
        if not task.data["expected"]:
            return [_any_call(task.tools[0])] if task.tools else []
        lines = task.reference.splitlines()
        return [
            "\n".join(lines[1:]) or "No tool fits.",
            "\n".join([task.reference, lines[0]]),
            task.reference.replace("(", "_(", 1),
            f"I would call {task.reference}",
            f"<think>{task.reference}</think>",
            task.reference[: len(task.reference) // 2],
        ]

    def plant(self, task: Task, word: str) -> Task:
        """The accepted calls with `word` behind every text."""
        expected = tuple(
            replace(wanted, arguments={name: _plant(accepts, word) for name, accepts in wanted.arguments.items()})
            for wanted in task.data["expected"]
        )
        return replace(super().plant(task, word), data={"expected": expected})


def _grade_calls(task: Task, action: Action) -> Verdict:
    expected: tuple[Expected, ...] = task.data["expected"]
    result = grade(action, expected, task.tools, reference_wins=True)
    reward = 0.0 if result.problems else 1.0
    return Verdict(
        reward,
        [problem.item() for problem in result.problems],
        reward_parts={"calls": reward},
        metrics={"readable": float(result.calls is not None), "correct_calls": result.correct / len(expected)},
        stop_reason="completed" if result.calls is not None else "parse_error",
    )


def _grade_words(task: Task, action: Action) -> Verdict:
    """No tool fits: words are right, calls wrong, and calls that cannot be read no words."""
    calls = parse_calls(action)
    if isinstance(calls, ParseError):
        if not calls.attempted and action.strip():
            return Verdict(1.0, reward_parts={"calls": 1.0}, metrics={"correct_calls": 1.0})
        if calls.attempted:
            return Verdict(0.0, [unreadable(action, calls).item()], stop_reason="parse_error")
        text = "The reply is empty: say something, with or without a call."
        return Verdict(0.0, [item("format_error", text, data={"code": "empty"})], stop_reason="parse_error")
    schemas = {tool["name"]: tool["parameters"] for tool in task.tools}
    problems = check(calls, schemas) or no_tool_fits(calls)
    return Verdict(0.0, [problem.item() for problem in problems], metrics={"readable": 1.0})


def _reference(task: Task) -> dict[str, Any]:
    text = f"Accepted: {task.reference}" if task.data["expected"] else "Accepted: a reply in words, without a call."
    return item("reference", text, visibility="teacher", leak_level=3, data={"code": "expected"})


@functools.lru_cache(maxsize=16)
def _cached(category: str, data: str | None) -> Dataset:
    return load(category, data)


def _messages(question: Question) -> tuple[Message, ...]:
    """The question's own messages behind our system message; a system message of its own is added to ours."""
    system = _SYSTEM + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in question.tools)
    own = [message["content"] for message in question.messages if message["role"] == "system"]
    rest = [message for message in question.messages if message["role"] != "system"]
    return {"role": "system", "content": "\n\n".join([system, *own])}, *rest


def _any_call(tool: Mapping[str, Any]) -> str:
    """A call of a tool with made-up arguments."""
    made_up = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    properties = tool["parameters"].get("properties", {})
    required = tool["parameters"].get("required", ())
    return write_call(tool["name"], {n: made_up.get(str(properties.get(n, {}).get("type")), "x") for n in required})


def _plant(accepts: Accepts, word: str) -> Accepts:
    def planted(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: planted(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [planted(entry) for entry in value]
        return f"{value} {word}" if isinstance(value, str) and value else value

    return replace(accepts, options=tuple(map(planted, accepts.options)))

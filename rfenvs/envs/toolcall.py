"""`rfenvs/ToolCall-v0`: turn a request into calls of the tools on offer."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs import toolcall_catalogue as catalogue
from rfenvs.envs.toolcall_catalogue import SHOTS, Tool
from rfenvs.feedback import Item, clip, item
from rfenvs.graders import tool_calls
from rfenvs.graders.json_values import canonical
from rfenvs.graders.tool_calls import Call, write_call
from rfenvs.tasks import Message, Task, digest

_TOOLS = {1: catalogue.LEVEL_1, 2: catalogue.LEVEL_2, 3: catalogue.LEVEL_3, 4: catalogue.LEVEL_4}
_SIZES = {"train": 2**31 - 1, "dev": 1000, "test": 1000}
_SPLIT_BOUNDS = (("train", 70), ("dev", 80), ("test", 100))
_LONGEST_GOT = 500


class ToolCallEnv(TextEnv):
    """Turn a request into calls of the tools on offer.

    ## Observation
    The prompt: the tools, worked examples, and a request such as "Is it raining in Oslo today?". As chat messages
    in `info["messages"]`: a system turn, a user and an assistant turn for each example, the user's request. After
    a failed turn (with `max_turns` above 1): what is wrong.

    ## Action
    The calls and nothing else: `weather(city="Oslo")`, several one a line, in any order; or the same as JSON,
    `{"name": "weather", "arguments": {"city": "Oslo"}}` or a list of those. A code fence around the reply is ignored.
    Nothing is evaluated. Types are strict: where an argument is a string, `5` is wrong and `"5"` right.

    ## Reward
    1.0 where the calls equal the expected ones as multisets, otherwise 0.0. Numbers are compared by value.
    `info["metrics"]`: `readable` (the reply could be read), `correct_calls` (share of expected calls made).

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several. A single-turn reply that cannot be read ends with
    `stop_reason="parse_error"`.

    ## Levels
    | level | tools | catalogue shown as | calls | arguments |
    |---|---|---|---|---|
    | 1 | 4 | signatures | 1 | one string |
    | 2 | 8 | signatures with types | 1 | strings, integers, booleans, enums; some optional |
    | 3 | 12, some alike | JSON schemas | 2 | the same |
    | 4 | 20 drawn from 28 | JSON schemas | 1 to 3 | lists and objects too |

    ## Tasks
    Made by rule, without limit: the task at an index is a pure function of split, index and level. The hash of a
    call (tool and argument values) decides which split it may appear in (train 70 %, dev 10 %, test 20 %), so that
    no call of a test task ever appears in a training task.

    ## Feedback
    | kind | `data["code"]` | said when |
    |---|---|---|
    | `format_error` | `syntax` | the reply cannot be read as calls |
    | `format_error` | `truncated` | the sampler ran out of tokens |
    | `tool_error` | `unknown_tool` | no tool has that name |
    | `tool_error` | `missing`, `unexpected`, `type`, `enum`, `range` | an argument breaks the tool's schema |
    | `wrong_answer` | `count` | there are too many or too few calls |
    | `wrong_answer` | `wrong_tool`, `extra_call` | the request needs another tool, or no such call |
    | `wrong_answer` | `wrong_value`, `left_out`, `not_asked` | an argument is not what the request says |
    | `wrong_answer` | `expected` | with `feedback="expected"`: the answer beside the reply, for the teacher only |

    All but the last are visible to the policy and never state the answer. Spans mark the blamed characters.

    ## Arguments
    Args:
        split: `"train"`, `"dev"` or `"test"`.
        data: A `.jsonl` file with tasks of your own in place of the generated ones, each row
            `{"request": str, "answer": str, "tools": [{"name", "description", "parameters"}, ...]}`; without
            `"tools"`, those of the level. Every split then holds all rows.
        max_turns: Attempts at a task; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        level: Difficulty, 1 to 4.
        feedback: `"hint"` says what is wrong. `"expected"` adds an item that states the expected answer, like the
            diff of a failing assertion; it reveals the reference.
        shots: Number of worked examples in the prompt.

    ## Version history
    - v0: first release.
    """

    splits = ("train", "dev", "test")
    reward_part_names = ("calls",)
    metric_names = ("readable", "correct_calls")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        level: int = 1,
        feedback: str = "hint",
        shots: int = 2,
    ) -> None:
        super().__init__(split, data, max_turns, render_mode)
        if level not in _TOOLS:
            raise ValueError(f"level={level!r}: use one of {', '.join(map(str, _TOOLS))}.")
        if feedback not in ("hint", "expected"):
            raise ValueError(f"feedback={feedback!r}: use 'hint' or 'expected'.")
        if not isinstance(shots, int) or not 0 <= shots <= len(SHOTS[level]):
            raise ValueError(f"shots={shots!r}: level {level} has 0 to {len(SHOTS[level])} worked examples.")
        self.level = level
        self.feedback = feedback
        self.shots = shots

    def num_tasks(self, split: str) -> int:
        """2**31 - 1 in train, 1000 in dev and test."""
        return _SIZES[split]

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`; the same one on every machine."""
        seed = hashlib.blake2b(f"ToolCall|{self.level}|{split}|{index}".encode(), digest_size=8).digest()
        rng = Random(int.from_bytes(seed, "big"))
        tools, calls = _draw(rng, self.level, split)
        request = " Also: ".join(sentence for sentence, _ in calls)
        reference = "\n".join(write_call(call.name, call.arguments) for _, call in calls)
        return Task(
            id=f"L{self.level}-{split}-{index}-{digest(request, reference, size=4)}",
            reference=reference,
            messages=self._messages(tools, request),
            tools=_schemas(tools),
            data={"calls": [call for _, call in calls]},
        )

    def task_index(self, split: str, task_id: str) -> int:
        """Read the index out of an id, and make sure that the id belongs to this level and revision."""
        parts = task_id.split("-")
        if len(parts) == 4 and parts[2].isascii() and parts[2].isdigit() and len(parts[2]) <= 10:
            index = int(parts[2])
            if index < self.num_tasks(split) and self.task(split, index).id == task_id:
                return index
        raise KeyError(task_id)

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Compare the calls of `action` with the expected ones."""
        expected: list[Call] = task.data["calls"]
        result = tool_calls.grade(action, expected, task.tools)
        feedback = [problem.item() for problem in result.problems]
        reward = 0.0 if feedback else 1.0
        if feedback and self.feedback == "expected":
            feedback.append(_expected(task.reference, action))
        return Verdict(
            reward,
            feedback,
            reward_parts={"calls": reward},
            metrics={
                "readable": float(result.calls is not None),
                "correct_calls": result.correct / len(expected),
            },
            stop_reason="completed" if result.calls is not None else "parse_error",
        )

    def wrong_answers(self, task: Task) -> list[str]:
        """The reference with a call lost, doubled, cut or changed."""
        return [
            *super().wrong_answers(task),
            "\n".join([task.reference, task.reference.splitlines()[0]]),
            task.reference.replace("(", "_(", 1),
            f"I would call {task.reference}",
        ]

    def _messages(self, tools: Sequence[Tool], request: str) -> tuple[Message, ...]:
        messages = [{"role": "system", "content": _system(tuple(tools), self.level)}]
        for question, answer in SHOTS[self.level][: self.shots]:
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": request})
        return tuple(messages)


def split_of(call: Call) -> str:
    """The only split in whose tasks this call may appear."""
    text = canonical([call.name, call.arguments])
    bucket = int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "big") % 100
    return next(split for split, bound in _SPLIT_BOUNDS if bucket < bound)


def _draw(rng: Random, level: int, split: str) -> tuple[tuple[Tool, ...], list[tuple[str, Call]]]:
    """Draw the catalogue of a task, and its calls with the sentences that ask for them."""
    tools = _TOOLS[level]
    if level <= 2:
        return tools, [_request(rng, rng.choice(tools), split)]
    if level == 3:
        return tools, [_request(rng, tool, split) for tool in rng.sample(tools, 2)]
    shown = tuple(rng.sample(tools, 20))
    return shown, [_request(rng, tool, split) for tool in rng.sample(shown, rng.randrange(1, 4))]


def _request(rng: Random, tool: Tool, split: str) -> tuple[str, Call]:
    """Draw a call of `tool` that belongs to `split`, and word it."""
    while True:
        arguments = {
            name: argument.draw(rng)
            for name, argument in tool.arguments.items()
            if argument.chance >= 1 or rng.random() < argument.chance
        }
        call = Call(tool.name, arguments)
        if split_of(call) == split:
            break
    words = {
        name: ("" if name not in arguments else argument.say(arguments[name]))
        if argument.chance >= 1
        else (argument.fragment.format(argument.say(arguments[name])) if name in arguments else "")
        for name, argument in tool.arguments.items()
    }
    return rng.choice(tool.phrasings).format(**words), call


@functools.cache
def _schema(tool: str, level: int) -> dict[str, Any]:
    return next(t for t in _TOOLS[level] if t.name == tool).schema()


def _schemas(tools: Sequence[Tool]) -> tuple[dict[str, Any], ...]:
    return tuple(tool.schema() for tool in tools)


def _system(tools: tuple[Tool, ...], level: int) -> str:
    several = "one tool call" if level <= 2 else "tool calls, one a line"
    if level <= 2:
        return f"Reply with {several}. Tools: {', '.join(tool.signature() for tool in tools)}."
    lines = "\n".join(json.dumps(tool.schema()) for tool in tools)
    return f'Reply with {several}, such as name(argument="value"). Tools:\n{lines}'


def _expected(reference: str, action: str) -> Item:
    got = clip(action, _LONGEST_GOT)
    return item(
        "wrong_answer",
        f"Expected: {reference}\nGot: {got}",
        visibility="teacher",
        reveals_reference=True,
        data={"code": "expected", "expected": reference, "got": got},
    )

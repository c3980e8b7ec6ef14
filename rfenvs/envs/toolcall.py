"""`rfenvs/ToolCall-v0`: turn a request into calls of the tools on offer."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import Any

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs import toolcall_catalogue as catalogue
from rfenvs.envs.toolcall_catalogue import SHOTS, Tool
from rfenvs.feedback import Item, clip, item
from rfenvs.graders import tool_calls
from rfenvs.graders.call_syntax import Form
from rfenvs.graders.json_values import canonical
from rfenvs.graders.tool_calls import Call, ParseError, parse_calls, write_call
from rfenvs.tasks import Message, Task, digest, index_in, load_rows

_TOOLS = {1: catalogue.LEVEL_1, 2: catalogue.LEVEL_2, 3: catalogue.LEVEL_3, 4: catalogue.LEVEL_4}
_SIZES = {"train": 2**31 - 1, "dev": 1000, "test": 1000}
_SPLIT_BOUNDS = (("train", 70), ("dev", 80), ("test", 100))
_SHORT_TYPES = {"string": "", "integer": "int", "number": "number", "boolean": "bool"}
_LONGEST_GOT = 500
_FORMS: tuple[Form, ...] = ("python", "json")


class ToolCallEnv(TextEnv):
    """Turn a request into calls of the tools on offer.

    ## Observation
    The prompt: the tools, worked examples, and a request such as "Is it raining in Oslo today?". As chat
    messages in `info["messages"]`: a system turn, a user and an assistant turn for each example, the user's
    request. After a failed turn (with `max_turns` above 1): what is wrong.

    ## Action
    The calls and nothing else: `weather(city="Oslo")`, several one a line, in any order; or the same as JSON,
    `{"name": "weather", "arguments": {"city": "Oslo"}}` or a list of those. A code fence around the reply
    is ignored. Nothing is evaluated. Types are strict: where an argument is a string, `5` is wrong and
    `"5"` right.

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
    Made by rule, without limit: the task at an index is a pure function of split, index and level. The hash
    of a call (tool and argument values) decides which split it may appear in, in shares of 70, 10 and 20 %,
    so that no call of a test task ever appears in a training task.

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
    | `wrong_answer` | `expected` | `feedback="expected"`: the answer beside the reply, for the teacher only |

    All but the last are visible to the policy and never state the answer. Spans mark the blamed characters.

    ## Arguments
    Args:
        split: `"train"`, `"dev"` or `"test"`.
        data: A `.jsonl` file with tasks of your own in place of the generated ones, a row each:
            `{"request": str, "answer": str, "tools": [{"name", "description", "parameters"}, ...],
            "split": str}`. Without `"tools"` those of the level are on offer; without `"split"` the row is
            in every split.
        max_turns: Attempts at a task; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        level: Difficulty, 1 to 4.
        feedback: `"hint"` says what is wrong. `"expected"` adds an item that states the expected answer, like
            the diff of a failing assertion; it reveals the reference.
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
        self._rows: dict[str, list[Task]] | None = None
        if data is not None:
            rows = load_rows(data)
            self.data_revision = digest(rows)
            self._rows = {name: self._own_tasks(rows, name) for name in self.splits}

    def num_tasks(self, split: str) -> int:
        """2**31 - 1 in train and 1000 in dev and test, or what `data` holds."""
        return _SIZES[split] if self._rows is None else len(self._rows[split])

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`; the same one on every machine."""
        if self._rows is not None:
            return self._rows[split][index]
        seed = hashlib.blake2b(f"ToolCall|{self.level}|{split}|{index}".encode(), digest_size=8).digest()
        names, requests = _draw(Random(int.from_bytes(seed, "big")), self.level, split)
        request = " Also: ".join(sentence for sentence, _ in requests)
        calls = [call for _, call in requests]
        reference = "\n".join(write_call(call.name, call.arguments) for call in calls)
        return Task(
            id=f"L{self.level}-{split}-{index}-{digest(request, reference, size=4)}",
            reference=reference,
            messages=self._messages(_system(self.level, names), request),
            tools=tuple(deepcopy(_schema(self.level, name)) for name in names),
            data={"calls": calls},
        )

    def task_index(self, split: str, task_id: str) -> int:
        """Read the index out of an id, and make sure that the id belongs to this level and revision."""
        if self._rows is not None:
            return super().task_index(split, task_id)
        index = index_in(task_id, 2, 4)
        if index < self.num_tasks(split) and self.task(split, index).id == task_id:
            return index
        raise KeyError(task_id)

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Compare the calls of `action` with the expected ones."""
        expected: list[Call] = task.data["calls"]
        result = tool_calls.grade(action, expected, task.tools, forms=_FORMS)
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

    def plant(self, task: Task, word: str) -> Task:
        """The expected calls with `word` behind every text argument."""
        calls = [
            replace(call, arguments={k: f"{v} {word}" if isinstance(v, str) else v for k, v in call.arguments.items()})
            for call in task.data["calls"]
        ]
        return replace(super().plant(task, word), data={"calls": calls})

    def _messages(self, system: str, request: str, *, examples: bool = True) -> tuple[Message, ...]:
        messages = [{"role": "system", "content": system}]
        for question, answer in SHOTS[self.level][: self.shots if examples else 0]:
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": request})
        return tuple(messages)

    def _own_tasks(self, rows: list[dict[str, Any]], split: str) -> list[Task]:
        names = tuple(tool.name for tool in _TOOLS[self.level])
        tasks = []
        for number, row in enumerate(rows, 1):
            for key in ("request", "answer"):
                if not isinstance(row.get(key), str):
                    raise ValueError(f'data, row {number}: "{key}" must be a string.')
            if row.get("split", split) != split:
                continue
            calls = parse_calls(row["answer"], _FORMS)
            if isinstance(calls, ParseError):
                raise ValueError(f"data, row {number}: the answer cannot be read: {calls.message}.")
            own = row.get("tools")
            tools = tuple(own) if own else tuple(_schema(self.level, name) for name in names)
            result = tool_calls.grade(row["answer"], calls, tools, forms=_FORMS)
            if result.problems:
                raise ValueError(f"data, row {number}: {result.problems[0].message}")
            system = _HEADS[True] + "\n".join(map(json.dumps, tools)) if own else _system(self.level, names)
            messages = self._messages(system, row["request"], examples=not own)
            tasks.append(
                Task(
                    reference=row["answer"],
                    messages=messages,
                    tools=tools,
                    source="file",
                    data={"calls": calls},
                )
            )
        return tasks


def split_of(call: Call) -> str:
    """The only split in whose tasks this call may appear."""
    text = canonical([call.name, call.arguments])
    bucket = int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=8).digest(), "big") % 100
    return next(split for split, bound in _SPLIT_BOUNDS if bucket < bound)


def _draw(rng: Random, level: int, split: str) -> tuple[tuple[str, ...], list[tuple[str, Call]]]:
    """Draw the names of the tools on offer, and the calls of a task with the sentences that ask for them."""
    tools = _TOOLS[level]
    shown = tools if level < 4 else tuple(rng.sample(tools, 20))
    count = (1, 1, 2, rng.randrange(1, 4))[level - 1]
    requests = [_request(rng, tool, split) for tool in rng.sample(shown, count)]
    return tuple(tool.name for tool in shown), requests


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
    words = {}
    for name, argument in tool.arguments.items():
        word = argument.say(arguments[name]) if name in arguments else ""
        words[name] = argument.fragment.format(word) if word and argument.chance < 1 else word
    return rng.choice(tool.phrasings).format(**words), call


_HEADS = {
    False: "Reply with one tool call. Tools: ",
    True: 'Reply with tool calls, one a line, such as name(argument="value"). Tools:\n',
}


@functools.cache
def _schema(level: int, name: str) -> dict[str, Any]:
    return next(tool for tool in _TOOLS[level] if tool.name == name).schema()


@functools.cache
def _line(level: int, name: str) -> str:
    return json.dumps(_schema(level, name))


@functools.lru_cache(maxsize=64)
def _system(level: int, names: tuple[str, ...]) -> str:
    """The system turn: signatures on one line for levels 1 and 2, a JSON schema a line above."""
    if level <= 2:
        return f"{_HEADS[False]}{', '.join(signature(_schema(level, name)) for name in names)}."
    return _HEADS[True] + "\n".join(_line(level, name) for name in names)


def signature(tool: Mapping[str, Any]) -> str:
    """Write a tool on one line; strings go without a type, a question mark follows an optional argument.

    >>> signature({"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}, "required": ["n"]}})
    'f(n: int)'
    """
    parts = []
    for name, schema in tool["parameters"]["properties"].items():
        kind = "|".join(schema.get("enum", ())) or _SHORT_TYPES[schema["type"]]
        optional = "" if name in tool["parameters"]["required"] else "?"
        parts.append(name + optional + (f": {kind}" if kind else ""))
    return f"{tool['name']}({', '.join(parts)})"


def _expected(reference: str, action: str) -> Item:
    got = clip(action, _LONGEST_GOT)
    return item(
        "wrong_answer",
        f"Expected: {reference}\nGot: {got}",
        visibility="teacher",
        reveals_reference=True,
        data={"code": "expected", "expected": reference, "got": got},
    )

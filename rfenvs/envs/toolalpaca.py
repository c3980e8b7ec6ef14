"""`rfenvs/ToolAlpaca-v0`: plan the calls of an API that a request needs."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs.toolalpaca_data import SPEC, Dataset, Request, load, without_blanks, without_mark
from rfenvs.feedback import LeakLevel, item
from rfenvs.graders.call_match import COMPARATORS
from rfenvs.graders.call_syntax import Form, ParseError, parse_calls
from rfenvs.graders.tool_calls import Call, grade_calls, unreadable
from rfenvs.tasks import Task

__all__ = ["FORMS", "SPEC", "ToolAlpacaEnv"]

FORMS: tuple[Form, ...] = ("react", "openai", "tags", "json", "python", "thinking")
"""Notations that are read; the prompt asks for the first."""


class ToolAlpacaEnv(TextEnv):
    """Plan the calls of an API that a request needs.

    ## Observation
    The prompt: an API with its tools in prose, the form of the reply, and a request. After a failed turn (with
    `max_turns` above 1): what is wrong.

    ## Action
    All calls in one reply: `Action: name` and on the next line `Action Input: {...}`, a JSON object, for each, with
    thoughts before and between. Every other notation of `rfenvs.graders.call_syntax` is read too. No tool is run.

    ## Reward
    1.0 where the calls are the planned ones, in any order, otherwise 0.0: each made once with its own arguments. An
    optional argument left out, written as an empty string, or given with its documented default is the same.
    `info["metrics"]`: `readable` (the reply could be read), `correct_calls` (share of planned calls made).

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several. A single-turn reply that cannot be read ends with
    `stop_reason="parse_error"`.

    ## Tasks
    ToolAlpaca's requests as SDPO trains on them: the splits are SDPO's files. `data` may also be ToolAlpaca's
    `eval_simulated.json`. A file is both splits. `info["task"]["flags"]` says `known_bad` where the planned calls
    hold what nobody could know from the request.

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `syntax` | 0 | the reply cannot be read as calls |
    | `format_error` | `truncated` | 0 | the sampler ran out of tokens |
    | `tool_error` | `unknown_tool` | 0 | no tool has that name |
    | `tool_error` | `missing`, `unexpected`, `type`, `enum`, `range` | 0 | an argument is not as documented |
    | `wrong_answer` | `count`, `missing_call` | 1 | there are too many or too few calls, or not the needed ones |
    | `wrong_answer` | `wrong_tool`, `extra_call` | 1 | the request needs another tool, or no such call |
    | `wrong_answer` | `wrong_value`, `left_out`, `not_asked` | 1 | an argument is not what the request says |
    | `reference` | `expected` | 3 | with `leak_level=3`: the planned calls, for the teacher only |

    All but the last are visible to the policy. Spans mark the blamed characters.

    ## Arguments
    Args:
        split: `"train"` or `"test"`.
        data: A folder with SDPO's files, a file in SDPO's layout or ToolAlpaca's, `"hub"` or `"sample"`. By default the
            first that can be had of `$RFENVS_DATA_DIR`, the hub, and the packaged sample: see
            `info["task"]["source"]`.
        max_turns: Attempts at a request; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Feedback that gives away more than this is left out; 3 adds the planned calls, for the teacher.
        compare: How arguments are compared: `"exact"`, as SDPO does, `"text"` (letters may differ in case), `"loose"`
            (strings without blanks and punctuation), or another of `rfenvs.graders.call_match.COMPARATORS`.

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
        compare: str = "exact",
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        if compare not in COMPARATORS:
            raise ValueError(f"compare={compare!r}: use one of {', '.join(COMPARATORS)}.")
        self.compare = compare
        self._load = functools.partial(_cached, data=data)

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data."""
        return self._load(self.split).revision

    def num_tasks(self, split: str) -> int:
        """The requests of the split's file."""
        return len(self._load(split).requests)

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: requests in the order of the file."""
        data = self._load(split)
        request = data.requests[index]
        return Task(
            id=request.id,
            prompt=request.prompt,
            reference="\n".join(map(_write, request.gold)),
            tools=request.tools,
            source=data.source,
            flags=request.flags,
            data={"request": request},
        )

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Hold the calls of `action` against the planned ones."""
        request: Request = task.data["request"]
        calls = parse_calls(action, FORMS)
        if isinstance(calls, ParseError):
            verdict = Verdict(0.0, [unreadable(action, calls).item()], stop_reason="parse_error")
        else:
            schemas = request.schemas
            plain = [without_mark(call) for call in calls]
            given = [without_blanks(call, schemas.get(call.name, {})) for call in plain]
            expected = request.expected(COMPARATORS[self.compare])
            result = grade_calls(given, expected, request.tools, reference_wins=True)
            reward = 0.0 if result.problems else 1.0
            verdict = Verdict(
                reward,
                [problem.item() for problem in result.problems],
                reward_parts={"calls": reward},
                metrics={"readable": 1.0, "correct_calls": result.correct / len(expected)},
            )
        if verdict.reward < 1 and self.leak_level >= 3:
            text = f"Planned:\n{task.reference}"
            reference = item("reference", text, visibility="teacher", leak_level=3, data={"code": "expected"})
            verdict.feedback.append(reference)
        return verdict

    def wrong_answers(self, task: Task) -> list[str]:
        """The plan with a call lost, doubled, cut or renamed, as a thought, and with all arguments in every call."""
        request: Request = task.data["request"]
        needed = [call for call, optional in zip(request.gold, request.optional, strict=True) if not optional]
        merged: dict[str, Any] = {}
        for call in request.gold:
            merged |= call.arguments
        wrong = [
            "\n".join(map(_write, needed[1:])) or "Thought: nothing to do.",
            "\n".join([task.reference, _write(needed[0])]),
            task.reference.replace("Action: ", "Action: x", 1),
            task.reference[: len(task.reference) // 2],
            f"<think>{task.reference}</think>",
            _write(Call(needed[0].name, {})).replace("{}", "{not json}"),
        ]
        if any(call.arguments != merged for call in needed):
            wrong.append("\n".join(_write(Call(call.name, merged)) for call in request.gold))
        return wrong

    def plant(self, task: Task, word: str) -> Task:
        """The planned calls with `word` behind every text."""
        request: Request = task.data["request"]
        gold = tuple(
            replace(call, arguments={k: f"{v} {word}" if isinstance(v, str) else v for k, v in call.arguments.items()})
            for call in request.gold
        )
        return replace(super().plant(task, word), data={"request": replace(request, gold=gold)})


@functools.lru_cache(maxsize=16)
def _cached(split: str, data: str | None) -> Dataset:
    return load(split, data)


def _write(call: Call) -> str:
    return f"Action: {call.name}\nAction Input: {json.dumps(call.arguments, ensure_ascii=False)}"

"""`rfenvs/BFCL-MultiTurn-v0`: serve a user over several turns by calling the tools of simulated services."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs.bfcl_apis import APIS, Outcome, Toolbox
from rfenvs.envs.bfcl_multi_turn_data import KNOWN_BAD, Dataset, Episode, load
from rfenvs.feedback import Item, Kind, LeakLevel, clip, item
from rfenvs.graders.json_values import canonical
from rfenvs.graders.tool_calls import Call, ParseError, parse_calls, write_call
from rfenvs.tasks import Task

MESSAGES_PER_USER_TURN = 20
"""Messages with calls that one request may take; the next one ends the episode, as in the public harness."""
_MOST_CALLS = 64
_LONGEST_RESULT = 8000
_DONE = "Done."
_TAGS = re.compile(r"</?tool_call>")
_INSTRUCTIONS = """You serve a user by calling tools. Reply with tool calls and nothing else, one a line, such as
name(argument="value"), and you are shown their results, one JSON value a line. Call until the request is served to
the best of your ability. Then reply with a message without calls: it ends the user's turn, and the next request
comes. Nobody answers questions."""


class BFCLMultiTurnEnv(TextEnv):
    """Serve a user over several turns by calling the tools of simulated services.

    ## Observation
    The prompt: instructions, the tools as JSON schemas (also in `info["tools"]`), and the user's first request. After
    a message with calls: their results, one JSON value a line, in the order of the calls. After a message without
    calls: the user's next request.

    ## Action
    Calls and nothing else, as in `rfenvs/ToolCall-v0`: `cd(folder="docs")`, several one a line, or JSON. They are
    read as literals, never evaluated, and carried out in order; one that fails does not stop the rest. The tags
    `<tool_call>` and `</tool_call>` are ignored. Any other message ends the user's turn. A message that has a line
    which begins with a call, or starts like JSON, but cannot be read, is answered with what is wrong with it, and the
    turn goes on.

    ## Reward
    1.0 where every user turn passed, otherwise 0.0; it comes with the last action. A turn is judged when it ends, by
    the public rule: the state of every service must equal the state that the expected calls lead to, and the results
    of the turn's expected calls must be among all results so far, each as often as it is expected. A turn that needs
    calls does not pass without any; one that needs none is not judged. Numbers are compared by value.
    `info["metrics"]`: `user_turns`, `user_turns_passed` (a share of all), `calls` and `tool_errors` so far.

    ## End of the episode
    `terminated` after the last user turn; with `stop_early`, after the first that did not pass; and with the 21st
    message with calls within one user turn. `truncated` with `stop_reason="max_turns"` after `max_turns` actions.

    ## Tasks
    The 200 episodes of BFCL v4's `multi_turn_base`, in both splits. Some cannot be won by reading them: they carry
    the flag `known_bad` with the reason (`info["task"]["flags"]`).

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `syntax`, `too_many_calls`, `truncated` | 0 | calls were meant, but cannot be read |
    | `tool_error` | `unknown_tool` | 0 | no tool has that name |
    | `tool_error` | `missing`, `unexpected`, `type` | 0 | an argument breaks the tool's schema |
    | `tool_error` | `refused` | 0 | the tool ran and answered with an error, word for word |
    | `invalid_action` | `too_many_messages` | 0 | one request took more than 20 messages with calls |
    | `observation` | `unfinished` | 0 | the only action of a `max_turns=1` episode did not end it |
    | `wrong_answer` | `no_calls` | 1 | a user turn ended without a call, and needed some |
    | `wrong_answer` | `state` | 1 | which attributes of which service are not as they should be |
    | `wrong_answer` | `missing_results` | 1 | how many needed results never came |
    | `wrong_answer` | `earlier_turn` | 1 | with `stop_early=False`: the last turn passed, an earlier one did not |
    | `hint` | `missing_tools` | 2 | which tools never gave the result that was needed |
    | `reference` | `expected` | 3 | the expected calls of the user turn |

    Errors of tools are visible to the policy, being results. Verdicts on a user turn are for the teacher alone, since
    a user does not give them.

    ## Arguments
    Args:
        split: `"train"` or `"test"`; both hold the same episodes. BFCL has no training set.
        data: A folder with the public files, one file with `ground_truth` in its rows, `"hub"` or `"sample"`. By
            default the first that can be had of `$RFENVS_DATA_DIR`, the hub, and the packaged sample.
        max_turns: Actions per episode; 100 by default. The expected calls need two a user turn, of which there are
            seven at most.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Items that give away more are dropped; 3 adds the expected calls.
        stop_early: End the episode with the first user turn that did not pass, since it cannot be won any more;
            False plays on, as the public harness does, for the same reward.
        show_tools: Write the tools into the prompt; False for agents that render `info["tools"]` themselves.

    ## Version history
    - v0: first release.
    """

    splits = ("train", "test")
    default_max_turns = 100
    reward_part_names = ("episode",)
    metric_names = ("user_turns", "user_turns_passed", "calls", "tool_errors")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        stop_early: bool = True,
        show_tools: bool = True,
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        self.stop_early = stop_early
        self.show_tools = show_tools
        self._load = functools.partial(_cached, data)
        self._run: _Run | None = None

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data."""
        return self._load().revision

    def num_tasks(self, split: str) -> int:
        """200, or what `data` holds."""
        return len(self._load().episodes)

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: episodes in the order of the data set."""
        data = self._load()
        episode = data.episodes[index]
        offered = [t for name in episode.apis for t in data.tools[name] if t.schema["name"] not in episode.excluded]
        lines = "\n".join(tool.line for tool in offered)
        shown = f"{_INSTRUCTIONS} Tools:\n{lines}" if self.show_tools else _INSTRUCTIONS
        reason = KNOWN_BAD.get(episode.id)
        return Task(
            id=episode.id,
            reference="\n".join(_gold_actions(episode)),
            messages=({"role": "system", "content": shown}, {"role": "user", "content": episode.requests[0]}),
            tools=tuple(tool.schema for tool in offered),
            source=data.source,
            flags=(f"known_bad: {reason}",) if reason else (),
            data={"episode": episode},
        )

    def task_index(self, split: str, task_id: str) -> int:
        """Look an id up without making the tasks."""
        for index, episode in enumerate(self._load().episodes):
            if episode.id == task_id:
                return index
        raise KeyError(task_id)

    def begin(self, task: Task) -> None:
        """Start the services afresh, twice: for the policy and for the expected calls."""
        self._run = _Run.start(task)

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Carry out the calls of a message, or judge the user turn that it ends."""
        run = self._run
        assert run is not None, "begin comes before grade"
        message = read_message(action, run.names)
        if isinstance(message, dict):
            verdict = run.verdict([message], observation=message["text"])
        elif message:
            verdict = run.carry_out(message)
        else:
            verdict = run.end_user_turn(self.stop_early)
        if self.max_turns == 1 and not verdict.done and not verdict.feedback:
            verdict.feedback.append(_unfinished(run))
        return verdict

    def gold_actions(self, task: Task) -> list[str]:
        """The expected calls of each user turn in one message, and a message that ends the turn."""
        return _gold_actions(task.data["episode"])

    def wrong_answers(self, task: Task) -> list[str]:
        """Ending every turn at once, all expected calls in one message, the first alone, and one with another text."""
        episode: Episode = task.data["episode"]
        calls = [call for turn in episode.gold for call in turn]
        return [
            _DONE,
            _write(calls),
            _write(calls[:1]),
            _write(_with_word(calls[:1], "elsewhere")),
            "I would call " + _write(calls[:1]),
        ]

    def plant(self, task: Task, word: str) -> Task:
        """The expected calls with `word` behind every text argument; the requests are no secret."""
        episode: Episode = task.data["episode"]
        gold = tuple(_with_word(turn, word) for turn in episode.gold)
        planted = replace(episode, gold=gold)
        return replace(super().plant(task, word), data={"episode": planted})


@functools.lru_cache(maxsize=8)
def _cached(data: str | None) -> Dataset:
    return load(data)


@dataclass(slots=True)
class _Run:
    """One episode under way: the policy's services, and beside them those of the expected calls."""

    episode: Episode
    mine: Toolbox
    gold: Toolbox
    names: frozenset[str]
    """Names of the tools on offer."""
    results: Counter[str] = field(default_factory=Counter)
    """Every result so far, in canonical writing."""
    user_turn: int = 0
    messages: int = 0
    """Messages with calls in this user turn."""
    passed: int = 0
    calls: int = 0
    errors: int = 0

    @classmethod
    def start(cls, task: Task) -> _Run:
        episode: Episode = task.data["episode"]
        names = frozenset(tool["name"] for tool in task.tools)
        every = [tool for name in episode.apis for tool in APIS[name].tools]
        return cls(episode, _toolbox(episode, names), _toolbox(episode, every), names)

    def carry_out(self, calls: Sequence[Call]) -> Verdict:
        """Make the calls of a message, and show their results."""
        outcomes = [self.mine.call(call, number) for number, call in enumerate(calls)]
        self.results.update(canonical(outcome.result) for outcome in outcomes)
        self.messages += 1
        self.calls += len(calls)
        items = [outcome.problem for outcome in outcomes if outcome.problem is not None]
        self.errors += len(items)
        if self.messages > MESSAGES_PER_USER_TURN:
            return self.verdict([*items, _too_many_messages()], done=True)
        return self.verdict(items, observation="\n".join(map(_show, outcomes)))

    def end_user_turn(self, stop_early: bool) -> Verdict:
        """Judge the user turn, and go on to the next request if there is one."""
        items = self._judge()
        self.passed += not items
        self.user_turn += 1
        self.messages = 0
        over = self.user_turn == len(self.episode.requests)
        failed = self.passed < self.user_turn
        if over or (failed and stop_early):
            if failed and not items:
                text = "This user turn passed, but an earlier one did not."
                items.append(_verdict_item("wrong_answer", 1, "earlier_turn", text, self.user_turn))
            return self.verdict(items, done=True, reward=0.0 if failed else 1.0)
        return self.verdict(items, observation=self.episode.requests[self.user_turn])

    def verdict(
        self, items: list[Item], *, observation: str | None = None, done: bool = False, reward: float = 0.0
    ) -> Verdict:
        """Report where the episode stands."""
        total = len(self.episode.requests)
        metrics = {
            "user_turns": total,
            "user_turns_passed": self.passed / total,
            "calls": self.calls,
            "tool_errors": self.errors,
        }
        return Verdict(
            reward, items, reward_parts={"episode": reward}, metrics=metrics, done=done, observation=observation
        )

    def _judge(self) -> list[Item]:
        """What is wrong at the end of the user turn; the expected calls are made in any case."""
        expected = self.episode.gold[self.user_turn]
        came = [(call, canonical(self.gold.call(call).result)) for call in expected]
        if not expected:
            return []
        number = self.user_turn + 1
        items = []
        if not self.messages:
            text = f"User turn {number} ended without a tool call, and the request needed some."
            items.append(_verdict_item("wrong_answer", 1, "no_calls", text, number))
        for api, names in self.mine.differences(self.gold).items():
            text = f"After user turn {number} the state of {api} is not as it should be: {', '.join(names)}."
            items.append(_verdict_item("wrong_answer", 1, "state", text, number, api=api, attributes=names))
        if missing := _missing(came, self.results):
            text = f"User turn {number}: {len(missing)} of {len(came)} needed results never came."
            items.append(_verdict_item("wrong_answer", 1, "missing_results", text, number, count=len(missing)))
            tools = list(dict.fromkeys(call.name for call in missing))
            text = f"These tools never gave the result that user turn {number} needed: {', '.join(tools)}."
            items.append(_verdict_item("hint", 2, "missing_tools", text, number, tools=tools))
        if items:
            gold = _write(expected)
            text = f"Expected calls of user turn {number}:\n{gold}"
            items.append(_verdict_item("reference", 3, "expected", text, number, expected=gold))
        return items


def read_message(text: str, tools: frozenset[str]) -> list[Call] | Item:
    """The calls of a message, none where it only talks, or what is wrong with calls that cannot be read.

    Calls are meant where a line begins with the name of a tool and a bracket, or the message begins like JSON.

    >>> read_message("All done.", frozenset({"ls"}))
    []
    >>> read_message("ls(a=maybe)", frozenset({"ls"}))["text"]
    'SyntaxError: "maybe" is not a literal value; put text in quotes.'
    """
    text = _TAGS.sub(lambda tag: " " * len(tag.group()), text)  # of the same length, so that spans stay
    calls = parse_calls(text)
    if isinstance(calls, ParseError):
        if not _attempt(tools).search(text):
            return []
        end = min(calls.position + 1, len(text))
        span = (min(calls.position, end), end)
        return item("format_error", f"SyntaxError: {calls.message}.", span=span, data={"code": "syntax"})
    if len(calls) > _MOST_CALLS:
        message = f"SyntaxError: a message may hold {_MOST_CALLS} calls, got {len(calls)}; none was made."
        return item("format_error", message, data={"code": "too_many_calls"})
    return calls


@functools.lru_cache(maxsize=256)
def _attempt(tools: frozenset[str]) -> re.Pattern[str]:
    """How a message looks that means to call one of some tools."""
    names = "|".join(map(re.escape, sorted(tools)))
    return re.compile(rf"\A[\s`]*[{{\[]|^[ \t`\[]*(?:{{[ \t]*\"name\"|(?:{names})\()", re.MULTILINE)


def _toolbox(episode: Episode, names: Iterable[str]) -> Toolbox:
    return Toolbox((APIS[name].load(episode.scenario[name]) for name in episode.apis), names)


def _show(outcome: Outcome) -> str:
    return clip(json.dumps(outcome.result, ensure_ascii=False), _LONGEST_RESULT)


def _missing(came: Sequence[tuple[Call, str]], results: Counter[str]) -> list[Call]:
    """The calls whose result is not among `results` as often as it is expected."""
    left = Counter(results)
    missing = []
    for call, result in came:
        if left[result]:
            left[result] -= 1
        else:
            missing.append(call)
    return missing


def _verdict_item(kind: Kind, leak_level: LeakLevel, code: str, text: str, user_turn: int, **data: Any) -> Item:
    payload = {"code": code, "user_turn": user_turn, **data}
    return item(kind, text, visibility="teacher", scope="episode", leak_level=leak_level, data=payload)


def _too_many_messages() -> Item:
    text = f"The request took more than {MESSAGES_PER_USER_TURN} messages with calls: the episode ends."
    return item("invalid_action", text, source="env", data={"code": "too_many_messages"})


def _unfinished(run: _Run) -> Item:
    text = f"The episode ended with {run.user_turn} of {len(run.episode.requests)} requests served."
    return item(
        "observation", text, severity="warning", source="env", visibility="teacher", data={"code": "unfinished"}
    )


def _write(calls: Sequence[Call]) -> str:
    return "\n".join(write_call(call.name, call.arguments) for call in calls)


def _gold_actions(episode: Episode) -> list[str]:
    return [message for turn in episode.gold for message in (_write(turn), _DONE) if message]


def _with_word(calls: Sequence[Call], word: str) -> tuple[Call, ...]:
    """The calls with `word` behind every text argument."""
    return tuple(
        replace(call, arguments={k: f"{v} {word}" if isinstance(v, str) else v for k, v in call.arguments.items()})
        for call in calls
    )

"""`TextEnv`: the episode contract of every environment here, so that an environment is one short file."""

from __future__ import annotations

import functools
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

import gymnasium
from gymnasium.error import ResetNeeded

from rfenvs.feedback import Item, LeakLevel, Visibility, item, stamp, visible
from rfenvs.offload import offload, release
from rfenvs.spaces import Text
from rfenvs.tasks import Message, Task, plain_text

StopReason = Literal[
    "", "completed", "max_turns", "max_tokens", "context_overflow", "parse_error", "tool_stopped", "timeout",
    "env_error",
]  # fmt: skip
"""Why an episode ended; the empty string while it runs."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_RESET_OPTIONS = ("task_index", "task_id")
_log = logging.getLogger(__name__)


class Action(str):
    """A `str` that also carries what the sampler knows about it. Plain strings are legal actions too.

    Args:
        text: The action, decoded, without the stop token.
        token_ids: The sampled ids.
        logprobs: The sampler's log-probability of each id, in nats.
        finish_reason: `"stop"`, or `"length"` where the token budget ran out; None where unknown.

    >>> action = Action("4", token_ids=[20], finish_reason="stop")
    >>> action == "4", action.token_ids
    (True, [20])
    """

    token_ids: list[int] | None
    logprobs: list[float] | None
    finish_reason: str | None

    def __new__(
        cls,
        text: str = "",
        token_ids: Sequence[int] | None = None,
        logprobs: Sequence[float] | None = None,
        finish_reason: str | None = None,
    ) -> Action:
        """Build the string and attach the rest."""
        self = super().__new__(cls, text)
        self.token_ids = None if token_ids is None else list(token_ids)
        self.logprobs = None if logprobs is None else list(logprobs)
        self.finish_reason = finish_reason
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Action, (str(self), self.token_ids, self.logprobs, self.finish_reason)


@dataclass(slots=True)
class Verdict:
    """What a grader makes of one action."""

    reward: float
    """Finite; 1.0 is the full reward of most environments."""
    feedback: list[Item] = field(default_factory=list)
    """Items made by `rfenvs.feedback.item`; at least one unless the action succeeded."""
    success: bool | None = None
    """Whether the action solved the task; None means `reward >= 1`."""
    reward_parts: dict[str, float] = field(default_factory=dict)
    """Named parts of the reward, a subset of the environment's `reward_part_names`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers for people, a subset of the environment's `metric_names`."""
    done: bool | None = None
    """Whether the episode is over; None means on success."""
    observation: str | None = None
    """The environment's reply where it is more than the feedback the policy may see."""
    stop_reason: StopReason = "completed"
    """Why the episode ends, where it ends with this action and not for want of turns."""
    scored: bool = True
    """False where no judgement was possible; the reward then means nothing and must be 0."""


class TextEnv(gymnasium.Env[str, str], ABC):
    """Base class: implement `num_tasks`, `task` and `grade`.

    **Observation**: the text that is new since the last action. `reset` returns the whole prompt, `step` the
    feedback that the acting policy may see (or the grader's own reply).

    **Action**: any `str`; lone surrogates are replaced by U+FFFD before grading. `Action` carries token ids
    too.

    **End**: `terminated` when the task is solved, or after the only turn where `max_turns` is 1;
    `truncated` when a larger `max_turns` is used up, or when the environment could not judge the action.

    **Info**, with the same keys and types on every reset and step:

    | key | holds |
    |---|---|
    | `task` | `id`, `index`, `split`, `env_id`, `data_revision`, `source`, `flags` |
    | `turn` | actions taken so far: 0 on reset |
    | `messages` | the chat messages this call added, fresh dicts: the prompt on reset, the reply on a step |
    | `reward_parts`, `metrics` | numbers under the environment's fixed names |
    | `tools` | the callable tools with their JSON schemas, on reset; empty on steps |
    | `stop_reason` | empty while the episode runs |
    | `scored` | False: the environment failed, drop the sample; it is not a zero |
    | `feedback` | list of items (`rfenvs.FEEDBACK_SCHEMA`); empty on success, never empty on failure |
    | of `state_info` | what an environment adds of its state, under names of its own |

    Args:
        split: One of the class's `splits`.
        data: A file with tasks of your own, where the environment documents a layout.
        max_turns: Actions per episode; None means the class's `default_max_turns`.
        render_mode: `"ansi"`: `render` returns the transcript; `"human"`: it prints it.
        leak_level: Items that give away more than this (`rfenvs.feedback.LeakLevel`) are dropped; a failure that
            loses all of its items keeps a plain "The answer is not correct."
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "human"], "render_fps": 1}  # noqa: RUF012

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    """Names of the splits, the training split first."""
    default_max_turns: ClassVar[int] = 1
    reward_part_names: ClassVar[tuple[str, ...]] = ()
    metric_names: ClassVar[tuple[str, ...]] = ()
    one_line: ClassVar[bool] = False
    """Whether an action is one line: a person who plays then types that and no more."""
    data_revision: str = "1"
    """Changes whenever the same split and index give another task."""
    propagates: ClassVar[tuple[type[Exception], ...]] = ()
    """Exceptions of `grade` that `step` raises, instead of ending the episode unscored."""
    blocking: bool = False
    """Whether a step waits for something outside this thread (a sandbox, a worker, a server), so that threads help."""

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 3,
    ) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode={render_mode!r}: use None or one of {', '.join(modes)}.")
        if max_turns is not None and (not isinstance(max_turns, int) or max_turns < 1):
            raise ValueError(f"max_turns={max_turns!r}: use None or an integer of at least 1.")
        if leak_level not in get_args(LeakLevel):
            raise ValueError(f"leak_level={leak_level!r}: use 0, 1, 2 or 3.")
        self.split = self._check_split(split)
        self.leak_level = leak_level
        self.data = data
        self.max_turns = self.default_max_turns if max_turns is None else max_turns
        self.render_mode = render_mode
        self.observation_space = Text()
        self.action_space = Text()
        self._task: Task | None = None
        self._task_info: dict[str, Any] = {}
        self._turn = 0
        self._over = True
        self._transcript: list[tuple[str, str]] = []
        self._ids: dict[str, dict[str, int]] = {}

    # What an environment implements.

    @abstractmethod
    def num_tasks(self, split: str) -> int:
        """Number of tasks of a split."""

    @abstractmethod
    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`; a pure function of its arguments and the constructor's."""

    @abstractmethod
    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Judge the action of turn `turn` (from 0). Raising means "not scored", not "wrong"."""

    # What an environment may override.

    def prompt_messages(self, task: Task) -> list[Message]:
        """Chat messages of the prompt; by default the task's own."""
        return [dict(message) for message in task.messages]

    def begin(self, task: Task) -> None:
        """Prepare the state of a new episode, where there is any beside the task."""

    def state_info(self) -> dict[str, Any]:
        """What `info` says of the state beside the contract's keys: the same keys and types on every reset and step.

        It is asked for after `begin`, after every `grade`, even one that raised, and where an episode is abandoned.
        Containers must be fresh: callers may keep and change them.
        """
        return {}

    def task_index(self, split: str, task_id: str) -> int:
        """Find a task by its id; by default by going through the whole split once.

        Raises:
            KeyError: No such task.
        """
        if split not in self._ids:
            self._ids[split] = {self.task(split, i).id: i for i in range(self.num_tasks(split))}
        return self._ids[split][task_id]

    def gold_actions(self, task: Task) -> list[str]:
        """Actions that together earn the full reward, one a turn; by default the reference alone."""
        return [task.reference] if task.reference else []

    def wrong_answers(self, task: Task) -> list[str]:
        """Answers that must not earn the full reward, however often given; `rfenvs.validate` tries them."""
        reference = task.reference
        return [reference[: len(reference) // 2], reference[1:], f"{reference} {reference}"]

    def plant(self, task: Task, word: str) -> Task:
        """Copy a task with `word` in every hidden field that a grader could quote; `rfenvs.validate` looks for it.

        The copy must still be one that the wrong answers fail. By default the word follows the reference.
        """
        return replace(task, reference=f"{task.reference} {word}")

    # The contract.

    def get_task(self, index: int, split: str | None = None) -> Task:
        """Return the task at `index` of `split` (by default this environment's), checking the range.

        Raises:
            ValueError: The index is not an integer, negative or beyond the end.
        """
        split = self.split if split is None else self._check_split(split)
        total = self.num_tasks(split)
        try:
            number = index.__index__()
        except AttributeError:
            raise ValueError(f"task_index={index!r}: use an integer from 0 to {total - 1}.") from None
        if not 0 <= number < total:
            raise ValueError(f"task_index={number} is out of range: split {split!r} has tasks 0 to {total - 1}.")
        return self.task(split, number)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode on a random task, or on `options["task_index"]` or `options["task_id"]`.

        Raises:
            ValueError: Unknown option, unknown id, or an index out of range.
        """
        super().reset(seed=seed)
        index = self._choose(options or {})
        task = self._task = self.get_task(index)
        self._task_info = {
            "id": task.id,
            "index": index,
            "split": self.split,
            "env_id": self.spec.id if self.spec is not None else type(self).__name__,
            "data_revision": self.data_revision,
            "source": task.source,
            "flags": list(task.flags),
        }
        self._turn, self._over = 0, False
        self.begin(task)
        messages = self.prompt_messages(task)
        observation = plain_text(messages)
        self._transcript = [("", observation)]
        return observation, self._info(messages, Verdict(0.0), [], "", task.tools)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Judge one action.

        Raises:
            TypeError: The action is not a `str`.
            gymnasium.error.ResetNeeded: The episode is over, or none was started.
        """
        task = self._task
        if task is None or self._over:
            state = "has not started" if task is None else "is over"
            raise ResetNeeded(f"The episode {state}: call reset() before step().")
        if not isinstance(action, str):
            raise TypeError(f"An action is a str, got {type(action).__name__}.")
        action = clean(action)
        turn = self._turn
        verdict = self._judge(task, action, turn)
        success = verdict.reward >= 1.0 if verdict.success is None else verdict.success
        feedback = [entry for entry in verdict.feedback if entry["leak_level"] <= self.leak_level]
        if not success and verdict.scored:
            feedback = _explain_failure(feedback, action, verdict)
        self._turn += 1
        terminated = truncated = False
        stop_reason: str = ""
        if not verdict.scored:
            truncated, stop_reason = True, "env_error"
        elif success if verdict.done is None else verdict.done:
            terminated, stop_reason = True, verdict.stop_reason
        elif self._turn >= self.max_turns:
            cut_off = action.finish_reason == "length" and self.max_turns == 1
            if self.max_turns == 1:
                terminated, stop_reason = True, "max_tokens" if cut_off else verdict.stop_reason
            else:
                truncated, stop_reason = True, "max_turns"
                feedback.append(_out_of_turns(self.max_turns))
        self._over = terminated or truncated
        items = stamp(feedback, turn)
        observation = verdict.observation
        if observation is None:
            observation = "\n".join(entry["text"] for entry in visible(items, "policy"))
        messages = [] if self._over or not observation else [{"role": "user", "content": observation}]
        if self.render_mode is not None:
            self._transcript.append((action, "\n".join(f"[{entry['kind']}] {entry['text']}" for entry in items)))
        return (
            observation,
            float(verdict.reward),
            terminated,
            truncated,
            self._info(messages, verdict, items, stop_reason, ()),
        )

    async def areset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """`reset` in a thread of this environment's own; calls of one environment never overlap.

        Cancelling is safe: a call that has begun runs to its end unseen, and the next one waits for it. After a
        cancelled `astep` nobody knows whether the action counts, so reset next.
        """
        return await offload(self, functools.partial(self.reset, seed=seed, options=options))

    async def astep(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """`step` in a thread of this environment's own; see `areset`."""
        return await offload(self, functools.partial(self.step, action))

    def abandon(self, error: BaseException) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """End the episode unscored, since something around the environment failed: what `step` would have returned."""
        self._over = True
        verdict = _unscored(f"The episode was abandoned: {type(error).__name__} in the environment.")
        items = stamp(verdict.feedback, max(self._turn - 1, 0))
        return "", 0.0, False, True, self._info([], verdict, items, "env_error", ())

    def close(self) -> None:
        """Release what the environment holds; closing twice does no harm."""
        release(self)

    def render(self) -> Any:
        """Return (`ansi`) or print (`human`) the transcript of the episode, feedback included."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs render_mode='ansi' or 'human' in gymnasium.make.")
            return None
        lines = [self._transcript[0][1]] if self._transcript else []
        for action, feedback in self._transcript[1:]:
            lines.append(f"> {action}")
            lines.extend([feedback] if feedback else [])
        text = "\n\n".join(lines)
        if self.render_mode == "human":
            print(text)
            return None
        return text

    def _check_split(self, split: str) -> str:
        if split not in self.splits:
            raise ValueError(f"split={split!r}: use one of {', '.join(self.splits)}.")
        return split

    def _choose(self, options: dict[str, Any]) -> int:
        unknown = [key for key in options if key not in _RESET_OPTIONS]
        if unknown:
            raise ValueError(
                f"Unknown reset option {', '.join(map(repr, unknown))}: use {' or '.join(_RESET_OPTIONS)}."
            )
        if len(options) > 1:
            raise ValueError("Give either task_index or task_id, not both.")
        if "task_index" in options:
            index = options["task_index"]
            return int(index) if hasattr(index, "__index__") else index  # get_task explains what is wrong
        if "task_id" in options:
            if not isinstance(options["task_id"], str):
                raise ValueError(
                    f"task_id={options['task_id']!r}: use a str, the id of a task of split {self.split!r}."
                )
            try:
                return self.task_index(self.split, options["task_id"])
            except KeyError:
                raise ValueError(f"Split {self.split!r} has no task {options['task_id']!r}.") from None
        return int(self.np_random.integers(self.num_tasks(self.split)))

    def _judge(self, task: Task, action: Action, turn: int) -> Verdict:
        try:
            verdict = self.grade(task, action, turn)
            if not math.isfinite(verdict.reward):
                raise ValueError(f"the grader returned the reward {verdict.reward}")
        except self.propagates:
            raise
        except Exception as error:  # a broken grader is data: the sample is dropped, the run goes on
            _log.exception("Grading task %s failed", task.id)
            return _unscored(f"The answer could not be judged: {type(error).__name__} in the grader.")
        if not verdict.scored:
            verdict.reward = 0.0
            verdict.feedback = verdict.feedback or _unscored("The answer could not be judged.").feedback
        return verdict

    def _info(
        self,
        messages: list[Message],
        verdict: Verdict,
        feedback: list[Item],
        stop_reason: str,
        tools: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        info = {
            "task": {**self._task_info, "flags": self._task_info["flags"].copy()},
            "turn": self._turn,
            "messages": messages,
            "reward_parts": _named("reward part", self.reward_part_names, verdict.reward_parts),
            "metrics": _named("metric", self.metric_names, verdict.metrics),
            "tools": [_copy(tool) for tool in tools],
            "stop_reason": stop_reason,
            "scored": verdict.scored,
            "feedback": feedback,
        }
        for key, value in self.state_info().items():
            if key in info:
                raise ValueError(f"state_info: {key!r} is a key of every info already; give it another name.")
            info[key] = value
        return info


def _unscored(text: str) -> Verdict:
    data = {"code": "not_scored"}
    problem = item("env_error", text, severity="fatal", source="env", visibility="log", data=data)
    return Verdict(0.0, [problem], success=False, scored=False)


def clean(action: str) -> Action:
    """Wrap as `Action`, each lone surrogate replaced by one U+FFFD so that offsets stay."""
    try:
        action.encode("utf-8")
    except UnicodeEncodeError:
        text = _SURROGATES.sub("\ufffd", action)
    else:
        if isinstance(action, Action):
            return action
        text = str(action)
    if isinstance(action, Action):
        return Action(text, action.token_ids, action.logprobs, action.finish_reason)
    return Action(text)


def cut_off(action: Action, visibility: Visibility = "policy") -> Item:
    """The item for an answer that ran into the length limit.

    `TextEnv` adds it to failures by itself; to the policy where the observation is made of items. An environment that
    writes its observations, and wants this said in them, gives the item among its own.
    """
    text = "The answer was cut off by the length limit before it was complete."
    span = (len(action), len(action))
    return item("format_error", text, source="env", span=span, visibility=visibility, data={"code": "truncated"})


def _explain_failure(feedback: list[Item], action: Action, verdict: Verdict) -> list[Item]:
    """Say that the answer was cut off, and never leave a failure that ends an episode without a word."""
    if action.finish_reason == "length":
        if not any(entry["data"].get("code") == "truncated" for entry in feedback):
            feedback.insert(0, cut_off(action, "policy" if verdict.observation is None else "teacher"))
    elif not feedback and not verdict.observation:
        feedback.append(item("wrong_answer", "The answer is not correct.", leak_level=0, data={"code": "incorrect"}))
    return feedback


def _out_of_turns(max_turns: int) -> Item:
    return item(
        "observation",
        f"The episode ended: all {max_turns} turns are used.",
        severity="warning",
        source="env",
        scope="episode",
        turn=-1,
        visibility="teacher",
        data={"code": "out_of_turns"},
    )


def _named(what: str, names: tuple[str, ...], values: dict[str, float]) -> dict[str, float]:
    if not values:
        return dict.fromkeys(names, 0.0)
    if unknown := ", ".join(sorted(values.keys() - set(names))):
        raise ValueError(f"Undeclared {what} {unknown}: list it in the class so that every info has it.")
    return {name: float(values.get(name, 0.0)) for name in names}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(entry) for entry in value]
    return value

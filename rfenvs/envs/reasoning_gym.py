"""`rfenvs/ReasoningGym-v0`: the procedural tasks of reasoning-gym, with verifiers that can be trusted."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import random
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.feedback import Item, LeakLevel, clip, item
from rfenvs.graders import procedural
from rfenvs.graders.procedural import Entry, gold_of
from rfenvs.graders.procedural_hints import hint
from rfenvs.graders.procedural_worker import verify
from rfenvs.graders.thinking import visible_span
from rfenvs.rows import DataError, read_rows
from rfenvs.tasks import Message, Task, digest, index_in

EXCLUDED = {"composite": "a mixture of other tasks; give their names instead"}
"""Tasks of reasoning-gym that are not offered, with the reason."""

_SIZES = {"train": 20_000, "test": 1_000}
_SEEDS = {"train": 0, "test": 1 << 20}
_PRINTS_DOTS = "bf"
_GLOBAL_RANDOM = ("list_functions", "pool_matrix")
_COLUMNS = {"question": str, "metadata": dict}
_OPEN, _CLOSE = "<answer>", "</answer>"
_SYSTEM = (
    "Solve the problem. Think step by step if you need to, then give the final answer, and nothing else, between "
    "<answer> and </answer>, in the format that the problem asks for."
)
_QUOTED = 200
_lock = threading.RLock()


class ReasoningGymEnv(TextEnv):
    """Procedural reasoning tasks: puzzles, algorithms, algebra, logic, games.

    ## Observation
    A system turn that asks for `<answer>...</answer>`, and the question. After a failed turn (with `max_turns` above
    1): what is wrong.

    ## Action
    Free text; what stands in the last `<answer>...</answer>` counts.

    ## Reward
    1.0 for the verifier's full score, otherwise 0.0. With `reward="score"` the score itself, in [0, 1]: many tasks give
    partial scores, and some of those pay well for answers that are nothing like right (`time_intervals` up to 0.96).
    What plain junk would earn on the same task counts as 0 either way.
    `info["metrics"]`: `score`, `has_answer`, `readable`.

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several.

    ## Tasks
    `task` names one of reasoning-gym's tasks, several with commas between them, or `"all"`: each in turn. A task at an
    index is a pure function of name, `config`, split and index: 20,000 of each name in train and 1,000 in test, from
    seeds that do not overlap. Small tasks can repeat a question.

    Five tasks have no answer of their own and are verified by a search (`boxnet`, `graph_color`,
    `propositional_logic`, `rubiks_cube`, `rush_hour`): three hold one in their metadata, which is the reference; for
    `boxnet` and `rush_hour` there is none.

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `no_answer`, `truncated` | 0 | there is no `<answer>...</answer>` |
    | `format_error` | `unreadable` | 0 | the verifier cannot read the answer |
    | `wrong_answer` | `rule_broken` | 0 | the answer breaks a rule that the puzzle states: the first one, in words |
    | `wrong_answer` | `partial` | 2 | the verifier gives a part of the score |
    | `wrong_answer` | `not_equal` | 0 | anything else |
    | `timeout` | `timeout` | 0 | an algebraic answer that takes more than ten seconds to compare |
    | `reference` | `expected` | 3 | with `leak_level=3`, to the teacher: a right answer |

    Rules are known for `countdown`, `puzzle24`, `sudoku`, `mini_sudoku`, `n_queens` and `graph_color`.

    ## Arguments
    Args:
        split: `"train"` or `"test"`.
        data: Items of your own, in reasoning-gym's layout: `question`, `answer`, `metadata` with `source_dataset`; both
            splits hold all of them.
        max_turns: Attempts at a task; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Most that feedback may give away.
        task: Name, names with commas, or `"all"`.
        config: Arguments of reasoning-gym's `create_dataset`, where `task` is one name, such as `{"max_terms": 3}`.
        reward: `"exact"` or `"score"`.

    Needs `pip install "rfenvs[reasoning-gym]"`.

    ## Version history
    - v0: first release; measured with reasoning-gym 0.1.25.
    """

    reward_part_names = ("score",)
    metric_names = ("score", "has_answer", "readable")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        task: str = "all",
        config: Mapping[str, Any] | None = None,
        reward: str = "exact",
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        if reward not in ("exact", "score"):
            raise ValueError(f"reward={reward!r}: use 'exact' or 'score'.")
        self.reward = reward
        self.names = _names(task)
        if config and len(self.names) != 1:
            raise ValueError(f"config={dict(config)!r} needs one task, and task={task!r} names {len(self.names)}.")
        self.config = _plain(config or {})
        self._rows = None if data is None else _read(Path(data))
        if config and self._rows is None:
            _dataset(self.names[0], self.config, split)
        self.data_revision = f"reasoning-gym {_package().__version__}"
        if self._rows is not None:
            self.data_revision = f"file:{digest([row for row in self._rows])}"

    def num_tasks(self, split: str) -> int:
        """20,000 or 1,000 of each name, or what `data` holds."""
        return len(self.names) * _SIZES[split] if self._rows is None else len(self._rows)

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: the names take turns."""
        if self._rows is not None:
            return _task(self._rows[index], f"{index}", "file")
        number, which = divmod(index, len(self.names))
        name = self.names[which]
        return _task(_entry(name, self.config, split, number), f"{name}-{split}-{number}", "procedural")

    def task_index(self, split: str, task_id: str) -> int:
        """Read the index out of an id, and make sure that it is this task's."""
        if self._rows is not None:
            return super().task_index(split, task_id)
        name, number = task_id.partition("-")[0], index_in(task_id, 2, 4)
        if name in self.names and number < _SIZES[split]:
            index = number * len(self.names) + self.names.index(name)
            if self.task(split, index).id == task_id:
                return index
        raise KeyError(task_id)

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Verify what stands in the answer tags."""
        entry: Entry = task.data["entry"]
        name: str = task.data["name"]
        found = _answer_span(action)
        if found is None:
            text = "There is no <answer>...</answer> in the reply."
            return self._verdict(0.0, [item("format_error", text, data={"code": "no_answer"})], task, False, False)
        answer = action[slice(*found)].strip()
        result = procedural.score(name, functools.partial(verify, name), answer, entry)
        if result.value >= 1.0:
            return self._verdict(1.0, [], task, True, True)
        problem = _complaint(name, answer, entry, result, found)
        return self._verdict(result.value, [problem], task, True, result.outcome == "scored")

    def wrong_answers(self, task: Task) -> list[str]:
        """Junk in the tags, the right answer without them, and one taken back."""
        return ["<answer>zzz</answer>", f"{task.reference} <answer>zzz</answer>", task.data["gold"] or "zzz"]

    def plant(self, task: Task, word: str) -> Task:
        """The expected answer with `word` behind it; what the verifier recomputes from is left alone."""
        gold = f"{task.data['gold']} {word}"
        return replace(super().plant(task, word), data={**task.data, "gold": gold})

    def _verdict(self, score: float, feedback: list[Item], task: Task, has_answer: bool, readable: bool) -> Verdict:
        reward = score if self.reward == "score" else float(score >= 1.0)
        if feedback and task.data["gold"]:
            feedback.append(
                item(
                    "reference",
                    f"A right answer is: {task.data['gold']}",
                    visibility="teacher",
                    leak_level=3,
                    data={"code": "expected", "expected": task.data["gold"]},
                )
            )
        return Verdict(
            reward,
            feedback,
            success=score >= 1.0,
            reward_parts={"score": score},
            metrics={"score": score, "has_answer": float(has_answer), "readable": float(readable)},
            stop_reason="completed" if has_answer else "parse_error",
        )


def _complaint(name: str, answer: str, entry: Entry, result: procedural.Score, span: tuple[int, int]) -> Item:
    quoted = clip(answer, _QUOTED)
    if result.outcome == "timeout":
        text = f"The answer takes too long to compare: {quoted}"
        return item("timeout", text, span=span, data={"code": "timeout"})
    if result.outcome == "unreadable":
        text = f"The answer is not in the format that the problem asks for: {quoted}"
        return item("format_error", text, span=span, data={"code": "unreadable"})
    if said := hint(name, answer, entry["metadata"]):
        return item("wrong_answer", said, span=span, leak_level=0, data={"code": "rule_broken"})
    if result.value > 0:
        text = f"The answer is not right; the task's own measure gives it {result.value:.2f} of 1."
        return item("wrong_answer", text, span=span, leak_level=2, score=result.value, data={"code": "partial"})
    text = f"The answer is not correct: {quoted}"
    return item("wrong_answer", text, span=span, leak_level=0, data={"code": "not_equal"})


def _answer_span(text: str) -> tuple[int, int] | None:
    """Where the last answer stands, its tags left out; one in the thoughts is none."""
    begin, end = visible_span(text)
    last = text.rfind(_CLOSE, begin, end)
    opening = text.rfind(_OPEN, begin, max(last, 0))
    if last < 0 or opening < 0:
        return None
    start = opening + len(_OPEN)
    return start, text.index(_CLOSE, start)


def _task(entry: Entry, name: str, source: str) -> Task:
    gold = gold_of(entry)
    messages: list[Message] = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": entry["question"]},
    ]
    return Task(
        id=f"{name}-{digest(entry['question'], gold, size=4)}",
        reference="" if gold is None else f"<answer>{gold}</answer>",
        messages=tuple(messages),
        source=source,
        data={"entry": entry, "name": entry["metadata"]["source_dataset"], "gold": gold},
    )


def _names(task: str) -> tuple[str, ...]:
    known = _known()
    if task == "all":
        return known
    names = tuple(name.strip() for name in task.split(","))
    for name in names:
        if name in EXCLUDED:
            raise ValueError(f"task={name!r} is not offered: {EXCLUDED[name]}.")
        if name not in known:
            raise ValueError(f"task={name!r}: use 'all', or names of {', '.join(known)}.")
    if len(set(names)) < len(names):
        raise ValueError(f"task={task!r} names a task twice: name each once.")
    return names


@functools.cache
def _known() -> tuple[str, ...]:
    _package()
    from reasoning_gym.factory import DATASETS

    return tuple(sorted(DATASETS.keys() - EXCLUDED.keys()))


def _package() -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise ImportError('rfenvs/ReasoningGym-v0 needs reasoning-gym: pip install "rfenvs[reasoning-gym]".') from error
    return reasoning_gym


def _plain(config: Mapping[str, Any]) -> str:
    """A configuration as the text of a Python literal, so that it can be a key: lists cannot."""
    text = repr(dict(sorted(config.items())))
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(f"config={text}: use numbers, texts, booleans, None, and lists or tuples of them.") from None
    return text


@functools.lru_cache(maxsize=512)
def _dataset(name: str, config: str, split: str) -> Any:
    """A data set of reasoning-gym, made once; its items are made when they are asked for."""
    given = ast.literal_eval(config)
    with _lock, _OwnRandom(name, _SEEDS[split]):
        try:
            return _package().create_dataset(name, seed=_SEEDS[split], size=_SIZES[split], **given)
        except (TypeError, AssertionError, ValueError) as error:
            raise ValueError(f"config={config} does not suit task={name!r}: {error}") from error


@functools.lru_cache(maxsize=4096)
def _entry(name: str, config: str, split: str, index: int) -> Entry:
    dataset = _dataset(name, config, split)
    silence = contextlib.redirect_stdout(io.StringIO()) if name == _PRINTS_DOTS else contextlib.nullcontext()
    with _lock, _OwnRandom(name, _SEEDS[split] + index), silence:
        entry: Entry = dataset[index]
    return entry


class _OwnRandom:
    """Two tasks draw from the global generators: they find them seeded, and the program finds them as they were."""

    def __init__(self, name: str, seed: int) -> None:
        self.seed = seed if name in _GLOBAL_RANDOM else None

    def __enter__(self) -> None:
        if self.seed is not None:
            import numpy

            self.states = random.getstate(), numpy.random.get_state()
            random.seed(self.seed)
            numpy.random.seed(self.seed % (1 << 32))

    def __exit__(self, *_: object) -> None:
        if self.seed is not None:
            import numpy

            random.setstate(self.states[0])
            numpy.random.set_state(self.states[1])


def _read(path: Path) -> tuple[Entry, ...]:
    rows = []
    for row in read_rows(path, _COLUMNS):
        name = row.values["metadata"].get("source_dataset")
        if name not in _known():
            raise DataError(f"{path.name}, line {row.line}: metadata.source_dataset={name!r} is no task: see task=.")
        rows.append({"answer": None, **row.values})
    return tuple(rows)

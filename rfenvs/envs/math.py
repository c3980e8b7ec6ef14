r"""`rfenvs/Math-v0`: solve a problem and put the final answer into `\boxed{}`."""

from __future__ import annotations

import functools
from dataclasses import replace
from fractions import Fraction
from typing import get_args

from rfenvs.env import Action, StopReason, TextEnv, Verdict
from rfenvs.envs.math_asked import as_asked, asks_percent, is_unfinished
from rfenvs.envs.math_data import SOURCES, Dataset, Problem, check_split, load
from rfenvs.feedback import Item, LeakLevel
from rfenvs.graders.math_compare import Comparison, Outcome, compare, is_comparable
from rfenvs.graders.math_extract import Accept, Extraction, extract
from rfenvs.graders.math_feedback import expected, explain, is_absurd, no_verdict, other_form, too_costly, unfinished
from rfenvs.graders.math_steps import Steps, check_steps
from rfenvs.tasks import Message, Task

_REQUESTS: dict[Accept, str] = {
    "box": "Reason step by step, and put your final answer into \\boxed{}.",
    "any": "Reason step by step. End with your final answer, in \\boxed{} or on a last line of its own.",
}
_OUTCOMES = ("equal", "unequal", "unparsable", "no_answer", "timeout", "crashed")


class MathEnv(TextEnv):
    r"""Solve a mathematical problem; the answer is compared as mathematics, and the working's arithmetic is checked.

    ## Observation
    The problem and the request to reason step by step and box the final answer. After a failed turn (with `max_turns`
    above 1): what is wrong.

    ## Action
    Any text. The last balanced `\boxed{}` or `\fbox{}` counts. Text up to the last `</think>`, and after a `<think>`
    that follows it, counts for nothing. An unclosed or empty box after a whole one means that there is no answer: what
    was crossed out does not stand in for it. With `answer="any"` a reply without a box may end with `#### 5`,
    `Answer: 5`, or a last line of at most six words.

    ## Reward
    1.0 where the answer equals the gold answer (`rfenvs.graders.math_compare`), in whatever form, otherwise 0.0. But
    not for an expression that the problem gives to be worked out, nor, where a number is asked for, for one with a sum,
    integral, remainder or the like left to do. What the problem asks for may be named (`m+n = 55`); 50 and 50% are the
    same where a percentage is asked for, 10 and 10 million where millions are.
    `info["metrics"]`: `has_box`; `steps_checked` and `steps_wrong`, the equations of the visible working that could be
    checked and those of them that do not hold; and one of `equal`, `unequal`, `unparsable`, `no_answer`, `timeout`,
    `crashed` is 1, so that a mean over episodes counts each outcome.

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several. A single-turn reply without a readable answer ends with
    `stop_reason="parse_error"`. A comparison that times out or whose process dies is no verdict: `truncated`, `scored`
    False, reason in an item for the log. Unless it is the model's doing, which earns 0: where the answer is absurd by
    its text alone (over 2,000 characters, brackets 30 deep, a tower of powers, an exponent or factorial beyond four
    digits), or where right afterwards the gold answer itself is compared in half the time.

    ## Tasks
    | `dataset` | train | test | answers |
    |---|---|---|---|
    | `gsm8k` | 7,473 | 1,319 | numbers |
    | `math500` | - | 500 | all kinds |
    | `aime24`, `aime25` | - | 30 each | integers |
    | `amc23` | - | 40 | numbers |
    | `dapo17k` | about 17,000 | - | integers |
    | `local` | yours | yours | yours |

    A split that a data set does not have is refused: evaluation data never become training data by default. Gold
    answers are checked when they are loaded, and problems whose answer nothing can be compared with are left out.
    A `local` file has rows with `problem` (or `question`) and `answer`, and `split` where a row belongs to one alone.

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `truncated` | 0 | the length limit cut the reply off |
    | `format_error` | `no_box`, `unclosed_box`, `empty_box`, `box_in_thinking` | 0 | there is no answer |
    | `format_error` | `unparsable` | 0 | the answer is not mathematics; quotes the first piece that is not |
    | `format_error` | `too_costly` | 0 | the answer is too long, its numbers too large, or it takes too long |
    | `format_error` | `unfinished` | 0 | the answer is a computation that the problem asks to carry out |
    | `wrong_answer` | `not_equal` | 0 | the answer is not correct |
    | `hint` | `several_boxes` | 0 | boxes disagree; names two, the last counts |
    | `hint` | `arithmetic_slip` | 0 | quotes the first equation of the working that does not hold |
    | `wrong_answer` | `wrong_kind` | 1 | a set was expected and a number given, for example |
    | `wrong_answer` | `wrong_form` | 1 | right but for the unit or a percent sign |
    | `wrong_answer` | `near_miss` | 2 | too large, wrong sign, off by one, reciprocal, ...: a relation, no value |
    | `hint` | `other_form` | 0 | on success, for the teacher: right, but written otherwise than the reference |
    | `reference` | `expected` | 3 | states the answer, for the teacher |
    | `env_error` | `timeout`, `crashed` | 0 | no verdict; for the log |

    ## Arguments
    Args:
        split: `"train"` or `"test"`.
        data: A file in the data set's layout or in one of the others, a folder, `"hub"` or `"sample"` (problems written
            for this package). By default the first that can be had of `$RFENVS_DATA_DIR/<dataset>`, the pinned
            revision from its host, and the sample: see `info["task"]["source"]`.
        max_turns: Attempts at a problem; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Items that give away more are dropped (`rfenvs.feedback.LeakLevel`).
        dataset: One of the table above.
        answer: `"box"`: only a box counts; `"any"`: other ways to state an answer count too.
        timeout_s: Longest time for one comparison, in seconds.

    ## Version history
    - v0: first release.
    """

    splits = ("train", "test")
    reward_part_names = ("answer",)
    metric_names = ("has_box", "steps_checked", "steps_wrong", *_OUTCOMES)
    blocking = True  # on the process that knows algebra

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        dataset: str = "gsm8k",
        answer: Accept = "box",
        timeout_s: float = 5.0,
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        if dataset not in SOURCES:
            raise ValueError(f"dataset={dataset!r}: use one of {', '.join(SOURCES)}.")
        if answer not in get_args(Accept):
            raise ValueError(f"answer={answer!r}: use 'box' or 'any'.")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s={timeout_s!r}: use a positive number of seconds.")
        if dataset == "local" and data is None:
            raise ValueError("dataset='local' needs data=<path of a file with your problems>.")
        check_split(dataset, split, data)
        self.dataset = dataset
        self.answer: Accept = answer
        self.timeout_s = timeout_s

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data."""
        return self._load(self.split).revision

    def num_tasks(self, split: str) -> int:
        """Number of problems whose gold answer can be graded."""
        return len(self._load(split).problems)

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: problems in the order of the data set."""
        data = self._load(split)
        problem = data.problems[index]
        source = "sample" if data.source == "sample" else "file" if self.dataset == "local" else self.dataset
        message: Message = {"role": "user", "content": f"{problem.text}\n\n{_REQUESTS[self.answer]}"}
        return Task(
            id=problem.id,
            reference=_boxed(problem.gold),
            messages=(message,),
            source=source,
            data={"problem": problem},
        )

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Compare the boxed answer with the gold answer, and check the working where it is wrong."""
        problem: Problem = task.data["problem"]
        found = extract(action, self.answer)
        steps = check_steps(action, found.visible)
        verdict = self._compare(problem, found.answer) if found.found else None
        metrics = _metrics(found, verdict, steps)
        if verdict is not None and verdict.outcome is Outcome.EQUAL:
            if is_unfinished(problem.text, problem.gold, found.answer):
                return Verdict(0.0, [unfinished(found), *self._teacher(problem)], metrics=metrics)
            said = [other_form()] if verdict.same_form is False else []
            return Verdict(1.0, said, reward_parts={"answer": 1.0}, metrics=metrics)
        if verdict is not None and verdict.outcome in (Outcome.TIMEOUT, Outcome.CRASHED):
            if not is_absurd(found.answer) and not is_comparable(problem.gold, self.timeout_s / 2):
                return Verdict(0.0, [no_verdict(verdict.outcome)], success=False, metrics=metrics, scored=False)
            return Verdict(0.0, [too_costly(found), *self._teacher(problem)], metrics=metrics)
        feedback = explain(action, found, verdict, steps, cut_off=action.finish_reason == "length")
        readable = verdict is not None and verdict.outcome is Outcome.UNEQUAL
        reason: StopReason = "completed" if readable else "parse_error"
        return Verdict(0.0, [*feedback, *self._teacher(problem)], metrics=metrics, stop_reason=reason)

    def wrong_answers(self, task: Task) -> list[str]:
        """The gold out of its box, in a broken box, in the thinking, taken back; near misses of a number; own ones."""
        problem: Problem = task.data["problem"]
        gold = problem.gold
        answers = [
            "" if self.answer == "any" else f"The answer is {gold}.",
            f"\\boxed{{{gold}",
            f"<think>\\boxed{{{gold}}}</think>",
            f"\\boxed{{{gold}}} No. \\boxed{{}}",
            f"\\boxed{{{gold}}} No, it is \\boxed{{\\text{{none of these}}}}.",
            *map(_boxed, problem.wrong),
        ]
        number = _number(gold)
        if number is not None:
            answers += [_boxed(str(number + 1)), _boxed(str(number * 10 + 7)), _boxed(str(-number - 1))]
        return answers

    def plant(self, task: Task, word: str) -> Task:
        """The gold answer with `word` in it, and in what the packaged sample knows to be wrong."""
        problem: Problem = task.data["problem"]
        gold = f"{problem.gold} \\text{{{word}}}"
        planted = replace(problem, gold=gold, wrong=tuple(f"{entry} {word}" for entry in problem.wrong))
        return replace(task, reference=_boxed(gold), data={"problem": planted})

    def _compare(self, problem: Problem, answer: str) -> Comparison:
        verdict = compare(gold=problem.gold, answer=answer, timeout_s=self.timeout_s)
        if verdict.outcome is Outcome.EQUAL:
            return verdict
        if verdict.relation == "percent" and asks_percent(problem.text):
            return replace(verdict, outcome=Outcome.EQUAL, relation=None, same_form=False)
        said = as_asked(problem.text, answer)
        if said is not None:
            again = compare(gold=problem.gold, answer=said, timeout_s=self.timeout_s)
            if again.outcome is Outcome.EQUAL:
                return again
        return verdict

    def _load(self, split: str) -> Dataset:
        check_split(self.dataset, split, self.data)
        return _cached(self.dataset, split, self.data)

    def _teacher(self, problem: Problem) -> list[Item]:
        return [expected(problem.gold)] if self.leak_level >= 3 else []


@functools.lru_cache(maxsize=16)
def _cached(dataset: str, split: str, data: str | None) -> Dataset:
    return load(dataset, split, data)


def _boxed(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def _metrics(found: Extraction, verdict: Comparison | None, steps: Steps) -> dict[str, float]:
    outcome = "no_answer" if verdict is None else verdict.outcome.value
    return {
        "has_box": float(found.boxes > 0),
        "steps_checked": float(steps.checked),
        "steps_wrong": float(len(steps.slips)),
        outcome: 1.0,
    }


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None

"""`rfenvs/SciKnow-v0`: multiple choice in biology, chemistry, materials and physics, with checks that compute."""

from __future__ import annotations

from dataclasses import replace

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs.sciknow_checks import Check, explain
from rfenvs.envs.sciknow_data import SUBJECTS, Dataset, Question, cached, order
from rfenvs.feedback import Item, LeakLevel, item
from rfenvs.graders.choice import LETTERS, Choice, Mismatch, mismatch, read_choice
from rfenvs.tasks import Message, Task

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SYSTEM = (
    "Answer the multiple-choice question. It has {number} options, {letters}, and exactly one is right. Reason step by "
    "step. Then give the letter of your choice, and nothing else, between <answer> and </answer>."
)


class SciKnowEnv(TextEnv):
    """Answer multiple-choice questions of science: SciKnowEval at level L3.

    ## Observation
    The question and its options, a line each. As chat messages: a system turn, which says how many options there
    are and how to answer, and the question. After a failed turn (with `max_turns` above 1): what is wrong.

    ## Action
    A working, and the choice as `<answer>B</answer>`; the last one counts, and thoughts up to `</think>` do not. The
    letter may be small, in brackets, followed by a point or by the option's text; the option's own text alone will do.
    Without the tags the last `\\boxed{}` counts, without that a reply that is an answer and nothing else. A letter in
    running text never counts.

    ## Reward
    1.0 for the right option, otherwise 0.0. `info["metrics"]`: `format_ok` (one option was named), `options` (how
    many there are), `has_check` (something can be computed from the question), `chosen_A` to `chosen_D` (the
    letter chosen; with the reward they give the accuracy of each letter).

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several. A single-turn reply that names no option ends with
    `stop_reason="parse_error"`.

    ## Tasks
    The selection of SciKnowEval that SDPO trains on: 4,335 questions, train and test as in its repository (biology
    450 and 50, chemistry 1890 and 210, material 841 and 94, physics 720 and 80). Most have four options, 200
    of biology two. The options are shuffled by a permutation that depends on `option_seed` and the question alone, so
    that every attempt at a task sees the same order; options that refer to each other keep theirs. Questions that
    cannot be answered by their key are there, and flagged `known_bad` with the reason.

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `no_answer` | 0 | there is no answer, or an empty one |
    | `format_error` | `several_answers` | 0 | the answer names several options |
    | `format_error` | `not_an_option` | 0 | the answer is no option's letter or text |
    | `format_error` | `truncated` | 0 | the reply ends within its thoughts or its answer |
    | `wrong_answer` | `working_is_option`, `working_is_closer` | 0 | the working ends at the number of another option |
    | `wrong_answer` | `working_is_far` | 0 | the working ends at a number that is no option's |
    | `wrong_answer` | `arithmetic` | 0 | the molar mass is not that of the formula in the working |
    | `wrong_answer` | `wrong_option` | 1 | the option is not the right one |
    | `wrong_answer` | `foreign_element` | 1 | the product holds an element that no reactant has |
    | `wrong_answer` | `formula` | 1 | the formula in the working is not the molecule's |
    | `wrong_answer` | `lattice_volume`, `volume_of_box` | 1 | the volume does not follow from the cell parameters |
    | `wrong_answer` | `molar_mass`, `donors` | 1 | the number does not follow from the molecule |
    | `wrong_answer` | `<code>_relation` | 2 | too large or small, by how much; too many or few |
    | `reference` | `expected` | 3 | the right option, for the teacher |

    Checks are computed from the question, never from the key. Items of level 0 hold the reply against itself; one
    that says that a value does not follow from the question tells that the answer is wrong, and is level 1.

    ## Arguments
    Args:
        split: `"train"` or `"test"`.
        data: Questions in SDPO's layout (`prompt`, `answer`; optional `subject`, `split`) or SciKnowEval's own
            (`question`, `choices`, `answerKey`), `.jsonl` or `.json`; a row without `split` is in both. Or a
            folder with the data set's files, `"hub"` or `"sample"`. By default the first that can be had of
            `$RFENVS_DATA_DIR`, the hub, and the packaged sample.
        max_turns: Attempts at a task; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Items that give away more are left out; 3 adds the right option for the teacher.
        subject: `"biology"`, `"chemistry"`, `"material"`, `"physics"`, or `"all"`.
        option_seed: Which permutation of the options; None keeps the order of the data.

    ## Version history
    - v0: first release.
    """

    reward_part_names = ("correct",)
    metric_names = ("format_ok", "options", "has_check", "chosen_A", "chosen_B", "chosen_C", "chosen_D")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        subject: str = "all",
        option_seed: int | None = 0,
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        if subject not in (*SUBJECTS, "all"):
            raise ValueError(f"subject={subject!r}: use one of {', '.join(SUBJECTS)}, or 'all'.")
        if option_seed is not None and not isinstance(option_seed, int):
            raise ValueError(f"option_seed={option_seed!r}: use an integer, or None for the order of the data.")
        self.subject = subject
        self.option_seed = option_seed

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data, which subject, and which order of the options."""
        return f"{self._load(self.split).revision}+{self.subject}+options:{self.option_seed}"

    def num_tasks(self, split: str) -> int:
        """Number of questions of the subject."""
        return len(self._load(split).questions)

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`: questions in the order of the data, subject by subject."""
        data = self._load(split)
        question = data.questions[index]
        numbers = order(question, self.option_seed)
        shown = tuple(question.options[number] for number in numbers)
        right = tuple(letter for letter, number in zip(LETTERS, numbers, strict=False) if number in question.right)
        return Task(
            id=question.id,
            reference=f"<answer>{right[0]}</answer>",
            messages=_messages(question, shown),
            source=data.source,
            flags=question.flags,
            data={"options": shown, "right": right, "check": question.check},
        )

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Compare the option that `action` chooses with the right one."""
        options: tuple[str, ...] = task.data["options"]
        right: tuple[str, ...] = task.data["right"]
        check: Check | None = task.data["check"]
        cut_off = action.finish_reason == "length"
        choice = read_choice(action, options, cut_off=cut_off)
        metrics = {"format_ok": float(choice.state == "ok"), "options": len(options), "has_check": check is not None}
        if choice.letter and f"chosen_{choice.letter}" in self.metric_names:
            metrics[f"chosen_{choice.letter}"] = 1.0
        if choice.letter and choice.letter in right:
            return Verdict(1.0, reward_parts={"correct": 1.0}, metrics=metrics)
        if choice.index is None:
            said = [] if cut_off and choice.state == "truncated" else [_unread(choice, len(options))]
            return Verdict(0.0, [*said, _expected(right, options)], metrics=metrics, stop_reason="parse_error")
        problems: list[Item] = []
        if found := mismatch(action, choice, options):
            problems.append(_mismatch_item(found, choice))
        if check is not None:
            problems += explain(check, action, _working_end(action, choice), choice.index, options)
        problems.append(_wrong_option(choice))
        return Verdict(0.0, [*problems, _expected(right, options)], metrics=metrics)

    def wrong_answers(self, task: Task) -> list[str]:
        """Every other option, all of them at once, one that is not there, and the right one in running text."""
        right = task.data["right"]
        letters = LETTERS[: len(task.data["options"])]
        others = [letter for letter in letters if letter not in right]
        return [
            *(f"<answer>{letter}</answer>" for letter in others),
            f"<answer>{', '.join(letters)}</answer>",
            f"<answer>{LETTERS[len(letters)]}</answer>",
            f"<answer>{right[0]}</answer> No, it is <answer>{others[0]}</answer>" if others else "",
            f"I would say it is {right[0]}",
            "<answer></answer>",
        ]

    def plant(self, task: Task, word: str) -> Task:
        """The right letters and the reference, followed by `word`."""
        right = tuple(f"{letter} {word}" for letter in task.data["right"])
        return replace(super().plant(task, word), data={**task.data, "right": right})

    def _load(self, split: str) -> Dataset:
        return cached(self.data, self.subject, split)


def _messages(question: Question, options: tuple[str, ...]) -> tuple[Message, ...]:
    count = len(options)
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    letters = f"{', '.join(LETTERS[: count - 1])} and {LETTERS[count - 1]}"
    lines = "\n".join(f"{letter}: {text}" for letter, text in zip(LETTERS, options, strict=False))
    return (
        {"role": "system", "content": _SYSTEM.format(number=number, letters=letters)},
        {"role": "user", "content": f"{question.stem}\n\n{lines}"},
    )


def _working_end(action: str, choice: Choice) -> int:
    """Where the working ends: before the tag of the answer that was read."""
    assert choice.span is not None
    tag = action.lower().rfind("<answer>", 0, choice.span[0])
    return tag if tag >= 0 else choice.span[0]


_UNREAD = {
    "no_answer": "There is no answer: put the letter of one option between <answer> and </answer>.",
    "several_answers": "The answer names several options: give one letter.",
    "not_an_option": "The answer is not an option: give one letter from A to {last}.",
    "truncated": "The reply ends before its answer is complete.",
}


def _unread(choice: Choice, count: int) -> Item:
    text = _UNREAD[choice.state].format(last=LETTERS[count - 1])
    return item("format_error", text, span=choice.span, data={"code": choice.state})


def _mismatch_item(found: Mismatch, choice: Choice) -> Item:
    other = LETTERS[found.index]
    text = {
        "working_is_option": f"which is option {other}; you chose {choice.letter}.",
        "working_is_closer": f"to which option {other} is closer than {choice.letter}, which you chose.",
        "working_is_far": "which is not close to any option.",
    }[found.code]
    return item(
        "wrong_answer",
        f"Your working ends at {found.value}, {text}",
        span=found.span,
        leak_level=0,
        data={"code": found.code},
    )


def _wrong_option(choice: Choice) -> Item:
    text = f"Option {choice.letter} is not the right one."
    return item("wrong_answer", text, span=choice.span, leak_level=1, data={"code": "wrong_option"})


def _expected(right: tuple[str, ...], options: tuple[str, ...]) -> Item:
    letter = right[0]
    text = dict(zip(LETTERS, options, strict=False)).get(letter, "")
    said = f"The right option is {letter}{f': {text}' if text else ''}."
    return item(
        "reference",
        said,
        severity="info",
        visibility="teacher",
        leak_level=3,
        data={"code": "expected", "expected": letter},
    )

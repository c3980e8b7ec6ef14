"""`rfenvs/EquationBalance-v0`: balance a chemical equation; the feedback counts atoms."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rfenvs.datasets import DataFile, DatasetSpec, Source, locate
from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.envs.equation_catalogue import TEMPLATES, Draft
from rfenvs.feedback import LeakLevel, item
from rfenvs.graders.balancing import Reaction, grade
from rfenvs.graders.chemistry import (
    ChemistryError,
    Equation,
    arrows,
    balance,
    conservation,
    nullspace,
    parse_equation,
    parse_formula,
    write_equation,
)
from rfenvs.rows import DataError, read_rows
from rfenvs.tasks import KNOWN_BAD, NO_OP_PASSES, Message, Task, digest, index_in

SPEC = DatasetSpec(
    id="sciknoweval-balancing",
    hub_id="HICAI-ZJU/SciKnowEval",
    host="github",
    revision="53addee640092d667439e9a8901bf55f2d92c9ed",
    files=(
        DataFile(
            "raw_data/Chemistry/L3/balancing_chemical_equation.jsonl",
            rows=300,
            size=176576,
            sha256="e659e9d778feb4a18d508acadf8c17b196430c7832ea93ad9fc69bcc9fad6ac6",
        ),
    ),
    licence="MIT",
    columns={"question": str, "answer": str},
    sample=Path(__file__).parent / "samples" / "equation_balance.jsonl",
    split_rule="none: the rows are in both splits",
)
"""SciKnowEval's open-ended equations. Only used where `data` asks for them: without it tasks are made by rule."""

_SIZES = {"train": 2**31 - 1, "test": 1000}
_TEST_SHARE = 20
"""Percent of the reactions that only the test split may show."""
_LARGEST = 100
"""Largest coefficient of a task that is made by rule."""
_SYSTEM = (
    "Balance the chemical equation: put a positive whole number before each species{smallest} so that every element, "
    "and the charge, is conserved. Keep all species on their sides, and add none. You may think first. Give the "
    "balanced equation between <answer> and </answer>, for example <answer>2H2 + O2 = 2H2O</answer>."
)
_NAMES = tuple(TEMPLATES)
_WEIGHTS = tuple(weight for _, weight in TEMPLATES.values())
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Equations of a file, and where they come from."""

    tasks: tuple[tuple[str, Reaction, str, str, tuple[str, ...]], ...]
    """Id, reaction, question, balanced equation, flags."""
    excluded: tuple[tuple[int, str], ...]
    """Rows that cannot be graded, by line, with the reason."""
    revision: str
    source: Source


class EquationBalanceEnv(TextEnv):
    """Balance a chemical equation.

    ## Observation
    The unbalanced equation, such as `C3H8 + O2 = CO2 + H2O`. As chat messages: a system turn with the request, and
    the equation. After a failed turn (with `max_turns` above 1): what is wrong.

    ## Action
    The balanced equation as `<answer>C3H8 + 5O2 = 3CO2 + 4H2O</answer>`; the last one counts, and thoughts up to
    `</think>` do not. Without the tags the last `\\boxed{}` counts, without that the last line that is an equation.
    Arrows of any kind, states such as `(aq)`, subscripts, LaTeX and `<sub>` are read; charges as `Fe^3+`, `Fe³⁺` or
    `Fe3+`.

    ## Reward
    1.0 where the same species stand on the same sides and every element and the charge balance, with positive whole
    coefficients; otherwise 0.0. Fractions do not pass, even where they balance. Every such balancing is right, also
    where there are several that are no multiples of each other; multiples pass unless `lowest_terms`.
    `info["metrics"]`: `readable`, `same_species`, `balanced` (share of the elements and the charge that balance),
    `lowest_terms`.

    ## End of the episode
    `terminated` on success, and after the only turn of a single-turn episode; `truncated` with
    `stop_reason="max_turns"` after the last of several. A single-turn reply without an equation that can be read ends
    with `stop_reason="parse_error"`.

    ## Tasks
    Made by rule from templates (`rfenvs.envs.equation_catalogue`): combustion, neutralisation, precipitation, metals
    and acids, oxides, displacement, hydrates, redox with and without charges. Each has exactly one balancing in lowest
    terms, found by exact elimination, and is not balanced as it stands. `train` has 2,147,483,647 tasks, `test` 1,000
    (the same reaction may come back under another index); a hash of the species decides the split, so that no
    reaction of a test task is ever seen in training.

    With `data`: SciKnowEval's rows, in both splits.

    ## Feedback
    | kind | `data["code"]` | leak level | said when |
    |---|---|---|---|
    | `format_error` | `no_equation`, `truncated` | 0 | there is no equation, or the reply ends before it |
    | `format_error` | `no_arrow`, `several_arrows`, `empty_side`, `empty_summand`, `too_long` | 0 | its shape |
    | `format_error` | `unreadable` | 0 | a species cannot be read; the span marks it |
    | `wrong_answer` | `sides_swapped`, `side_changed` | 0 | all species, or one, stand on the wrong side |
    | `wrong_answer` | `species_added`, `species_missing` | 0 | the species are not the task's |
    | `wrong_answer` | `fraction`, `zero_coefficient` | 0 | a coefficient is no positive whole number |
    | `wrong_answer` | `unbalanced`, `charge` | 0 | an element or the charge: how much on each side |
    | `wrong_answer` | `not_lowest_terms` | 0 | a common divisor; of severity `info` unless `lowest_terms` |
    | `reference` | `expected` | 3 | the balanced equation, for the teacher |

    All but the last are read off the reply and the equation that was asked; they need no answer key.

    ## Arguments
    Args:
        split: `"train"` or `"test"`.
        data: Equations in SciKnowEval's layout (`question`, whose last line with an arrow is the equation, and
            `answer`; optional `split`) in place of those made by rule; `"hub"` or `"sample"`.
        max_turns: Attempts at a task; 1 by default.
        render_mode: `"ansi"` or `"human"`.
        leak_level: Items that give away more are left out; 3 adds the balanced equation for the teacher.
        lowest_terms: Only coefficients without a common divisor are right.

    ## Version history
    - v0: first release.
    """

    reward_part_names = ("balanced",)
    metric_names = ("readable", "same_species", "balanced", "lowest_terms")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        leak_level: LeakLevel = 1,
        lowest_terms: bool = False,
    ) -> None:
        super().__init__(split, data, max_turns, render_mode, leak_level)
        if not isinstance(lowest_terms, bool):
            raise ValueError(f"lowest_terms={lowest_terms!r}: use True or False.")
        self.lowest_terms = lowest_terms

    @property
    def data_revision(self) -> str:  # type: ignore[override]
        """Which data; the version of the templates where tasks are made by rule."""
        return "1" if self.data is None else _cached(self.data, self.split).revision

    def num_tasks(self, split: str) -> int:
        """2**31 - 1 in train and 1000 in test, or what `data` holds."""
        return _SIZES[split] if self.data is None else len(_cached(self.data, split).tasks)

    def task(self, split: str, index: int) -> Task:
        """Make the task at `index`; the same one on every machine."""
        flags: tuple[str, ...]
        if self.data is None:
            name, reaction, reference = draw(split, index)
            question = write_equation(reaction.left, reaction.right)
            id, flags = f"{split}-{index}-{digest(question, size=4)}", ()
            source = "procedural"
        else:
            rows = _cached(self.data, split)
            id, reaction, question, reference, flags = rows.tasks[index]
            name, source = "", rows.source
        return Task(
            id=id,
            reference=reference,
            messages=self._messages(question),
            source=source,
            flags=flags,
            data={"reaction": reaction, "template": name},
        )

    def task_index(self, split: str, task_id: str) -> int:
        """Read the index out of an id, and make sure that the id belongs to this revision."""
        if self.data is not None:
            return super().task_index(split, task_id)
        index = index_in(task_id, 1, 3)
        if index < self.num_tasks(split) and self.task(split, index).id == task_id:
            return index
        raise KeyError(task_id)

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """Count atoms on both sides of the equation in `action`."""
        cut_off = action.finish_reason == "length"
        outcome = grade(action, task.data["reaction"], lowest_terms=self.lowest_terms, cut_off=cut_off)
        reward = float(outcome.right)
        feedback = list(outcome.items)
        if not outcome.right:
            feedback.append(
                item(
                    "reference",
                    f"Balanced: {task.reference}",
                    severity="info",
                    visibility="teacher",
                    leak_level=3,
                    data={"code": "expected", "expected": task.reference},
                )
            )
        return Verdict(
            reward,
            feedback,
            reward_parts={"balanced": reward},
            metrics={
                "readable": outcome.readable,
                "same_species": outcome.same_species,
                "balanced": outcome.balanced,
                "lowest_terms": outcome.lowest,
            },
            stop_reason="completed" if outcome.readable else "parse_error",
        )

    def wrong_answers(self, task: Task) -> list[str]:
        """The equation as asked, with a coefficient changed, halved, with sides swapped, and with other species."""
        reaction: Reaction = task.data["reaction"]
        left, right = task.reference.split(" = ")
        terms = left.split(" + ")
        return [
            f"<answer>{write_equation(reaction.left, reaction.right)}</answer>",
            f"<answer>1000000{terms[0].lstrip('0123456789')} + {' + '.join(terms[1:]) or 'H2'} = {right}</answer>",
            f"<answer>{right} = {left}</answer>",
            f"<answer>{task.reference} + He</answer>",
            f"<answer>{left} + He = {right} + He</answer>",
            f"<answer>{left} = </answer>",
            f"<answer>1/2{reaction.left[0]} = {right}</answer>",
            f"<answer>{left}</answer>",
        ]

    def _messages(self, question: str) -> tuple[Message, ...]:
        system = _SYSTEM.format(smallest=", as small as possible," if self.lowest_terms else "")
        return {"role": "system", "content": system}, {"role": "user", "content": question}


@functools.lru_cache(maxsize=4096)
def draw(split: str, index: int) -> tuple[str, Reaction, str]:
    """Draw a template's name, a reaction of `split` and its balanced equation; a pure function of both arguments."""
    seed = hashlib.blake2b(f"EquationBalance|{split}|{index}".encode(), digest_size=8).digest()
    rng = Random(int.from_bytes(seed, "big"))
    while True:
        (name,) = rng.choices(_NAMES, _WEIGHTS)
        made = _finish(TEMPLATES[name][0](rng))
        if made is None:
            continue
        left, right, coefficients = made
        if split_of(left, right) != split:
            continue
        count = len(left)
        orders = rng.sample(range(count), count), rng.sample(range(count, len(coefficients)), len(right))
        species = (*left, *right)
        before, after = (tuple(species[number] for number in order) for order in orders)
        numbers = [coefficients[number] for order in orders for number in order]
        return name, reaction_of(before, after), write_equation(before, after, numbers)


def split_of(left: tuple[str, ...], right: tuple[str, ...]) -> str:
    """The only split in whose tasks this reaction may appear, whatever the order of its species."""
    number = int(digest(sorted(left), sorted(right)), 16)
    return "test" if number % 100 < _TEST_SHARE else "train"


def reaction_of(left: tuple[str, ...], right: tuple[str, ...]) -> Reaction:
    """Read the species of a reaction."""
    return Reaction(left, right, tuple(map(parse_formula, left)), tuple(map(parse_formula, right)))


def _finish(draft: Draft) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]] | None:
    """Put spare species where they balance; None where the reaction has no, no single, or only a trivial balancing."""
    left, right = list(draft.left), list(draft.right)
    if draft.spare:
        known = [name for name in draft.spare if name not in left and name not in right]
        before = [parse_formula(name) for name in (*left, *known)]
        basis = nullspace(conservation(before, [parse_formula(name) for name in right]))
        if len(basis) != 1:
            return None
        vector = basis[0] if basis[0][0] > 0 else [-value for value in basis[0]]
        for name, value in zip(known, vector[len(left) :], strict=False):
            if value:
                (left if value > 0 else right).append(name)
    if len({*left, *right}) < len(left) + len(right):
        return None
    coefficients = balance([parse_formula(name) for name in left], [parse_formula(name) for name in right])
    if coefficients is None or max(coefficients) > _LARGEST or max(coefficients) == 1:
        return None
    return tuple(left), tuple(right), coefficients


@functools.lru_cache(maxsize=8)
def _cached(data: str, split: str) -> Dataset:
    return load(data, split)


def load(data: str | os.PathLike[str], split: str) -> Dataset:
    """Load equations of a file in SciKnowEval's layout.

    Rows whose key cannot be read as an equation are left out and named in `Dataset.excluded`; rows whose question
    cannot be read, or whose key does not balance, are there and flagged.

    Raises:
        DataError: A file is damaged or of another layout, or no row is left.
        DataUnavailable: `data="hub"` and no hub.
        FileNotFoundError: `data` is a path, and nothing is there.
    """
    located = locate(SPEC, data, [entry.path for entry in SPEC.files])
    (path,) = located.paths
    tasks: list[tuple[str, Reaction, str, str, tuple[str, ...]]] = []
    excluded: list[tuple[int, str]] = []
    seen: Counter[str] = Counter()
    for row in read_rows(path, SPEC.columns):
        if row.values.get("split", split) != split:
            continue
        try:
            reaction, question, reference, flags = _read(row.values["question"], row.values["answer"])
        except ChemistryError as error:
            excluded.append((row.line, str(error)))
            continue
        id = f"sciknoweval-{digest(question, reference)}"
        seen[id] += 1
        tasks.append((id if seen[id] == 1 else f"{id}-{seen[id]}", reaction, question, reference, flags))
    if not tasks:
        raise DataError(f"{path.name} holds no equation that can be read for split={split!r}.")
    if excluded:
        _log.info("%s: %d rows left out, their keys cannot be read.", path.name, len(excluded))
    return Dataset(tuple(tasks), tuple(excluded), located.revision, located.source)


def _read(question: str, answer: str) -> tuple[Reaction, str, str, tuple[str, ...]]:
    """Reaction, question, balanced equation and flags of a row.

    Raises:
        ChemistryError: The key cannot be read.
    """
    key = parse_equation(answer)
    lines = [line.strip() for line in question.splitlines() if arrows(line)]
    asked = lines[-1] if lines else question.strip()
    flags = []
    try:
        equation = parse_equation(asked)
    except ChemistryError as error:
        flags.append(f"{KNOWN_BAD}: the equation in the question cannot be read: {error}")
        equation = key
    reaction = _reaction(equation)
    if grade(answer, reaction).right is False:
        flags.append(f"{KNOWN_BAD}: the key is not a balancing of the equation in the question")
    if grade(write_equation(reaction.left, reaction.right), reaction).right:
        flags.append(f"{NO_OP_PASSES}: the equation is balanced as it stands")
    numbers = [int(term.coefficient) for term in (*key.left, *key.right)]
    left, right = ([term.text for term in side] for side in (key.left, key.right))
    return reaction, asked, write_equation(left, right, numbers), tuple(flags)


def _reaction(equation: Equation) -> Reaction:
    return Reaction(
        tuple(term.text for term in equation.left),
        tuple(term.text for term in equation.right),
        tuple(term.readings[0] for term in equation.left),
        tuple(term.readings[0] for term in equation.right),
    )

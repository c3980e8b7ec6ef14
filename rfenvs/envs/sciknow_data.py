"""Questions of SciKnowEval at level L3: read, checked against what can be computed, and put in a fixed order."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rfenvs.datasets import DataFile, DatasetSpec, Source, locate
from rfenvs.envs.sciknow_checks import Check, contradiction, find_check
from rfenvs.graders.choice import LETTERS
from rfenvs.rows import DataError, check_row, read_rows
from rfenvs.tasks import KNOWN_BAD, digest

SUBJECTS = ("biology", "chemistry", "material", "physics")

_FOLDER = "datasets/sciknoweval"
SPEC = DatasetSpec(
    id="sciknoweval",
    hub_id="lasgroup/SDPO",
    host="github",
    revision="0e6d5106abe69f578c63bf38a9394e22905c8773",
    files=(
        DataFile(
            f"{_FOLDER}/biology/train.json", 450, 605352,
            "7ffbfe4a85c7386e2ca78abd3de82c84d339ecbf0beb9bff93f3e599ac6298f2",
        ),
        DataFile(
            f"{_FOLDER}/biology/test.json", 50, 66613,
            "0ffe8df8f33154ca6af90c75b278f8602d75376db79e295e16a29fc9a5da325a",
        ),
        DataFile(
            f"{_FOLDER}/chemistry/train.json", 1890, 2227709,
            "dc841dc92a16a6af3944336ecd887e80907bc9244f2bd51cd2e3869959a84029",
        ),
        DataFile(
            f"{_FOLDER}/chemistry/test.json", 210, 244955,
            "772adb9f2bdb1bbc2a542f350b55a1b23091fa98e793f5e24c5dba410ce299bf",
        ),
        DataFile(
            f"{_FOLDER}/material/train.json", 841, 1715905,
            "7da3afdc3194ae575e4e28f331fbc5f402dee7f2446f8294f15f619c509e111f",
        ),
        DataFile(
            f"{_FOLDER}/material/test.json", 94, 185646,
            "2b3d7e3bcebda39ba47856ea5aae5ebcd0b3ba43b1e750cd4b02e40056b079cf",
        ),
        DataFile(
            f"{_FOLDER}/physics/train.json", 720, 1030282,
            "3c16e829ceb9c580a58b6cb46fe841d5c5d05608f89b738b5c4eadf90cd78bc7",
        ),
        DataFile(
            f"{_FOLDER}/physics/test.json", 80, 116111,
            "fde88cd10e4192115d550000a8b5b8b714aa8a2651abba499b1f8b8e6f72c1d3",
        ),
    ),
    licence="MIT (SciKnowEval); the repository of this selection is Apache-2.0",
    columns={"prompt": str, "answer": str},
    sample=Path(__file__).parent / "samples" / "sciknow.jsonl",
    split_rule="the files of SDPO's repository: 90 to 10 for each subject",
)  # fmt: skip
"""SDPO's selection of SciKnowEval's multiple-choice questions at level L3. A file of one's own may also be raw."""

_RAW_COLUMNS = {"question": str, "choices": dict, "answerKey": str}
_TAIL = re.compile(r"\s*Please reason step by step\.\s*\Z")
_OPTION = re.compile(r"^([A-Z]): ?", re.MULTILINE)
_FIRST_OPTION = re.compile(r"^A: ?", re.MULTILINE)
_REST = re.compile(r"select the option from the given choices|\A(?:Remember|Calculate|Find|What is)\b")
_ORDERED = re.compile(
    r"\b(?:all|none|both|either|neither|any) of (?:the|these)\b|\babove\b|"
    r"\b[A-H] (?:and|or|&) [A-H]\b|\boptions? [A-H]\b",
    re.IGNORECASE,
)

ALSO_IN_TEST = frozenset(
    [
        f"material-{end}"
        for end in (
            "a91067daad5b2bb5",
            "48e14d479ebb4bf9",
            "95ac86c2ae7ef8eb",
            "bae09f7688bb3671",
            "a4f26ff67ea3b565",
            "5ba770c4000419a0",
            "10b301bfe47c36c5",
            "2158ebc8a23a9b94",
            "ba3da2ec6ff8204a",
            "074c7fc676ae6016",
        )
    ]
    + [
        f"physics-{end}"
        for end in (
            "718c16b1576ca0ad",
            "dcb8c6b4614f45cd",
            "f919cbac2b230026",
            "00ea9a37f0a44020",
            "0dbab3381963b8e4",
            "705be8ea53131cc8",
            "4add1f4ae9054f62",
            "81e08313a4688fbb",
        )
    ]
)
"""Questions of the train files that the test files ask too, with the same right answer; other options may differ."""


@dataclass(frozen=True, slots=True)
class Question:
    """A multiple-choice question, in the order of the data."""

    id: str
    """`<subject>-<hash of question, options and answer>`."""
    subject: str
    stem: str
    """The question without its options."""
    options: tuple[str, ...]
    right: tuple[int, ...]
    """The right option, and those with the same text."""
    flags: tuple[str, ...]
    ordered: bool
    """Whether the options refer to their order, or go on with the question: they are not shuffled then."""
    check: Check | None


@dataclass(frozen=True, slots=True)
class Dataset:
    """The questions of a split, and where they come from."""

    questions: tuple[Question, ...]
    revision: str
    source: Source


@functools.lru_cache(maxsize=16)
def cached(data: str | None, subject: str, split: str) -> Dataset:
    """`load`, once a process."""
    return load(data, subject, split)


def load(data: str | os.PathLike[str] | None, subject: str, split: str) -> Dataset:
    """Load the questions of a subject and split.

    Args:
        data: A file in SDPO's or in SciKnowEval's own layout, a folder with the data set's files, `"hub"`, `"sample"`,
            or None for the best there is (`rfenvs.datasets`).
        subject: One of `SUBJECTS`, or `"all"`.
        split: `"train"` or `"test"`.

    Raises:
        DataError: A file is damaged or of another layout, or holds no question of this subject and split.
        DataUnavailable: `data="hub"` and no hub.
        FileNotFoundError: `data` is a path, and nothing is there.
    """
    subjects = SUBJECTS if subject == "all" else (subject,)
    names = [f"{_FOLDER}/{name}/{split}.json" for name in subjects]
    located = locate(SPEC, data, names)
    own = located.source == "sample" or (data is not None and Path(data).is_file())
    seen: Counter[str] = Counter()
    questions: list[Question] = []
    for path, name in zip(located.paths, [subject] if own else subjects, strict=True):
        for question in _read_file(path, name, split):
            seen[question.id] += 1
            if (count := seen[question.id]) > 1:
                question = _renamed(question, f"{question.id}-{count}")
            questions.append(question)
    if not questions:
        raise DataError(f"{located.paths[0].name} holds no question of subject={subject!r} and split={split!r}.")
    return Dataset(tuple(questions), located.revision, located.source)


def _renamed(question: Question, id: str) -> Question:
    values = {name: getattr(question, name) for name in Question.__slots__}
    return Question(**{**values, "id": id})


def _read_file(path: Path, subject: str, split: str) -> list[Question]:
    """The questions of one file; a row may say `subject` and `split` itself, else it is in every split."""
    questions = []
    for row in read_rows(path, {}):
        values = row.values
        raw = "question" in values
        check_row(path.name, row.line, values, _RAW_COLUMNS if raw else SPEC.columns)
        own = str(values.get("subject") or values.get("domain") or "").lower()
        if values.get("split", split) != split or (own and subject != "all" and own != subject):
            continue
        try:
            questions.append(_raw(values, own or subject) if raw else parse(values, own or subject, split))
        except ValueError as error:
            raise DataError(f"{path.name}, line {row.line}: {error}.") from error
    return questions


def parse(row: Mapping[str, Any], subject: str, split: str = "") -> Question:
    """Read a row of SDPO's layout: the options stand in the prompt, a line each.

    Raises:
        ValueError: There are no options from A on, or the answer is none of them.
    """
    prompt = _TAIL.sub("", row["prompt"])
    starts = list(_FIRST_OPTION.finditer(prompt))
    if not starts:
        raise ValueError('the prompt has no line "A: ..."')
    first = starts[-1]
    found = list(_OPTION.finditer(prompt, first.start()))
    ends = [match.start() for match in found[1:]] + [len(prompt)]
    if [match.group(1) for match in found] != list(LETTERS[: len(found)]):
        raise ValueError(f"the options are named {', '.join(match.group(1) for match in found)}")
    options = [prompt[match.end() : end].strip() for match, end in zip(found, ends, strict=True)]
    return _question(prompt[: first.start()].strip(), options, row["answer"], subject, split)


def _raw(row: Mapping[str, Any], subject: str) -> Question:
    """Read a row of SciKnowEval's own layout."""
    texts, labels = row["choices"].get("text"), row["choices"].get("label")
    if not isinstance(texts, list) or labels != list(LETTERS[: len(texts)]):
        raise ValueError('"choices" must hold "text" and "label", labelled from A on')
    return _question(row["question"].strip(), [str(text).strip() for text in texts], row["answerKey"], subject, "")


def _question(stem: str, options: list[str], answer: str, subject: str, split: str) -> Question:
    letter = answer.strip().upper()
    if len(options) < 2 or letter not in tuple(LETTERS[: len(options)]):
        raise ValueError(f"the answer {answer!r} is none of the {len(options)} options")
    gold = LETTERS.index(letter)
    right = tuple(index for index, text in enumerate(options) if text == options[gold])
    id = f"{subject}-{digest(stem, options, letter)}"
    check = find_check(stem, options)
    continued = len(options) > 2 and bool(_REST.search(options[0])) and not _REST.search(options[1])
    reasons = []
    if len(right) > 1:
        reasons.append("options repeat the text that the key means")
    if continued and gold == 0:
        reasons.append("option A holds the rest of the question, and the right option is lost")
    if check is not None and (problem := contradiction(check, options, gold)):
        reasons.append(problem)
    if split == "train" and id in ALSO_IN_TEST:
        reasons.append("the same question is in the test split")
    return Question(
        id=id,
        subject=subject,
        stem=stem,
        options=tuple(options),
        right=right,
        flags=tuple(f"{KNOWN_BAD}: {reason}" for reason in reasons),
        ordered=continued or any(_ORDERED.search(text) for text in options),
        check=check,
    )


def order(question: Question, seed: int | None) -> tuple[int, ...]:
    """The order in which the options are shown: a pure function of question and seed."""
    numbers = list(range(len(question.options)))
    if seed is not None and not question.ordered:
        Random(digest("options", seed, question.id)).shuffle(numbers)
    return tuple(numbers)

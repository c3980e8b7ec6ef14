"""The data sets of `rfenvs/Math-v0`: where they lie, how a row becomes a problem, and which splits there are."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rfenvs.dataset_spec import DataFile, DatasetSpec, sha256
from rfenvs.datasets import Source, locate
from rfenvs.graders.math_compare import UnreadableGold, check_gold
from rfenvs.graders.math_extract import extract
from rfenvs.rows import Columns, DataError, read_rows
from rfenvs.tasks import digest

_SAMPLE = Path(__file__).parent / "samples" / "math.jsonl"
_VALUE = (str, int, float)
_DAPO_HEAD = re.compile(r"\A.{0,400}?is the answer to the problem\.\s*", re.DOTALL)
_DAPO_TAIL = re.compile(r"\s*Remember to put your answer on its own line after \"Answer:\"\.?\s*\Z")
_PLAIN = re.compile(r"[-+]?[0-9][0-9,]{0,30}(?:\.[0-9]{1,30})?")
_WHOLE_FLOAT = re.compile(r"([-+]?[0-9]+)\.0+")
_ZEROS = re.compile(r"\A([-+]?)0+(?=[0-9])")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns that hold a problem and its answer."""

    columns: Columns
    problem: Callable[[dict[str, Any]], str]
    answer: Callable[[dict[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem and its gold answer, as it stands in a box."""

    id: str
    text: str
    gold: str
    wrong: tuple[str, ...] = ()
    """Answers that look like the gold and are not; only the packaged sample has them."""
    split: str | None = None
    """The only split it belongs to, where its row says so."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Problems of one split, and where they come from."""

    problems: tuple[Problem, ...]
    excluded: tuple[tuple[str, str], ...]
    """Ids of problems whose gold answer cannot be graded, with the reason."""
    revision: str
    source: Source


def _text(column: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: str(row[column])


def _dapo_problem(row: dict[str, Any]) -> str:
    content = str(row["prompt"][-1]["content"])
    return _DAPO_TAIL.sub("", _DAPO_HEAD.sub("", content, count=1)).strip()


def _dapo_answer(row: dict[str, Any]) -> str:
    return str(row["reward_model"]["ground_truth"])


LAYOUTS = (
    Layout({"problem": str, "answer": _VALUE}, _text("problem"), _text("answer")),
    Layout({"question": str, "answer": _VALUE}, _text("question"), _text("answer")),
    Layout({"problem": str, "solution": str}, _text("problem"), _text("solution")),
    Layout({"prompt": list, "reward_model": dict}, _dapo_problem, _dapo_answer),
)
"""Layouts that are tried in this order on every file, whatever data set it is of."""


_ANY_COLUMNS: Columns = MappingProxyType({})
"""The layout of a file is recognised, not fixed: the sample has MATH-500's whatever it stands in for."""


def _spec(id: str, hub_id: str, revision: str, files: tuple[DataFile, ...], licence: str) -> DatasetSpec:
    return DatasetSpec(id, hub_id, revision, files, licence, _ANY_COLUMNS, _SAMPLE)


_MAA = "problem texts of the Mathematical Association of America: for evaluation, not for redistribution"

MATH500 = _spec(
    "math500",
    "HuggingFaceH4/MATH-500",
    "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
    (DataFile("test.jsonl", 500, sha256="35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132"),),
    "MIT",
)
AIME24 = _spec(
    "aime24",
    "math-ai/aime24",
    "83a7f387baaa524a8bda0022eac0541582297103",
    (DataFile("test-00000-of-00001.parquet", 30),),
    _MAA,
)
AIME25 = _spec(
    "aime25",
    "math-ai/aime25",
    "563bb8404243c5f09de6ec262f2db674fe5bce9b",
    (DataFile("test.jsonl", 30, sha256="b4e273c02d3e7fe1b74b59eae768fc8230bfb0f79539890cb56f4361caac0331"),),
    _MAA,
)
AMC23 = _spec(
    "amc23",
    "math-ai/amc23",
    "80815d37005feb82cd7f8fbc6901d5d3eff43057",
    (
        DataFile(
            "test-00000-of-00001.parquet",
            40,
            sha256="b696e87ba47be4e879a60fd4ef1d4aa522ba78c5ae013c6aff5cc9788a397c5e",
        ),
    ),
    _MAA,
)
GSM8K = DatasetSpec(
    id="gsm8k",
    hub_id="openai/grade-school-math",
    revision="3101c7d5072418e28b9008a6636bde82a006892c",
    files=(
        DataFile(
            "grade_school_math/data/train.jsonl",
            7473,
            4166206,
            "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
        ),
        DataFile(
            "grade_school_math/data/test.jsonl",
            1319,
            749738,
            "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
        ),
    ),
    licence="MIT",
    columns=_ANY_COLUMNS,
    sample=_SAMPLE,
    host="github",
)
DAPO17K = _spec(
    "dapo17k",
    "BytedTsinghua-SIA/DAPO-Math-17k",
    "65877096c24ffa7abc4e4fa5edb95cf3413a5674",
    (
        DataFile(
            "data/dapo-math-17k.parquet",
            size=299363855,
            sha256="534375d6bb8630d22ab46a56e11f2ffec1d288d8f7d04099bc82d68948705941",
        ),
    ),
    "Apache-2.0",
)
LOCAL = _spec("local", "", "", (DataFile("problems.jsonl"),), "yours")


@dataclass(frozen=True, slots=True)
class Entry:
    """A data set with the files of its splits."""

    spec: DatasetSpec
    files: MappingProxyType[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    integers: bool = False
    """Whether every answer is an integer, so that "027" and "27.0" mean 27."""


def _files(**files: str) -> MappingProxyType[str, tuple[str, ...]]:
    return MappingProxyType({split: (name,) for split, name in files.items()})


SOURCES = MappingProxyType(
    {
        "gsm8k": Entry(GSM8K, _files(train=GSM8K.files[0].path, test=GSM8K.files[1].path)),
        "math500": Entry(MATH500, _files(test="test.jsonl")),
        "aime24": Entry(AIME24, _files(test=AIME24.files[0].path), integers=True),
        "aime25": Entry(AIME25, _files(test="test.jsonl"), integers=True),
        "amc23": Entry(AMC23, _files(test=AMC23.files[0].path), integers=True),
        "dapo17k": Entry(DAPO17K, _files(train=DAPO17K.files[0].path)),
        "local": Entry(LOCAL, _files(train="problems.jsonl", test="problems.jsonl")),
    }
)
"""Every data set by the name that the environment takes."""


def check_split(dataset: str, split: str, data: str | None) -> None:
    """Refuse a split that the data set does not have; the packaged sample has both.

    Raises:
        ValueError: With what to do instead.
    """
    has = SOURCES[dataset].files
    if data == "sample" or split in has:
        return
    if split == "train":
        raise ValueError(
            f"split='train': {dataset} is evaluation data and has no training split. Use split='test', or train on "
            "dataset='gsm8k', 'dapo17k' or 'local'."
        )
    raise ValueError(f"split={split!r}: {dataset} has only {', '.join(has)}; evaluate on another data set.")


def load(dataset: str, split: str, data: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the problems of a split; those whose gold answer cannot be graded are left out and named.

    Args:
        dataset: One of `SOURCES`.
        split: `"train"` or `"test"`.
        data: A file or folder, `"hub"`, `"sample"`, or None for the best there is (`rfenvs.datasets`).

    Raises:
        DataError: A file is damaged or of no known layout, or no problem is left.
        DataUnavailable: `data="hub"` and no hub.
        FileNotFoundError: `data` is a path, and nothing is there.
        ValueError: A training split was asked for, and the file is the test file.
    """
    entry = SOURCES[dataset]
    names = entry.files.get(split, next(iter(entry.files.values())))
    located = locate(entry.spec, data, names)
    _refuse_test_file(entry, split, located.paths[0])
    path = located.paths[0]
    stat = path.stat()
    real = located.source != "sample"
    problems, excluded = _read(
        path,
        stat.st_size,
        stat.st_mtime_ns,
        dataset if real else "sample",
        entry.integers and real,
        real and not located.verified,
    )
    chosen = tuple(problem for problem in problems if problem.split in (None, split))
    if not chosen:
        raise DataError(f"{path.name} holds no problem of the split {split!r}.")
    expected = entry.spec.file(names[0]).rows
    if located.source == "hub" and expected is not None and len(problems) + len(excluded) != expected:
        raise DataError(f"{path.name}: expected {expected} problems, found {len(problems) + len(excluded)}.")
    return Dataset(chosen, excluded, located.revision, located.source)


def _refuse_test_file(entry: Entry, split: str, path: Path) -> None:
    """A path can name any file: the one that is known to hold the test split is not trained on."""
    if split != "train" or "test" not in entry.files or entry.files["test"] == entry.files.get("train"):
        return
    if sha256(path) == entry.spec.file(entry.files["test"][0]).sha256:
        raise ValueError(f"split='train': {path.name} is the test file of {entry.spec.id}; use split='test'.")


@functools.lru_cache(maxsize=16)
def _read(
    path: Path, size: int, mtime_ns: int, dataset: str, integers: bool, check: bool
) -> tuple[tuple[Problem, ...], tuple[tuple[str, str], ...]]:
    """The problems of a file, and what was left out; a file of another size or time is another file.

    `check` is False for pinned files and the packaged sample, whose gold answers are known to be sound: checking 500
    of all kinds takes seconds, since many need computer algebra.
    """
    layout = _layout(path)
    problems: list[Problem] = []
    excluded: list[tuple[str, str]] = []
    seen: dict[str, int] = {}
    for row in read_rows(path, layout.columns):
        text = layout.problem(row.values).strip()
        gold = clean_gold(layout.answer(row.values), integers=integers or isinstance(row.values.get("answer"), float))
        id = f"{dataset}-{digest(text, gold)}"
        seen[id] = seen.get(id, 0) + 1
        if seen[id] > 1:
            if dataset == "dapo17k":
                continue  # the published file repeats each problem about a hundred times
            id = f"{id}-{seen[id]}"
        try:
            if check and not _PLAIN.fullmatch(gold):
                check_gold(gold)
        except UnreadableGold as error:
            excluded.append((id, str(error)))
            continue
        problems.append(Problem(id, text, gold, tuple(row.values.get("wrong", ())), row.values.get("split")))
    if excluded:
        what = "; ".join(f"{id}: {reason}" for id, reason in excluded[:3])
        _log.warning("%s: %d problems left out, their answers cannot be graded: %s", path.name, len(excluded), what)
    if not problems:
        raise DataError(f"{path.name}: no problem has an answer that can be graded: {excluded[0][1]}")
    return tuple(problems), tuple(excluded)


def _layout(path: Path) -> Layout:
    for layout in LAYOUTS:
        try:
            next(iter(read_rows(path, layout.columns)))
        except DataError as error:
            if 'column "' not in str(error):
                raise
            continue
        return layout
    wanted = "; ".join(" and ".join(layout.columns) for layout in LAYOUTS)
    raise DataError(f"{path.name}: no known layout; a row needs the columns {wanted}.")


def clean_gold(answer: str, *, integers: bool = False) -> str:
    r"""The gold answer itself: from after "####", or out of its box; "027" and "27.0" are 27 where `integers`.

    >>> clean_gold("2 + 3 = <<2+3=5>>5\n#### 1,200"), clean_gold("\\boxed{204}"), clean_gold("027.0", integers=True)
    ('1200', '204', '27')
    """
    gold = answer.strip()
    if "####" in gold:
        gold = gold.rpartition("####")[2].strip().replace(",", "")
    elif (found := extract(gold)).found:
        gold = found.answer
    if integers:
        whole = _WHOLE_FLOAT.fullmatch(gold)
        gold = _ZEROS.sub(r"\1", whole.group(1) if whole else gold, count=1)
    return gold

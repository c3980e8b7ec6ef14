"""Judge the judge: how well its scores agree with labels, and with those of another judge.

    python -m rfenvs.envs.judge_calibration labelled.jsonl --base-url http://localhost:8000/v1 --model NAME

A labelled row is a row of `rfenvs/Judge-v0` (`envs.judge_data`) with a `response` and its `label` (or BiGGen-Bench's
`score`): a rank on the menu of a rubric of one criterion, or a share in [0, 1]. What cannot be measured is None: with
labels that are all alike there is no AUROC and no kappa.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rfenvs.envs.judge_data import JudgeTask, read
from rfenvs.graders.judge_http import HTTPJudge
from rfenvs.graders.judges import JudgeClient
from rfenvs.graders.judging import DEFAULT, Settings, judge
from rfenvs.graders.rubric import JudgeError
from rfenvs.rows import DataError
from rfenvs.servers import NO_USAGE, Usage


@dataclass(frozen=True, slots=True)
class Labelled:
    """A response with what people say that it is worth."""

    task: JudgeTask
    response: str
    label: float
    """In [0, 1]."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a judge compares with labels, or with another judge."""

    n: int
    """Responses that were judged."""
    failed: int
    """Responses without a judgement; they enter no other number."""
    agreement: float | None
    """Share of responses on the same side of the threshold."""
    kappa: float | None
    """Cohen's kappa of the same: agreement beyond chance; None where both sides are one class only."""
    auroc: float | None
    """Chance that a good response has a higher score than a bad one (ties count half); None without both."""
    mean_error: float | None
    """Mean of score minus label: above 0 the judge is generous."""
    mean_absolute_error: float | None
    usage: Usage = NO_USAGE


def read_labelled(path: Path) -> list[Labelled]:
    """Read labelled rows.

    Raises:
        DataError: A row is no task, or has no response or no label in its range.
    """
    labelled = []
    for row in read(path):
        values = row.values
        response, label = values.get("response"), values.get("label", values.get("score"))
        if not isinstance(response, str) or isinstance(label, bool) or not isinstance(label, (int, float)):
            raise DataError(f'{path.name}, row {row.line}: a labelled row has a "response" and a "label" or "score".')
        criteria = row.task.rubric.criteria
        rank = criteria[0].rank(str(label)) if len(criteria) == 1 else None
        share = float(label) if rank is None else criteria[0].share(rank)
        if not 0 <= share <= 1:
            raise DataError(f"{path.name}, row {row.line}: the label {label} is no choice of the rubric, and no share.")
        labelled.append(Labelled(row.task, response, share))
    return labelled


def scores(
    client: JudgeClient, labelled: Sequence[Labelled], settings: Settings = DEFAULT, *, use_reference: bool = True
) -> tuple[list[float | None], Usage]:
    """Score every response; None where no judgement could be had."""
    found: list[float | None] = []
    usage = Usage()
    for entry in labelled:
        task = entry.task
        try:
            judged = judge(
                client,
                task.rubric,
                prompt=task.prompt,
                answer=entry.response,
                reference=task.reference if use_reference else "",
                settings=settings,
            )
        except JudgeError as error:  # counted, not scored
            usage += error.usage
            found.append(None)
        else:
            usage += judged.usage
            found.append(judged.score)
    return found, usage


def calibrate(
    found: Sequence[float | None], labels: Sequence[float], *, threshold: float = 1.0, usage: Usage = NO_USAGE
) -> Calibration:
    """Compare scores with labels; with the scores of another judge in the place of labels this measures drift.

    Args:
        found: Scores in [0, 1], None where there is none.
        labels: What they should be, in the same order.
        threshold: At and above it a response is good.
        usage: What the scores have cost.

    >>> calibrate([1.0, 0.2, None, 0.9], [1.0, 0.0, 1.0, 0.0], threshold=0.5).auroc
    1.0
    """
    pairs = [(score, label) for score, label in zip(found, labels, strict=True) if score is not None]
    n = len(pairs)
    failed = len(found) - n
    if not n:
        return Calibration(0, failed, None, None, None, None, None, usage)
    said = [score >= threshold for score, _ in pairs]
    true = [label >= threshold for _, label in pairs]
    agreement = sum(a == b for a, b in zip(said, true, strict=True)) / n
    p, q = sum(said) / n, sum(true) / n
    chance = p * q + (1 - p) * (1 - q)
    return Calibration(
        n=n,
        failed=failed,
        agreement=agreement,
        kappa=None if chance >= 1 else (agreement - chance) / (1 - chance),
        auroc=auroc([score for score, _ in pairs], true),
        mean_error=math.fsum(score - label for score, label in pairs) / n,
        mean_absolute_error=math.fsum(abs(score - label) for score, label in pairs) / n,
        usage=usage,
    )


def auroc(values: Sequence[float], good: Sequence[bool]) -> float | None:
    """Area under the ROC curve, by ranks; None where all are good or none is.

    >>> auroc([0.9, 0.5, 0.5], [True, True, False])
    0.75
    """
    positive = sum(good)
    negative = len(good) - positive
    if not positive or not negative:
        return None
    order = sorted(range(len(values)), key=values.__getitem__)
    total = 0.0
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        mean_rank = (start + 1 + end) / 2
        total += mean_rank * sum(good[i] for i in order[start:end])
        start = end
    return (total - positive * (positive + 1) / 2) / (positive * negative)


def main(arguments: Sequence[str] | None = None) -> int:
    """Score a labelled file with a judge over HTTP, and print the comparison as JSON."""
    parser = argparse.ArgumentParser(prog="python -m rfenvs.envs.judge_calibration", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, help="labelled rows, .jsonl or .json")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--key-env", default="", help="environment variable that holds the key; default: no key")
    parser.add_argument("--threshold", type=float, default=1.0, help="score from which a response is good")
    parser.add_argument("--samples", type=int, default=1, help="opinions a response")
    parser.add_argument("--no-reference", action="store_true", help="do not show the judge the reference answer")
    options = parser.parse_args(arguments)
    client = HTTPJudge(options.base_url, options.model, key_env=options.key_env or None)
    labelled = read_labelled(options.file)
    settings = Settings(samples=options.samples)
    found, usage = scores(client, labelled, settings, use_reference=not options.no_reference)
    labels = [entry.label for entry in labelled]
    print(json.dumps(asdict(calibrate(found, labels, threshold=options.threshold, usage=usage)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

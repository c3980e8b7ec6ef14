"""How well judges agree: a confusion matrix, Cohen's kappa, and precision and recall of "intervene".

To intervene is to call a turn weak or strong. The reference is usually the oracle, which knows the exact plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.batch import Batch, Sample, samples_of
from agents.chat import Chat
from agents.credit.intervention import Intervention
from agents.credit.judges import JudgeSettings
from agents.credit.labels import FAILED_CLOSED, LABELS, Label, known
from agents.teachers.contexts import Context, add_contexts
from agents.teachers.teacher import Teacher, read_teacher
from agents.trajectory import Group


@dataclass(frozen=True)
class Agreement:
    """A judge against a reference on the same turns; NaN where a share has no turns."""

    n: int
    confusion: dict[Label, dict[Label, int]]
    """Turns by the reference's label, then by the judge's."""
    exact: float
    """Share of turns with equal labels."""
    kappa: float
    """Cohen's kappa of the three labels: 1 equal, 0 what chance would give."""
    precision: float
    """Of the turns in which the judge intervenes, the share in which the reference does."""
    recall: float
    """Of the turns in which the reference intervenes, the share in which the judge does."""


def agreement(judge: Sequence[Label], reference: Sequence[Label]) -> Agreement:
    """Two labels a turn, in the same order.

    >>> agreement(["skip", "weak"], ["skip", "strong"]).exact
    0.5
    """
    if len(judge) != len(reference):
        raise ValueError(f"{len(judge)} labels of the judge and {len(reference)} of the reference")
    n = len(judge)
    pairs = list(zip(reference, judge, strict=True))
    confusion = {r: {j: pairs.count((r, j)) for j in LABELS} for r in LABELS}
    exact = _share(sum(confusion[x][x] for x in LABELS), n)
    chance = sum(list(reference).count(x) * list(judge).count(x) for x in LABELS) / n**2 if n else math.nan
    both = sum(r != "skip" and j != "skip" for r, j in pairs)
    return Agreement(
        n,
        confusion,
        exact,
        1.0 if chance == 1 else (exact - chance) / (1 - chance),
        _share(both, sum(j != "skip" for _, j in pairs)),
        _share(both, sum(r != "skip" for r, _ in pairs)),
    )


@dataclass(frozen=True)
class Judged:
    """What one judge said of all turns, and how that compares with the oracle."""

    labels: list[Label]
    failed: float
    """Share of turns on which it gave nothing that could be read."""
    against: Agreement


def compare(
    judges: Mapping[str, JudgeSettings],
    groups: Sequence[Group],
    teacher: Teacher,
    chat: Chat,
    context: Context,
    reference: JudgeSettings | None = None,
) -> dict[str, Judged]:
    """Every judge on every policy turn of ``groups`` that ``context`` lets the teacher score, against the oracle.

    Raises:
        SetupError: The oracle is the reference and the environment tells no plan distance.
    """
    samples = samples_of(groups)
    add_contexts(context, samples, groups, chat, teacher.context_length, "compare")
    samples = [s for s in samples if s.teacher_ids is not None]
    truth, _ = _labels(reference or JudgeSettings(kind="oracle"), samples, groups, teacher, chat)
    result = {}
    for name, settings in judges.items():
        labels, failed = _labels(settings, samples, groups, teacher, chat)
        result[name] = Judged(labels, failed, agreement(labels, truth))
    return result


def table(judged: Mapping[str, Judged]) -> str:
    """The comparison in Markdown."""
    head = "| judge | turns | skip / weak / strong | unreadable | equal | kappa | precision | recall |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for name, one in judged.items():
        a = one.against
        said = " / ".join(str(one.labels.count(label)) for label in LABELS)
        numbers = (one.failed, a.exact, a.kappa, a.precision, a.recall)
        lines.append(f"| {name} | {a.n} | {said} | {' | '.join('-' if x != x else f'{x:.2f}' for x in numbers)} |")
    return "\n".join(lines)


def _labels(
    settings: JudgeSettings, samples: Sequence[Sample], groups: Sequence[Group], teacher: Teacher, chat: Chat
) -> tuple[list[Label], float]:
    intervention = Intervention(judge=settings, confidence="off")
    for sample in samples:
        sample.label, sample.label_reason = None, ""
    intervention.annotate(samples, groups, teacher, chat)
    if settings.kind == "agreement" and samples:
        batch = Batch(list(samples))
        batch.teacher = teacher.logits([(s.teacher_ids or [], s.action_ids) for s in samples], 1.0)
        batch.reading = read_teacher(batch)
        intervention.weights(batch)
    failed = sum(s.label_reason.startswith(FAILED_CLOSED) for s in samples)
    return [known(s.label) for s in samples], _share(failed, len(samples))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan

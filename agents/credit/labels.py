"""The words of a judge about one turn of the student."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Label = Literal["skip", "weak", "strong"]
"""``"skip"``: fine, leave it alone; ``"weak"``: questionable; ``"strong"``: wrong, or nobody knows."""

LABELS: tuple[Label, ...] = get_args(Label)
"""From the least to the most intervention."""

FAILED_CLOSED = "failed closed: "
"""Begins the reason of a label that is strong because the judge gave none that could be read."""


@dataclass(frozen=True)
class Verdict:
    """One label and the judge's reason, one line."""

    label: Label
    reason: str = ""


def failed_closed(why: str) -> Verdict:
    """The verdict where there is none: a turn that nobody could judge is taught in full (SAGE-OPD)."""
    return Verdict("strong", FAILED_CLOSED + why)


def known(label: str | None) -> Label:
    """``label`` if it is one, else strong: what was not judged is taught in full."""
    return label if label in LABELS else "strong"


def at_least(label: Label, floor: Label) -> Label:
    """The stronger of the two.

    >>> at_least("skip", "weak"), at_least("strong", "weak")
    ('weak', 'strong')
    """
    return max(label, floor, key=LABELS.index)


def counts(labels: Iterable[Label]) -> dict[Label, int]:
    """How often each label was given, those never given included.

    >>> counts(["weak", "skip", "weak"])
    {'skip': 1, 'weak': 2, 'strong': 0}
    """
    given = list(labels)
    return {label: given.count(label) for label in LABELS}

"""Alarms: cheap signs that self-distillation is collapsing, while an earlier checkpoint still exists.

Each compares a step's metrics with the run's first steps. Collapse takes tens of steps and does not recover
(StableOPD, arXiv 2604.08527), so an alarm is printed and logged the moment its limit is crossed.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Alarm(NamedTuple):
    """A limit that was crossed."""

    name: str
    message: str
    value: float
    limit: float


Metrics = dict[str, float]
BASELINE_STEPS = 3


def alarms(history: Sequence[Metrics]) -> list[Alarm]:
    """The alarms of the last step of ``history`` (training metrics, oldest first)."""
    if len(history) <= BASELINE_STEPS:
        return []
    first, now = history[:BASELINE_STEPS], history[-1]

    def usual(name: str) -> float:
        return median(float(step.get(name) or 0.0) for step in first)

    found: list[Alarm] = []

    def above(name: str, limit: float, message: str) -> None:
        value = float(now.get(name) or 0.0)
        if value > limit:
            found.append(Alarm(name, message.format(value=value, limit=limit), value, limit))

    above(
        "length",
        max(2.0 * usual("length"), usual("length") + 8),
        "answers grew to {value:.0f} tokens, limit {limit:.0f}",
    )
    shrunk = 0.4 * usual("length")
    if float(now.get("length") or 0.0) < shrunk:
        value = float(now.get("length") or 0.0)
        found.append(Alarm("length_drop", f"answers shrank to {value:.1f} tokens, limit {shrunk:.1f}", value, shrunk))
    above("repetition", max(0.3, 2 * usual("repetition")), "{value:.0%} of 4-grams repeat, limit {limit:.0%}")
    above(
        "truncated",
        max(0.5, min(1.0, 2 * usual("truncated"))),
        "{value:.0%} of answers hit max_tokens, limit {limit:.0%}",
    )
    above("entropy", max(2.0 * usual("entropy"), 1.0), "entropy rose to {value:.2f} nats, limit {limit:.2f}")
    above(
        "zero_variance",
        0.9,
        "{value:.0%} of groups have equal rewards: nothing to compare, limit {limit:.0%}",
    )
    return found


def repetition(ids: Sequence[int], n: int = 4) -> float:
    """Share of an action's n-grams that occurred before in it, in [0, 1]."""
    grams = [tuple(ids[k : k + n]) for k in range(len(ids) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0

"""Alarms: cheap signs that self-distillation is collapsing, while an earlier checkpoint still exists.

Most compare a step's metrics with the run's first steps. Collapse takes tens of steps and does not recover
(StableOPD, arXiv 2604.08527), so an alarm is printed and logged the moment its limit is crossed. With
`AlarmSettings` it can also end the run, and take its weights back to those from before.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

NAMES = (
    "length", "length_drop", "repetition", "repetitive", "truncated", "entropy", "zero_variance", "sampler_gap",
)  # fmt: skip
"""Every alarm there is."""


class Alarm(NamedTuple):
    """A limit that was crossed."""

    name: str
    message: str
    value: float
    limit: float


class AlarmSettings(BaseModel):
    """What an alarm that persists does to the run."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["warn", "stop", "rollback"] = Field(
        "warn",
        description="warn: say so and go on; stop: end the run there; rollback: end it with the weights of the newest "
        "checkpoint from before the alarm",
    )
    names: list[str] = Field(
        [name for name in NAMES if name != "zero_variance"],
        description="alarms that stop or roll back; the others only warn",
    )
    patience: int = Field(3, ge=1, description="consecutive steps with the same alarm before it does")

    @field_validator("names")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        if unknown := [name for name in names if name not in NAMES]:
            raise ValueError(f"there is no alarm called {', '.join(unknown)}; there are {', '.join(NAMES)}")
        return names


class Stop(NamedTuple):
    """An alarm that ends the run."""

    alarm: Alarm
    first: int
    """The first step, as an index of the history, of the consecutive ones that had it."""


Metrics = Mapping[str, Any]
BASELINE_STEPS = 3
SAMPLER_GAP = 0.1
"""Mean nats a token between learner and sampler; a bfloat16 copy gave 0.04 on a CPU, a float32 one 1.5e-5."""


def alarms(history: Sequence[Metrics]) -> list[Alarm]:
    """The alarms of the last step of ``history`` (training metrics, oldest first).

    A metric is compared with the first steps at which there was something to measure: the policy may act late (DAgger),
    and groups of one attempt have no variance. Lengths are those of a turn: episodes of other lengths are no alarm.
    """
    found: list[Alarm] = []

    def compare(metric: str, name: str, limit: Callable[[float], float], message: str, grows: bool = True) -> None:
        known = [float(v) for step in history if (v := step.get(metric)) is not None]
        if len(known) <= BASELINE_STEPS or history[-1].get(metric) is None:
            return
        value, bound = known[-1], limit(median(known[:BASELINE_STEPS]))
        if value > bound if grows else value < bound:
            found.append(Alarm(name, message.format(value=value, limit=bound), value, bound))

    compare(
        "turn_length", "length",
        lambda usual: max(2 * usual, usual + 8), "answers grew to {value:.0f} tokens, limit {limit:.0f}",
    )  # fmt: skip
    compare(
        "turn_length", "length_drop",
        lambda usual: 0.4 * usual, "answers shrank to {value:.1f} tokens, limit {limit:.1f}", grows=False,
    )  # fmt: skip
    compare(
        "repetition", "repetition",
        lambda usual: max(0.3, 2 * usual), "{value:.0%} of 4-grams repeat, limit {limit:.0%}",
    )  # fmt: skip
    compare(
        "repetitive", "repetitive",
        lambda usual: max(0.1, 2 * usual), "{value:.0%} of answers are one text again and again, limit {limit:.0%}",
    )  # fmt: skip
    compare(
        "truncated", "truncated",
        lambda usual: max(0.5, min(1.0, 2 * usual)), "{value:.0%} of answers hit max_tokens, limit {limit:.0%}",
    )  # fmt: skip
    compare(
        "entropy", "entropy",
        lambda usual: max(2 * usual, 1.0), "entropy rose to {value:.2f} nats, limit {limit:.2f}",
    )  # fmt: skip
    compare(
        "zero_variance", "zero_variance",
        lambda usual: 0.9, "{value:.0%} of groups have equal rewards: nothing to compare, limit {limit:.0%}",
    )  # fmt: skip
    gap = history[-1].get("sampler_gap_mean") if history else None
    if gap is not None and gap > SAMPLER_GAP and not history[-1].get("off_policy"):
        said = f"learner and sampler are {gap:.2f} nats a token apart, limit {SAMPLER_GAP:g}: other weights, or dtype?"
        found.append(Alarm("sampler_gap", said, gap, SAMPLER_GAP))
    return found


def stop(history: Sequence[Metrics], settings: AlarmSettings) -> Stop | None:
    """The alarm that ends the run after the last step of ``history``; None while there is none.

    A function of the metrics alone, so that a run that was killed and resumed ends at the same step.
    """
    patience = settings.patience
    if settings.action == "warn" or len(history) < patience:
        return None
    last = [alarms(history[: len(history) - k]) for k in range(patience)]
    standing = set(settings.names).intersection(*({alarm.name for alarm in found} for found in last))
    chosen = next((alarm for alarm in last[0] if alarm.name in standing), None)
    return None if chosen is None else Stop(chosen, len(history) - patience)


def repetition(ids: Sequence[int], n: int = 4) -> float:
    """Share of an action's n-grams that occurred before in it, in [0, 1]."""
    grams = [tuple(ids[k : k + n]) for k in range(len(ids) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def repetitive(text: str, window: int = 10_000, limit: float = 10.0) -> bool:
    """Whether the last ``window`` characters shrink more than ``limit`` times under zlib (StableOPD).

    Text of any language shrinks two to four times; a short answer never does by ten.

    >>> repetitive("so the answer is 4. " * 100), repetitive("no " * 20)
    (True, False)
    """
    tail = text[-window:].encode("utf-8", "surrogatepass")
    return len(tail) > limit * len(zlib.compress(tail))

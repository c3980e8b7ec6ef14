"""Numbers that move: with the step (`Schedule`), or with what was measured (`Gate`).

Both are functions of what they are told, with plain data as their state, so that a resumed run goes on where it was.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Schedule(BaseModel):
    """A coefficient as a function of the training step, from 0.

    >>> Schedule(start=0.5, to=0.0, hold=10, over=30, kind="linear").at(25)
    0.25
    """

    model_config = ConfigDict(extra="forbid")

    start: float = Field(description="value at first")
    kind: Literal["constant", "linear", "cosine", "step"] = Field("constant", description="how it gets to `to`")
    to: float | None = Field(None, description="value in the end; none with constant")
    hold: int = Field(0, ge=0, description="steps before it moves")
    over: int = Field(0, ge=0, description="steps it moves for; step: none, it jumps")

    @model_validator(mode="after")
    def _complete(self) -> Schedule:
        if (self.kind == "constant") != (self.to is None):
            raise ValueError(
                f"a schedule of kind={self.kind!r} with to={self.to}: 'constant' has no end, the others need one"
            )
        if self.kind in ("linear", "cosine") and self.over < 1:
            raise ValueError(f"a schedule of kind={self.kind!r} needs over, the number of steps that it moves for")
        return self

    def at(self, step: int) -> float:
        """The value at a step."""
        if self.to is None:
            return self.start
        done = (step - self.hold) / self.over if self.over else float(step >= self.hold)
        done = min(max(done, 0.0), 1.0)
        if self.kind == "step":
            done = math.floor(done)
        elif self.kind == "cosine":
            done = 0.5 - 0.5 * math.cos(math.pi * done)
        return self.start + done * (self.to - self.start)

    def is_off(self, step: int) -> bool:
        """Whether it is 0 here, so that what it multiplies need not be made."""
        return self.at(step) == 0.0


Scheduled = Annotated[
    Schedule, BeforeValidator(lambda value: {"start": value} if isinstance(value, int | float) else value)
]
"""A field that takes a number, or a mapping such as ``{start: 0.5, kind: linear, to: 0, over: 30}``."""


class Gate(BaseModel):
    """A switch with hysteresis on a running statistic (a Schmitt trigger): AntiSD, arXiv 2605.11609.

    The usual value is the median of the first ``warmup`` readings, during which the gate is open. It closes where a
    reading is below ``low`` times the usual one, and opens again where one is at least ``high`` times that.
    """

    model_config = ConfigDict(extra="forbid")

    warmup: int = Field(5, ge=1, description="readings that make the usual value")
    low: float = Field(0.93, gt=0, description="closes below so many times the usual value")
    high: float = Field(1.0, gt=0, description="opens again at so many times the usual value")

    @model_validator(mode="after")
    def _ordered(self) -> Gate:
        if self.low > self.high:
            raise ValueError(f"gate.low={self.low} is above gate.high={self.high}: it would be open and closed at once")
        return self


class GateState:
    """What a `Gate` remembers."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.readings: list[float] = []
        self.open = True

    def read(self, value: float | None) -> bool:
        """Take one reading, None or NaN where there was nothing to measure; returns whether the gate is open now."""
        if value is None or math.isnan(value):
            return self.open
        if len(self.readings) < self.gate.warmup:
            self.readings.append(value)
            return self.open
        usual = median(self.readings)
        if self.open and value < self.gate.low * usual:
            self.open = False
        elif not self.open and value >= self.gate.high * usual:
            self.open = True
        return self.open

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"readings": list(self.readings), "open": self.open}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.readings, self.open = [float(x) for x in state["readings"]], bool(state["open"])


class Trend:
    """A running mean over the last ``window`` readings, and whether it still rises: for conditional refreshes."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.values: deque[float] = deque(maxlen=2 * window)

    def read(self, value: float | None) -> None:
        """Take one reading; None and NaN are passed over."""
        if value is not None and not math.isnan(value):
            self.values.append(value)

    @property
    def gain(self) -> float:
        """Mean of the last ``window`` readings less that of those before; NaN while there are too few."""
        if len(self.values) < 2 * self.window:
            return math.nan
        values = list(self.values)
        return (sum(values[self.window :]) - sum(values[: self.window])) / self.window

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"values": list(self.values)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.values.clear()
        self.values.extend(float(x) for x in state["values"])

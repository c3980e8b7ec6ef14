"""From the rows of ``metrics.jsonl`` to the curves of the page: what is drawn, over which x, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A training metric worth a figure: its key in the row and the words around it."""

    key: str
    title: str
    caption: str
    unit: str = ""
    """``share`` is drawn from 0 to 100 %; anything else is written behind the number."""


FIGURES = (
    Figure("reward", "Training reward", "Mean reward of the attempts of a step."),
    Figure("loss", "Loss", "What the optimiser minimised."),
    Figure("teacher_gap", "Teacher gap", "Mean divergence of teacher and student at a token.", "nats"),
    Figure("entropy", "Entropy", "How undecided the student is at a token.", "nats"),
    Figure("length", "Length", "Mean length of an attempt.", "tokens"),
    Figure("zero_variance", "Zero-variance groups", "Groups whose attempts all earned the same reward.", "share"),
)
MORE_FIGURES = (
    Figure("taught", "Taught", "Attempts that had something to learn from.", "share"),
    Figure("truncated", "Cut off", "Attempts that ran out of tokens.", "share"),
    Figure("repetition", "Repetition", "How much of an attempt repeats itself.", "share"),
    Figure("grad_norm", "Gradient norm", "Before clipping."),
    Figure("lr", "Learning rate", "As the schedule set it."),
)


def accumulate(values: Sequence[float | None]) -> list[float]:
    """Running totals of a column that holds either amounts per step or, strictly rising, totals already.

    >>> accumulate([64, 64, None, 32])
    [64, 128, 128, 160]
    >>> accumulate([64, 128, 192])
    [64, 128, 192]
    """
    known = [value for value in values if value is not None]
    rising = len(known) > 1 and all(a < b for a, b in pairwise(known))
    totals: list[float] = []
    total: float = 0
    for value in values:
        if value is not None:
            total = value if rising else total + value
        totals.append(total)
    return totals


def latest(rows: Iterable[Row], kind: str, *keys: str) -> list[Row]:
    """Rows of one kind in order of step; of rows that agree in step and ``keys`` the last one counts."""
    found = {(row["step"], *(str(row.get(key)) for key in keys)): row for row in rows if row["kind"] == kind}
    return sorted(found.values(), key=lambda row: row["step"])


def training_curves(rows: Sequence[Row], figures: Sequence[Figure] = FIGURES) -> list[dict[str, Any]]:
    """One curve for each figure that was measured at least once."""
    train = latest(rows, "train")
    generations = accumulate([row.get("generations") for row in train])
    curves = []
    for figure in figures:
        points = [
            {"step": row["step"], "generations": total, "mean": row.get(figure.key)}
            for row, total in zip(train, generations, strict=True)
        ]
        if any(point["mean"] is not None for point in points):
            series = [{"name": figure.title, "points": points}]
            curves.append(_curve(figure.key, figure.title, figure.caption, figure.unit, series))
    return curves


def success_curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Success with its interval: a curve a split, a series a temperature, sampled before greedy."""
    evals = latest(rows, "eval", "split", "temperature")
    splits = list(dict.fromkeys(row.get("split") for row in evals))
    held_out = [split for split in splits if split != "train"]
    curves = []
    for split in sorted(splits, key=lambda name: name == "train"):
        mine = [row for row in evals if row.get("split") == split]
        temperatures = sorted({row.get("temperature") or 0.0 for row in mine}, reverse=True)
        series = []
        for temperature in temperatures:
            chosen = [row for row in mine if (row.get("temperature") or 0.0) == temperature]
            spent = _generations_at(chosen, rows)
            points = [
                {"step": row["step"], "generations": total}
                | {key: row.get(key) for key in ("mean", "low", "high", "n", "tasks")}
                for row, total in zip(chosen, spent, strict=True)
            ]
            series.append({"name": temperature_name(temperature), "points": points})
        title = "Held-out success" if [split] == held_out else f"Success on {split}"
        caption = "Success with its 95% interval."
        curves.append(_curve(f"success-{split}", title, caption, "share", series))
    return curves


def temperature_name(temperature: float) -> str:
    """``greedy`` for 0, else ``temperature 0.6``."""
    return f"temperature {temperature:g}" if temperature else "greedy"


def _generations_at(evals: Sequence[Row], rows: Sequence[Row]) -> list[float]:
    """Training generations spent before each evaluation: as its row says, else from the training rows.

    An evaluation at step s comes after the training of every step before s.
    """
    said = [row.get("generations") for row in evals]
    if len(said) > 1 and None not in said and accumulate(said) == said:
        return [float(value or 0) for value in said]
    train = latest(rows, "train")
    totals = accumulate([row.get("generations") for row in train])
    return [
        max((total for row, total in zip(train, totals, strict=True) if row["step"] < at["step"]), default=0)
        for at in evals
    ]


def _curve(key: str, title: str, caption: str, unit: str, series: list[dict[str, Any]]) -> dict[str, Any]:
    return {"key": key, "title": title, "caption": caption, "unit": unit, "series": series}

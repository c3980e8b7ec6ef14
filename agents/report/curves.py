"""From the rows of ``metrics.jsonl`` to the curves of the page: what is drawn, over which x, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    Figure("success", "Training success", "Attempts that earned the full reward.", "share"),
    Figure("loss", "Loss", "What the optimiser minimised."),
    Figure("teacher_gap", "Teacher gap", "Mean divergence of teacher and student at a token.", "nats"),
    Figure("entropy", "Entropy", "How undecided the student is at a token.", "nats"),
    Figure("length", "Length", "Mean length of an attempt.", "tokens"),
    Figure("zero_variance", "Zero-variance groups", "Groups whose attempts all earned the same reward.", "share"),
)
EPISODE_FIGURES = (
    Figure("turns", "Turns", "Mean turns of an episode."),
    Figure("failed_turns", "Failed turns", "Turns that the environment called an error.", "share"),
    Figure(
        "repeated_turns", "Repeated turns", "Turns that did what an earlier one had done, to no other end.", "share"
    ),
)
"""Drawn where episodes have several turns."""
MORE_FIGURES = (
    Figure("active_share", "Active share", "Tokens that count, of those that the teacher scored.", "share"),
    Figure("weight_scale", "Scale Z", "What brings the mean weight of a token back to 1."),
    Figure("confidence", "Teacher's confidence", "Mean probability of the teacher's likeliest token.", "share"),
    Figure(
        "judge_failed", "Unreadable verdicts", "Turns that are strong because the judge said nothing clear.", "share"
    ),
    Figure("taught", "Taught", "Turns that had something to learn from.", "share"),
    Figure("truncated", "Cut off", "Turns that ran out of tokens.", "share"),
    Figure("repetition", "Repetition", "How much of a turn repeats itself.", "share"),
    Figure("repetitive", "Loops", "Turns whose end is one text again and again.", "share"),
    Figure("grad_norm", "Gradient norm", "Before clipping."),
    Figure("lr", "Learning rate", "As the schedule set it."),
)
LABELS = ("skip", "weak", "strong")
_COUNTERS = frozenset(
    {"step", "generations", "skipped", "tokens", "seconds", "cpu_seconds", "optimizer_steps", "overlong_contexts"}
    | {"turn_length", *(f"turns_{label}" for label in LABELS)}
)
"""Numbers of a step that are told elsewhere, or add nothing to a figure that is there."""


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


def training_curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The curves that are always on show, of what was measured at least once.

    Success is left out where it is the reward; numbers of episodes where no attempt had two turns.
    """
    train = latest(rows, "train")
    same = all(row.get("success") == row.get("reward") for row in train)
    several = any((row.get("turns") or 0) > 1 for row in train)
    curves = [c for c in _single(rows, FIGURES) if not (same and c["key"] == "success")]
    if several:
        curves += _single(rows, EPISODE_FIGURES)
        ends = [row.get("stop_reasons") or {} for row in train]
        curves += _shares(rows, "stop_reasons", "How episodes end", "Episodes by what ended them.", ends)
    labels = [{label: row.get(f"turns_{label}") or 0 for label in LABELS} for row in train]
    return curves + _shares(
        rows, "labels", "Turns by label", "What the judge said of the turns it saw.", labels, LABELS
    )


def more_curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The curves that are folded away: the usual ones, then whatever else a recipe logged."""
    known = {figure.key for figure in (*FIGURES, *EPISODE_FIGURES, *MORE_FIGURES)} | _COUNTERS
    said = dict.fromkeys(key for row in latest(rows, "train") for key in row)
    own = [key for key in said if key not in known and _is_number(rows, key)]
    named = [Figure(key, key.replace("_", " ").capitalize(), "As the recipe logged it.") for key in own]
    return _single(rows, (*MORE_FIGURES, *named))


def _is_number(rows: Sequence[Row], key: str) -> bool:
    values = [row[key] for row in latest(rows, "train") if row.get(key) is not None]
    return bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _single(rows: Sequence[Row], figures: Sequence[Figure]) -> list[dict[str, Any]]:
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


def _shares(
    rows: Sequence[Row],
    key: str,
    title: str,
    caption: str,
    counts: Sequence[Mapping[str, float]],
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """A curve with a line for each name of ``counts``, one mapping a step: its share. None where nothing was counted.

    Without ``names``, those are the three most frequent, and the rest is one line.
    """
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    if not any(total.values()):
        return []
    kept = list(names) if names is not None else [name for name, _ in total.most_common(4 if len(total) == 4 else 3)]
    rest = names is None and len(total) > len(kept)
    train = latest(rows, "train")
    generations = accumulate([row.get("generations") for row in train])

    def line(name: str, of: Sequence[str]) -> dict[str, Any]:
        points = [
            {
                "step": row["step"],
                "generations": spent,
                "mean": sum(one.get(k, 0) for k in of) / whole if whole else None,
            }
            for row, spent, one in zip(train, generations, counts, strict=True)
            for whole in [sum(one.values())]
        ]
        return {"name": name.replace("_", " "), "points": points}

    series = [line(name, [name]) for name in kept]
    if rest:
        series.append(line("other", [name for name in total if name not in kept]))
    return [_curve(key, title, caption, "share", series)]


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

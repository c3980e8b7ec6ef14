"""The page of a discovery: task by task what was tried, what the environment said, how that moved, what solved it.

It looks like the page of a training run and is as inert: one file, texts as data, nothing fetched.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.report.attempts import MAX_ATTEMPTS, Packer
from agents.report.metrics import iter_jsonl, jsonable, parse_row, read_jsonl
from agents.report.page import read_json, render
from agents.training.discovery_log import ATTEMPTS, RUNS, UPDATES
from agents.training.discovery_summary import summarise

SCRIPTS = ("dom.js", "attempt.js", "discovery.js")
_MEASURED = ("reward", "entropy", "teacher_gap", "loss", "length")


def write_discovery_report(directory: Path, output: Path | None = None) -> Path:
    """Write the page of a discovery, finished or not, to ``output`` (default ``<directory>/report.html``).

    Raises FileNotFoundError where there is no discovery, and ValueError where a file in it is damaged.
    """
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"no discovery at {directory}; give the directory that holds config.json")
    target = output or directory / "report.html"
    partial = target.with_name(target.name + ".partial")
    partial.write_text(render(discovery_data(directory), "discovery.html", SCRIPTS), encoding="utf-8")
    os.replace(partial, target)
    return target


def discovery_data(directory: Path, limit: int = MAX_ATTEMPTS) -> dict[str, Any]:
    """Everything the page shows, as strict JSON; at most ``limit`` attempts in full, the others are counted."""
    summary = summarise(directory)
    config = read_json(directory / "config.json") or {}
    ended = {row["run"]: row for row in read_jsonl(directory / RUNS)}
    batches: dict[int, list[dict[str, Any]]] = {}
    for row in read_jsonl(directory / UPDATES):
        shown = {name: row.get(name) for name in _MEASURED}
        shown |= {"step": row["step"], "attempts": row["attempts"], "feedback": row.get("feedback") or {}}
        batches.setdefault(row["run"], []).append(shown)
    places: dict[int, list[tuple[int, bool]]] = {}
    for offset, row in iter_jsonl(directory / ATTEMPTS):
        solved = bool(row["scored"]) and row["reward"] >= 1
        places.setdefault(row["run"], []).append((offset, solved))
    chosen = choose(places, limit)
    packer, runs = Packer(0), []
    with open(directory / ATTEMPTS, "rb") if places else open(os.devnull, "rb") as file:
        for number in sorted(places):
            attempts = [_packed(packer, file, offset) for offset in chosen[number]]
            runs.append(_run(directory, number, ended.get(number), attempts, len(places[number]), batches))
    data = {
        "recipe": {"sdpo": "Test-time self-distillation", "best_of_k": "Best of k", "multi_turn": "Conversation"}[
            summary["method"]
        ],
        "env": summary["env"],
        "model": summary["model"],
        "run": directory.resolve().name,
        "summary": summary,
        "curve": summary["discovery"],
        "runs": runs,
        "config": config,
        "attempts": {"total": sum(map(len, places.values())), "list": [], "texts": packer.texts},
    }
    return dict(jsonable(data))


def choose(places: Mapping[int, Sequence[tuple[int, bool]]], limit: int) -> dict[int, list[int]]:
    """Offsets of the attempts that are shown: an equal share of every run, evenly spaced, and what solved or ended it.

    >>> choose({0: [(0, False), (10, False), (20, False), (30, True)]}, limit=2)
    {0: [0, 30]}
    """
    share = max(1, limit // max(len(places), 1))
    chosen = {}
    for run, rows in places.items():
        first = next((k for k, (_, solved) in enumerate(rows) if solved), len(rows) - 1)
        kept = {first}
        wanted = min(share, len(rows))
        for k in range(wanted):
            if len(kept) < wanted:
                kept.add(k * (len(rows) - 1) // max(wanted - 1, 1))
        chosen[run] = [rows[k][0] for k in sorted(kept)]
    return chosen


def _packed(packer: Packer, file: Any, offset: int) -> dict[str, Any]:
    file.seek(offset)
    row = parse_row(file.readline())
    return {**packer.pack(row, []), "number": row["number"]}


def _run(
    directory: Path,
    number: int,
    ended: Mapping[str, Any] | None,
    attempts: Sequence[dict[str, Any]],
    total: int,
    batches: Mapping[int, list[dict[str, Any]]],
) -> dict[str, Any]:
    mine = batches.get(number, [])
    said: Counter[str] = sum((Counter(batch["feedback"]) for batch in mine), Counter())
    solution = (ended or {}).get("solution")
    path = directory / solution if solution else None
    return {
        "number": number,
        "task": attempts[0]["task"]["id"] if attempts else "",
        **{name: (ended or {}).get(name) for name in ("seed", "stopped", "found", "unscored", "seconds")},
        "total": total,
        "solution": path.read_text(encoding="utf-8") if path and path.is_file() else None,
        "kinds": [kind for kind, _ in said.most_common()],
        "batches": mine,
        "attempts": list(attempts),
    }

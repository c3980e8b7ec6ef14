"""discovery@k: the share of runs that were solved within their first k attempts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.training.discovery_log import RUNS, DiscoveryLog
from agents.training.evaluate import Estimate, estimate


def steps_of(budget: int) -> list[int]:
    """1, 2, 4, ... and the budget itself.

    >>> steps_of(6)
    [1, 2, 4, 6]
    """
    powers = [1 << i for i in range(budget.bit_length()) if 1 << i < budget]
    return [*powers, budget]


def discovery_at(runs: Sequence[Mapping[str, Any]], k: int) -> Estimate:
    """Share of runs with a solution among their first ``k`` scored attempts, its 95% interval clustered by task.

    ``runs`` are rows of ``runs.jsonl``. One that was stopped because its attempts could not be scored counts up to the
    attempts that it has, and is left out beyond them.

    Source: SDPO (arXiv 2601.20802); the interval is ours.
    """
    tasks: dict[Any, list[float]] = {}
    for run in runs:
        solved = run["found"] is not None and run["found"] <= k
        if run["found"] is not None or run["stopped"] == "budget" or run["attempts"] >= k:
            tasks.setdefault(run["index"], []).append(float(solved))
    return estimate(list(tasks.values()))


def summarise(directory: Path) -> dict[str, Any]:
    """``summary.json`` of a discovery, finished or not."""
    about = json.loads((directory / "config.json").read_text())
    runs = sorted(DiscoveryLog(directory).rows(RUNS), key=lambda row: row["run"])
    settings = about["discover"]
    solved = [run for run in runs if run["found"] is not None]
    return {
        "method": settings["method"],
        "recipe": about["recipe"],
        "env": about["env"],
        "model": about["model"],
        "budget": settings["budget"],
        "batch": about["config"]["batch"]["attempts"],
        "tasks": len(settings["tasks"]),
        "runs": len(runs),
        "runs_wanted": len(settings["tasks"]) * settings["seeds"],
        "solved": len(solved),
        "stopped": dict(Counter(run["stopped"] for run in runs).most_common()),
        "attempts": sum(run["attempts"] for run in runs),
        "unscored": sum(run["unscored"] for run in runs),
        "discovery": [{"k": k, **discovery_at(runs, k).to_dict()} for k in steps_of(settings["budget"])],
        "solutions": [{name: run[name] for name in ("task", "seed", "found", "solution")} for run in solved],
        "seconds": sum(run["seconds"] for run in runs),
        "cpu_seconds": sum(run["cpu_seconds"] for run in runs),
    }

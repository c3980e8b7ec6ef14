"""discovery@k on hard tasks: test-time self-distillation beside sampling and conversation, on equal attempts.

    python benchmarks/discovery.py base     # success of 32 attempts at each of 30 candidates; the rule picks the tasks
    python benchmarks/discovery.py tune     # what one update does to log p(answer), on tasks of its own
    python benchmarks/discovery.py run      # 64 attempts at 20 tasks with each method
    python benchmarks/discovery.py write    # docs/benchmarks/discovery.md from what was measured

Hints only: the environment never states the answer, and the teacher may not see it (allow_reference is false). The
answer is used once, by `tune`, to measure how likely it became. Runs are written to runs/discovery and are resumed or
skipped when started again; results go to docs/benchmarks/discovery.json and discovery.md.
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from common import markdown_table

from agents.config import merged
from agents.report.discovery import write_discovery_report
from agents.report.metrics import read_jsonl
from agents.rollout import Environments, rollout, task_order
from agents.training.discovery_setup import DiscoverySettings, configure
from agents.training.fresh import FreshLearner
from agents.training.test_time import Discovery
from agents.training.trainer import load_engine

RUNS = Path("runs/discovery")
DOCS = Path("docs/benchmarks")
CANDIDATES, HARD, SPARE, TUNING = 30, 20, 6, 3
ATTEMPTS = 32
"""At each candidate, from seeds that no run has."""
DRAW = 777
"""Seed of the candidates."""
BUDGET, BATCH, SEEDS = 64, 16, 1
CONTROL = "no feedback, teacher at temperature 0.6, lr 1e-5 (control)"
METHODS = {"multi_turn": "multi_turn", "best_of_k": "best_of_k", "sdpo": "sdpo", "control": "sdpo"}
"""Of `run`, the longest first: what each is called, and what `discover` calls it."""
COMMON: dict[str, Any] = {
    "env": {"id": "rfenvs/ToolCall-v0", "kwargs": {"level": 1, "feedback": "hint"}},
    "model": {"name": "smollm2-135m"},
    "sampling": {"max_tokens": 16},
    "batch": {"attempts": BATCH},
    "save_every": 0,
    "threads": 1,
}


def setting(lr: float, wording: str = "turn", source: str = "feedback", **recipe: Any) -> dict[str, Any]:
    context = {"sources": ["sibling", source], "wording": wording, "allow_reference": False}
    return {"optim": {"lr": lr}, "recipe": {"context": context, **recipe}}


SETTINGS: dict[str, dict[str, Any]] = {
    "published: paper's wording, reverse KL, lr 1e-6": setting(1e-6, "paper"),
    "the same, lr 1e-5": setting(1e-5, "paper"),
    "in brackets, reverse KL, lr 1e-5": setting(1e-5),
    "in brackets, JSD, lr 1e-5": setting(1e-5, alpha=0.5),
    "in brackets, teacher at temperature 0.6, lr 1e-5": setting(1e-5, teacher={"temperature": 0.6}),
    CONTROL: setting(1e-5, source="none", teacher={"temperature": 0.6}),
}


def configured(name: str | None) -> Any:
    """The configuration under a setting's name."""
    return configure("sdpo_rich", merged(COMMON, SETTINGS[name] if name else {}))


def load() -> dict[str, Any]:
    path = DOCS / "discovery.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def store(key: str, value: Any) -> None:
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / "discovery.json").write_text(json.dumps({**load(), key: value}, indent=1) + "\n")


# ---- which tasks


def base() -> None:
    config = configured(None)
    torch.set_num_threads(1)
    engine = load_engine(config)
    environments = Environments(config.env.id, config.env.split, config.env.kwargs)
    rows = load().get("base", [])
    for index in candidates(environments)[len(rows) :]:
        (group,) = rollout(engine, engine.chat, environments, [index], ATTEMPTS, config.sampling, 10_000_000 + index)
        solved = sum(t.reward >= 1 for t in group.scored())
        rows.append({"index": index, "id": group.task["id"], "solved": solved, "attempts": len(group.scored())})
        store("base", rows)
        print(rows[-1], flush=True)


def candidates(environments: Environments) -> list[int]:
    """The first tasks of a seeded order that ask for different things."""
    found: dict[str, int] = {}
    for index in task_order(environments.num_tasks(), DRAW, 0, 4 * CANDIDATES):
        found.setdefault(environments.take(1)[0].unwrapped.get_task(index).messages[-1]["content"], index)
    return list(found.values())[:CANDIDATES]


def hard() -> list[dict[str, Any]]:
    """Of the first 24 candidates the 20 with the fewest successes, ties by their order: the tasks of `run`."""
    rows = load()["base"]
    return sorted(rows[: CANDIDATES - SPARE], key=lambda row: row["solved"])[:HARD]


def tuning() -> list[dict[str, Any]]:
    """Of the last 6 candidates the 3 with the fewest: the tasks of `tune`."""
    return sorted(load()["base"][CANDIDATES - SPARE :], key=lambda row: row["solved"])[:TUNING]


# ---- which settings


def tune() -> None:
    config = configured(None)
    torch.set_num_threads(1)
    engine = load_engine(config, train=True)
    environments = Environments(config.env.id, config.env.split, config.env.kwargs)
    results: dict[str, list[dict[str, float]]] = load().get("tune", {})
    groups = {}
    for name in SETTINGS:
        if name in results:
            continue
        config = configured(name)
        learner = FreshLearner(config, engine, environments)
        rows = []
        for task in tuning():
            index = task["index"]
            if index not in groups:  # equal attempts for every setting
                groups[index] = rollout(engine, engine.chat, environments, [index], BATCH, config.sampling, index)
            before = answer_logprob(engine, environments, index)
            _, metrics = learner.learn(groups[index], index, 0, f"{index}")
            after = answer_logprob(engine, environments, index)
            learner.reset()
            rows.append({"index": index, "before": before, "after": after, "gap": metrics["teacher_gap"]})
            print(name, rows[-1], flush=True)
        results[name] = rows
        store("tune", results)


def answer_logprob(engine: Any, environments: Environments, index: int) -> float:
    """log p(the environment's own answer), in nats: what the success of an attempt at temperature 1 mostly is."""
    from agents.losses.fused import token_stats

    task = environments.take(1)[0].unwrapped.get_task(index)
    prompt, answer = engine.chat.encode([dict(m) for m in task.messages]), engine.chat.written(task.reference)
    with torch.no_grad():
        logprobs = token_stats(engine.read([(prompt, answer)]), engine.head(), torch.tensor(answer))[0]
    return float(logprobs.sum())


def chosen() -> str:
    """The setting that made the answers most likely on average, among those that learn from feedback."""
    gains = {
        name: sum(row["after"] - row["before"] for row in rows) / len(rows)
        for name, rows in load()["tune"].items()
        if name != CONTROL
    }
    return max(gains, key=gains.__getitem__)


# ---- the runs


def run(workers: int) -> None:
    """Every method, in ``workers`` processes; one that was interrupted goes on where it was."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for name, result in zip(METHODS, pool.map(run_method, METHODS), strict=True):
            store("runs", {**load().get("runs", {}), name: result})
    write()


def run_method(name: str) -> dict[str, Any]:
    """All runs of one method, on the same tasks under the same seeds as the others."""
    config, directory = configured(CONTROL if name == "control" else chosen()), RUNS / name
    tasks = [row["index"] for row in hard()]
    settings = DiscoverySettings(tasks=tasks, method=METHODS[name], budget=BUDGET, seeds=SEEDS)
    summary = Discovery(config.model_copy(update={"run_dir": directory}), settings).run()
    write_discovery_report(directory)
    rows = [{k: v for k, v in row.items() if k != "solution"} for row in read_jsonl(directory / "runs.jsonl")]
    return {"summary": summary, "runs": rows}


def write() -> None:
    data = load()
    ks = [point["k"] for point in data["runs"]["sdpo"]["summary"]["discovery"]]
    rows: list[list[str]] = []
    sampled = {(run["index"], run["seed"]): run["found"] for run in data["runs"]["best_of_k"]["runs"]}
    for method, result in data["runs"].items():
        points = result["summary"]["discovery"]
        cells = [f"{p['mean']:.2f} [{p['low']:.2f}, {p['high']:.2f}]" for p in points]
        cells += [""] * (len(ks) - len(cells))  # of a result with a smaller budget
        last = points[-1]["k"]
        found = [(run["found"], sampled[run["index"], run["seed"]]) for run in result["runs"]]
        pairs = [tuple(f is not None and f <= last for f in pair) for pair in found]
        alone = f"{pairs.count((True, False))} / {pairs.count((False, True))}"
        rows.append([method, *cells, alone, f"{result['summary']['cpu_seconds']:.0f}"])
    text = f"Setting of sdpo: {chosen()}. Control: {CONTROL}.\n\n"
    text += markdown_table(["discovery@k, k =", *map(str, ks), "only it / only best_of_k", "CPU-seconds"], rows)
    lines = []
    for name, tried in data["tune"].items():
        gain = [row["after"] - row["before"] for row in tried]
        lines.append([name, f"{sum(gain) / len(gain):+.2f}", f"{min(gain):+.2f} to {max(gain):+.2f}"])
    text += "\nChange of log p(answer) after one update, nats, mean and range over the tuning tasks:\n\n"
    text += markdown_table(["setting", "mean", "range"], lines)
    before = [row["before"] for row in next(iter(data["tune"].values()))]
    shown = ", ".join(f"{x:.1f} (p = {math.exp(x):.3f})" for x in before)
    text += f"\nlog p(answer) before: {shown}.\n"
    counts = sorted(row["solved"] for row in hard())
    text += f"\nBase successes of {ATTEMPTS} attempts at the {len(counts)} tasks: {', '.join(map(str, counts))}.\n"
    (DOCS / "discovery.md").write_text(text)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", nargs="?", choices=["base", "tune", "run", "write", "all"], default="all")
    parser.add_argument("--workers", type=int, default=1, help="processes of `run`, one for a method at a time (1)")
    arguments = parser.parse_args()
    phases = {"base": base, "tune": tune, "run": lambda: run(arguments.workers), "write": write}
    for name in ["base", "tune", "run"] if arguments.phase == "all" else [arguments.phase]:
        phases[name]()


if __name__ == "__main__":
    main()

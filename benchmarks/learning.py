"""Learning curves at equal numbers of generations: self-distillation beside GRPO, on held-out tasks.

    python benchmarks/learning.py tune      # learning rate of every method, on the dev split, the same grid for each
    python benchmarks/learning.py ablate    # what SRPO owes to EMA, teacher temperature, wording and leak, on dev
    python benchmarks/learning.py report    # 3 seeds of every method at its tuned rate, on the untouched test split
    python benchmarks/learning.py compute   # GRPO for as many CPU-seconds as the slowest method had

Runs are written to runs/learning and are resumed or skipped when started again; results go to
docs/benchmarks/learning.json, learning.md and learning.svg. Three to five CPU-minutes a run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from agents.config import merged
from agents.report.metrics import read_jsonl

RUNS = Path("runs/learning")
DOCS = Path("docs/benchmarks")
RATES = (2e-5, 4e-5)

COMMON: dict[str, Any] = {
    "env": {"id": "rfenvs/ToolCall-v0", "kwargs": {"level": 1, "feedback": "expected"}},
    "model": {"name": "smollm2-135m"},
    "sampling": {"max_tokens": 16},
    "batch": {"tasks": 8, "attempts": 8},
    "optim": {"betas": [0.9, 0.99], "weight_decay": 0.0, "warmup_steps": 2},
    "eval": {"tasks": 48, "attempts": 4, "every": 4},
    "save_every": 0,
    "save_final": False,
    "check_teacher": 0,
    "record_tokens": 0,
    "threads": 1,
}
EXPECTED = {"sources": ["sibling", "expected"], "wording": "turn", "allow_reference": True}
HINTS = {"sources": ["sibling", "feedback"], "wording": "turn"}
EMA = {"kind": "ema", "rate": 0.05, "temperature": 0.6}
TAUGHT = {"normalise_advantages": True, "top_k": 0, "teacher": EMA, "context": EXPECTED}
BLEND = {"name": "sdpo_grpo", "policy_weight": 1.0, "distil_weight": 1.0, **TAUGHT}

METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"name": "grpo", "normalise_advantages": True},
    "sdpo": {"name": "sdpo", **TAUGHT},
    "sdpo-hints": {"name": "sdpo", **TAUGHT, "context": HINTS},
    "srpo": {"name": "srpo", **TAUGHT},
    "blend": BLEND,
    "imitation": {"name": "imitation"},
}
REPORTED = [name for name in METHODS if name != "sdpo-hints"]
"""Without the reference the self-teacher makes this model worse, as tuning shows; three seeds would say no more."""
SRPO = METHODS["srpo"]
ABLATIONS: dict[str, dict[str, Any]] = {
    "srpo": SRPO,
    "teacher live, no EMA": {**SRPO, "teacher": {**EMA, "kind": "live"}},
    "teacher frozen": {**SRPO, "teacher": {**EMA, "kind": "frozen"}},
    "teacher temperature 1": {**SRPO, "teacher": {**EMA, "temperature": 1.0}},
    "wording of the paper": {**SRPO, "context": {**EXPECTED, "wording": "paper"}},
    "hints, no reference": {**SRPO, "context": HINTS},
}


def train(job: tuple[str, dict[str, Any]]) -> Path:
    """One run in a process of its own."""
    name, settings = job
    directory = RUNS / name
    settings = {**settings, "run_dir": str(directory)}
    if not (directory / "summary.json").is_file():
        code = "import json, sys; from agents.config import build; from agents.training.trainer import Trainer; "
        code += "Trainer(build(json.loads(sys.argv[1]))).run()"
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "log.txt").open("a") as log:
            subprocess.run([sys.executable, "-c", code, json.dumps(settings)], check=True, stderr=log)
    print(f"done {name}", flush=True)
    return directory


def curve(directory: Path) -> dict[str, Any]:
    """Held-out success against generations and training CPU-seconds, sampled and greedy."""
    rows = read_jsonl(directory / "metrics.jsonl")
    cpu = {r["step"]: r["cpu_seconds"] for r in rows if r["kind"] == "train"}
    points = []
    for row in rows:
        if row["kind"] == "eval" and row["temperature"] > 0:
            greedy = next(r for r in rows if r["kind"] == "eval" and r["step"] == row["step"] and r["temperature"] == 0)
            spent = sum(seconds for step, seconds in cpu.items() if step < row["step"])
            points.append(
                {"step": row["step"], "generations": row["generations"], "cpu_seconds": round(spent, 1),
                 "sampled": row["mean"], "greedy": greedy["mean"]}
            )  # fmt: skip
    return {"points": points}


def settings(recipe: dict[str, Any], rate: float, seed: int, steps: int, split: str, every: int = 4) -> dict[str, Any]:
    above = {
        "recipe": recipe,
        "steps": steps,
        "seed": seed,
        "optim": {"lr": rate},
        "eval": {"split": split, "every": every},
    }
    return merged(COMMON, above)


def run_all(jobs: list[tuple[str, dict[str, Any]]], workers: int) -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor(workers) as pool:
        return {name: curve(path) for (name, _), path in zip(jobs, pool.map(train, jobs), strict=True)}


def area(result: dict[str, Any]) -> float:
    """Mean held-out success over the evaluations after the first: rewards learning early and ending high."""
    return mean(p["sampled"] for p in result["points"][1:])


def load() -> dict[str, Any]:
    path = DOCS / "learning.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def store(key: str, value: Any) -> None:
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / "learning.json").write_text(json.dumps({**load(), key: value}, indent=1))


def tune(workers: int, steps: int = 8) -> None:
    jobs = [
        (f"tune/{name}-{rate:g}", settings(recipe, rate, 100, steps, "dev"))
        for name, recipe in METHODS.items()
        for rate in RATES
    ]
    results = run_all(jobs, workers)
    table = {name: {f"{rate:g}": area(results[f"tune/{name}-{rate:g}"]) for rate in RATES} for name in METHODS}
    store("tune", table)
    for name, row in table.items():
        print(f"{name:12} " + "  ".join(f"{rate}: {value:.3f}" for rate, value in row.items()))


def tuned(name: str) -> float:
    row = load()["tune"][name]
    return float(max(row, key=row.__getitem__))


def ablate(workers: int, steps: int = 8, seeds: tuple[int, ...] = (100,)) -> None:
    rate = tuned("srpo")
    jobs = [
        (
            f"ablate/{name.replace(' ', '-').replace(',', '')}-s{seed}",
            settings(recipe, rate, seed, steps, "dev"),
        )
        for seed in seeds
        for name, recipe in ABLATIONS.items()
    ]
    results = list(run_all(jobs, workers).values())
    table = {
        name: [[p for p in results[k * len(ABLATIONS) + i]["points"]] for k in range(len(seeds))]
        for i, name in enumerate(ABLATIONS)
    }
    store("ablate", table)
    for name, runs in table.items():
        final = [run[-1] for run in runs]
        print(
            f"{name:24} T=1 {[round(p['sampled'], 2) for p in final]} greedy {[round(p['greedy'], 2) for p in final]}"
        )


def report(workers: int, steps: int = 12, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    # GRPO runs longer, so that it can be compared at the CPU-seconds of the slowest method too.
    jobs = [
        (f"report/{name}-s{seed}",
         settings(recipe, tuned(name), seed, steps + 4 if name == "grpo" else steps, "test"))
        for seed in seeds
        for name, recipe in METHODS.items()
        if name in REPORTED
    ]  # fmt: skip
    results = list(run_all(jobs, workers).values())
    names = REPORTED
    store(
        "report",
        {name: [results[k * len(names) + i] for k in range(len(seeds))] for i, name in enumerate(names)},
    )
    write()


def compute(workers: int, steps: int = 20, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """GRPO for as many CPU-seconds as the slowest method of `report` had, evaluated at the end only."""
    jobs = [
        (f"compute/grpo-s{seed}", settings(METHODS["grpo"], tuned("grpo"), seed, steps, "test", every=0))
        for seed in seeds
    ]
    results = list(run_all(jobs, workers).values())
    store("compute", {"grpo": results})
    for result in results:
        print(result["points"][-1])


# ---- tables and the plot

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width of the 95% t interval over seeds."""
    m, n = mean(values), len(values)
    deviation = (sum((v - m) ** 2 for v in values) / (n - 1)) ** 0.5 if n > 1 else float("nan")
    return m, T95.get(n, 1.96) * deviation / n**0.5


def write() -> None:
    data = load()
    lines = ["| method | lr | generations | CPU-seconds | T = 1 | greedy |", "|---|---|---|---|---|---|"]
    for name, runs in data["report"].items():
        for points in zip(*(r["points"] for r in runs), strict=True):
            if points[0]["step"] == 0:
                continue  # the untrained model, the same for all
            sampled, greedy = (interval([p[k] for p in points]) for k in ("sampled", "greedy"))
            cpu = mean(p["cpu_seconds"] for p in points)
            lines.append(
                f"| {name} | {tuned(name):g} | {points[0]['generations']} | {cpu:.0f} "
                f"| {sampled[0]:.2f} ± {sampled[1]:.2f} | {greedy[0]:.2f} ± {greedy[1]:.2f} |"
            )
    (DOCS / "learning.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    plot(data["report"])


def plot(report: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharey=True)
    for row, kind in enumerate(("sampled", "greedy")):
        for column, against in enumerate(("generations", "cpu_seconds")):
            axis = axes[row][column]
            for name, runs in report.items():
                columns = list(zip(*(r["points"] for r in runs), strict=True))
                x = [mean(p[against] for p in points) for points in columns]
                bands = [interval([p[kind] for p in points]) for points in columns]
                (line,) = axis.plot(x, [b[0] for b in bands], marker="o", markersize=3, label=name)
                axis.fill_between(
                    x, [max(b[0] - b[1], 0) for b in bands], [min(b[0] + b[1], 1) for b in bands],
                    alpha=0.12, color=line.get_color(),
                )  # fmt: skip
            axis.set_xlabel(against.replace("_", "-") if column == 0 else "training CPU-seconds")
            axis.set_ylabel(f"held-out success, {'temperature 1' if row == 0 else 'greedy'}")
            axis.set_ylim(0, 1)
            axis.grid(alpha=0.2)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(DOCS / "learning.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "phase", nargs="?", choices=["tune", "ablate", "report", "compute", "write", "all"], default="all"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at once, one thread each")
    known = parser.parse_args()
    phases = ["tune", "ablate", "report", "compute"] if known.phase == "all" else [known.phase]
    run = {"tune": tune, "ablate": ablate, "report": report, "compute": compute}
    for phase in phases:
        write() if phase == "write" else run[phase](known.workers)


if __name__ == "__main__":
    main()

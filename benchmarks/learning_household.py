"""Multi-turn learning at equal numbers of generations: OPD, SAGE-OPD, SDPO and GRPO on household games.

    python benchmarks/learning_household.py warm      # small models from nothing imitate a straying expert
    python benchmarks/learning_household.py tune      # learning rate of every method on valid_seen, one grid for all
    python benchmarks/learning_household.py report    # 3 seeds of every method at its tuned rate, on valid_unseen
    python benchmarks/learning_household.py judges    # how well every judge agrees with the oracle on the warm policy

The environment is rfenvs/ALFWorld-v0 with easy generated games, 12 turns, rooms of valid_unseen never trained on.
OPD and SAGE-OPD have a teacher that imitated for longer and sees what the student sees; SDPO's is the policy as it
started, shown the planner's next actions. GRPO sees rewards only.
Runs are written to runs/learning/household and are skipped when started again; results go to
docs/benchmarks/learning_household.json and .md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import gymnasium
import judges
import learning
import torch

import rfenvs  # noqa: F401  registers the ids
from agents.config import build, merged
from agents.credit.compare import table
from agents.report.metrics import read_jsonl
from agents.small import build_small, expert_dialogues, imitate

WARM = learning.RUNS / "household" / "warm"
TEACHER = WARM.with_name("teacher")
RESULTS = learning.DOCS / "learning_household.json"
RATES = (1e-4, 3e-4, 1e-3)
STEPS = 16
GAMES: dict[str, Any] = {"difficulty": "easy", "max_turns": 12, "instructions": False, "expert": True}

COMMON: dict[str, Any] = {
    "env": {"id": "rfenvs/ALFWorld-v0", "kwargs": GAMES},
    "model": {"name": str(WARM), "pack_tokens": 512, "reuse_tokens": 65_536},
    "sampling": {"temperature": 1.0, "max_tokens": 16},
    "batch": {"tasks": 8, "attempts": 4},
    "optim": {"betas": [0.9, 0.99], "weight_decay": 0.0, "warmup_steps": 2, "steps_per_batch": 1},
    "eval": {"tasks": 80, "attempts": 2, "temperature": 1.0},
    "save_every": 0,
    "save_final": False,
    "check_teacher": 0,
    "record_tokens": 0,
    "threads": 1,
}
HINTED = {
    "teacher": {"kind": "frozen"},
    "context": {"sources": ["plan"], "wording": "inline", "allow_reference": True},
    "top_k": 0,
}
"""The policy's own first weights, shown the planner's next actions."""
STRONGER = {"teacher": {"kind": "external", "model": str(TEACHER)}, "alpha": 1.0, "top_k": 0}
"""A policy that imitated for longer, and sees what the student sees: SAGE-OPD's own case."""


def sage(judge: str) -> dict[str, Any]:
    """SAGE-OPD with one of the judges."""
    return {"name": "sage_opd", **STRONGER, "intervention": {"judge": {"kind": judge}}}


METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"name": "grpo", "normalise_advantages": True},
    "sdpo": {"name": "sdpo", **HINTED},
    "opd": {"name": "opd", **STRONGER},
    "sage_opd (rule)": sage("rule"),
    "opd (hinted self)": {"name": "opd", **HINTED, "alpha": 1.0},
}
REPORTED = [name for name in METHODS if name != "opd (hinted self)"]
"""A self-teacher that knows where everything is only made the policy worse, as tuning shows."""
SAME_RATE = {"sage_opd (rule)": "opd"}
"""Not tuned by itself: the same loss in other proportions."""


def warm() -> None:
    """Build the policy: it imitates an expert who strays. The teacher goes on from there, with one who strays less."""
    torch.set_num_threads(1)
    env = gymnasium.make("rfenvs/ALFWorld-v0", **GAMES)
    if not (WARM / "config.json").is_file():
        dialogues = list(expert_dialogues(env, range(6000), noise=0.15))
        texts = (message["content"] for dialogue in dialogues[:600] for message in dialogue)
        draft = build_small(WARM.with_name("draft"), texts, width=96, layers=3, context=1024)
        print(f"student: {imitate(draft, dialogues, steps=3000):.3f} nats a token")
        draft.rename(WARM)
    if not (TEACHER / "config.json").is_file():
        dialogues = list(expert_dialogues(env, range(10_000), noise=0.1, hinted=0.0, seed=1))
        draft = Path(shutil.copytree(WARM, WARM.with_name("draft"), dirs_exist_ok=True))
        print(f"teacher: {imitate(draft, dialogues, steps=1500, lr=3e-3):.3f} nats a token")
        draft.rename(TEACHER)


def settings(recipe: dict[str, Any], rate: float, seed: int, split: str) -> dict[str, Any]:
    """One run."""
    above = {"recipe": recipe, "steps": STEPS, "seed": seed, "optim": {"lr": rate}, "eval": {"split": split}}
    return merged(COMMON, above)


def slug(name: str) -> str:
    """A method's name as a directory."""
    return name.replace("(", "").replace(")", "").replace(" ", "-")


def load() -> dict[str, Any]:
    """Results so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}


def store(key: str, value: Any) -> None:
    """Add to the results."""
    RESULTS.write_text(json.dumps({**load(), key: value}, indent=1))


def tune(workers: int) -> None:
    """One run a method and rate, on seen rooms; the mean of the evaluations after the first decides."""
    names = [name for name in METHODS if name not in SAME_RATE]
    jobs = [
        (
            f"household/tune/{slug(name)}-{rate:g}",
            merged(
                settings(METHODS[name], rate, 100, "valid_seen"),
                {"eval": {"tasks": 80, "attempts": 1, "every": STEPS // 2}},
            ),
        )
        for name in names
        for rate in RATES
    ]
    results = learning.run_all(jobs, workers)
    scores = {
        name: {f"{rate:g}": learning.area(results[f"household/tune/{slug(name)}-{rate:g}"]) for rate in RATES}
        for name in names
    }
    store("tune", scores)
    for name, row in scores.items():
        print(f"{name:22} " + "  ".join(f"{rate}: {value:.3f}" for rate, value in row.items()))


def tuned(name: str) -> float:
    """The rate that did best."""
    row = load()["tune"][SAME_RATE.get(name, name)]
    return float(max(row, key=row.__getitem__))


def report(workers: int, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Every method at its rate, over seeds, on rooms that nothing was trained or tuned on."""
    jobs = [
        (
            f"household/report/{slug(name)}-s{seed}",
            settings(METHODS[name], tuned(name), seed, "valid_unseen"),
        )
        for seed in seeds
        for name in REPORTED
    ]
    results = learning.run_all(jobs, workers)
    runs = {name: [_run(f"household/report/{slug(name)}-s{seed}", results) for seed in seeds] for name in REPORTED}
    store("report", runs)
    write()


def _run(name: str, results: dict[str, Any]) -> dict[str, Any]:
    """A run's curve, and what its training steps said of turns."""
    train = [r for r in read_jsonl(learning.RUNS / name / "metrics.jsonl") if r["kind"] == "train"]
    said = {
        key: mean(r[key] for r in train if r.get(key) is not None)
        for key in ("active_share", "weight_scale", "confidence", "turns", "repeated_turns", "failed_turns")
        if any(r.get(key) is not None for r in train)
    }
    return {**results[name], "logs": said}


def judge() -> None:
    """Every judge against the oracle, on one rollout batch of the warm policy."""
    asked = settings(METHODS["sage_opd (rule)"], 1e-4, 7, "valid_unseen")
    judged = judges.judge(build(merged(asked, {"batch": {"tasks": 64, "attempts": 2}})))
    print(table(judged))
    store("judges", {"table": table(judged)})


def write() -> None:
    """The table, in Markdown."""
    data = load()
    lines = ["| method | lr | generations | CPU-seconds | success, T = 1 | greedy |", "|---|--:|--:|--:|---|---|"]
    for name, runs in data["report"].items():
        for points in zip(*(r["points"] for r in runs), strict=True):
            if points[0]["step"] == 0 and name != "grpo":
                continue  # the warm model, the same for all
            sampled, greedy = (learning.interval([p[k] for p in points]) for k in ("sampled", "greedy"))
            label = "warm start" if points[0]["step"] == 0 else name
            rate = "" if points[0]["step"] == 0 else f"{tuned(name):g}"
            lines.append(
                f"| {label} | {rate} | {points[0]['generations']} | {mean(p['cpu_seconds'] for p in points):.0f} "
                f"| {sampled[0]:.3f} ± {sampled[1]:.3f} | {greedy[0]:.3f} ± {greedy[1]:.3f} |"
            )
    text = "\n".join(lines) + "\n"
    if "judges" in data:
        text += f"\nJudges against the oracle, turns of the warm policy:\n\n{data['judges']['table']}\n"
    RESULTS.with_suffix(".md").write_text(text)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    phases = ["warm", "tune", "report", "judges", "write"]
    parser.add_argument("phase", nargs="?", choices=[*phases, "all"], default="all")
    parser.add_argument("--workers", type=int, default=2, help="runs at once, one thread each")
    known = parser.parse_args()
    for phase in phases if known.phase == "all" else [known.phase]:
        if phase == "warm":
            warm()
        elif phase == "judges":
            judge()
        elif phase == "write":
            write()
        else:
            {"tune": tune, "report": report}[phase](known.workers)


if __name__ == "__main__":
    main()

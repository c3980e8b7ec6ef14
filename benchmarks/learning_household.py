"""Multi-turn learning at equal numbers of generations: OPD, SAGE-OPD, SDPO and GRPO on household games.

    python benchmarks/learning_household.py warm      # a small model from nothing imitates a straying expert
    python benchmarks/learning_household.py tune      # learning rate of every method on valid_seen, one grid for all
    python benchmarks/learning_household.py report    # 3 seeds of every method at its tuned rate, on valid_unseen
    python benchmarks/learning_household.py judges    # how well every judge agrees with the oracle on the warm policy

The environment is rfenvs/ALFWorld-v0 with easy generated games, 12 turns, rooms of valid_unseen never trained on.
The taught methods share one teacher: the policy as it started, shown the planner's next actions, which GRPO never sees.
Runs are written to runs/learning/household and are skipped when started again; results go to
docs/benchmarks/learning_household.json and .md.
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import mean
from typing import Any

import gymnasium
import judges
import learning
import torch

import rfenvs  # noqa: F401  registers the ids
from agents.config import build, merged
from agents.credit.compare import table
from agents.report.metrics import jsonable, read_jsonl
from agents.small import build_small, expert_dialogues, imitate

WARM = learning.RUNS / "household" / "warm"
RESULTS = learning.DOCS / "learning_household.json"
RATES = (1e-4, 3e-4, 1e-3)
STEPS = 16
GAMES = {"difficulty": "easy", "max_turns": 12, "instructions": False, "expert": True}

COMMON: dict[str, Any] = {
    "env": {"id": "rfenvs/ALFWorld-v0", "kwargs": GAMES},
    "model": {"name": str(WARM), "pack_tokens": 512, "reuse_tokens": 65_536},
    "sampling": {"temperature": 1.0, "max_tokens": 16},
    "batch": {"tasks": 8, "attempts": 4},
    "optim": {"betas": [0.9, 0.99], "weight_decay": 0.0, "warmup_steps": 2, "steps_per_batch": 1},
    "eval": {"tasks": 120, "attempts": 2, "temperature": 1.0},
    "save_every": 0,
    "save_final": False,
    "check_teacher": 0,
    "record_tokens": 0,
    "threads": 1,
}
TAUGHT = {
    "teacher": {"kind": "frozen"},
    "context": {"sources": ["plan"], "wording": "inline", "allow_reference": True},
}
OPD = {**TAUGHT, "alpha": 1.0, "top_k": 0}


def sage(judge: str) -> dict[str, Any]:
    """SAGE-OPD with one of the judges."""
    return {"name": "sage_opd", **OPD, "intervention": {"judge": {"kind": judge}}}


METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"name": "grpo", "normalise_advantages": True},
    "sdpo": {"name": "sdpo", **TAUGHT, "top_k": 0},
    "opd": {"name": "opd", **OPD},
    "sage_opd (rule)": sage("rule"),
    "sage_opd (oracle)": sage("oracle"),
    "sage_opd (agreement)": sage("agreement"),
}
SAME_RATE = {"sage_opd (oracle)": "sage_opd (rule)", "sage_opd (agreement)": "sage_opd (rule)"}
"""Not tuned by themselves."""


def warm(steps: int = 3000, episodes: int = 6000) -> None:
    """Build the policy and let it imitate the expert: some minutes."""
    if (WARM / "config.json").is_file():
        return
    env = gymnasium.make("rfenvs/ALFWorld-v0", **GAMES)
    dialogues = list(expert_dialogues(env, range(episodes), noise=0.15))
    torch.set_num_threads(1)
    draft = build_small(WARM.with_name("draft"), (m["content"] for d in dialogues[:600] for m in d), width=96, layers=3)
    print(f"loss {imitate(draft, dialogues, steps=steps):.3f} nats a token")
    draft.rename(WARM)


def settings(recipe: dict[str, Any], rate: float, seed: int, split: str, every: int) -> dict[str, Any]:
    """One run."""
    above = {"recipe": recipe, "steps": STEPS, "seed": seed, "optim": {"lr": rate}}
    return merged(merged(COMMON, above), {"eval": {"split": split, "every": every}})


def slug(name: str) -> str:
    """A method's name as a directory."""
    return name.replace(" (", "-").replace(")", "")


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
                settings(METHODS[name], rate, 100, "valid_seen", STEPS // 2), {"eval": {"tasks": 80, "attempts": 1}}
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
        (f"household/report/{slug(name)}-s{seed}", settings(recipe, tuned(name), seed, "valid_unseen", STEPS // 2))
        for seed in seeds
        for name, recipe in METHODS.items()
    ]
    results = learning.run_all(jobs, workers)
    runs = {name: [_run(f"household/report/{slug(name)}-s{seed}", results) for seed in seeds] for name in METHODS}
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
    asked = settings(METHODS["sage_opd (rule)"], 1e-4, 7, "valid_unseen", 0)
    judged = judges.judge(build(merged(asked, {"batch": {"tasks": 64, "attempts": 2}})))
    print(table(judged))
    store("judges", {"table": table(judged), **{kind: jsonable(vars(one)) for kind, one in judged.items()}})


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
    sys.exit(main())

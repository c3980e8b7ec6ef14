"""Every recipe on the environment of the main job, with the same budget: held-out success before and after.

    python benchmarks/recipes.py run         # one run a recipe (--seeds for more), skipped where there is a result
    python benchmarks/recipes.py write       # the table of docs/recipes.md from what there is

The packaged pretrained model of 135M parameters, 4 steps of 8 tasks x 8 attempts, one learning rate for all. Recipes
keep their published settings, but for what would not fit (learning rate, batch, lengths) and what the teacher sees: the
answer that the environment's feedback states, or the reference, wherever a method wants privileged information. No
stronger model with this tokenizer can be had, so where a method wants one it has its own first weights, shown the
answer. So they do not have the same information. Runs go to runs/recipes; results to docs/benchmarks/recipes.json.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import learning

from agents import recipes
from agents.config import build
from agents.errors import SetupError
from agents.report.metrics import read_jsonl
from agents.training.trainer import Trainer

RUNS = learning.RUNS.with_name("recipes")
RESULTS = learning.DOCS / "recipes.json"
PAGE = Path("docs/recipes.md")

COMMON: dict[str, Any] = {
    "env": {"id": "rfenvs/ToolCall-v0", "kwargs": {"level": 1, "feedback": "expected"}},
    "model": {"name": "smollm2-135m"},
    "sampling": {"temperature": 1.0, "max_tokens": 16},
    "batch": {"tasks": 8, "attempts": 8},
    "optim": {"lr": 4e-5, "betas": [0.9, 0.99], "weight_decay": 0.0, "warmup_steps": 2, "steps_per_batch": 1},
    "eval": {"split": "test", "tasks": 48, "attempts": 2, "temperature": 1.0, "top_p": 1.0},
    "steps": 4,
    "save_every": 0,
    "save_final": False,
    "check_teacher": 0,
    "record_tokens": 0,
    "threads": 1,
}
EMA = {"kind": "ema", "rate": 0.05, "temperature": 0.6}
ANSWER = {"sources": ["sibling", "expected"], "wording": "turn", "allow_reference": True}
"""Another attempt's success, else the expected answer, as an earlier turn."""
REFERENCE = {"sources": ["reference"], "wording": "turn", "allow_reference": True}
STRONGER = {"teacher": {"kind": "frozen"}, "context": ANSWER}
"""In place of a stronger model: the policy's first weights, shown the answer."""

SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"teacher": EMA, "context": ANSWER} for name in ("sdpo", "sdpo_rich", "sdpo_grpo", "srpo", "unisd")},
    **{name: {"context": ANSWER} for name in ("rlsd", "antisd", "credit", "pbsd")},
    **{name: {"context": REFERENCE} for name in ("opsd", "pw_opsd")},
    **{
        name: STRONGER
        for name in (
            "opd", "sod", "tcod", "tip", "vopd", "dgrpo", "minillm", "lightning_opd", "uni_opd", "stable_opd", "brts",
        )
    },
    "sage_opd": {**STRONGER, "intervention": {"judge": {"kind": "rule"}}},
    "rlrt": {"context": {"sources": ["sibling"], "wording": "turn"}},
    "mad_opd": {"debate_tokens": 8, "rounds": 1},
    **{name: {"author_tokens": 32} for name in ("trace", "sgcd", "skill_sd")},
    "sort": {"plan_tokens": 32},
    "omniopd": {"chunk": 4, "chunks": 2, "continuations": 4},
    "ropd": {"judge_tokens": 48, "good": "reference", "unjudged": "reward"},
    "resd": {"author_tokens": 32},
    "score": {"second": "policy"},
}  # fmt: skip
"""What differs from the published settings, by recipe."""
NOT_HERE = {"dagger": "needs a planner", "gigpo": "needs states"}


def settings(name: str, seed: int) -> dict[str, Any]:
    """One run of a recipe."""
    directory = RUNS / f"{name}-s{seed}"
    return {**COMMON, "recipe": {"name": name, **SETTINGS.get(name, {})}, "seed": seed, "run_dir": str(directory)}


def one(wanted: dict[str, Any]) -> dict[str, Any]:
    """What a run came to, in this process: several share one, since a run is short."""
    directory = Path(wanted["run_dir"])
    if not (directory / "summary.json").is_file():
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "log.txt").open("a") as log, contextlib.redirect_stderr(log):
            try:
                Trainer(build(wanted)).run()
            except SetupError as error:
                return {"refused": str(error)}
    summary = json.loads((directory / "summary.json").read_text())
    rewards = [r["reward"] for r in read_jsonl(directory / "metrics.jsonl") if r["kind"] == "train"]
    kept = ("held_out", "held_out_greedy", "generations", "train_cpu_seconds")
    return {**{key: summary[key] for key in kept}, "train_reward": rewards}


def run(workers: int, seeds: int, only: str) -> None:
    """Every recipe that has no result yet, or those that are named."""
    data = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    wanted = only.split(",") if only else [n for n in recipes.names() if n not in NOT_HERE]
    jobs = [(n, s) for s in range(seeds) for n in wanted if str(s) not in data.get(n, {})]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = pool.map(one, [settings(name, seed) for name, seed in jobs])
        for (name, seed), result in zip(jobs, results, strict=True):
            data.setdefault(name, {})[str(seed)] = result
            RESULTS.write_text(json.dumps(dict(sorted(data.items())), indent=1))
            after = result.get("held_out", {}).get("after", {}).get("mean")
            print(f"{name} seed {seed}: {after if after is not None else result.get('refused')}", flush=True)


def write() -> None:
    """The table: status from the recipe's own docstring, numbers from the results."""
    data = json.loads(RESULTS.read_text())
    rows = []
    for name in recipes.names():
        page = "sdpo" if name == "sdpo_rich" else name
        cells = [f"[`{name}`](recipes/{page}.md)", _status(name)]
        found = [r for _, r in sorted(data.get(name, {}).items())]
        good = [r for r in found if "held_out" in r]
        if good:
            cells += [_shown(good, "held_out"), _shown(good, "held_out_greedy")]
            cells.append(f"{sum(r['train_cpu_seconds'] for r in good) / len(good):.0f}")
        else:
            cells += [NOT_HERE.get(name, "refused" if found else "not run"), "", ""]
        rows.append("| " + " | ".join(cells) + " |")
    head, rest = PAGE.read_text().split("<!-- curves -->\n")
    old, tail = rest.split("<!-- end -->")
    header = "\n".join(old.splitlines()[:2])
    PAGE.write_text(f"{head}<!-- curves -->\n{header}\n" + "\n".join(rows) + f"\n<!-- end -->{tail}")


def _status(name: str) -> str:
    doc = importlib.import_module(recipes.get(name).__module__).__doc__ or ""
    line = next((line for line in doc.splitlines() if line.startswith("Status:")), "Status: full")
    words = line.removeprefix("Status:").strip()
    return next((s for s in ("near-full", "near full", "partial", "our reading", "full") if words.startswith(s)), words)


def _shown(runs: list[dict[str, Any]], key: str) -> str:
    if len(runs) == 1:
        after = runs[0][key]["after"]
        return f"{after['mean']:.2f} [{after['low']:.2f}, {after['high']:.2f}]"
    mean, half = learning.interval([r[key]["after"]["mean"] for r in runs])
    return f"{mean:.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=["run", "write"])
    parser.add_argument("--workers", type=int, default=2, help="runs at once, one thread each")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each recipe")
    parser.add_argument("--only", default="", help="recipes, separated by commas")
    known = parser.parse_args()
    if known.phase == "write":
        write()
    else:
        run(known.workers, known.seeds, known.only)


if __name__ == "__main__":
    main()

"""Every recipe on the environment of the main job, with the same budget: success on held-out tasks as training goes on.

    python benchmarks/recipes.py warm        # two small models from nothing: a policy, and a teacher that knows more
    python benchmarks/recipes.py tune        # two learning rates for each recipe, on the dev split, one seed
    python benchmarks/recipes.py report      # the better one, 3 other seeds, on the test split
    python benchmarks/recipes.py pretrained  # the packaged pretrained model of 135M parameters, one seed
    python benchmarks/recipes.py write       # docs/recipes.md from what there is

The policy of the first three is made on the spot (a tokenizer of 512 entries and 0.4M weights that imitated calls,
three in ten of them wrong), so that seeds of every recipe cost minutes; it says nothing about large models.
Recipes keep their published settings, but for what would not fit: the learning rate, the batch, lengths, and what the
teacher sees, which is the answer that the environment's feedback states wherever the method wants privileged
information, and the stronger model where it wants an external one. So they do not have the same information.
Runs go to runs/recipes and are skipped when started again; results to docs/benchmarks/recipes.json, docs/recipes.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import gymnasium
import learning
import torch

import rfenvs  # noqa: F401  registers the ids
from agents import recipes
from agents.config import build, merged
from agents.engines.base import Sampling
from agents.engines.hf import HFEngine
from agents.errors import SetupError
from agents.rollout import Environments
from agents.small import build_small, imitate
from agents.teachers.hints import Hint
from agents.teachers.wording import reworded
from agents.training.evaluate import Estimate, evaluate
from agents.training.trainer import Trainer
from agents.trajectory import Message

RUNS = learning.RUNS.with_name("recipes")
POLICY, TEACHER = RUNS / "policy", RUNS / "teacher"
RESULTS = learning.DOCS / "recipes.json"
PAGE = Path("docs/recipes.md")
RATES = (1e-3, 3e-3)
STEPS, SEEDS = 16, (0, 1, 2)
ENV: dict[str, Any] = {"level": 1, "feedback": "expected"}

COMMON: dict[str, Any] = {
    "env": {"id": "rfenvs/ToolCall-v0", "kwargs": ENV},
    "model": {"name": str(POLICY), "template": {}},
    "sampling": {"temperature": 1.0, "max_tokens": 24},
    "batch": {"tasks": 8, "attempts": 8},
    "optim": {"betas": [0.9, 0.99], "weight_decay": 0.0, "warmup_steps": 2, "steps_per_batch": 1, "clip_norm": 1.0},
    "eval": {"tasks": 64, "attempts": 2, "temperature": 1.0, "top_p": 1.0},
    "steps": STEPS,
    "save_every": 0,
    "save_final": False,
    "check_teacher": 0,
    "record_tokens": 0,
    "threads": 1,
}
PRETRAINED: dict[str, Any] = {
    "model": {"name": "smollm2-135m"},
    "sampling": {"max_tokens": 16},
    "optim": {"lr": 4e-5},
    "eval": {"tasks": 32, "attempts": 2, "split": "test", "every": 4},
    "steps": 8,
    "seed": 0,
}
ANSWER = {"sources": ["sibling", "expected"], "wording": "turn", "allow_reference": True}
"""What a self-teacher sees: another attempt's success, else the expected answer, as an earlier turn."""
EXTERNAL = {"kind": "external", "model": str(TEACHER)}

REFERENCE = {"sources": ["reference"], "wording": "turn", "allow_reference": True}
SETTINGS: dict[str, dict[str, Any]] = {
    **{
        name: {"context": ANSWER}
        for name in ("sdpo", "sdpo_rich", "sdpo_grpo", "srpo", "rlsd", "antisd", "credit", "pbsd", "unisd")
    },
    **{name: {"context": REFERENCE} for name in ("opsd", "pw_opsd")},
    **{
        name: {"teacher": EXTERNAL}
        for name in (
            "opd",
            "sod",
            "tcod",
            "tip",
            "vopd",
            "dgrpo",
            "minillm",
            "lightning_opd",
            "uni_opd",
            "stable_opd",
            "brts",
        )
    },
    "sage_opd": {"teacher": EXTERNAL, "intervention": {"judge": {"kind": "rule"}}},
    "rlrt": {"context": {"sources": ["sibling"], "wording": "turn"}},
    "mad_opd": {"teacher": EXTERNAL, "debate_tokens": 16, "rounds": 1},
    "omniopd": {"teacher": EXTERNAL, "chunk": 4, "chunks": 2, "continuations": 4},
    "ropd": {"teacher": EXTERNAL, "judge_tokens": 32, "unjudged": "reward"},
    "resd": {"author_tokens": 32},
}
"""What differs from the published settings, by recipe."""
LEFT_OUT = {
    "dagger": "the environment has no planner that acts",
    "gigpo": "the environment tells no states: one turn",
}


def dialogues(n: int, noise: float, seed: int, hinted: float = 0.3) -> Iterator[list[Message]]:
    """Questions with an answer, which is another task's in ``noise`` of them; some with the right one shown before."""
    env = gymnasium.make("rfenvs/ToolCall-v0", **ENV).unwrapped
    rng, last = random.Random(seed), "weather()"
    for k in range(n):
        task = env.get_task(1_000_000 + k)  # training draws from a billion
        gold = env.gold_actions(task)[0]
        _, info = env.reset(options={"task_index": 1_000_000 + k})
        shown = rng.random() < hinted
        messages = reworded("turn", info["messages"], Hint(answer=gold)) if shown else info["messages"]
        answer = last if rng.random() < noise and not shown else gold
        last = gold
        yield [*messages, {"role": "assistant", "content": answer}]


def warm() -> None:
    """Build policy and teacher: each imitates, in rounds, until it succeeds as often as it should."""
    torch.set_num_threads(1)
    for target, start, noise, hinted, enough in ((POLICY, None, 0.3, 0.3, 0.09), (TEACHER, POLICY, 0.02, 0.2, 0.3)):
        if (target / "config.json").is_file():
            continue
        draft = target.with_name("draft")
        made = list(dialogues(8000, noise=noise, seed=0 if start is None else 1, hinted=hinted))
        if start is None:
            texts = (m["content"] for d in made[:800] for m in d)
            build_small(draft, texts, vocabulary=512, width=96, layers=3, context=512)
        else:
            shutil.copytree(start, draft, dirs_exist_ok=True)
        for k in range(20):
            loss = imitate(draft, made, steps=400, rows=8, lr=4e-3, seed=k)
            success = _success(draft)
            print(f"{target.name}: {400 * (k + 1)} steps, {loss:.3f} nats a token, success {success}", flush=True)
            if success.mean >= enough:
                break
        draft.rename(target)


def _success(directory: Path) -> Estimate:
    engine = HFEngine.load(str(directory))
    environments = Environments("rfenvs/ToolCall-v0", "dev", ENV)
    sampling = Sampling(max_tokens=24)
    return evaluate(engine, engine.chat, environments, tasks=64, attempts=2, sampling=sampling, seed=9).sampled


def settings(name: str, rate: float, seed: int, split: str) -> dict[str, Any]:
    """One run of a recipe."""
    recipe = {"name": name, **SETTINGS.get(name, {})}
    above = {"recipe": recipe, "seed": seed, "optim": {"lr": rate}, "eval": {"split": split, "every": STEPS // 2}}
    return merged(COMMON, above)


def names(only: str = "") -> list[str]:
    """Recipes that can run here."""
    return [n for n in recipes.names() if n not in LEFT_OUT and (not only or n in only.split(","))]


def load() -> dict[str, Any]:
    """Results so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}


def store(key: str, value: dict[str, Any]) -> None:
    """Add to the results, recipe by recipe."""
    known = load()
    RESULTS.write_text(json.dumps({**known, key: {**known.get(key, {}), **value}}, indent=1))


def one(job: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The curve of one run, in this process."""
    name, wanted = job
    directory = RUNS / name
    if not (directory / "summary.json").is_file():
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "log.txt").open("a") as log, contextlib.redirect_stderr(log):
            try:
                Trainer(build({**wanted, "run_dir": str(directory)})).run()
            except SetupError as error:
                return {"points": [], "refused": str(error)}
    return learning.curve(directory)


def run_all(jobs: list[tuple[str, dict[str, Any]]], workers: int) -> list[dict[str, Any]]:
    """Curves, in the order of the runs; several in one process after each other, since a run takes seconds."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(one, jobs))


def tune(workers: int, only: str = "") -> None:
    """Both rates of every recipe on the dev split."""
    todo = [n for n in names(only) if n not in load().get("tune", {})]
    jobs = [(f"tune/{n}-{rate:g}", settings(n, rate, 100, "dev")) for n in todo for rate in RATES]
    results = iter(run_all(jobs, workers))
    for name in todo:
        found = [next(results) for _ in RATES]
        scores = {f"{rate:g}": learning.area(r) if r["points"] else 0.0 for rate, r in zip(RATES, found, strict=True)}
        store("tune", {name: scores})
        print(name, {rate: round(value, 3) for rate, value in scores.items()}, flush=True)


def tuned(name: str) -> float:
    """The rate with the higher mean success on the dev split."""
    row = load()["tune"][name]
    return float(max(row, key=row.__getitem__))


def report(workers: int, only: str = "") -> None:
    """The other seeds of every recipe."""
    todo = [n for n in names(only) if n not in load().get("report", {})]
    jobs = [(f"report/{n}-s{seed}", settings(n, tuned(n), seed, "test")) for n in todo for seed in SEEDS]
    results = iter(run_all(jobs, workers))
    for name in todo:
        store("report", {name: [next(results) for _ in SEEDS]})


def pretrained(workers: int, only: str = "") -> None:
    """One seed of every recipe with the pretrained model; external teachers are the model itself, shown the answer."""
    todo = [n for n in names(only) if n not in load().get("pretrained", {})]
    for k in range(0, len(todo), workers):
        jobs = []
        for name in todo[k : k + workers]:
            recipe = {"name": name, **SETTINGS.get(name, {})}
            if recipe.get("teacher") == EXTERNAL:
                recipe |= {"teacher": {"kind": "frozen"}, "context": ANSWER}
            jobs.append((f"pretrained/{name}", merged(merged(COMMON, PRETRAINED), {"recipe": recipe})))
        store("pretrained", dict(zip(todo[k : k + workers], run_all(jobs, workers), strict=True)))


def write() -> None:
    """The page, from results and the recipes' own docstrings."""
    data = load()
    rows = []
    for name in recipes.names():
        doc = importlib.import_module(recipes.get(name).__module__).__doc__ or ""
        status = next((line for line in doc.splitlines() if line.startswith("Status:")), "")
        status = status.removeprefix("Status:").strip().split(".")[0].split(",")[0].split(":")[0]
        cells = [f"[`{name}`](recipes/{_page(name)}.md)", status or "full"]
        runs = data.get("report", {}).get(name)
        for step in (STEPS // 2, STEPS):
            cells.append(_interval(runs, step, "sampled") if runs else "")
        cells.append(_interval(runs, STEPS, "greedy") if runs else "")
        spent = [r["points"][-1]["cpu_seconds"] for r in runs or [] if r["points"]]
        cells.append(f"{mean(spent):.0f}" if spent else "")
        one = data.get("pretrained", {}).get(name)
        cells.append(" / ".join(f"{p['sampled']:.2f}" for p in one["points"][1:]) if one else "")
        if name in LEFT_OUT:
            cells[2:] = [LEFT_OUT[name], *[""] * (len(cells) - 3)]
        rows.append("| " + " | ".join(cells) + " |")
    page = PAGE.read_text()
    table = "\n".join(rows)
    head, _, rest = page.partition("<!-- curves -->\n")
    lines = rest.partition("<!-- end -->")
    header = "\n".join(lines[0].splitlines()[:2])
    PAGE.write_text(f"{head}<!-- curves -->\n{header}\n{table}\n<!-- end -->{lines[2]}")


def _page(name: str) -> str:
    return {"sdpo_rich": "sdpo"}.get(name, name)


def _interval(runs: list[dict[str, Any]], step: int, kind: str) -> str:
    values = [p[kind] for r in runs for p in r["points"] if p["step"] == step]
    if not values:
        return ""
    m, half = learning.interval(values)
    return f"{m:.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=["warm", "tune", "report", "pretrained", "write", "all"])
    parser.add_argument("--workers", type=int, default=2, help="runs at once, one thread each")
    parser.add_argument("--only", default="", help="recipes, separated by commas")
    known = parser.parse_args()
    phases = ["warm", "tune", "report", "pretrained", "write"] if known.phase == "all" else [known.phase]
    for phase in phases:
        if phase in ("warm", "write"):
            globals()[phase]()
        else:
            globals()[phase](known.workers, known.only)


if __name__ == "__main__":
    main()

"""Every recipe trains: three steps of a whole run with a tiny model, on an environment where it sometimes succeeds."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import coin
import pytest
import torch
from safetensors.torch import load_file

from agents import recipes
from agents.config import build, merged
from agents.report.metrics import read_jsonl
from agents.training.trainer import Trainer

torch.set_num_threads(1)

RUNS: dict[str, dict[str, Any]] = {
    "gigpo": {"env": {"kwargs": {"max_turns": 2}}},
    "dagger": {"env": {"id": "tests/Corridor-v0"}},
}
"""Settings by recipe, where the defaults below do not do; the references of the oracle add theirs."""

for file in sorted(Path(__file__).parent.glob("references_*.py")):
    RUNS |= getattr(importlib.import_module(file.stem), "RUNS", {})

COMMON: dict[str, Any] = {
    "env": {"id": coin.ID},
    "sampling": {"max_tokens": 6, "temperature": 1.0},
    "batch": {"tasks": 3, "attempts": 4},
    "optim": {"lr": 1e-3, "warmup_steps": 0, "steps_per_batch": 1},
    "eval": {"tasks": 0},
    "steps": 3,
    "save_every": 0,
    "check_teacher": 0,
    "threads": 1,
}


def train(name: str, tiny_dir: Path, run_dir: Path, **changes: Any) -> Path:
    import corridor  # noqa: F401

    settings = merged(COMMON, {"recipe": {"name": name}, "model": {"name": str(tiny_dir)}, "run_dir": str(run_dir)})
    Trainer(build(merged(merged(settings, RUNS.get(name, {})), changes))).run()
    return run_dir


@pytest.mark.parametrize("name", recipes.names())
def test_three_steps(name, tiny_dir, tmp_path):
    run = train(name, tiny_dir, tmp_path / "run")
    rows = [r for r in read_jsonl(run / "metrics.jsonl") if r["kind"] == "train"]
    assert [r["step"] for r in rows] == [0, 1, 2]
    assert sum(r["optimizer_steps"] for r in rows) >= 1, "no step had a signal"
    for row in rows:
        for key, value in row.items():
            assert not isinstance(value, float) or math.isfinite(value), f"{key} is {value}"
    before = load_file(tiny_dir / "model.safetensors")
    after = load_file(run / "checkpoints/final/model.safetensors")
    assert any(not torch.equal(before[k], after[k]) for k in before), "the weights are as they were"
    assert json.loads((run / "summary.json").read_text())["steps"] == 3

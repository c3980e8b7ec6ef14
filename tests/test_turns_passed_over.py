"""Turns that a judge skips: still counted, read by no teacher, in no way of the others; and runs that are resumed."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
import torch
from models import save_tiny
from safetensors.torch import load_file
from test_credit import batch_of, coefficients
from test_learner import make_batch
from test_recipes_multi_turn import settings, train

from agents import recipes
from agents.batch import Batch
from agents.engines.base import Completion, Sampling
from agents.engines.hf import HFEngine
from agents.report.metrics import read_jsonl
from agents.teachers.teacher import Teacher, read_teacher
from agents.training.learner import Learner, OptimSettings
from agents.training.trainer import Trainer

LABELS = ["strong", "skip", "weak", "weak", "skip", "strong", "skip"]
"""Of the batch of `test_learner`, whose sample 4 has no teacher."""


def test_a_skipped_turn_has_no_weight_whatever_the_teacher_says_of_it():
    told, silent = (batch_of(["strong", "skip"], [[0.5], row]) for row in ([0.9, 0.9], [math.nan, math.nan]))
    assert coefficients(silent).tolist() == coefficients(told).tolist() == [1.0, 0.0, 0.0]
    assert silent.log["weight_scale"] == told.log["weight_scale"] == 6.0, "N counts the skipped tokens"


def test_what_need_not_be_read():
    batch = batch_of(["strong", "skip", "weak", None, "skip"], [[0.5]] * 5, [True, True, True, True, False])
    assert recipes.get("sage_opd")().passed_over(batch).tolist() == [False, True, False, False, False]
    assert (
        recipes.get("sage_opd")(intervention={"weak": 0}).passed_over(batch).tolist()
        == [False, True, True] + [False] * 2
    )
    assert recipes.get("opd")().passed_over(batch) is None, "no judge"
    assert recipes.get("srpo")(intervention={}).passed_over(batch) is None, "its weights compare all routed turns"
    by_tokens = recipes.get("sage_opd")(intervention={"judge": {"kind": "agreement"}})
    assert not by_tokens.passed_over(batch).any(), "the reading is what is judged"


@pytest.mark.parametrize("confidence", ["turn", "token", "off"])
@pytest.mark.parametrize("name", ["opd", "sdpo", "sdpo_grpo", "tcod"])
@pytest.mark.parametrize("budget", [16, 10_000])
def test_the_loss_is_the_same_whether_skipped_turns_are_read_or_not(engine, name, confidence, budget):
    recipe = recipes.get(name)(intervention={"confidence": confidence}, top_k=0)
    results = []
    for spare in (False, True):
        batch = make_batch()
        for sample, label in zip(batch.samples, LABELS, strict=True):
            sample.label = label
        batch.passed_over = recipe.passed_over(batch) if spare else None
        assert batch.scored.tolist() == [True, not spare, True, True, False, True, not spare]
        items = [(s.teacher_ids, s.action_ids) for s, seen in zip(batch.samples, batch.scored, strict=True) if seen]
        batch.teacher = Teacher(engine, recipe.teacher).logits(items, 1.0)
        batch.reading = read_teacher(batch)
        results.append((*stepped(engine, recipe, batch, budget), batch))
    (loss, grads, full), (spared, others, short) = results
    assert full.reading.confidence.isfinite().sum() > short.reading.confidence.isfinite().sum()
    assert spared == pytest.approx(loss, abs=1e-6)
    for a, b in zip(grads, others, strict=True):
        assert torch.allclose(a, b, atol=1e-6, rtol=1e-4)
    if confidence != "off":
        assert short.log["weight_scale"] == pytest.approx(full.log["weight_scale"])
        assert math.isfinite(short.log["confidence"])


def stepped(engine: HFEngine, recipe: Any, batch: Batch, budget: int) -> tuple[float, list[torch.Tensor]]:
    engine.budget = budget
    learner = Learner(engine, OptimSettings(lr=1e-12, clip_norm=1e9, weight_decay=0), 1.0)
    grads: list[torch.Tensor] = []
    learner.optimizer.step = lambda: grads.extend(p.grad.clone() for p in learner.parameters)
    return learner.step(batch, recipe.loss(batch), top=2).loss, grads


def test_where_all_is_skipped_nothing_is_read_and_nothing_moves(engine):
    recipe = recipes.get("sage_opd")()
    batch = make_batch()
    for sample in batch.samples:
        sample.label = "skip"
    batch.passed_over = recipe.passed_over(batch)
    assert not batch.scored.any()
    assert stepped(engine, recipe, batch, 10_000) == (0.0, [])
    assert (batch.log["turns_skip"], batch.log["active_share"]) == (6, 0)
    assert "confidence" not in batch.log


JUDGED = {"name": "sage_opd", "context": {"sources": ["rest"]}, "intervention": {"judge": {"triggers": False}}}


@pytest.fixture
def roomy(tmp_path):
    """A model that can read a judge's question."""
    return save_tiny(tmp_path / "model", max_position_embeddings=4096)


def test_a_run_reads_only_what_it_teaches(roomy, tmp_path, monkeypatch):
    read: list[int] = []
    logits = Teacher.logits

    def counted(self: Teacher, items: Any, *more: Any) -> Any:
        read.append(len(items))
        return logits(self, items, *more)

    monkeypatch.setattr(Teacher, "logits", counted)
    monkeypatch.setattr(Teacher, "generate", by_letters)
    rows = train(settings(roomy, tmp_path / "run", JUDGED, record_tokens=2))
    labels = [(e["step"], t["label"]) for e in read_jsonl(tmp_path / "run" / "trajectories.jsonl") for t in e["turns"]]
    assert {label for _, label in labels} == {"skip", "weak", "strong"}
    assert read == [sum(k == step and label != "skip" for k, label in labels) for step in range(2)]
    assert [r["turns_skip"] for r in rows] == [labels.count((step, "skip")) for step in range(2)]


def test_a_teacher_that_overflows_moves_nothing_and_is_said_to(tiny_dir, tmp_path, monkeypatch, capfd):
    read = Teacher.read

    def overflowing(self: Teacher, items: Any) -> Any:
        hidden, head = read(self, items)
        return torch.full_like(hidden, math.nan), head

    monkeypatch.setattr(Teacher, "read", overflowing)
    recipe = {**JUDGED, "intervention": {"judge": {"kind": "rule"}}}
    rows = train(settings(tiny_dir, tmp_path / "run", recipe))
    assert [r["optimizer_steps"] for r in rows] == [0, 0]
    said = " ".join(capfd.readouterr().err.split())
    assert "1 of 1 optimiser steps were left out: their gradient is not finite" in said
    assert "nothing to learn from" not in said


# ---- interrupted


def by_letters(
    self: Teacher, prompts: list[list[int]], sampling: Sampling, seed: int, conversations: Any = None
) -> list[Completion]:
    """Verdicts that follow from the question and the teacher's weights alone."""
    assert sampling.temperature == 0
    weights = "".join(f"{float(w.double().sum()):.12g}" for w in self.shadow.values())
    said = []
    for prompt in prompts:
        draw = hashlib.sha256(f"{prompt}{weights}".encode()).digest()[0]
        text = f"LABEL: {('SKIP', 'WEAK', 'STRONG', 'Hm')[draw % 4]}\nREASON: {draw}."
        said.append(Completion(self.engine.chat.plain(text), [], "stop"))
    return said


@pytest.mark.parametrize("kind", ["ema", "frozen"])
def test_a_judged_run_goes_on_as_if_nothing_had_happened(roomy, tmp_path, monkeypatch, kind):
    recipe = {**JUDGED, "teacher": {"kind": kind}}
    optim, sampling = {"lr": 1e-5, "steps_per_batch": 2}, {"temperature": 0.05, "max_tokens": 2}
    changes = {"steps": 5, "save_every": 2, "save_final": True, "optim": optim, "sampling": sampling}
    monkeypatch.setattr(Teacher, "generate", by_letters)
    whole = train(settings(roomy, tmp_path / "whole", recipe, **changes))
    turns = [t for e in read_jsonl(tmp_path / "whole/trajectories.jsonl") for t in e["turns"]]
    assert {t["label"] for t in turns} == {"skip", "weak", "strong"}
    assert len({t["text"] for t in turns}) < len(turns) / 2, "a policy that repeats itself: its verdicts are remembered"

    record = Trainer._record

    def interrupted(self: Trainer, step: int, *rest: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt
        record(self, step, *rest)

    broken = settings(roomy, tmp_path / "broken", recipe, **changes)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    resumed = train(broken)
    for row in (*whole, *resumed):
        del row["seconds"], row["cpu_seconds"]
    assert resumed == whole
    assert (tmp_path / "broken/trajectories.jsonl").read_text() == (tmp_path / "whole/trajectories.jsonl").read_text()
    a, b = (load_file(tmp_path / d / "checkpoints/final/model.safetensors") for d in ("whole", "broken"))
    assert all(torch.equal(a[k], b[k]) for k in a)

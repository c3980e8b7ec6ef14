"""Runs of opd and sage_opd over episodes of many turns: what they log, and what they reduce to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import corridor
import pytest
import torch
from models import save_tiny
from safetensors.torch import load_file
from test_credit import batch_of

from agents import recipes
from agents.config import build
from agents.credit.labels import LABELS
from agents.errors import SetupError
from agents.losses.terms import Distill
from agents.report.metrics import read_jsonl
from agents.training.trainer import Run, Trainer


@pytest.fixture(scope="module")
def roomy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose context holds a judge's question."""
    return save_tiny(tmp_path_factory.mktemp("roomy"), max_position_embeddings=4096)


def train(model: Path, run_dir: Path, recipe: dict[str, Any], **changes: Any) -> Run:
    torch.set_num_threads(1)
    settings = {
        "recipe": recipe,
        "model": {"name": str(model)},
        "env": {"id": corridor.ID, "kwargs": {"max_turns": 3}},
        "sampling": {"max_tokens": 5},
        "batch": {"tasks": 2, "attempts": 1},
        "optim": {"lr": 1e-3},
        "eval": {"tasks": 0},
        "steps": 2,
        "check_teacher": 0,
        "save_every": 0,
        "run_dir": str(run_dir),
        **changes,
    }
    return Trainer(build(settings)).run()


def logged(run: Run) -> list[dict[str, Any]]:
    return [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "train"]


def trained(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.directory / "checkpoints/final/model.safetensors")


@pytest.mark.parametrize("kind", ["teacher", "rule", "oracle", "agreement"])
def test_every_judge_in_a_run(roomy_dir, tmp_path, kind):
    judge = {"kind": kind, "max_tokens": 8}
    run = train(roomy_dir, tmp_path / "run", {"name": "sage_opd", "intervention": {"judge": judge}})
    turns = [t for r in read_jsonl(run.directory / "trajectories.jsonl") for t in r["turns"]]
    assert {turn["label"] for turn in turns} <= set(LABELS)
    assert all(turn["label_reason"] for turn in turns)
    for row in logged(run):
        assert row["turns_skip"] + row["turns_weak"] + row["turns_strong"] == 6
        assert 0 < row["confidence"] < 1
        assert row["judge_failed"] == (1.0 if kind == "teacher" else 0.0)
    if kind != "agreement":  # what a random model says is no command
        assert all(row["turns_strong"] == 6 for row in logged(run))
        assert all(row["weight_scale"] * row["confidence"] == pytest.approx(1.0) for row in logged(run))
        assert {turn["label"] for turn in turns} == {"strong"}


def test_all_strong_without_confidence_ends_in_the_weights_of_opd(roomy_dir, tmp_path):
    opd = train(roomy_dir, tmp_path / "opd", {"name": "opd"})
    sage = {"name": "sage_opd", "intervention": {"confidence": "off", "judge": {"kind": "rule"}}}
    same = train(roomy_dir, tmp_path / "sage", sage)
    other = train(roomy_dir, tmp_path / "other", {"name": "sage_opd", "intervention": {"judge": {"kind": "rule"}}})
    a, b, c = map(trained, (opd, same, other))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)
    assert [row["loss"] for row in logged(opd)] == [row["loss"] for row in logged(same)]
    assert "weight_scale" not in logged(opd)[0]


def test_a_batch_in_which_every_turn_is_fine_changes_nothing(roomy_dir, tmp_path, capfd):
    judge = {"kind": "rule", "codes": {"unknown_command": "skip"}}
    run = train(roomy_dir, tmp_path / "run", {"name": "sage_opd", "intervention": {"judge": judge}})
    assert "every turn skipped); weights unchanged" in capfd.readouterr().err
    for row in logged(run):
        assert (row["optimizer_steps"], row["active_share"], row["turns_skip"]) == (0, 0, 6)
        assert "weight_scale" not in row
    before, after = load_file(roomy_dir / "model.safetensors"), trained(run)
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_several_optimiser_steps_a_batch_each_have_their_normaliser(roomy_dir, tmp_path):
    recipe = {"name": "sage_opd", "intervention": {"judge": {"kind": "rule"}}}
    run = train(roomy_dir, tmp_path / "run", recipe, optim={"lr": 1e-3, "steps_per_batch": 2})
    assert [row["optimizer_steps"] for row in logged(run)] == [2, 2]
    assert [row["turns_strong"] for row in logged(run)] == [3, 3], "the mean over the two steps"


@pytest.mark.parametrize("name", ["opd", "sage_opd"])
def test_an_external_teacher_sees_the_plain_prompt_of_every_turn(roomy_dir, tmp_path, name):
    other = save_tiny(tmp_path / "other", seed=5, hidden_size=48, max_position_embeddings=4096)
    run = train(roomy_dir, tmp_path / "run", {"name": name, "teacher": {"kind": "external", "model": str(other)}})
    for row in logged(run):
        assert row["taught"] == 1.0
        assert row["teacher_gap"] > 0
        assert row["optimizer_steps"] == 1
    turns = [t for r in read_jsonl(run.directory / "trajectories.jsonl") for t in r["turns"]]
    assert all(turn["teacher_messages"] == turn["messages"] for turn in turns)


def test_sdpo_with_an_intervention_runs(roomy_dir, tmp_path):
    recipe = {"name": "sdpo", "context": {"sources": ["feedback"]}, "intervention": {"judge": {"kind": "rule"}}}
    assert logged(train(roomy_dir, tmp_path / "run", recipe))[0]["turns_strong"] == 6


def test_an_oracle_without_a_planner_stops_the_run(roomy_dir, tmp_path):
    recipe = {"name": "sage_opd", "intervention": {"judge": {"kind": "oracle"}}}
    env = {"id": corridor.ID, "kwargs": {"max_turns": 3, "expert": False}}
    with pytest.raises(SetupError, match=r"env\.kwargs"):
        train(roomy_dir, tmp_path / "run", recipe, env=env)


# ---- opd


def test_opd_is_the_mean_of_the_reverse_kl_over_all_taught_tokens():
    batch = batch_of([None] * 3, [[0.5] * 3, [0.5], [0.5] * 2], [True, True, False])
    (term,) = recipes.get("opd")().terms(batch)
    assert isinstance(term, Distill)
    assert term.coefficients.tolist() == pytest.approx([0.25] * 4 + [0] * 2)
    assert (term.alpha, term.top_k, term.form) == (1.0, None, "full")
    (sampled,) = recipes.get("opd")(form="sampled").terms(batch)
    assert (sampled.form, sampled.alpha, sampled.top_k) == ("sampled", 1.0, None)
    (top,) = recipes.get("opd")(top_k=50, tail=False).terms(batch)
    assert (top.top_k, top.tail) == (50, False)


def test_opd_has_the_published_settings():
    config = build({"recipe": "opd"})
    assert (config.optim.lr, config.steps, config.batch.tasks, config.batch.attempts) == (1e-6, 250, 16, 1)
    assert (config.sampling.temperature, config.sampling.max_tokens, config.eval.temperature) == (1.0, 512, 0.4)
    sage = build({"recipe": "sage_opd"}).recipe
    assert (sage.intervention.weak, sage.intervention.confidence, sage.intervention.max_scale) == (0.5, "turn", None)
    assert sage.intervention.judge.kind == "teacher"


def test_settings_in_part_keep_the_rest():
    recipe = build({"recipe": {"name": "sage_opd", "intervention": {"judge": {"history": 4}}}}).recipe
    assert (recipe.intervention.judge.history, recipe.intervention.judge.kind, recipe.intervention.weak) == (
        4,
        "teacher",
        0.5,
    )


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"form": "sampled", "top_k": 20}, r"recipe\.form='sampled'.*recipe\.top_k=20"),
        ({"form": "sampled", "alpha": 0.5}, r"recipe\.form='sampled'.*recipe\.alpha=0\.5"),
        ({"context": {"sources": ["none"]}}, r"recipe\.teacher\.kind='frozen' with recipe\.context\.sources"),
        ({"teacher": {"kind": "external"}}, r"teacher\.model"),
        ({"intervention": {"max_scale": 0.5}}, r"max_scale"),
        ({"intervention": {"judge": {"kind": "oracel"}}}, r"intervention\.judge\.kind='oracel'"),
    ],
)
def test_impossible_settings_are_refused(recipe, words):
    with pytest.raises(SetupError, match=words):
        build({"recipe": {"name": "sage_opd", **recipe}})

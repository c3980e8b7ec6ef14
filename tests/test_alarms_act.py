"""Alarms that end a run, or take it back: what they leave behind, and that a kill at any instant changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import coin
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from agents.batch import Batch, Sample
from agents.config import build
from agents.errors import SetupError
from agents.losses.fused import TokenStats
from agents.losses.reduction import token_mean
from agents.losses.terms import Likelihood, Term
from agents.recipes.base import Recipe
from agents.report.metrics import read_jsonl
from agents.training import checkpoints, trainer
from agents.training.alarms import NAMES, AlarmSettings, stop
from agents.training.metrics import teacher_monitors
from agents.training.trainer import Run, Trainer

torch.set_num_threads(1)


class Stutters(Recipe):
    """Harmless at first; from step 4 on it teaches the policy to say one token again and again."""

    name: ClassVar[str] = "stutters"

    def samples(self, groups: Any, tools: Any) -> list[Sample]:
        first = groups[0].trajectories[0].turns[0]
        again = Sample(first.prompt_ids, [70] * 12, None, [], "", 0.0, [], 0, 0, 0, source="reference")
        return [*super().samples(groups, tools), again]

    def terms(self, batch: Batch) -> list[Term]:
        weight = 1.0 if self._step >= 4 else 0.01
        return [Likelihood(weight * token_mean(batch.per_token(batch.made_by("reference"))))]


def config(tiny_dir: Path, run_dir: Path, **changes: Any) -> Any:
    return build({
        "recipe": Stutters(), "env": {"id": coin.ID}, "model": {"name": str(tiny_dir)}, "steps": 20, "save_every": 2,
        "batch": {"tasks": 2, "attempts": 2}, "sampling": {"max_tokens": 12}, "optim": {"lr": 1e-2},
        "eval": {"tasks": 2, "attempts": 1}, "threads": 1, "run_dir": str(run_dir), "record_tokens": 0,
        "alarms": {"action": "rollback", "names": ["repetition"], "patience": 2}, **changes,
    })  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints/final/model.safetensors")


def same(a: Path, b: Path) -> bool:
    ours, theirs = weights(a), weights(b)
    return all(torch.equal(ours[k], theirs[k]) for k in ours)


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    timed = ("seconds", "cpu_seconds")
    return [
        {k: v for k, v in r.items() if k not in timed} for r in read_jsonl(run / "metrics.jsonl") if r["kind"] == kind
    ]


@pytest.fixture(scope="module")
def rolled_back(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Trainer(config(tiny_dir, tmp_path_factory.mktemp("rollback") / "run")).run()


# ---- when


def history(*repetitions: float) -> list[dict[str, float]]:
    return [{"repetition": 0.0} for _ in range(3)] + [{"repetition": r} for r in repetitions]


def test_an_alarm_acts_once_it_stood_for_so_many_steps_in_a_row():
    acts = AlarmSettings(action="stop", patience=2)
    assert stop(history(0.9), acts) is None
    assert stop(history(0.9, 0.0, 0.9), acts) is None
    found = stop(history(0.9, 0.0, 0.9, 0.9), acts)
    assert (found.alarm.name, found.first) == ("repetition", 5)


def test_it_does_not_where_it_is_only_to_warn_or_is_not_named():
    assert stop(history(0.9, 0.9), AlarmSettings(patience=2)) is None
    assert stop(history(0.9, 0.9), AlarmSettings(action="stop", patience=2, names=["length"])) is None
    flat = [{"zero_variance": 0.0}] * 3 + [{"zero_variance": 1.0}] * 3
    assert stop(flat, AlarmSettings(action="stop")) is None, "an easy task is no collapse"
    assert stop(flat, AlarmSettings(action="stop", names=["zero_variance"])).alarm.name == "zero_variance"


def test_wrong_settings_are_refused_by_name(tiny_dir, tmp_path):
    with pytest.raises(ValidationError, match=f"no alarm called reptition; there are {', '.join(NAMES)}"):
        AlarmSettings(names=["reptition"])
    with pytest.raises(SetupError, match=r"alarms.action='rollback' goes back to a checkpoint, but save_every=0"):
        config(tiny_dir, tmp_path, save_every=0)


# ---- what is left


def test_a_rollback_ends_with_the_weights_from_before_the_alarm(rolled_back, tiny_dir, tmp_path):
    stopped = rolled_back.summary["stopped"]
    (row,) = rows(rolled_back.directory, "stop")
    assert {k: row[k] for k in stopped} == stopped
    last, before = stopped["step"], stopped["weights_of_step"]
    assert (stopped["name"], stopped["first"], last < 19) == ("repetition", last - 1, True)
    assert 0 < before < stopped["first"]
    assert before % 2 == 0
    assert stopped["first"] - before <= 2, "the newest of them"
    assert rolled_back.summary["steps"] == last + 1 == len(rows(rolled_back.directory, "train"))
    assert [r["step"] for r in rows(rolled_back.directory, "eval")] == [0, 0, last + 1, last + 1]
    assert not list((rolled_back.directory / "checkpoints").glob("step-*"))
    whole = Trainer(config(tiny_dir, tmp_path / "run", steps=before)).run()
    assert same(rolled_back.directory, whole.directory)
    assert rolled_back.summary["held_out"] == whole.summary["held_out"]


def test_a_stop_ends_with_the_weights_of_its_last_step(rolled_back, tiny_dir, tmp_path, capfd):
    alarms = {"action": "stop", "names": ["repetition"], "patience": 2}
    run = Trainer(config(tiny_dir, tmp_path / "stop", alarms=alarms, save_every=0)).run()
    steps = rolled_back.summary["steps"]
    assert (run.summary["steps"], run.summary["stopped"]["weights_of_step"]) == (steps, steps)
    assert f"ended by the alarm repetition at step {steps - 1}" in capfd.readouterr().err
    whole = Trainer(config(tiny_dir, tmp_path / "whole", alarms={}, steps=steps)).run()
    assert same(run.directory, whole.directory)
    assert not same(run.directory, rolled_back.directory)
    assert run.summary["held_out"]["after"] == whole.summary["held_out"]["after"]


# ---- killed


def dies_at(instant: str, steps: int) -> None:
    """Have this process killed at an instant around the rollback."""

    def before(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        original = getattr(owner, name)

        def killed(*arguments: Any, **keywords: Any) -> Any:
            if when(*arguments):
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        setattr(owner, name, killed)

    if instant == "the alarm":
        before(trainer.MetricsWriter, "log", lambda _, step, kind, __: kind == "stop")
    elif instant == "restoring":
        before(checkpoints, "restore")
    elif instant == "evaluating":
        before(Trainer, "_evaluate", lambda _, step: step == steps)
    elif instant == "clearing":
        before(checkpoints, "clear")
    elif instant == "saving":
        before(checkpoints.shutil, "rmtree", lambda path, **_: path.name.startswith("step-") and path.suffix == "")


@pytest.mark.parametrize("instant", ["saving", "the alarm", "restoring", "evaluating", "clearing"])
def test_killed_around_a_rollback_equals_unbroken(rolled_back, tiny_dir, tmp_path, instant):
    child = os.fork()
    if child == 0:
        dies_at(instant, rolled_back.summary["steps"])
        Trainer(config(tiny_dir, tmp_path / "run")).run()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = Trainer(config(tiny_dir, tmp_path / "run")).run()
    assert again.summary["stopped"] == rolled_back.summary["stopped"]
    assert again.summary["held_out"] == rolled_back.summary["held_out"]
    for kind in ("train", "alarm", "stop", "eval"):
        assert rows(again.directory, kind) == rows(rolled_back.directory, kind)
    assert same(again.directory, rolled_back.directory)


@pytest.mark.parametrize("reach", [0, 1, 3, 5])
def test_as_many_checkpoints_are_kept_as_an_alarm_may_go_back_to(engine, tmp_path, reach):
    from agents.training.learner import Learner, OptimSettings

    learner, kept = Learner(engine, OptimSettings(), 1.0), []
    for step in range(0, 11, 2):
        checkpoints.save(tmp_path, step, learner, {}, None, reach)
        kept = sorted(checkpoints.step_of(p) for p in tmp_path.glob("step-*"))
        assert kept[-1] == step
        assert len(kept) < checkpoints.kept_at_once(reach, 2)
        for first in range(max(step - reach + 1, 1), step + 3):  # an alarm that may still be found out
            wanted = max(s for s in range(0, step + 1, 2) if s < first)
            assert reach == 0 or checkpoints.latest(tmp_path, first).name == f"step-{wanted:06d}"
    assert kept == {0: [10], 1: [8, 10], 3: [6, 8, 10], 5: [4, 6, 8, 10]}[reach]


# ---- monitors


def test_monitors_compare_student_and_teacher_where_both_were_read():
    nan = torch.nan
    stats = TokenStats(
        logp=torch.tensor([-1.0, -1.0, -2.0, -9.0]), entropy=torch.tensor([1.0, 3.0, 2.0, 100.0]),
        teacher_logp=torch.tensor([-1.5, -3.0, -1.0, nan]), teacher_entropy=torch.tensor([0.5, 1.5, 2.0, nan]),
        divergence=torch.zeros(4), top_ids=torch.tensor([[1, 2], [3, -1], [4, 5], [-1, -1]]),
        top_teacher=torch.zeros(4, 2), top_student=torch.tensor([[0.5, 0.2], [0.1, nan], [0.3, 0.4], [nan, nan]]),
    )  # fmt: skip
    found = teacher_monitors([stats])
    assert (found["log_ratio_median"], found["log_ratio_q95"]) == (1.0, 1.0)
    assert found["entropy_ratio"] == 1.5
    assert found["teacher_top_mass"] == pytest.approx(1.5 / 3)
    assert set(teacher_monitors([]).values()) == {None}


def test_every_run_with_a_teacher_logs_the_monitors(tiny_dir, tmp_path):
    recipe = {"name": "opd", "context": {"sources": ["feedback"]}, "top_k": 0}
    Trainer(config(tiny_dir, tmp_path / "run", recipe=recipe, steps=1, record_tokens=2)).run()
    (row,) = rows(tmp_path / "run", "train")
    assert 0 <= row["log_ratio_median"] <= row["log_ratio_q95"]
    assert row["entropy_ratio"] > 0
    assert 0 < row["teacher_top_mass"] < 1

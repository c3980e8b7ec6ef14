"""The `rollout` section reaches training, evaluation and servers alike, and its errors name it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import corridor
import pytest
from test_trainer import settings, train

from agents import cli
from agents.config import build
from agents.errors import SetupError
from agents.history import RolloutSettings
from agents.policies import play
from agents.report.metrics import read_jsonl
from agents.rollout import Drive
from agents.training.trainer import cut_warning


def on_the_corridor(tiny_dir, run_dir, **changes):
    return settings(
        tiny_dir, run_dir, recipe="grpo", steps=1, env={"id": corridor.ID, "kwargs": {"max_turns": 6}},
        eval={"tasks": 2, "attempts": 1}, check_teacher=0, **changes,
    )  # fmt: skip


def test_training_and_evaluation_use_the_same_settings(tiny_dir, tmp_path, monkeypatch):
    seen = []
    from agents.training import evaluate, trainer

    real = trainer.rollout

    def spy(*arguments, **named):
        seen.append(named["settings"])
        return real(*arguments, **named)

    monkeypatch.setattr(trainer, "rollout", spy)
    monkeypatch.setattr(evaluate, "rollout", spy)
    run = train(on_the_corridor(tiny_dir, tmp_path / "run", rollout={"history": 1, "turns": 3}))
    assert len(seen) == 5  # one step; sampled and greedy, before and after
    assert set(map(str, seen)) == {str(RolloutSettings(history=1, turns=3))}
    (step,) = [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "train"]
    assert step["stop_reasons"] == {"rollout_turns": 6}
    assert step["turns"] == 3
    rows = read_jsonl(run.directory / "trajectories.jsonl")
    assert all(len(row["turns"][2]["messages"]) == 3 for row in rows)


def test_reuse_of_the_cache_trains_the_same_model(tiny_dir, tmp_path):
    losses = []
    for name, tokens in (("again", 0), ("reused", 10_000)):
        model = {"name": str(tiny_dir), "reuse_tokens": tokens}
        run = train(on_the_corridor(tiny_dir, tmp_path / name, model=model))
        rows = read_jsonl(run.directory / "trajectories.jsonl")
        losses.append([[turn["text"] for turn in row["turns"]] for row in rows])
    assert losses[0] == losses[1]


def test_warnings_name_what_cut_the_episodes():
    said = cut_warning({"completed": 3, "context_overflow": 2, "rollout_turns": 1}, 512, RolloutSettings(turns=4))
    assert "2 of 6 episodes" in said
    assert "512 tokens (context_overflow)" in said
    assert "rollout.history" in said
    assert "1 of 6 episodes ended at rollout.turns=4 (rollout_turns)" in said
    assert cut_warning({"completed": 3, "max_turns": 2, "curriculum": 1}, 512, RolloutSettings()) == ""


@pytest.mark.parametrize("wrong", [{"thinking": "never"}, {"history": -1}, {"turns": 0}, {"window": 2}])
def test_wrong_settings_name_their_field(wrong, tiny_dir, tmp_path):
    with pytest.raises(SetupError, match=rf"rollout\.{next(iter(wrong))}"):
        build(on_the_corridor(tiny_dir, tmp_path, rollout=wrong))


class Noting:
    """A policy that takes messages, and notes them."""

    def __init__(self):
        self.seen = []

    def act(self, env, task, messages, turn, seed):
        self.seen.append(messages)
        return f"go {turn}"


def test_a_policy_of_messages_is_shown_the_same_window():
    policy = Noting()
    _, trajectory = play(corridor.Corridor("test"), policy, 0, 0, history=1, turns=4)
    assert (trajectory.stop_reason, trajectory.truncated, len(trajectory.turns)) == ("rollout_turns", True, 4)
    assert [len(m) for m in policy.seen] == [1, 3, 3, 3]
    assert "[2 earlier turns are left out.]" in policy.seen[3][0]["content"]
    assert policy.seen[3][1]["content"] == "go 2"


def test_eval_takes_the_section_and_keeps_it_apart(tiny_dir, tmp_path, capsys):
    command = ["eval", "--env", corridor.ID, "--model", str(tiny_dir), "--tasks", "2", "--attempts", "1",
               "--split", "test", "--out", str(tmp_path), "--sampling.max_tokens", "4"]  # fmt: skip
    assert cli.main([*command, "--rollout.turns", "2", "--rollout.history", "0"]) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["stop_reasons"] == {"rollout_turns": 4}
    assert cli.main([*command, "--rollout.turns", "3", "--rollout.history", "0"]) == 2
    assert "another rollout" in capsys.readouterr().err


def test_the_page_names_every_setting_and_every_stop_reason():
    text = (Path(__file__).parent.parent / "docs" / "rollouts.md").read_text()
    names = [*(f"rollout.{f}" for f in RolloutSettings.model_fields), *(f.name for f in fields(Drive))]
    names += ["rollout_turns", "context_overflow", "curriculum", "model.reuse_tokens", "keep", "template", "tool_cycle"]
    assert not [name for name in names if f"`{name}" not in text]

"""Training on ALFWorld with the packaged settings: they are possible, and all of their parts run together."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
from models import save_tiny

import rfenvs
from agents.config import build, load, packaged, parse_overrides
from agents.report.metrics import read_jsonl
from agents.training.trainer import Trainer

SETTINGS = (files("agents.recipes") / "alfworld.toml").read_text()


def test_the_settings_are_valid_and_their_environment_exists():
    config = load("alfworld")
    assert packaged()["alfworld"].startswith("a model keeps house")
    assert type(config.recipe).name == "sage_opd"
    assert config.eval.split == "valid_unseen"
    assert rfenvs.num_tasks(config.env.id, config.eval.split, **config.env.kwargs) >= config.eval.tasks
    env = rfenvs.registry.make(config.env.id, config.env.split, **config.env.kwargs)
    observation, _ = env.reset(seed=0)
    assert "go to fridge 1" in observation
    assert env.max_turns == 30


def test_the_commands_in_its_comment_are_valid():
    comment = "\n".join(line.removeprefix("#").strip() for line in SETTINGS.splitlines() if line.startswith("#"))
    (command,) = re.findall(r"rfenvs train alfworld (.*?\[none\]')", comment.replace("\\\n", ""), re.DOTALL)
    config = load("alfworld", parse_overrides(shlex.split(command)))
    assert (config.recipe.teacher.kind, config.recipe.context.sources) == ("external", ["none"])
    (games,) = re.findall(r"--env\.kwargs '(.*?)'", comment)
    assert load("alfworld", parse_overrides(["--env.kwargs", games])).env.kwargs["data"] == "official"


@pytest.mark.parametrize("recipe", ["opd", "sage_opd", "sod", "tcod", "dagger", "gigpo", "sdpo", "grpo"])
def test_every_multi_turn_recipe_takes_the_environment_as_it_is(recipe):
    config = build({"recipe": recipe, "env": {"id": "rfenvs/ALFWorld-v0"}})
    assert config.eval.split in rfenvs.splits(config.env.id)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of the packaged settings with a tiny model: three turns of two games."""
    model = save_tiny(tmp_path_factory.mktemp("long"), max_position_embeddings=16384)
    small = {
        "run_dir": str(tmp_path_factory.mktemp("runs") / "alfworld"),
        "model": {"name": str(model), "lora_rank": 2},
        "rollout": {"turns": 3},
        "sampling": {"max_tokens": 8},
        "batch": {"tasks": 2},
        "eval": {"tasks": 1, "every": 0},
        "steps": 1,
        "record_tokens": 1,
        "check_teacher": 0,
        "save_final": False,
    }
    return Trainer(load("alfworld", small)).run().directory


def test_a_step_logs_turns_labels_and_ends(run):
    (train,) = [row for row in read_jsonl(run / "metrics.jsonl") if row["kind"] == "train"]
    assert train["stop_reasons"] == {"rollout_turns": 2}
    assert (train["turns"], train["zero_variance"]) == (3.0, None)
    assert train["failed_turns"] == 1.0, "a model that knows nothing says no command"
    assert train["turns_skip"] + train["turns_weak"] + train["turns_strong"] == 6
    assert not [row for row in read_jsonl(run / "metrics.jsonl") if row["kind"] == "alarm"]


def test_every_turn_is_kept_with_who_acted_what_was_said_and_how_it_was_judged(run):
    rows = read_jsonl(run / "trajectories.jsonl")
    turns = [turn for row in rows for turn in row["turns"]]
    assert len(turns) == 6
    for turn in turns:
        assert (turn["source"], turn["label"]) == ("policy", "strong")
        assert turn["label_reason"]
        assert any(item["kind"] == "invalid_action" for item in turn["feedback"])
        assert turn["teacher_messages"] != turn["messages"]
        assert len(turn["tokens"]) > 0

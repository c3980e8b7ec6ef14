"""Settings: layered, typed, and wrong ones explained before anything is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents import recipes
from agents.cli import main
from agents.config import build, fields, load, merged, parse_overrides
from agents.errors import SetupError


def test_layers_later_wins(tmp_path: Path):
    assert build({"recipe": "sdpo"}).optim.lr == 1e-5, "the recipe's published rate"
    path = tmp_path / "run.toml"
    path.write_text('steps = 3\n[recipe]\nname = "sdpo"\nalpha = 0.0\n[optim]\nlr = 3e-5\n')
    config = load(str(path), parse_overrides(["--optim.lr", "4e-5", "--recipe.teacher.rate=0.2"]))
    assert (config.steps, config.recipe.alpha, config.optim.lr) == (3, 0.0, 4e-5)
    assert config.optim.warmup_steps == 10, "still the recipe's"
    assert (config.recipe.teacher.rate, config.recipe.teacher.kind) == (0.2, "ema")
    assert config.recipe.context.sources == ["sibling"]


def test_yaml_and_toml_say_the_same(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("recipe: {name: srpo, beta: 2}\nenv: {kwargs: {level: 2}}\n")
    (tmp_path / "a.toml").write_text('recipe = {name = "srpo", beta = 2}\nenv = {kwargs = {level = 2}}\n')
    assert load(str(tmp_path / "a.yaml")) == load(str(tmp_path / "a.toml"))


def test_quickstart_is_valid_and_teaches_from_revealing_feedback():
    config = load("quickstart")
    assert str(config.run_dir) == "runs/quickstart"
    assert config.recipe.context.allow_reference
    assert config.env.kwargs["feedback"] == "expected"


@pytest.mark.parametrize(
    ("env", "split"),
    [
        ("rfenvs/ToolCall-v0", "test"),
        ("rfenvs/ALFWorld-v0", "valid_unseen"),
        ("rfenvs:rfenvs/ALFWorld-v0", "valid_unseen"),
        ("CartPole-v1", "test"),
        ("nobody/Knows-v0", "test"),
    ],
)
def test_what_is_held_out_by_default_is_a_split_of_the_environment(env, split):
    assert build({"recipe": "opd", "env": {"id": env}}).eval.split == split
    assert build({"recipe": "opd", "env": {"id": env}, "eval": {"split": "dev"}}).eval.split == "dev"


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_has_valid_published_settings(name):
    assert type(build({"recipe": name}).recipe).name == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no recipe given"),
        ({"recipe": "sdop"}, "did you mean 'sdpo'"),
        ({"recipe": {"alpha": 1}}, "recipe.name is missing"),
        (
            {"recipe": {"name": "sdpo", "alhpa": 1}},
            "recipe.alhpa is not a setting; did you mean recipe.alpha",
        ),
        ({"recipe": {"name": "sdpo", "alpha": 1.5}}, "recipe.alpha=1.5"),
        ({"recipe": {"name": "grpo", "alpha": 1}}, "recipe.alpha is not a setting"),
        ({"recipe": "sdpo", "optim": {"learning_rate": 1}}, "optim.learning_rate is not a setting"),
        ({"recipe": "sdpo", "lr": 1}, "lr is not a setting; did you mean optim.lr"),
        ({"recipe": "sdpo", "batch": {"tasks": 0}}, "batch.tasks=0"),
        ({"recipe": "sdpo", "eval": {"split": "train"}}, "eval.split and env.split"),
        ({"recipe": "sdpo", "sampling": {"temperature": 0}}, "sampling.temperature"),
        ({"recipe": "sdpo", "sampling": {"top_p": 0.9}}, "sampling.top_p"),
        ({"recipe": {"name": "sdpo", "context": {"sources": ["sibbling"]}}}, "unknown source 'sibbling'"),
        (
            {"recipe": {"name": "sdpo", "context": {"sources": ["expected"]}}},
            "recipe.context.allow_reference",
        ),
        (
            {"recipe": {"name": "sdpo", "context": {"sources": ["sibling", "plan"]}}},
            "reveals the reference, but recipe.context.allow_reference is false",
        ),
        (
            {"recipe": {"name": "sdpo", "context": {"placement": "head"}}, "rollout": {"history": 2}},
            "placement='head' has one hint for an episode that is one row of tokens, but rollout.history=2",
        ),
        (
            {"recipe": {"name": "sdpo", "context": {"placement": "head"}}, "rollout": {"thinking": "template"}},
            "rollout.thinking='template' starts rows anew",
        ),
        (
            {"recipe": {"name": "sdpo", "context": {"sources": ["rest"], "placement": "head"}}},
            "placement='head' has one hint for all turns",
        ),
        ({"recipe": "sdpo", "batch": {"attempts": 1}}, "batch.attempts"),
        ({"recipe": "sdpo_rich", "batch": {"tasks": 2, "attempts": 2}}, "optim.steps_per_batch"),
    ],
)
def test_wrong_settings_name_the_field(settings, message):
    with pytest.raises(SetupError) as error:
        build(settings)
    assert message in str(error.value)


def test_merge_is_deep():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


def test_overrides_are_yaml_values():
    assert parse_overrides(["--a.b", "1", "--c={level: 2}", "--d-e", "true"]) == {
        "a": {"b": 1}, "c": {"level": 2}, "d_e": True,
    }  # fmt: skip
    for bad in (["loose"], ["--a"]):
        with pytest.raises(SetupError):
            parse_overrides(bad)


def test_every_setting_is_described():
    from agents.config import TrainConfig

    described = [*fields(TrainConfig), *(f for name in recipes.names() for f in fields(recipes.get(name)))]
    assert len(described) > 50
    assert all(description for *_, description in described), [n for n, *_, d in described if not d]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "grpo", "--env", "rfenvs/Nothing-v0", "--model", "TINY"], "rfenvs/Nothing-v0"),
        (["train", "grpo", "--model", "./nowhere"], "neither a directory"),
        (["train", "grpo", "--optim.rate", "1"], "optim.rate is not a setting"),
        (["train", "gripo"], "did you mean 'grpo'"),
        (["train", "missing.toml"], "no file 'missing.toml'"),
        (["train", "grpo", "--env.kwargs", "{level: 9}", "--model", "TINY"], "level"),
        (["train", "grpo", "--trackers", "[tensorbord]", "--model", "TINY"], "tensorboard"),
        (["check-teacher", "grpo", "--model", "TINY"], "no teacher"),
        (["report", "nowhere"], "not a run directory"),
        (["play", "rfenvs/Nothing-v0"], "rfenvs/ToolCall-v0"),
        (["play", "rfenvs/HumanEval-v0", "--kwargs", "{data: nowhere.jsonl}"], "nowhere.jsonl"),
        (["play", "rfenvs/HumanEval-v0", "--task", "99", "--kwargs", "{data: sample}"], "tasks 0 to 4"),
        (["validate", "rfenvs/LiveCodeBnech-v6"], "did you mean rfenvs/LiveCodeBench-v6"),
        (["validate", "rfenvs/HumanEval-v0", "--kwargs", "{data: nowhere.jsonl}"], "nowhere.jsonl"),
        (["train", "codesmoke"], "did you mean 'code_smoke'"),
    ],
)
def test_the_command_line_explains_in_one_paragraph(arguments, message, tiny_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(tiny_dir) if a == "TINY" else a for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_help_lists_settings(capsys):
    assert main(["train", "srpo", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--optim.lr" in text
    assert "--recipe.beta" in text


def test_list_and_doctor(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "rfenvs/ToolCall-v0" in text
    assert "rfenvs/LiveCodeBench-v6" in text
    assert "sdpo_grpo" in text
    assert "code_smoke" in text
    assert main(["doctor"]) == 0
    assert "torch" in capsys.readouterr().out


def test_train_and_report_from_the_command_line(tiny_dir, tmp_path, capsys):
    run = tmp_path / "run"
    tiny = ["--model", str(tiny_dir), "--eval.tasks", "2", "--sampling.max_tokens", "4"]
    arguments = ["train", "sdpo", *tiny, "--steps", "1", "--batch.tasks", "2", "--check_teacher", "0"]
    arguments += ["--run_dir", str(run)]
    assert main(arguments) == 0
    assert (run / "report.html").is_file()
    assert main(["eval", *tiny, "--out", str(tmp_path / "eval")]) == 0
    assert "greedy" in capsys.readouterr().out
    assert main([*arguments, "--fresh", "--optim.lr", "1e-4"]) == 0


def test_check_teacher_warns_about_a_teacher_that_knows_nothing(tiny_dir, capsys):
    arguments = [
        "check-teacher",
        "quickstart",
        "--model",
        str(tiny_dir),
        "--check_teacher",
        "2",
        "--batch.attempts",
        "2",
    ]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "it has nothing to teach" in captured.err
    assert '"teacher_success": 0.0' in captured.out


def test_help_shows_what_the_recipe_and_the_command_line_set(capsys):
    assert main(["train", "alfworld", "--optim.lr", "3e-5", "--help"]) == 0
    shown = capsys.readouterr().out
    for setting in ("optim.lr [3e-05]", "eval.split [valid_unseen]", "recipe.intervention.judge.kind [teacher]"):
        assert f"--{setting}\n" in shown
    assert "recipe.* are those of sage_opd" in shown


def test_importing_agents_is_light():
    code = "import agents, agents.cli, sys; agents.recipes.names(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["nothing", "a count", "a policy"],
)
def test_waiting_threads_leave_the_core_unless_told_otherwise(given, found):
    code = "import agents, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} | given
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == found


def test_defaults_of_nested_settings_are_the_recipe_s_own():
    shown = {name: default for name, _, default, _ in fields(recipes.get("sdpo"))}
    assert shown["context.sources"] == ["sibling"]
    assert shown["context.max_tokens"] == 8192

"""A policy from nothing: it is made, imitates the games' planner, reads hints, and the examples run on it."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import rfenvs  # noqa: F401  registers the ids
from agents.errors import SetupError
from agents.report.metrics import read_jsonl
from agents.small import build_small, expert_dialogues, imitate

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
GAMES = {"difficulty": "easy", "max_turns": 8, "instructions": False, "expert": True}


@pytest.fixture(scope="module")
def dialogues():
    env = gymnasium.make("rfenvs/ALFWorld-v0", **GAMES)
    return list(expert_dialogues(env, range(40), noise=0.2, hinted=0.3, seed=1))


@pytest.fixture(scope="module")
def policy(dialogues, tmp_path_factory):
    directory = tmp_path_factory.mktemp("small") / "model"
    return build_small(directory, (m["content"] for d in dialogues for m in d), width=32, layers=2, vocabulary=600)


def test_the_tokenizer_gives_any_text_back(policy):
    tokenizer = AutoTokenizer.from_pretrained(policy)
    text = "Zażółć 東京 🎈\n\tgo to cabinet 12"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_expert_wins_without_noise():
    env = gymnasium.make("rfenvs/ALFWorld-v0", **GAMES)
    for messages in expert_dialogues(env, range(6), noise=0.0, hinted=0.0):
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
        actions = [m["content"] for m in messages[1::2]]
        assert len(actions) <= 6  # as easy games promise; a loss would take all 8 turns


def test_a_hint_is_the_plan_and_the_expert_follows_it(dialogues):
    hinted = [(d[k]["content"], d[k + 1]["content"]) for d in dialogues for k in range(0, len(d), 2)]
    hinted = [(question, action) for question, action in hinted if "(answer: " in question]
    assert len(hinted) > 20
    for question, action in hinted:
        told = question.rpartition("(answer: ")[2]
        assert told.removesuffix(")").partition("; then: ")[0] == action


def test_dialogues_are_the_same_for_a_seed(dialogues):
    env = gymnasium.make("rfenvs/ALFWorld-v0", **GAMES)
    assert list(expert_dialogues(env, range(5), noise=0.2, hinted=0.3, seed=1)) == dialogues[:5]


def test_an_environment_without_a_planner_is_refused():
    env = gymnasium.make("rfenvs/ALFWorld-v0", **{**GAMES, "expert": False})
    with pytest.raises(SetupError, match="expert=True"):
        next(expert_dialogues(env, [0]))


def test_imitation_lowers_the_loss_and_keeps_the_directory(policy, dialogues, tmp_path):
    build_small(tmp_path / "m", ["a mug"], width=32, layers=2)
    first = imitate(tmp_path / "m", dialogues, steps=1)
    last = imitate(tmp_path / "m", dialogues, steps=30)
    assert last < 0.7 * first
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert all(torch.isfinite(p).all() for p in again.parameters())


def run_example(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    source = compile((EXAMPLES / name).read_text(), name, "exec")
    exec(source, {"__name__": "__main__"})


def test_the_small_example_runs(tmp_path, monkeypatch, capsys):
    small = ["--warm-episodes", "30", "--warm-steps", "4", "--steps", "1", "--eval-tasks", "2"]
    run_example("train_alfworld_small.py", [*small, "--run-dir", str(tmp_path / "run")], monkeypatch)
    assert "after" in capsys.readouterr().out
    (step,) = [r for r in read_jsonl(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "train"]
    assert step["generations"] == 32
    assert sum(step.get(f"turns_{label}", 0) for label in ("skip", "weak", "strong")) > 0


def test_the_large_example_runs_on_a_small_model(policy, tmp_path, monkeypatch):
    arguments = ["--model", str(policy), "--judge", "rule", "--steps", "1", "--tasks", "2", "--lora-rank", "2"]
    arguments += ["--max-turns", "12"]
    run_example("train_alfworld.py", [*arguments, "--run-dir", str(tmp_path / "run"), "--eval-tasks", "1"], monkeypatch)
    assert (tmp_path / "run" / "summary.json").is_file()

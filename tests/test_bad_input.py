"""Bad input is one clear error, or a sample that is counted and left out of a run that goes on.

Two cases stand elsewhere: a server that drops half of its replies (tests/test_server_teacher.py), and a playbook that
outgrows its budget (tests/test_recipes_text.py).
"""

from __future__ import annotations

import json
import math
from typing import Any, ClassVar

import coin
import gymnasium
import pytest
import torch
from models import save_tiny
from safetensors.torch import load_file

from agents.advantages import group_advantages
from agents.batch import Batch
from agents.cli import main
from agents.config import build
from agents.engines.base import Completion, Sampling
from agents.errors import SetupError
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient, Term
from agents.recipes.base import Recipe
from agents.recipes.tools import Reply, StepTools
from agents.report.metrics import read_jsonl
from agents.rollout import Environments, rollout
from agents.training.evaluate import evaluate
from agents.training.trainer import Trainer

torch.set_num_threads(1)


class Poisoned(gymnasium.Wrapper):
    """Pays ``reward`` for the tasks of ``poisoned``, as an environment of another author may."""

    def __init__(self, split: str = "train", reward: float = math.nan, poisoned: tuple[int, ...] = (1,)) -> None:
        super().__init__(coin.Coin(split=split))
        self.reward, self.poisoned = reward, poisoned

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed, options=options)
        self.index = info["task"]["index"]
        return observation, info

    def step(self, action: str) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, self.reward if self.index in self.poisoned else reward, *rest


gymnasium.register("tests/Poisoned-v0", entry_point=Poisoned, disable_env_checker=True)


class Divides(Recipe):
    """Divides by the number of right tokens, without a thought for none."""

    name: ClassVar[str] = "divides"
    what: str = "coefficients"

    def terms(self, batch: Batch) -> list[Term]:
        bad = torch.zeros(len(batch.targets)) / 0
        good = token_mean(torch.ones(len(batch.targets)))
        return [PolicyGradient(bad, good)] if self.what == "coefficients" else [PolicyGradient(good, bad)]


def settings(tiny_dir: Any, run_dir: Any, **changes: Any) -> dict[str, Any]:
    return {
        "recipe": "grpo", "env": {"id": "tests/Poisoned-v0"}, "model": {"name": str(tiny_dir)},
        "batch": {"tasks": 3, "attempts": 4}, "sampling": {"max_tokens": 6}, "optim": {"lr": 1e-3},
        "eval": {"tasks": 4, "attempts": 2}, "steps": 4, "save_every": 2, "check_teacher": 0, "threads": 1,
        "run_dir": str(run_dir), **changes,
    }  # fmt: skip


# ---- rewards


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_is_not_scored_and_spoils_no_advantage(engine, caplog, reward):
    environments = Environments("tests/Poisoned-v0", "train", {"reward": reward})
    groups = rollout(engine, engine.chat, environments, [0, 1, 2], 4, Sampling(max_tokens=6), seed=0)
    assert [[t.scored for t in g.trajectories] for g in groups] == [[True] * 4, [False] * 4, [True] * 4]
    assert all(math.isfinite(a) for a in group_advantages(groups, normalise=True).values())
    assert f"Task {groups[1].task['id']}: the environment gave the reward {reward}" in caplog.text


def test_nan_rewards_are_counted_and_the_run_goes_on_and_resumes(tiny_dir, tmp_path, capfd):
    whole = Trainer(build(settings(tiny_dir, tmp_path / "whole"))).run()
    rows = [r for r in read_jsonl(whole.directory / "metrics.jsonl") if r["kind"] == "train"]
    attempts = read_jsonl(whole.directory / "trajectories.jsonl")
    poisoned = sum(row["task"]["index"] == 1 for row in attempts)
    assert 0 < poisoned == sum(r["skipped"] for r in rows) == whole.summary["skipped"]
    assert sum(r["optimizer_steps"] for r in rows) >= 1
    assert "could not score them" in capfd.readouterr().err
    weights = load_file(whole.directory / "checkpoints/final/model.safetensors")
    assert all(torch.isfinite(w).all() for w in weights.values())

    broken = Trainer(build(settings(tiny_dir, tmp_path / "broken")))
    step = broken._step
    broken._step = lambda k: step(k) if k < 3 else (_ for _ in ()).throw(KeyboardInterrupt())  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = Trainer(build(settings(tiny_dir, tmp_path / "broken"))).run()
    again = load_file(resumed.directory / "checkpoints/final/model.safetensors")
    assert all(torch.equal(weights[k], again[k]) for k in weights)


def test_nan_rewards_are_left_out_of_evaluations(engine):
    environments = Environments("tests/Poisoned-v0", "train", {"poisoned": (0, 1, 2, 3)})
    result = evaluate(engine, engine.chat, environments, tasks=12, attempts=2, sampling=Sampling(max_tokens=6), seed=0)
    assert (result.sampled.tasks, result.sampled.n, result.greedy.n) == (8, 16, 8)
    assert math.isfinite(result.sampled.mean)


def test_what_a_recipe_tries_out_is_not_scored_either(engine):
    tools = StepTools(engine.chat, environments=Environments("tests/Poisoned-v0", "train"), tasks=[0, 1], engine=engine)
    replies = [(g, Reply([1], [], Completion([5], [-1.0], "stop"), "milk")) for g in (0, 1)]
    assert [(a.scored, math.isfinite(a.reward)) for a in tools.judge(replies)] == [(True, True), (False, True)]
    assert [reward is None for reward in tools.grade([0, 1], ["milk", "milk"])] == [False, True]


# ---- a recipe's own numbers


@pytest.mark.parametrize("what", ["coefficients", "advantages"])
def test_a_recipe_whose_numbers_are_not_finite_is_named(tiny_dir, tmp_path, what):
    config = build(settings(tiny_dir, tmp_path / "run", recipe=Divides(what=what), eval={"tasks": 0}))
    with pytest.raises(SetupError, match=rf"recipe='divides': {what} of its PolicyGradient are not finite at (\d+) of "
                       r"\1 tokens, first nan at token 0 of sample 0; give 0"):  # fmt: skip
        Trainer(config).run()


def test_a_number_under_a_coefficient_of_zero_may_be_anything(tiny_dir, tmp_path):
    class Masks(Divides):
        name: ClassVar[str] = "masks"

        def terms(self, batch: Batch) -> list[Term]:
            n = len(batch.targets)
            odd = torch.arange(n) % 2 == 1
            return [PolicyGradient(token_mean(odd), torch.where(odd, 1.0, math.nan))]

    config = build(settings(tiny_dir, tmp_path / "run", recipe=Masks(), eval={"tasks": 0}, steps=1))
    assert Trainer(config).run().summary["steps"] == 1
    (row,) = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert row["optimizer_steps"] == 1
    assert math.isfinite(row["grad_norm"])


# ---- teachers


def test_a_teacher_without_logits_is_refused_for_a_loss_over_the_vocabulary(tmp_path, capsys):
    arguments = ["train", "opd", "--recipe.teacher.kind", "server", "--recipe.teacher.url", "http://127.0.0.1:9/v1"]
    assert main([*arguments, "--recipe.top_k", "0", "--run_dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, "one paragraph"
    assert "recipe.top_k=0 needs the teacher's full logits, but recipe.teacher.kind='server'" in said
    assert not (tmp_path / "run").exists(), "nothing was started"


def test_a_teacher_with_another_tokenizer_is_refused_before_anything_is_sampled(tiny_dir, tmp_path):
    other = save_tiny(tmp_path / "other")
    spelt = json.loads((other / "tokenizer.json").read_text())
    ids = spelt["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    (other / "tokenizer.json").write_text(json.dumps(spelt))
    recipe = {"name": "opd", "teacher": {"kind": "external", "model": str(other)}}
    with pytest.raises(SetupError, match=r"recipe\.teacher.*tokenizer") as error:
        Trainer(build(settings(tiny_dir, tmp_path / "run", recipe=recipe)))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()

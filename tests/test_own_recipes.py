"""Recipes and environments of somebody else: named by their place, trained, resumed, listed; and the examples."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import coin  # noqa: F401
import pytest
import torch

from agents import recipes
from agents.cli import main
from agents.config import build, load
from agents.errors import SetupError
from agents.report.metrics import read_jsonl

torch.set_num_threads(1)
EXAMPLES = Path(__file__).parent.parent / "examples"

MINE = '''"""Mine: GRPO, louder."""
import torch
from agents.losses.reduction import token_mean
from agents.losses.terms import PolicyGradient
from agents.recipes.base import Recipe
from beside import FACTOR

class Mine(Recipe):
    factor: float = FACTOR

    def terms(self, batch):
        every = self.factor * token_mean(torch.ones(len(batch.targets)))
        return [PolicyGradient(every, batch.per_token(batch.advantages))]

class Unfinished(Recipe):
    pass

NUMBER = 3
'''
SMALL = ["--env", "tests/Coin-v0", "--batch.tasks", "2", "--batch.attempts", "2", "--sampling.max_tokens", "4",
         "--eval.tasks", "0", "--check_teacher", "0", "--threads", "1", "--steps", "2"]  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and a module beside it, which is where we are."""
    name = f"mine_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("FACTOR = 2.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("beside", None)
    return tmp_path / f"{name}.py"


def test_a_file_and_its_class_are_a_recipe(mine):
    kind = recipes.get(f"./{mine.name}:Mine")
    assert (kind.name, kind().factor) == ("mine", 2.0)
    assert recipes.get(str(mine) + ":Mine") is kind, "one file is one module"


def test_a_module_on_the_path_is_one_too(mine, monkeypatch):
    monkeypatch.syspath_prepend(str(mine.parent))
    assert recipes.get(f"{mine.stem}:Mine").name == "mine"
    assert recipes.get("agents.recipes.grpo:GRPO") is recipes.get("grpo")


def test_the_class_may_be_left_out_where_there_is_only_one():
    assert recipes.get(str(EXAMPLES / "my_method.py")).name == "dasd"


def test_it_is_trained_helped_with_resumed_and_named_in_files(mine, tiny_dir, tmp_path, capsys):
    place, run = f"./{mine.name}:Mine", ["--run_dir", str(tmp_path / "run"), "--model", str(tiny_dir)]
    assert main(["train", place, "--help"]) == 0
    assert "--recipe.factor [2.0]" in capsys.readouterr().out
    assert main(["train", place, *SMALL, *run, "--recipe.factor", "3"]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["recipe"] == "mine"
    assert main(["train", place, *SMALL, *run, "--recipe.factor", "3"]) == 0
    assert "is finished" in capsys.readouterr().err
    (tmp_path / "run" / "summary.json").unlink()
    assert main(["train", place, *SMALL, *run, "--recipe.factor", "4"]) == 2, "it is the very same run, or none"
    assert "recipe.factor was 3.0 and is 4.0" in capsys.readouterr().err
    (tmp_path / "run.toml").write_text(f'[recipe]\nname = "{place}"\nfactor = 5\n')
    assert load(str(tmp_path / "run.toml")).recipe.factor == 5
    assert main(["list"]) == 0
    assert "FILE.py:CLASS" in capsys.readouterr().out


def test_a_killed_run_of_ones_own_recipe_resumes(mine, tiny_dir, tmp_path):
    place, rest = f"./{mine.name}:Mine", ["--model", str(tiny_dir), "--save_every", "1"]
    child = os.fork()
    if child == 0:
        from agents.training.trainer import Trainer

        step = Trainer._step
        Trainer._step = lambda self, k: step(self, k) if k == 0 else os._exit(9)
        main(["train", place, *SMALL, *rest, "--run_dir", str(tmp_path / "broken")])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    for name in ("broken", "whole"):
        assert main(["train", place, *SMALL, *rest, "--run_dir", str(tmp_path / name)]) == 0
    broken, whole = (
        [{k: v for k, v in r.items() if "seconds" not in k} for r in read_jsonl(tmp_path / n / "metrics.jsonl")]
        for n in ("broken", "whole")
    )
    assert broken == whole


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("./absent.py:Mine", r"there is no file .*absent\.py"),
        ("absent_module:Mine", r"there is no module 'absent_module'; install it, or name a file: \./absent_module\.py"),
        ("{file}:Yours", r"has no Yours; it defines Mine, Unfinished"),
        ("{file}", r"it defines Mine, Unfinished; name one, as \./mine_\d+\.py:Mine"),
        ("{file}:NUMBER", r"NUMBER is no recipe: derive it from agents\.recipes\.base\.Recipe"),
        ("{file}:Unfinished", r"Unfinished has no terms method"),
        ("./broken.py:Mine", r"running .*broken\.py failed: NameError: name 'oops'"),
        ("importing:Mine", r"importing importing failed: No module named 'not_there'"),
        ("grpoo", r"did you mean 'grpo'\?.*one of your own is \./file\.py:Class"),
    ],
)
def test_what_is_wrong_is_said(mine, monkeypatch, place, said):
    monkeypatch.syspath_prepend(str(mine.parent))
    (mine.parent / "broken.py").write_text("oops\n")
    (mine.parent / "importing.py").write_text("import not_there\n")
    sys.modules.pop("importing", None)
    with pytest.raises(SetupError, match=said):
        build({"recipe": place.format(file=f"./{mine.name}")})


# ---- the examples


@pytest.mark.parametrize(("file", "lines"), [("my_method.py", 60), ("my_environment.py", 40)])
def test_an_example_is_short(file, lines):
    assert len((EXAMPLES / file).read_text().splitlines()) < lines


def test_the_example_environment_is_valid(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import my_environment  # noqa: F401

    import rfenvs

    assert all(rfenvs.validate("me/FiveLetters-v0", split).ok for split in ("train", "test"))


def test_the_example_method_is_its_equation():
    """A_t = A_i + beta omega_t d_t, token by token; beta = 0 is GRPO."""
    from oracle import Reference, World

    kind = recipes.get(str(EXAMPLES / "my_method.py"))

    def dasd(w: World) -> torch.Tensor:
        logp, logq, y = w.logp().detach(), w.logq(), w.logp_y()
        every = [(i, t) for i in range(len(w.samples)) for t in w.tokens(i)]
        entropy = torch.stack([-(logp[t].exp() * logp[t]).sum() for _, t in every])
        tau, sigma = entropy.quantile(0.8), entropy.std(correction=0)
        total = torch.zeros((), dtype=torch.float64)
        for (i, t), h in zip(every, entropy, strict=True):
            advantage = float(w.batch.advantages[i])
            if w.reads(i):
                d = (logq[t] - logp[t])[w.batch.targets[t]].clamp(-5, 5)
                omega = torch.tanh((tau - h) / (sigma + 1e-6)) * torch.sigmoid(d.abs() - 1)
                advantage += 0.3 * float(omega * d)
            total = total + w.surrogate(t, y[t], advantage)
        return total / len(every)

    for seed in range(4):
        w = World(kind(beta=0.3), seed)
        (loss, ours), (expected, theirs) = w.fused(), w.referred(Reference(dasd).loss)
        torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
        w.recipe, plain = kind(beta=0), World(recipes.get("grpo")(), seed)
        (without,) = w.recipe.terms(w.batch)
        assert torch.equal(without.advantages, plain.batch.per_token(plain.batch.advantages))


@pytest.mark.slow
def test_the_examples_are_trained_together(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train_mine

    summary = train_mine.main(run_dir=str(tmp_path / "run"))
    assert summary["recipe"] == "dasd"
    before, after = summary["held_out"]["before"], summary["held_out"]["after"]
    assert after["mean"] > before["mean"] + 0.1, "it learns"

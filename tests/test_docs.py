"""The code in the documentation runs."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_readme_environment(capsys):
    exec(blocks("README.md")[0], {})
    assert "policy sees it: True" in capsys.readouterr().out


def test_readme_many_at_once(capsys):
    exec(blocks("README.md")[1], {})
    assert "TypeError in weather" in capsys.readouterr().out


def test_readme_names_every_environment():
    import rfenvs

    text = (ROOT / "README.md").read_text()
    assert not [id for id in rfenvs.list_ids() if f"`{id.removeprefix('rfenvs/')}`" not in text]


def test_the_data_page_names_every_data_set():
    from rfenvs.datasets import TABLE, spec_of

    text = (ROOT / "docs" / "data.md").read_text()
    assert not [id for id in TABLE if f"`{id}`" not in text or spec_of(id).revision[:8] not in text]


def test_readme_code(capsys):
    exec(blocks("README.md")[2], {})
    (shown,) = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert capsys.readouterr().out == shown


def test_readme_training(tiny_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = blocks("README.md")[3]
    assert '"smollm2-135m"' in code
    exec(code.replace('"smollm2-135m"', repr(str(tiny_dir))), {})
    assert "after" in capsys.readouterr().out


def test_write_a_recipe(tiny_dir, tmp_path, monkeypatch, capsys):
    """The page's recipe is defined, equals its equation, trains; and so does the one with golden answers."""
    import coin

    import agents

    monkeypatch.chdir(tmp_path)
    page = types.ModuleType("write_a_recipe")
    monkeypatch.setitem(sys.modules, page.__name__, page)  # as for a file, where types are looked up
    names = page.__dict__
    for code in blocks("docs/write-a-recipe.md"):
        assert '"smollm2-135m"' in code or "agents.train" not in code
        exec(code.replace('"smollm2-135m"', repr(str(tiny_dir))), names)
    assert capsys.readouterr().out == "gated_sc_sdpo\n"
    recipe = names["WithGold"](top_k=0, context={"sources": ["feedback"]})
    run = agents.train(
        recipe, env=coin.ID, model=str(tiny_dir), steps=2, batch={"tasks": 3, "attempts": 2},
        sampling={"max_tokens": 4}, eval={"tasks": 0}, run_dir=str(tmp_path / "gold"), check_teacher=0,
    )  # fmt: skip
    assert run.summary["recipe"] == "gated_sc_sdpo_gold"
    assert recipe.state_dict()["readings"], "the gate has read something"


def test_write_a_recipe_names_parts_that_are_there():
    text = (ROOT / "docs" / "write-a-recipe.md").read_text()
    for path in set(re.findall(r"`((?:agents|tests)/[a-z_/]+\.py)`", text)):
        assert (ROOT / path).is_file(), path
    from agents.recipes.tools import StepTools

    named = next(row for row in text.splitlines() if "StepTools" in row)
    assert all(hasattr(StepTools, name) for name in re.findall(r"`([a-z_]+)`", named.split("|")[3]))


STATE_TOLD = {
    "dagger": {"recipe": "dagger"},
    "gigpo": {"recipe": "gigpo"},
    "tcod": {"recipe": {"name": "tcod", "direction": "back_to_front"}},
    "oracle": {"recipe": {"name": "sage_opd", "intervention": {"judge": {"kind": "oracle"}, "confidence": "off"}}},
    "plan": {"recipe": {"name": "opd", "context": {"sources": ["plan"], "allow_reference": True}}},
}


@pytest.mark.parametrize("settings", STATE_TOLD.values(), ids=STATE_TOLD.keys())
def test_an_environment_that_tells_its_state_is_trained_on_by_what_the_page_names(settings, tiny_dir, tmp_path):
    import rfenvs
    from agents.config import build
    from agents.training.trainer import Trainer

    exec(blocks("docs/bring-your-own-environment.md")[1], {})
    assert rfenvs.validate("me/Lift-v0", "train").ok
    config = build({
        **settings, "env": {"id": "me/Lift-v0"}, "model": {"name": str(tiny_dir)}, "steps": 1, "check_teacher": 2,
        "batch": {"tasks": 2, "attempts": 2}, "sampling": {"max_tokens": 2}, "eval": {"tasks": 0},
        "rollout": {"turns": 3}, "run_dir": str(tmp_path / "run"), "save_final": False,
    })  # fmt: skip
    assert Trainer(config).run().summary["skipped"] == 0


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("target", ["train", "test", "test-alfworld", "check", "bench", "demo-report"])
def test_the_makefile_has(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_example_agent_learns_from_feedback_within_an_episode():
    import runpy

    names = runpy.run_path(str(ROOT / "examples" / "own_agent.py"))
    assert 0.3 < names["main"](100) < 1.0

"""Every recipe has a page in docs/recipes whose settings are the real ones, and whose commands are valid."""

from __future__ import annotations

import re
import shlex

import gymnasium
import pytest
from recipe_pages import MARKED, PAGES, filled

from agents import recipes
from agents.config import load, parse_overrides
from agents.rollout import Environments

FILES = sorted(PAGES.glob("*.md"))
COMMANDS = [
    (path.name, line)
    for path in FILES
    for block in re.findall(r"```bash\n(.*?)```", path.read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


def test_every_recipe_has_a_page():
    described = {name for path in FILES for name in MARKED.findall(path.read_text())}
    assert described == {"shared", *recipes.names()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_settings_of_a_page_are_those_of_the_code(path):
    page = path.read_text()
    assert page == filled(page), "run: python tests/recipe_pages.py"


def test_every_page_but_the_list_has_a_command():
    assert {name for name, _ in COMMANDS} >= {path.name for path in FILES} - {"README.md"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_is_valid(page, command):
    words = shlex.split(command)
    assert words[:2] == ["rfenvs", "train"]
    config = load(words[2], parse_overrides(words[3:]))
    if config.env.id in gymnasium.registry:
        Environments(config.env.id, config.env.split, config.env.kwargs).close()

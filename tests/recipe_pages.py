"""The tables of settings in docs/recipes, written from the recipes: ``python tests/recipe_pages.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agents import recipes
from agents.config import fields
from agents.recipes.base import Recipe, TaughtRecipe

PAGES = Path(__file__).parent.parent / "docs" / "recipes"
MARKED = re.compile(r"<!-- settings: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def table(name: str) -> str:
    """Settings of a recipe that are not those of every recipe of its kind; ``shared``: those."""
    kind = TaughtRecipe if name == "shared" else recipes.get(name)
    common = TaughtRecipe if issubclass(kind, TaughtRecipe) else Recipe
    known = [] if name == "shared" else [(field, default) for field, _, default, _ in fields(common)]
    lines = ["| setting | default | |", "|---|---|---|"]
    for field, _, default, description in fields(kind):
        if (field, default) not in known:
            lines.append(f"| `recipe.{field}` | {_shown(default)} | {description} |")
    run = {} if name == "shared" else kind.run_defaults
    lines += [f"| `{field}` | {_shown(value)} | of the run, as published |" for field, value in _flat(run)]
    return "\n".join(lines)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and name != "template":
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    return f"`{value:g}`" if isinstance(value, float) else "" if value == "" else f"`{value}`"


def filled(page: str) -> str:
    """A page with its tables as they are now."""
    return MARKED.sub(lambda m: f"<!-- settings: {m[1]} -->\n{table(m[1])}\n<!-- end -->", page)


if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(filled(path.read_text()))

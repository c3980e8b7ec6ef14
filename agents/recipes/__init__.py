"""Methods, one file each: `get` looks one up by name, or by the place of your own; `names` lists them."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING

from agents.errors import SetupError

if TYPE_CHECKING:
    from agents.recipes.base import Recipe

_TABLE = {
    "antisd": "agents.recipes.antisd:AntiSD",
    "brts": "agents.recipes.brts:BRTS",
    "cipo": "agents.recipes.cipo:CIPO",
    "credit": "agents.recipes.credit:CREDIT",
    "dagger": "agents.recipes.dagger:DAgger",
    "dgrpo": "agents.recipes.dgrpo:DGRPO",
    "fast_slow": "agents.recipes.fast_slow:FastSlow",
    "gigpo": "agents.recipes.gigpo:GiGPO",
    "grpo": "agents.recipes.grpo:GRPO",
    "imitation": "agents.recipes.imitation:Imitation",
    "lightning_opd": "agents.recipes.lightning_opd:LightningOPD",
    "mad_opd": "agents.recipes.mad_opd:MADOPD",
    "minillm": "agents.recipes.minillm:MiniLLM",
    "mopd": "agents.recipes.mopd:MOPD",
    "npo": "agents.recipes.npo:NPO",
    "omniopd": "agents.recipes.omniopd:OmniOPD",
    "opd": "agents.recipes.opd:OPD",
    "opsd": "agents.recipes.opsd:OPSD",
    "pbsd": "agents.recipes.pbsd:PBSD",
    "pw_opsd": "agents.recipes.pw_opsd:PWOPSD",
    "resd": "agents.recipes.resd:RESD",
    "rlrt": "agents.recipes.rlrt:RLRT",
    "rlsd": "agents.recipes.rlsd:RLSD",
    "ropd": "agents.recipes.ropd:ROPD",
    "sage_opd": "agents.recipes.sage_opd:SAGEOPD",
    "score": "agents.recipes.score:SCoRe",
    "sdpo": "agents.recipes.sdpo:SDPO",
    "sdpo_grpo": "agents.recipes.sdpo_grpo:Blend",
    "sdpo_rich": "agents.recipes.sdpo:SDPORich",
    "sgcd": "agents.recipes.sgcd:SGCD",
    "skill_sd": "agents.recipes.skill_sd:SkillSD",
    "sod": "agents.recipes.sod:SOD",
    "sort": "agents.recipes.sort:SORT",
    "srpo": "agents.recipes.srpo:SRPO",
    "stable_opd": "agents.recipes.stable_opd:StableOPD",
    "tcod": "agents.recipes.tcod:TCOD",
    "tip": "agents.recipes.tip:TIP",
    "trace": "agents.recipes.trace:TRACE",
    "uni_opd": "agents.recipes.uni_opd:UniOPD",
    "unisd": "agents.recipes.unisd:UniSD",
    "vopd": "agents.recipes.vopd:VOPD",
}


def names() -> list[str]:
    """Names of all recipes."""
    return sorted(_TABLE)


def get(name: str) -> type[Recipe]:
    """The recipe class of that name; call it to set its fields.

    One of your own is named by its place: ``my_package.my_module:MyRecipe``, or ``./my_method.py:MyRecipe``, where the
    class may be left out if the file defines one recipe (`agents.recipes.own`).

    Raises:
        SetupError: There is no such recipe.
    """
    if is_place(name):
        from agents.recipes.own import load

        return load(name)
    if name not in _TABLE:
        near = difflib.get_close_matches(name, _TABLE, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SetupError(
            f"recipe={name!r} is unknown; {hint}there are {', '.join(names())}; one of your own is ./file.py:Class or "
            "module:Class"
        )
    module, _, attribute = _TABLE[name].partition(":")
    recipe: type[Recipe] = getattr(import_module(module), attribute)
    return recipe


def is_place(name: str) -> bool:
    """Whether a recipe is named by where it is, not by a name of the table."""
    return name not in _TABLE and (":" in name or name.endswith(".py"))

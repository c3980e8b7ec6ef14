"""What a teacher can be asked for. A recipe says what it needs, and a run that cannot work ends before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from agents.errors import SetupError

if TYPE_CHECKING:
    from agents.teachers.settings import TeacherSettings

ABILITIES: dict[str, str] = {
    "logits": "the teacher's full logits",
    "top_k": "the teacher's likeliest tokens at each position",
    "logprob": "the teacher's log-probability of given tokens",
    "generate": "answers of the teacher",
    "generate_from_prefix": "the teacher to continue given tokens",
}
"""Every ability, in words."""

EVERYTHING = frozenset(ABILITIES)
"""A model in this process."""
TOP_K = EVERYTHING - {"logits"}
"""A server that gives log-probabilities."""
BLACK_BOX = frozenset({"generate"})
"""A server that gives text alone."""


def require(
    settings: TeacherSettings,
    needs: AbstractSet[str] | Mapping[str, str],
    who: str = "recipe.teacher",
    offered: AbstractSet[str] | None = None,
) -> None:
    """Raise `SetupError` where the teacher of ``settings`` lacks an ability.

    Args:
        settings: Known before a model is loaded or a server asked.
        needs: Abilities; as a mapping, with the recipe's setting that needs each: ``{"logits": "recipe.top_k=0"}``.
        who: The settings' own name.
        offered: What the teacher turned out to be able to do; None: what its settings promise.
    """
    able = settings.abilities if offered is None else offered
    for ability in ABILITIES:
        if ability in needs and ability not in able:
            why = needs[ability] if isinstance(needs, Mapping) else "the recipe"
            raise SetupError(
                f"{why} needs {ABILITIES[ability]}, but {_gives(settings, who, able)}: {_remedy(settings, who, able)}"
            )
    if unknown := set(needs) - set(ABILITIES):
        raise ValueError(f"unknown abilities {sorted(unknown)}; there are {', '.join(ABILITIES)}")


def _gives(settings: TeacherSettings, who: str, able: AbstractSet[str]) -> str:
    kind = f"{who}.kind={settings.kind!r}"
    if "top_k" in able:
        return f"{kind} gives the {settings.top_k} likeliest tokens"
    if settings.top_k:
        return f"{kind} gives text alone: {settings.url} offers no log-probabilities of given tokens"
    return f"{kind} with {who}.top_k=0 gives text alone"


def _remedy(settings: TeacherSettings, who: str, able: AbstractSet[str]) -> str:
    local = f"{who}.kind=external with the model in this process"
    if "top_k" in able:
        return f"set recipe.support=teacher and recipe.top_k={settings.top_k}, or recipe.form=sampled, or take {local}"
    asked = "" if settings.top_k else f" and {who}.top_k=20"
    return (
        f"use a server whose /v1/completions takes prompt_logprobs or echo (vLLM, SGLang){asked}, or take {local}, or "
        "a recipe that learns from the teacher's text"
    )

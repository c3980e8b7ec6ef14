"""The table of environments, and functions that look at one without playing it."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple, cast

import gymnasium
from gymnasium.envs.registration import load_env_creator

from rfenvs.env import TextEnv
from rfenvs.tasks import Task


class Row(NamedTuple):
    """One environment: its id and the class, named so that nothing is imported before it is made."""

    id: str
    entry_point: str


TABLE = (
    Row("rfenvs/ToolCall-v0", "rfenvs.envs.toolcall:ToolCallEnv"),
    Row("rfenvs/LiveCodeBench-v6", "rfenvs.envs.livecodebench:LiveCodeBenchEnv"),
    Row("rfenvs/HumanEval-v0", "rfenvs.envs.humaneval:HumanEvalEnv"),
    Row("rfenvs/Tau2Solo-v0", "rfenvs.envs.tau2_solo:Tau2SoloEnv"),
    Row("rfenvs/ReasoningGym-v0", "rfenvs.envs.reasoning_gym:ReasoningGymEnv"),
    Row("rfenvs/ALFWorld-v0", "rfenvs.envs.alfworld.env:ALFWorldEnv"),
    Row("rfenvs/ScienceWorld-v0", "rfenvs.envs.scienceworld:ScienceWorldEnv"),
    Row("rfenvs/BFCL-MultiTurn-v0", "rfenvs.envs.bfcl_multi_turn:BFCLMultiTurnEnv"),
    Row("rfenvs/SciKnow-v0", "rfenvs.envs.sciknow:SciKnowEnv"),
    Row("rfenvs/EquationBalance-v0", "rfenvs.envs.equation_balance:EquationBalanceEnv"),
    Row("rfenvs/Judge-v0", "rfenvs.envs.judge:JudgeEnv"),
    Row("rfenvs/BFCL-v0", "rfenvs.envs.bfcl:BFCLEnv"),
    Row("rfenvs/ToolAlpaca-v0", "rfenvs.envs.toolalpaca:ToolAlpacaEnv"),
    Row("rfenvs/Math-v0", "rfenvs.envs.math:MathEnv"),
)


def register() -> None:
    """Add the table to Gymnasium's registry, once."""
    for row in TABLE:
        if row.id not in gymnasium.registry:
            vector = f"rfenvs.vector_entry:{row.id}"
            gymnasium.register(row.id, entry_point=row.entry_point, vector_entry_point=vector)


def list_ids() -> list[str]:
    """Ids of the environments of this package."""
    return [row.id for row in TABLE]


def splits(id: str) -> tuple[str, ...]:
    """Names of an environment's splits, the training split first."""
    return _env_class(id).splits


def num_tasks(id: str, split: str, **kwargs: Any) -> int:
    """Number of tasks of a split; `kwargs` are the environment's own."""
    env = make(id, split, **kwargs)
    return env.num_tasks(split)


def get_task(id: str, split: str, index: int, **kwargs: Any) -> Task:
    """One task with its reference answer, for trusted code; `kwargs` are the environment's own."""
    return make(id, split, **kwargs).get_task(index)


def make(id: str, split: str, **kwargs: Any) -> TextEnv:
    """Make the bare environment, without Gymnasium's wrappers."""
    _env_class(id)
    return cast(TextEnv, gymnasium.make(id, split=split, disable_env_checker=True, **kwargs).unwrapped)


def _env_class(id: str) -> type[TextEnv]:
    spec = gymnasium.registry.get(id.rsplit(":", 1)[-1])
    if spec is None:
        known = list_ids() + [name for name in gymnasium.registry if not name.startswith("rfenvs/")]
        close = difflib.get_close_matches(id, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known ids: {', '.join(list_ids())}."
        raise ValueError(f"There is no environment {id!r}; {hint}")
    entry = spec.entry_point
    creator: object = load_env_creator(entry) if isinstance(entry, str) else entry
    if not (isinstance(creator, type) and issubclass(creator, TextEnv)):
        raise ValueError(f"{id} is not a text environment: its entry point is no subclass of rfenvs.TextEnv.")
    return creator

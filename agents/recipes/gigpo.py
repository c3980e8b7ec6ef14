"""GiGPO: group-in-group policy optimisation (arXiv 2505.10978). Credit for a turn, from attempts that met in its state.

    A_E(i)    = (R_i - mean_j R_j) / s                  over the trajectories of the group, as in GRPO
    G_it      = sum_{u >= t} gamma^(u - t) r_iu         discounted return from turn t on
    A_S(i, t) = (G_it - mean G) / s                     over all turns of the group taken in the same state
    A         = A_E + omega A_S                         s: the standard deviation, or 1

and then the loss of GRPO. Attempts at one task start in the same state and meet again, so these groups cost no further
rollout. A state seen once has A_S = 0. A state counts as often as it is visited, twice by one trajectory included.

Our readings: the standard deviation is the sample's (n - 1) plus 1e-4 (the released code adds 1e-6). The expert's turns
are in no group, their rewards in the returns. No KL to a reference policy (published: 0.01). Invalid actions are for
the environment to punish (published: -0.1), and winning pays what it pays there (published: 10).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from agents.advantages import standardised
from agents.errors import SetupError
from agents.recipes.grpo import GRPO
from agents.trajectory import Group, Trajectory


class GiGPO(GRPO):
    """GRPO with a second, turn-level group."""

    name: ClassVar[str] = "gigpo"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "batch": {"tasks": 16, "attempts": 8}}

    normalise_advantages: bool = Field(True, description="divide both advantages by their standard deviation")
    omega: float = Field(1.0, ge=0, description="weight of the turn's advantage beside the trajectory's")
    gamma: float = Field(0.95, ge=0, le=1, description="discount of the rewards after a turn")

    def advantages(self, groups: Sequence[Group]) -> dict[tuple[int, int, int], float]:
        """A_E + omega A_S of each turn."""
        result = super().advantages(groups)
        for g, group in enumerate(groups):
            met: dict[Hashable, list[tuple[tuple[int, int, int], float]]] = {}
            for a, trajectory in enumerate(group.trajectories):
                if trajectory.scored:
                    for t, value in enumerate(returns(trajectory, self.gamma)):
                        if trajectory.turns[t].source == "policy":
                            met.setdefault(_state(group, trajectory, t), []).append(((g, a, t), value))
            for visits in met.values():
                values = standardised([value for _, value in visits], self.normalise_advantages)
                for (key, _), advantage in zip(visits, values, strict=True):
                    result[key] += self.omega * advantage
        return result


def returns(trajectory: Trajectory, gamma: float) -> list[float]:
    """Discounted sum of the rewards from each turn on."""
    result: list[float] = []
    for turn in reversed(trajectory.turns):
        result.append(turn.reward + (gamma * result[-1] if result else 0.0))
    return result[::-1]


def _state(group: Group, trajectory: Trajectory, t: int) -> Hashable:
    key: Hashable = trajectory.turns[t].before.get("state_key")
    if key is None:
        raise SetupError(
            f"recipe=gigpo compares turns taken in the same state, but {group.task.get('env_id', 'the environment')} "
            f"does not say in which state turn {t} of task {group.task.get('id')!r} was taken: it must tell "
            "info['state_key'] at reset and step. recipe=grpo needs no states"
        )
    return key

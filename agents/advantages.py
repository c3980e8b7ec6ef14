"""Group-relative advantages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.trajectory import Group


def group_advantages(groups: Sequence[Group], normalise: bool, epsilon: float = 1e-4) -> dict[tuple[int, int], float]:
    """Advantage of each scored trajectory, keyed by (group, attempt).

    A_i = r_i - mean(r), divided by std(r) + ``epsilon`` where ``normalise`` (GRPO, arXiv 2402.03300, eq. 3;
    without the division: Dr. GRPO, arXiv 2503.20783). The standard deviation is the sample's (n - 1).
    Unscored trajectories neither receive an advantage nor enter the mean.
    """
    result: dict[tuple[int, int], float] = {}
    for g, group in enumerate(groups):
        attempts = [a for a, t in enumerate(group.trajectories) if t.scored]
        if not attempts:
            continue
        values = standardised([group.trajectories[a].reward for a in attempts], normalise, epsilon)
        result.update(zip(((g, a) for a in attempts), values, strict=True))
    return result


def standardised(values: Sequence[float], normalise: bool, epsilon: float = 1e-4) -> list[float]:
    """Each value minus their mean, over the sample's standard deviation + ``epsilon`` where ``normalise``.

    A single value gives 0, and so do values that are equal up to the rounding of a sum: exactly 0, for what has an
    advantage is trained on.
    """
    numbers = torch.tensor(values, dtype=torch.float64)
    if numbers.max() - numbers.min() <= 1e-9 * numbers.abs().max():
        return [0.0] * len(values)
    centred: Tensor = numbers - numbers.mean()
    if normalise:
        centred = centred / (numbers.std() + epsilon)
    centred_values: list[float] = centred.tolist()
    return centred_values

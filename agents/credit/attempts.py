"""Credit for two attempts at one question, of which the second may look at the first (SCoRe, arXiv 2409.12917)."""

from __future__ import annotations

from collections.abc import Sequence

from agents.advantages import standardised
from agents.trajectory import Group

Pairs = dict[tuple[int, int], tuple[float, float | None]]
"""R(y_1) and, where there is a second attempt, R(y_2), by (group, attempt)."""


def pairs_of(groups: Sequence[Group]) -> Pairs:
    """The rewards of the first two turns of each scored episode."""
    return {
        (g, a): (t.turns[0].reward, t.turns[1].reward if len(t.turns) > 1 else None)
        for g, group in enumerate(groups)
        for a, t in enumerate(group.trajectories)
        if t.scored and t.turns
    }


def pair_advantages(pairs: Pairs, bonus: float | None, normalise: bool = False) -> dict[tuple[int, int, int], float]:
    """What each attempt is credited, less the mean of the same attempt over its group, by (group, attempt, 0 or 1).

    - First attempts: R(y_1); 0 where ``bonus`` is None, the stage in which only second ones are rewarded.
    - Second ones: ``R(y_2) + bonus (R(y_2) - R(y_1))``; R(y_2) where ``bonus`` is None.
    """
    credit: dict[tuple[int, int], dict[int, float]] = {}
    for (g, a), (r1, r2) in pairs.items():
        credit.setdefault((g, 0), {})[a] = 0.0 if bonus is None else r1
        if r2 is not None:
            credit.setdefault((g, 1), {})[a] = r2 if bonus is None else r2 + bonus * (r2 - r1)
    result: dict[tuple[int, int, int], float] = {}
    for (g, k), one in credit.items():
        centred = standardised(list(one.values()), normalise)
        result |= {(g, a, k): x for a, x in zip(one, centred, strict=True)}
    return result


def gain(pairs: Pairs) -> dict[str, float]:
    """Mean of R(y_2) - R(y_1) where there are both, for the metrics, as ``gain``; nothing where there are none."""
    gains = [r2 - r1 for r1, r2 in pairs.values() if r2 is not None]
    return {"gain": sum(gains) / len(gains)} if gains else {}

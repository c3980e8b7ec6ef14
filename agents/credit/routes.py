"""Which samples get which signal: tests on groups, [samples] bool or weights, pure functions of rewards.

A route is a mask over tokens; sample and group tests are broadcasts of it (`Batch.per_token`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.batch import Batch


@dataclass(frozen=True)
class PassRates:
    """How often the groups of a batch succeeded, [samples] each: every sample has its group's."""

    rate: Tensor
    """Share of the rollout's attempts at the task that had full reward; 0 where there are none."""
    attempts: Tensor
    """How many there are."""

    @property
    def all_right(self) -> Tensor:
        """[samples] bool."""
        return (self.attempts > 0) & (self.rate == 1)

    @property
    def all_wrong(self) -> Tensor:
        """[samples] bool."""
        return (self.attempts > 0) & (self.rate == 0)

    @property
    def mixed(self) -> Tensor:
        """[samples] bool: both a success and a failure."""
        return (self.rate > 0) & (self.rate < 1)

    def within(self, low: float, high: float) -> Tensor:
        """[samples] bool: low <= rate <= high."""
        return (self.attempts > 0) & (self.rate >= low) & (self.rate <= high)

    @property
    def undecided(self) -> Tensor:
        """[samples] sqrt(p (1 - p)): SC-SDPO (arXiv 2605.27765)."""
        return (self.rate * (1 - self.rate)).sqrt()


def pass_rates(batch: Batch) -> PassRates:
    """Of all attempts that the rollout made at a task (`Batch.outcomes`), else of those in the batch.

    An attempt counts once, however many turns it has; sequences of other sources do not.
    """
    outcomes = batch.outcomes or _outcomes(batch)
    rewards = [outcomes.get(sample.group, []) for sample in batch.samples]
    rate = [sum(r >= 1.0 for r in group) / len(group) if group else 0.0 for group in rewards]
    return PassRates(torch.tensor(rate), torch.tensor([len(group) for group in rewards]))


def _outcomes(batch: Batch) -> dict[int, list[float]]:
    first = {(s.group, s.attempt): s.reward for s in batch.samples if s.source == "policy"}
    result: dict[int, list[float]] = {}
    for (group, _), reward in first.items():
        result.setdefault(group, []).append(reward)
    return result


def balanced(correct: Sequence[bool], ratio: float, order: Sequence[int]) -> list[bool]:
    """Which samples to keep for correct : incorrect to come as near ``ratio`` as dropping the surplus can (Uni-OPD).

    Samples are dropped from the end of ``order``, a permutation of them.

    >>> balanced([True, True, True, False], 1.0, [0, 1, 2, 3])
    [True, False, False, True]
    """
    right = [i for i in order if correct[i]]
    wrong = [i for i in order if not correct[i]]
    if right and wrong:
        right = right[: max(1, round(ratio * len(wrong)))]
        wrong = wrong[: max(1, round(len(right) / ratio))]
    kept = {*right, *wrong}
    return [i in kept for i in range(len(correct))]

"""Held-out success with a 95% interval."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from agents.chat import Chat
from agents.engines.base import Engine, Sampling
from agents.history import RolloutSettings
from agents.rollout import Drive, Environments, Opening, rollout, task_order
from agents.trajectory import Group


@dataclass
class Estimate:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float
    n: int
    """Scored attempts."""
    tasks: int

    def __str__(self) -> str:
        return f"{self.mean:.1%} [{self.low:.1%}, {self.high:.1%}]"

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def estimate(rewards: Sequence[Sequence[float]]) -> Estimate:
    """Mean reward in [0, 1] of attempts clustered by task, with Wilson's interval at the effective sample size.

    Attempts at one task are not independent: the effective sample size is p(1 - p) over the variance of the mean
    between tasks, at least the number of tasks where that variance is zero, at most the number of attempts.
    """
    clusters = [list(r) for r in rewards if r]
    values = [x for cluster in clusters for x in cluster]
    if not values:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    n, k = len(values), len(clusters)
    p = sum(values) / n
    variance = sum((sum(c) - p * len(c)) ** 2 for c in clusters) * k / max(k - 1, 1) / n**2
    effective = min(p * (1 - p) / variance, n) if variance > 0 else k
    z2 = 1.959964**2
    centre = (p + z2 / (2 * effective)) / (1 + z2 / effective)
    half = math.sqrt(z2 * (p * (1 - p) / effective + z2 / (4 * effective**2))) / (1 + z2 / effective)
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n, k)


@dataclass
class Evaluation:
    """One evaluation: sampled attempts, and one greedy attempt a task."""

    sampled: Estimate
    greedy: Estimate
    cpu_seconds: float
    groups: list[Group]
    """The sampled attempts."""
    greedy_groups: list[Group] = field(default_factory=list)


def evaluate(
    engine: Engine,
    chat: Chat,
    environments: Environments,
    *,
    tasks: int,
    attempts: int,
    sampling: Sampling,
    seed: int,
    settings: RolloutSettings | None = None,
    opening: Opening | None = None,
) -> Evaluation:
    """Attempt ``tasks`` fixed tasks of the environments' split, sampled and greedily, by the policy alone.

    ``opening`` is how its conversations begin, where not as the environment has it.
    """
    drive = Drive(opening=opening)
    started = time.process_time()
    indices = task_order(environments.num_tasks(), seed, 0, min(tasks, environments.num_tasks()))
    groups = rollout(engine, chat, environments, indices, attempts, sampling, seed, drive=drive, settings=settings)
    argmax = sampling.model_copy(update={"temperature": 0.0})
    greedy = rollout(engine, chat, environments, indices, 1, argmax, seed, drive=drive, settings=settings)

    def score(batch: list[Group]) -> Estimate:
        return estimate([[t.reward for t in g.scored()] for g in batch])

    return Evaluation(score(groups), score(greedy), time.process_time() - started, groups, greedy)

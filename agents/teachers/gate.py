"""When a teacher may become the policy of today: only after the policy has become better.

    window   the last K steps: r = mean reward, l = mean share of replies that were cut at the token limit
    refresh  where the window is full,  r >= r_last + gain  and  l <= longest;  then r_last = r, and a new window begins

Source: conditional refresh, CGTR (arXiv 2606.03532): a teacher that is renewed at fixed intervals collapses in long
runs, one that is renewed on gains of reward with a safe tail of lengths does not. The statistics are our reading:
plain means over a window, replies cut at the limit as the tail, and a first window that only measures where the
policy, and with it the teacher, began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RefreshGate:
    """Watches the metrics of training steps; its state is plain data."""

    every: int
    """K, steps."""
    gain: float
    longest: float
    rewards: list[float] = field(default_factory=list)
    """Of the window, at most K."""
    cut: list[float] = field(default_factory=list)
    """Shares of replies cut at the limit, alike."""
    level: float | None = None
    """Mean reward at the last refresh; None: the first window is not full."""
    refreshes: int = 0

    def observe(self, metrics: Mapping[str, Any]) -> bool:
        """Take in the metrics of one step, ``reward`` and ``truncated``; whether the teacher is to be renewed now.

        A step without scored attempts, whose numbers are None, is passed over.
        """
        reward, cut = metrics.get("reward"), metrics.get("truncated")
        if reward is None or cut is None:
            return False
        self.rewards = [*self.rewards, float(reward)][-self.every :]
        self.cut = [*self.cut, float(cut)][-self.every :]
        if len(self.rewards) < self.every:
            return False
        mean = sum(self.rewards) / self.every
        first = self.level is None
        better = self.level is None or mean >= self.level + self.gain
        if not first and not (better and sum(self.cut) / self.every <= self.longest):
            return False
        self.level, self.rewards, self.cut = mean, [], []
        self.refreshes += not first
        return not first

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        names = ("rewards", "cut", "level", "refreshes")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.rewards, self.cut = list(state["rewards"]), list(state["cut"])
        self.level, self.refreshes = state["level"], int(state["refreshes"])

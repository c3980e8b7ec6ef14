"""A population of instructions that is measured in use and evolved: the fast weights of `agents.recipes.fast_slow`.

Selection follows GEPA: an instruction is kept for what it is best at, not for its mean alone. All instructions of a
cycle are tried on the same tasks, so that they can be compared; a new cycle counts anew, as the policy has moved.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.trajectory import Message


@dataclass
class Instruction:
    """One text, and how well it did in the cycle that runs."""

    text: str
    """Empty: none, the environment's own prompt."""
    rewards: dict[str, list[float]] = field(default_factory=dict)
    """By task."""

    @property
    def mean(self) -> float:
        """Over tasks of the mean over attempts; -inf where it was not tried."""
        if not self.rewards:
            return float("-inf")
        return sum(sum(r) / len(r) for r in self.rewards.values()) / len(self.rewards)

    def at(self, task: str) -> float:
        """Mean reward at a task; -inf where it was not tried there."""
        rewards = self.rewards.get(task)
        return sum(rewards) / len(rewards) if rewards else float("-inf")


class Population:
    """At most ``size`` instructions, the best of the last cycle first."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        self.size = size
        self.members = [Instruction(text) for text in dict.fromkeys(texts)][:size]
        self.best = self.members[0].text
        """That of the last cycle; before one has ended, the first."""

    def of(self, attempt: int) -> Instruction:
        """The instruction of an attempt: each has an equal share of a group."""
        return self.members[attempt % len(self.members)]

    def record(self, task: str, rewards: Sequence[float | None]) -> None:
        """Rewards of the attempts at a task, by number; None where an attempt could not be scored."""
        for attempt, reward in enumerate(rewards):
            if reward is not None:
                self.of(attempt).rewards.setdefault(task, []).append(reward)

    def wins(self) -> list[int]:
        """On how many tasks each member is the best, ties included, members that another one dominates aside.

        A member is dominated where another is at least as good on every task, and better on one.
        """
        tasks = {task for member in self.members for task in member.rewards}
        table = [[member.at(task) for task in tasks] for member in self.members]

        def dominated(k: int) -> bool:
            return any(
                row != table[k] and all(a >= b for a, b in zip(row, table[k], strict=True))
                for row in table
            )  # fmt: skip

        best = [max(column) for column in zip(*table, strict=True)]
        return [
            0 if dominated(k) else sum(value == top for value, top in zip(row, best, strict=True))
            for k, row in enumerate(table)
        ]

    def parents(self, n: int, draw: random.Random) -> list[Instruction]:
        """Whom to improve, ``n`` times: drawn by the number of tasks that they win."""
        wins = self.wins()
        return draw.choices(self.members, weights=wins if any(wins) else [1] * len(wins), k=n)

    def renew(self, texts: Sequence[str]) -> None:
        """End the cycle: new texts take the places of the weakest members; those that win no task go first."""
        known = {member.text for member in self.members}
        fresh = [text for text in dict.fromkeys(texts) if text not in known][: self.size - 1]
        ranked = sorted(
            zip(self.members, self.wins(), strict=True), key=lambda pair: (pair[1] > 0, pair[0].mean), reverse=True
        )
        self.best = max((member for member, _ in ranked), key=lambda member: member.mean).text
        kept = [member.text for member, _ in ranked][: self.size - len(fresh)]
        if self.best not in kept:
            kept[-1] = self.best
        self.members = [Instruction(text) for text in [*kept, *fresh]]

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "best": self.best,
            "members": [{"text": m.text, "rewards": {t: list(r) for t, r in m.rewards.items()}} for m in self.members],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.best = str(state["best"])
        self.members = [
            Instruction(str(m["text"]), {str(t): [float(x) for x in r] for t, r in m["rewards"].items()})
            for m in state["members"]
        ]


def instructed(messages: Sequence[Message], text: str) -> list[Message]:
    """A conversation that begins with an instruction, behind the environment's own where it has one; empty: none."""
    if not text:
        return list(messages)
    first = messages[0]
    if first["role"] == "system":
        return [{**first, "content": f"{first['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]

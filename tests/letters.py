"""An environment that random weights solve now and then: say something that begins with the right letter."""

from __future__ import annotations

import gymnasium

from rfenvs.env import Action, TextEnv, Verdict
from rfenvs.feedback import item
from rfenvs.tasks import Task

ID = "tests/Letters-v0"


class Letters(TextEnv):
    """One right beginning is as good as another; what begins with one of ``unscored`` cannot be judged."""

    splits = ("train", "test")

    def __init__(
        self,
        split: str = "train",
        data: str | None = None,
        max_turns: int | None = None,
        render_mode: str | None = None,
        letters: str = "abcdefghijklm",
        unscored: str = "",
        tasks: int = 3,
    ) -> None:
        super().__init__(split, data, max_turns, render_mode)
        self.letters, self.unscored, self.tasks = letters, unscored, tasks

    def num_tasks(self, split: str) -> int:
        """As many as it was made with."""
        return self.tasks

    def task(self, split: str, index: int) -> Task:
        """Its number is all that tells one task from another."""
        return Task(id=f"letter/{split} {index}", prompt=f"Begin well, {index}.", reference=self.letters)

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        """One for a right beginning."""
        first = str(action).strip()[:1]
        if first and first in self.unscored:
            raise RuntimeError("nobody can judge this")
        if first and first in self.letters:
            return Verdict(1.0)
        return Verdict(0.0, [item("wrong_answer", f"It must not begin with {first!r}.", data={"code": "letter"})])


def register() -> str:
    """Make it known; returns its id."""
    if ID not in gymnasium.registry:
        gymnasium.register(ID, entry_point="letters:Letters", disable_env_checker=True)
    return ID

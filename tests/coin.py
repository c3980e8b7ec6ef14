"""`tests/Coin-v0`: about every other answer of a model that knows nothing is right, so that every recipe has a signal.

A task is right for answers whose characters' codes add up to an even number, or an odd one, by the task. Feedback says
what the sum was, and to trusted readers a right answer.
"""

from __future__ import annotations

import gymnasium

from rfenvs import Action, Task, TextEnv, Verdict, item

ID = "tests/Coin-v0"
WORDS = ("milk", "Oslo", "Anna", "Paris", "timer", "call")


class Coin(TextEnv):
    """Say something whose character codes add up to an even, or odd, number."""

    def begin(self, task: Task) -> None:
        self.said = 0

    def state_info(self) -> dict[str, object]:
        return {"state_key": self.said}

    def num_tasks(self, split: str) -> int:
        return 12

    def task(self, split: str, index: int) -> Task:
        odd = index % 2
        reference = next(word for word in WORDS if sum(map(ord, word)) % 2 == odd)
        return Task(prompt=f"Number {index}: {'odd' if odd else 'even'}?", reference=reference, data={"odd": odd})

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        total, self.said = sum(map(ord, action)), self.said + 1
        if action and total % 2 == task.data["odd"]:
            return Verdict(1.0)
        told = item("wrong_answer", f"The sum is {total}.")
        reference = task.reference
        more = item(
            "wrong_answer", f"Expected {reference}.", visibility="teacher", reveals_reference=True, leak_level=3,
            data={"expected": reference},
        )  # fmt: skip
        return Verdict(0.0, [told, more])


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=Coin)

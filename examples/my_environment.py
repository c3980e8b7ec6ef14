"""An environment of your own: one file; importing it makes its id known.

python -c "import my_environment, rfenvs; print(rfenvs.validate('me/FiveLetters-v0', 'train'))"
"""

import gymnasium

from rfenvs import Action, Task, TextEnv, Verdict, item

TEXT = "bread lemon honey tiger cloud piano night stone ox cat bear milk tree butter candle garden window mountain"
WORDS, LETTERS = TEXT.split(), {"train": "abcdemnst", "test": "ghilor"}


class FiveLetters(TextEnv):
    """Say a word of five letters that does without a certain one."""

    def num_tasks(self, split: str) -> int:
        return len(LETTERS[split])

    def task(self, split: str, index: int) -> Task:
        letter = LETTERS[split][index]
        right = next(word for word in WORDS if len(word) == 5 and letter not in word)
        return Task(prompt=f"A word of five letters without {letter}?", reference=right, data={"letter": letter})

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        word, letter = action.strip(), task.data["letter"]
        if not (word.isascii() and word.isalpha() and word.islower()):
            return Verdict(0.0, [item("invalid_format", "That is not one word in small letters.")])
        if len(word) != 5:
            return Verdict(0.0, [item("wrong_answer", f"It has {len(word)} letters.")])
        if letter in word:
            return Verdict(0.0, [item("wrong_answer", f"There is a {letter} in it.")])
        return Verdict(1.0)


gymnasium.register("me/FiveLetters-v0", entry_point=FiveLetters)

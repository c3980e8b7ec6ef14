"""An environment of your own: one file, imported once, then known by its id.

python -c "import my_environment, rfenvs; print(rfenvs.validate('me/Begins-v0', 'train'))"
"""

import gymnasium

from rfenvs import Action, Task, TextEnv, Verdict, item

TEXT = "bread bear butter cat candle cup dog door danger fire fox finger hand hill honey lamp lion lemon"
WORDS, LENGTHS = TEXT.split(), {"train": (3, 4), "test": (5,)}


class Begins(TextEnv):
    """Say a word that begins with a letter and is long enough. Test tasks ask for longer words."""

    letters = "bcdfhl"

    def num_tasks(self, split: str) -> int:
        return len(self.letters) * len(LENGTHS[split])

    def task(self, split: str, index: int) -> Task:
        length, letter = LENGTHS[split][index // len(self.letters)], self.letters[index % len(self.letters)]
        right = next(word for word in WORDS if word[0] == letter and len(word) >= length)
        return Task(prompt=f"A word with {letter}, {length} letters or more?", reference=right, data={"length": length})

    def grade(self, task: Task, action: Action, turn: int) -> Verdict:
        word, letter = action.strip(), task.reference[0]
        if not (word.isascii() and word.isalpha() and word.islower()):
            return Verdict(0.0, [item("invalid_format", "That is not one word in small letters.")])
        if word[0] != letter:
            return Verdict(0.0, [item("wrong_answer", f"It begins with {word[0]}, not with {letter}.")])
        if len(word) < task.data["length"]:
            return Verdict(0.0, [item("wrong_answer", f"It has only {len(word)} letters.")])
        return Verdict(1.0)


gymnasium.register("me/Begins-v0", entry_point=Begins)

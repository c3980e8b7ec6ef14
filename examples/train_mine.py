"""A method and an environment of your own, trained together in under a minute on two cores, without downloads.

    python examples/train_mine.py

The model is made on the spot: a small transformer that has learnt to answer with a word, but not which words are right.
"""

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

from my_environment import LETTERS, WORDS, FiveLetters
from my_method import DASD

import agents
from agents.small import build_small, imitate


def small_model(folder: Path) -> str:
    """A model that answers the questions of both splits with any word of the list."""
    rng, dialogues = random.Random(0), []
    for k in range(400):
        split = ("train", "test")[k % 2]
        task = FiveLetters(split=split).get_task(k % len(LETTERS[split]))
        answer = {"role": "assistant", "content": rng.choice(WORDS)}
        dialogues.append([{"role": "user", "content": task.prompt}, answer])
    texts = [message["content"] for dialogue in dialogues for message in dialogue]
    model = build_small(folder / "model", texts, vocabulary=400, width=64, layers=2)
    imitate(model, dialogues, steps=120, rows=16)
    return str(model)


def main(steps: int = 24, run_dir: str = "runs/mine") -> dict[str, Any]:
    """Make the model, train it, and return the run's summary."""
    with tempfile.TemporaryDirectory() as folder:
        run = agents.train(
            DASD(normalise_advantages=True),
            env="me/FiveLetters-v0",
            model=small_model(Path(folder)),
            steps=steps,
            run_dir=run_dir,
            batch={"tasks": 8, "attempts": 8},
            sampling={"max_tokens": 8},
            optim={"lr": 3e-3},
            eval={"tasks": 6, "attempts": 16},
            check_teacher=0,
        )
    return run.summary


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--run-dir", default="runs/mine")
    known = parser.parse_args()
    print(main(known.steps, known.run_dir)["held_out"])

"""A method and an environment of your own, trained together in under a minute on two cores, without downloads.

    python examples/train_mine.py

The model is made on the spot: a small transformer that has read a few hundred dialogues of somebody who is often wrong.
"""

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
from my_environment import WORDS
from my_method import DASD

import agents
from agents.small import build_small, imitate


def dialogues(count: int, right: float = 0.3, seed: int = 0) -> list[list[dict[str, str]]]:
    """Tasks of both splits, answered rightly as often as ``right`` says, else by any word."""
    rng, found = random.Random(seed), []
    for k in range(count):
        env = gymnasium.make("me/Begins-v0", split=("train", "test")[k % 3 == 0])
        question, info = env.reset(seed=k)
        task = env.unwrapped.get_task(info["task"]["index"])
        fitting = [word for word in WORDS if word[0] == task.reference[0] and len(word) >= task.data["length"]]
        answer = rng.choice(fitting if rng.random() < right else WORDS)
        found.append([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
    return found


def main(steps: int = 12, run_dir: str = "runs/mine") -> dict[str, Any]:
    """Make the model, train it, and return the run's summary."""
    with tempfile.TemporaryDirectory() as folder:
        texts = dialogues(400)
        model = build_small(Path(folder) / "model", [m["content"] for d in texts for m in d], width=64, layers=2)
        imitate(model, texts, steps=120, rows=16)
        run = agents.train(
            DASD(normalise_advantages=True),
            env="me/Begins-v0",
            model=str(model),
            steps=steps,
            run_dir=run_dir,
            batch={"tasks": 12, "attempts": 8},
            sampling={"max_tokens": 8},
            optim={"lr": 3e-3},
            eval={"tasks": 6, "attempts": 16},
            threads=2,
        )
    return run.summary


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--run-dir", default="runs/mine")
    known = parser.parse_args()
    print(main(known.steps, known.run_dir)["held_out"])

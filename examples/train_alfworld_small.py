"""`train_alfworld.py` in small: SAGE-OPD on household games, on two CPU cores, in minutes, with nothing downloaded.

    python examples/train_alfworld_small.py

A language model of 0.4 million weights is made on the spot. It first imitates the games' planner, who strays now and
then: that is all it knows of language. Then it plays by itself, and its own first weights, shown the planner's next
actions, teach it on the turns that the rule judge calls bad.
"""

import argparse
from pathlib import Path
from typing import Any

import gymnasium

import agents
import rfenvs  # noqa: F401  registers the ids
from agents.credit.intervention import Intervention
from agents.credit.judges import JudgeSettings
from agents.recipes.sage_opd import SAGEOPD
from agents.small import build_small, expert_dialogues, imitate
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings

GAMES: dict[str, Any] = {"difficulty": "easy", "max_turns": 12, "instructions": False, "expert": True}


def warm_start(directory: Path, episodes: int, steps: int) -> None:
    if (directory / "config.json").is_file():
        return
    env = gymnasium.make("rfenvs/ALFWorld-v0", **GAMES)
    dialogues = list(expert_dialogues(env, range(episodes), noise=0.15))
    texts = (message["content"] for dialogue in dialogues[:600] for message in dialogue)
    draft = build_small(directory.with_name(directory.name + "-draft"), texts, width=96, layers=3)
    imitate(draft, dialogues, steps=steps)
    draft.rename(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/alfworld-small"))
    parser.add_argument("--warm-steps", type=int, default=3000, help="optimiser steps of imitation")
    parser.add_argument("--warm-episodes", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=16, help="steps of SAGE-OPD")
    parser.add_argument("--eval-tasks", type=int, default=60)
    known = parser.parse_args()

    policy = known.run_dir.with_name(known.run_dir.name + "-warm")
    warm_start(policy, known.warm_episodes, known.warm_steps)
    recipe = SAGEOPD(
        teacher=TeacherSettings(kind="frozen"),
        context=Context(sources=["plan"], wording="inline", allow_reference=True),
        intervention=Intervention(judge=JudgeSettings(kind="rule")),
    )
    run = agents.train(
        recipe,
        env="rfenvs/ALFWorld-v0",
        env_kwargs=GAMES,
        model={"name": str(policy), "pack_tokens": 512},
        steps=known.steps,
        run_dir=known.run_dir,
        batch={"tasks": 8, "attempts": 4},
        sampling={"max_tokens": 16},
        optim={"lr": 3e-4, "warmup_steps": 2, "weight_decay": 0.0},
        eval={"split": "valid_unseen", "tasks": known.eval_tasks, "attempts": 2, "temperature": 1.0},
    )
    print(run.summary["held_out"])


if __name__ == "__main__":
    main()

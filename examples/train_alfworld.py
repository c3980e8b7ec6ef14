"""SAGE-OPD on ALFWorld: long episodes, taught only on the turns that need it.

    python examples/train_alfworld.py                                     # household games made by rfenvs; one GPU
    python examples/train_alfworld.py --data ~/alfworld/json_2.1.1        # the official games
    python examples/train_alfworld.py --judge rule --teacher Qwen/Qwen3-8B

The student acts in many houses at once. After each turn the judge looks at what the environment answered and decides
whether the turn is taught; the teacher, by default the student's first weights shown what followed, says what it would
have said. A run that is interrupted continues when started again. `examples/train_alfworld_small.py` is the same on
two CPU cores, without a download.
"""

import argparse

import agents
from agents.credit.intervention import Intervention
from agents.credit.judges import JudgeSettings
from agents.recipes.sage_opd import SAGEOPD
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-1.5B-Instruct", help="a hub id or a directory")
    parser.add_argument("--teacher", help="a stronger model with the same tokenizer; default: the student itself")
    parser.add_argument("--judge", default="teacher", choices=["teacher", "rule", "oracle", "agreement"])
    parser.add_argument("--data", help="official games; default: games made by rfenvs")
    parser.add_argument("--difficulty", default="medium", choices=["easy", "medium", "hard"], help="of our own games")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--tasks", type=int, default=16, help="games a step, one attempt at each")
    parser.add_argument("--max-turns", type=int, default=30, help="commands of an attempt, at most")
    parser.add_argument("--eval-tasks", type=int, default=64, help="games of the evaluation, in unseen rooms")
    parser.add_argument("--lora-rank", type=int, default=64, help="0 trains all weights")
    parser.add_argument("--run-dir", default="runs/alfworld")
    known = parser.parse_args()

    if known.teacher:
        teacher = TeacherSettings(kind="external", model=known.teacher)
        context = Context(sources=["none"])
    else:
        teacher = TeacherSettings(kind="frozen")
        context = Context(sources=["feedback", "rest"], wording="turn")
    recipe = SAGEOPD(
        teacher=teacher,
        context=context,
        intervention=Intervention(judge=JudgeSettings(kind=known.judge), weak=0.5),
        top_k=100,
    )
    games = {"data": known.data} if known.data else {"difficulty": known.difficulty}
    run = agents.train(
        recipe,
        env="rfenvs/ALFWorld-v0",
        env_kwargs={**games, "admissible": True, "max_turns": known.max_turns, "expert": known.judge == "oracle"},
        model={
            "name": known.model,
            "lora_rank": known.lora_rank,
            "gradient_checkpointing": True,
            "template": {"enable_thinking": False},
        },
        steps=known.steps,
        run_dir=known.run_dir,
        rollout={"history": 2},
        batch={"tasks": known.tasks, "attempts": 1},
        sampling={"temperature": 1.0, "max_tokens": 64},
        optim={"lr": 1e-5},
        eval={"split": "valid_unseen", "tasks": known.eval_tasks, "attempts": 1, "temperature": 0.4, "every": 50},
    )
    print(run.summary["held_out"])


if __name__ == "__main__":
    main()

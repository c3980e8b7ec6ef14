"""Self-distillation from feedback in one call; the same as `rfenvs train`.

Here: a tiny run on two cores. On a GPU, give a hub model, more tasks and the full answer length:

    python examples/train_toolcall.py --model Qwen/Qwen3-0.6B --steps 100 --tasks 32
"""

import argparse

import agents
from agents.recipes.sdpo_grpo import Blend
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--run-dir", default="runs/example")
    known = parser.parse_args()

    recipe = Blend(
        policy_weight=1.0,
        distil_weight=1.0,
        normalise_advantages=True,
        teacher=TeacherSettings(kind="ema", rate=0.05, temperature=0.6),
        context=Context(sources=["sibling", "expected"], wording="turn", allow_reference=True),
    )
    run = agents.train(
        recipe,
        env="rfenvs/ToolCall-v0",
        env_kwargs={"feedback": "expected"},
        model=known.model,
        steps=known.steps,
        run_dir=known.run_dir,
        batch={"tasks": known.tasks, "attempts": 8},
        sampling={"max_tokens": 16},
        optim={"lr": 2e-5},
        eval={"tasks": 16},
    )
    print(run.summary["held_out"])


if __name__ == "__main__":
    main()

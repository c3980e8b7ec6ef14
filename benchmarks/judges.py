"""How well every judge of turns agrees with the oracle, on episodes of a policy.

    python benchmarks/judges.py [--recipe NAME or FILE] [--json PATH] [--section.field VALUE ...]

The settings are those of `rfenvs train` (by default `sage_opd`), so that policy, teacher, what the teacher sees and the
judge's own settings are the ones of a run: point ``--model.name`` at a trained checkpoint. The environment must tell
its planner's distances, as rfenvs/ALFWorld-v0 does with ``--env.kwargs '{expert: true}'``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.config import TrainConfig, load, parse_overrides
from agents.credit.compare import Judged, compare, table
from agents.credit.intervention import Intervention
from agents.errors import SetupError
from agents.recipes.base import TaughtRecipe
from agents.report.metrics import jsonable
from agents.rollout import Environments, rollout, task_order
from agents.teachers.teacher import Teacher
from agents.training.trainer import load_engine

KINDS = ("oracle", "rule", "agreement", "teacher")


def judge(config: TrainConfig) -> dict[str, Judged]:
    """Every judge on one rollout batch of ``config``."""
    recipe = config.recipe
    if not isinstance(recipe, TaughtRecipe):
        raise SetupError(f"recipe={type(recipe).name!r} has no teacher; use sage_opd, or another that has")
    environments = Environments(config.env.id, config.env.split, config.env.kwargs, config.env.workers)
    engine = load_engine(config)
    tasks = task_order(environments.num_tasks(), config.seed, 0, config.batch.tasks)
    groups = rollout(
        engine, engine.chat, environments, tasks, config.batch.attempts, config.sampling, config.seed,
        drive=recipe.drive(0),
    )  # fmt: skip
    settings = (recipe.intervention or Intervention()).judge
    judges = {kind: settings.model_copy(update={"kind": kind}) for kind in KINDS}
    oracle = judges["oracle"]
    return compare(judges, groups, Teacher(engine, recipe.teacher), engine.chat, recipe.context, oracle)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--recipe", default="sage_opd", help="a recipe's name or a settings file")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    known, rest = parser.parse_known_args()
    try:
        judged = judge(load(known.recipe, parse_overrides(rest)))
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(judged))
    if known.json:
        numbers = {kind: {"failed": one.failed, **asdict(one.against)} for kind, one in judged.items()}
        known.json.write_text(json.dumps(jsonable(numbers), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

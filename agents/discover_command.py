"""``rfenvs discover``: test-time self-distillation on one hard task at a time, and its baselines."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents.errors import SetupError

USAGE = """usage: rfenvs discover ENV (--task ID ... | --tasks N) [--method sdpo | best_of_k | multi_turn]
                       [--budget 2750] [--seeds 1] [--split train] [--kwargs '{level: 2}'] [--recipe sdpo_rich]
                       [--out DIR] [--fresh] [--section.field VALUE ...]

Works on ONE hard task at a time: makes a batch of attempts, shows the model, as its own teacher, what the environment
said of them, takes one step, and again, until an attempt earns the full reward or the budget of attempts is used. Each
task starts from the model's own weights, and so does each of its seeds. Interrupted, the same command continues.

A first try, some minutes on two cores:
  rfenvs discover rfenvs/ToolCall-v0 --tasks 2 --budget 64 --optim.lr 2e-5 --sampling.max_tokens 16

METHOD is one of
  sdpo               learn between the batches, with any recipe that has a teacher (--recipe; default sdpo_rich with
                     the published constants: reverse KL, top 20 and a tail, EMA 0.01, 16 attempts a batch)
  best_of_k          the same attempts without learning
  multi_turn         no learning either: each attempt is shown all feedback so far, the oldest is dropped where that is
                     too long (--prompt_tokens). --template attempt_and_feedback keeps the attempts as turns, too

--task takes an id, or an index of the split; several of them are worked on one after the other. --tasks N draws N.
Attempts that could not be scored are made again: they use no budget, and are neither failures nor successes.

DIR (default runs/discover-<environment>-<method>-s<seed>) holds solutions/<task>-<seed>.txt, attempts.jsonl with every
attempt, summary.json with discovery@k (the share of runs solved within k attempts, with 95% intervals) and report.html.

Every setting of `rfenvs train` works here: --batch.attempts 8 (attempts before each update), --recipe.context.sources
'[feedback]', --optim.lr 1e-6, --save_every 10 (updates between checkpoints; 0: an interrupted run starts over).
The reference never reaches the teacher, unless --recipe.context.allow_reference true: nothing is discovered then.
"""


def add_arguments(parser: argparse.ArgumentParser, mapping: Callable[[str], dict[str, Any]]) -> None:
    """The options that are not settings of a training run."""
    parser.add_argument("--task", dest="ids", action="append", default=[], help="id or index of a task")
    parser.add_argument("--tasks", dest="count", type=int, help="draw so many tasks")
    parser.add_argument("--method", choices=["sdpo", "best_of_k", "multi_turn"], default="sdpo")
    parser.add_argument("--budget", type=int, default=2750, help="scored attempts at a task")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each task")
    parser.add_argument("--template", choices=["feedback_only", "attempt_and_feedback"], default="feedback_only")
    parser.add_argument("--prompt_tokens", "--prompt-tokens", type=int, help="multi_turn: longest prompt")
    parser.add_argument("--recipe", dest="recipe_name", help="any recipe with a teacher; default sdpo_rich")
    parser.add_argument("--split", help="short for --env.split")
    parser.add_argument("--kwargs", type=mapping, help="short for --env.kwargs")
    parser.add_argument("--out", type=Path, help="directory of the results")


def run(known: argparse.Namespace, rest: list[str]) -> int:
    """The command; `SetupError` where something is wrong."""
    from pydantic import ValidationError

    from agents.training.discovery_setup import DiscoverySettings, configure, default_directory, find_tasks

    config = configure(*_chosen(known, rest))
    if known.teach:
        from agents.config import TrainConfig, fields

        print(USAGE)
        print("settings (in brackets: what this command gives them):")
        listed = [*fields(TrainConfig, values=config), *fields(type(config.recipe), "recipe.", config.recipe)]
        for setting, _, value, description in listed:
            print(f"  --{setting} [{value}]\n      {description}")
        return 0
    names = ("method", "budget", "seeds", "template", "prompt_tokens")
    given = {name: getattr(known, name) for name in names}
    try:
        settings = DiscoverySettings(tasks=[], **given)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise SetupError(f"--{wrong['loc'][0]} {wrong['input']}: {wrong['msg']}") from error
    settings.tasks = find_tasks(config, known.ids, known.count)
    directory = config.run_dir or default_directory(config, settings)
    if known.fresh and (directory / "config.json").is_file():
        shutil.rmtree(directory)
    from agents.report.discovery import write_discovery_report
    from agents.training.test_time import Discovery

    Discovery(config, settings).run()
    write_discovery_report(directory)
    return 0


def _chosen(known: argparse.Namespace, rest: list[str]) -> tuple[str, dict[str, Any]]:
    """Recipe or file, and the settings that the command line gives."""
    from agents import recipes
    from agents.config import merged, packaged, parse_overrides
    from agents.training.discovery_setup import RECIPE

    overrides = parse_overrides(rest)
    source, env = known.recipe_name or RECIPE, known.env_id
    if known.recipe:
        path = Path(known.recipe)
        if path.suffix in (".toml", ".yaml", ".yml") or known.recipe in (*recipes.names(), *packaged()):
            source = known.recipe_name or known.recipe
        else:
            env = known.recipe
    elif env is None and not known.teach:
        raise SetupError("which environment? For example: rfenvs discover rfenvs/ToolCall-v0 --tasks 2")
    shorts = [("env", "id", env), ("env", "split", known.split), ("env", "kwargs", known.kwargs)]
    shorts.append(("model", "name", known.model_name))
    for section, name, value in shorts:
        if value is not None:
            overrides = merged(overrides, {section: {name: value}})
    return source, merged(overrides, {"run_dir": str(known.out)}) if known.out else overrides

"""The command line: ``rfenvs list | play | validate | data | eval | check-teacher | train | report | doctor``.

Commands that need torch import it when they run; the others work with the core install.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.errors import SetupError
from rfenvs import data_command
from rfenvs.dataset_spec import DataUnavailable
from rfenvs.rows import DataError
from sandboxes import SandboxUnavailable

Command = Callable[[argparse.Namespace, list[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status. A `SetupError` is one paragraph on stderr and status 2."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    command: Command = known.command
    if known.takes_settings:  # argparse would take the value of an unknown option for the recipe
        known.recipe = rest.pop(0) if rest and not rest[0].startswith("-") else None
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return command(known, rest)
    except (SetupError, SandboxUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"error: the disk is full ({error}). Free some space and run the same command again: the run continues "
            "from its last checkpoint.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to continue", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("agents", "rfenvs", "sandboxes"):
            raise
        extra = "pip install 'rfenvs[agents]'"
        print(f"error: this command needs the package {error.name!r}: {extra}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rfenvs",
        description="Text environments with rich feedback, and models that teach themselves from it.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, function: Command, help: str, *, settings: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help, add_help=not settings)
        made.set_defaults(command=function, takes_settings=settings)
        return made

    add("list", _list, "environments, recipes and packaged models")

    play = add("play", _play, "answer an environment's tasks yourself, in the terminal")
    play.add_argument("env", help="environment id, for example rfenvs/ToolCall-v0")
    play.add_argument("--split", default="train")
    play.add_argument("--task", type=int, help="index of the first task; default: random ones")
    play.add_argument("--kwargs", default="{}", help="environment arguments, as YAML")

    validate = add("validate", _validate, "check an environment: gold answers win, others do not, nothing leaks")
    validate.add_argument("env")
    validate.add_argument("--split", default=None, help="default: every split")
    validate.add_argument("-n", type=int, default=50, help="tasks")
    validate.add_argument("--kwargs", default="{}", help="environment arguments, as YAML")

    data = add("data", _data, "list, fetch and verify the data sets of the environments")
    data_command.add_arguments(data)

    for name, function, help in (
        ("train", _train, "train a model with a recipe; interrupted, the same command continues"),
        ("check-teacher", _check, "compare student and teacher on the same tasks, before training"),
        ("eval", _eval, "measure a model's held-out success, without training"),
    ):
        made = add(name, function, help, settings=True)
        made.add_argument("--fresh", action="store_true", help="delete what an earlier run left in run_dir")
        made.add_argument("--env", dest="env_id", help="short for --env.id")
        made.add_argument("--model", dest="model_name", help="short for --model.name")
        made.add_argument("-h", "--help", action="store_true", dest="teach", help="every setting")

    report = add("report", _report, "write report.html of a run")
    report.add_argument("run", type=Path, help="run directory")
    report.add_argument("-o", "--output", type=Path, help="default: report.html in the run directory")

    add("doctor", _doctor, "what this machine can do, and what to install for more")
    return parser


# ---- core commands


def _list(known: argparse.Namespace, rest: list[str]) -> int:
    import rfenvs
    from agents.models import PACKAGED

    print("environments")
    for env in rfenvs.list_ids():
        print(f"  {env:28} splits: {', '.join(rfenvs.splits(env))}")
    try:
        from agents import recipes
        from agents.config import packaged

        print("runs, ready to start with `rfenvs train NAME`")
        for name, about in packaged().items():
            print(f"  {name:28} {about}")
        print("recipes")
        for name in recipes.names():
            first = (sys.modules[recipes.get(name).__module__].__doc__ or "").strip().splitlines()[0]
            print(f"  {name:28} {first}")
    except ModuleNotFoundError as error:
        print(f"recipes: need {error.name}: pip install 'rfenvs[agents]'")
    print("packaged models")
    for name, spec in PACKAGED.items():
        print(f"  {name:28} {spec.package} {spec.version}, {spec.licence}")
    return 0


def _kwargs(text: str) -> dict[str, Any]:
    try:
        import yaml

        value = yaml.safe_load(text)
    except ModuleNotFoundError:
        value = json.loads(text)
    if not isinstance(value, dict):
        raise SetupError(f"--kwargs {text!r} is not a mapping, for example '{{level: 2}}'")
    return value


def _make(env: str, **kwargs: Any) -> Any:
    import gymnasium

    import rfenvs

    try:
        return gymnasium.make(env, **kwargs)
    except gymnasium.error.Error as error:
        raise SetupError(f"{error} rfenvs has {', '.join(rfenvs.list_ids())}.") from error
    except (TypeError, ValueError) as error:
        raise SetupError(f"{env} with {kwargs}: {error}") from error


def _play(known: argparse.Namespace, rest: list[str]) -> int:
    from agents.play import Player, edit_lines
    from agents.screen import Screen

    env = _make(known.env, split=known.split, **_kwargs(known.kwargs))
    edit_lines()
    try:
        Player(env, known.task, Screen()).run()
    except (ValueError, FileNotFoundError) as error:
        raise SetupError(f"{known.env}: {error}") from error
    finally:
        env.close()
    return 0


def _validate(known: argparse.Namespace, rest: list[str]) -> int:
    import rfenvs

    kwargs = _kwargs(known.kwargs)
    failed = False
    try:
        for split in [known.split] if known.split else rfenvs.splits(known.env):
            report = rfenvs.validate(known.env, split, known.n, **kwargs)
            print(report)
            failed |= not report.ok
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise SetupError(f"{known.env}: {error}") from error
    return int(failed)


def _data(known: argparse.Namespace, rest: list[str]) -> int:
    try:
        return data_command.run(known)
    except (DataUnavailable, DataError, ValueError) as error:
        raise SetupError(str(error)) from error


def _report(known: argparse.Namespace, rest: list[str]) -> int:
    from agents.report import write_report

    if not (known.run / "metrics.jsonl").is_file():
        raise SetupError(f"{known.run} is not a run directory: it has no metrics.jsonl")
    print(write_report(known.run, known.output))
    return 0


def _doctor(known: argparse.Namespace, rest: list[str]) -> int:
    from agents.doctor import examine

    print(examine())
    return 0


# ---- commands with settings


def _configured(known: argparse.Namespace, rest: list[str], default: str | None = None) -> Any:
    from agents.config import load, merged, parse_overrides

    overrides = parse_overrides(rest)
    for section, field, value in (("env", "id", known.env_id), ("model", "name", known.model_name)):
        if value is not None:
            overrides = merged(overrides, {section: {field: value}})
    source = known.recipe or default
    if source is None:
        from agents import recipes
        from agents.config import packaged

        raise SetupError(f"which recipe? There are {', '.join([*recipes.names(), *packaged()])}")
    return load(source, overrides)


def _teach(known: argparse.Namespace) -> int:
    """Print every setting with its default and meaning."""
    from agents import recipes
    from agents.config import TrainConfig, fields, packaged
    from agents.recipes.base import Recipe

    print("usage: rfenvs train RECIPE [--fresh] [--section.field VALUE ...]\n")
    print("RECIPE is a name, or a TOML or YAML file with the settings below.\n")
    print(f"recipes: {', '.join(recipes.names())}; ready-made runs: {', '.join(packaged())}\n")
    print("settings (defaults in brackets; a recipe may bring its own):")
    kind: type[Recipe] = recipes.get(known.recipe if known.recipe in recipes.names() else "sdpo")
    listed = [*fields(TrainConfig), *fields(kind, "recipe.")]
    for name, _, default, description in listed:
        print(f"  --{name} [{default}]\n      {description}")
    print(f"\nrecipe.* are those of {kind.name}; name another recipe before --help to see its own.")
    return 0


def _train(known: argparse.Namespace, rest: list[str]) -> int:
    if known.teach:
        return _teach(known)
    import shutil

    config = _configured(known, rest)
    if known.fresh and (config.directory() / "config.json").is_file():
        shutil.rmtree(config.directory())
    from agents.report import write_report
    from agents.training.trainer import Trainer

    run = Trainer(config).run()
    write_report(run.directory)
    return 0


def _check(known: argparse.Namespace, rest: list[str]) -> int:
    if known.teach:
        return _teach(known)
    config = _configured(known, rest)
    from agents.recipes.base import TaughtRecipe
    from agents.report.metrics import jsonable
    from agents.rollout import Environments
    from agents.teachers.teacher import Teacher
    from agents.training.check import check_teacher
    from agents.training.console import Console
    from agents.training.trainer import load_engine

    if not isinstance(config.recipe, TaughtRecipe):
        raise SetupError(f"recipe={config.recipe.name!r} has no teacher to check")
    environments = Environments(config.env.id, config.env.split, config.env.kwargs, config.env.workers)
    engine = load_engine(config)
    result = check_teacher(
        engine, Teacher(engine, config.recipe.teacher), config.recipe, environments,
        tasks=config.check_teacher or 8, attempts=config.batch.attempts, sampling=config.sampling, seed=config.seed + 1,
    )  # fmt: skip
    Console().teacher(result)
    print(json.dumps(jsonable(result.to_dict())))
    return 1 if result.warnings() else 0


def _eval(known: argparse.Namespace, rest: list[str]) -> int:
    if known.teach:
        return _teach(known)
    config = _configured(known, rest, default="grpo")
    from agents.rollout import Environments
    from agents.training.evaluate import evaluate
    from agents.training.trainer import load_engine

    environments = Environments(config.env.id, config.eval.split, config.env.kwargs, config.env.workers)
    engine = load_engine(config)
    result = evaluate(
        engine, engine.chat, environments,
        tasks=config.eval.tasks, attempts=config.eval.attempts, sampling=config.eval_sampling(), seed=config.eval.seed,
    )  # fmt: skip
    print(f"{config.env.id} {config.eval.split}: {result.sampled} at temperature {config.eval.temperature:g}, "
          f"{result.greedy} greedy ({result.sampled.tasks} tasks, {result.sampled.n} attempts)")  # fmt: skip
    return 0

"""The command line: ``rfenvs list | play | validate | data | eval | regrade | check-teacher | train | discover |
report | doctor``.

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

from agents import discover_command
from agents.errors import SetupError
from rfenvs import data_command
from rfenvs.dataset_spec import DataUnavailable
from rfenvs.rows import DataError
from sandboxes import SandboxUnavailable

_MOST_CHANGES = 20
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
        made = commands.add_parser(name, help=help, description=help, add_help=not settings, allow_abbrev=not settings)
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
        ("eval", _eval, "measure a policy's success on an environment, and keep its attempts"),
        ("discover", _discover, "learn at test time: attempts and updates on one hard task, until it is solved"),
    ):
        made = add(name, function, help, settings=True)
        made.add_argument("--fresh", action="store_true", help="delete what an earlier run left in run_dir")
        made.add_argument("--env", dest="env_id", help="short for --env.id")
        made.add_argument("--model", dest="model_name", help="short for --model.name")
        made.add_argument("-h", "--help", action="store_true", dest="teach", help="every setting")
        if name == "eval":
            _eval_arguments(made)
        if name == "discover":
            discover_command.add_arguments(made, _kwargs)

    regrade = add("regrade", _regrade, "grade stored attempts again, without a model")
    regrade.add_argument("traces", type=Path, help="trajectories.jsonl, or the directory that holds it")
    regrade.add_argument("--kwargs", default="{}", help="environment arguments in place of the stored ones, as YAML")
    regrade.add_argument("-o", "--output", type=Path, help="write the rows with their new grades here")

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
        print(f"  {'FILE.py:CLASS, MODULE:CLASS':28} one of your own: docs/write-a-recipe.md")
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
    player = Player(env, known.task, Screen())
    edit_lines(player)
    try:
        player.run()
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


def _regrade(known: argparse.Namespace, rest: list[str]) -> int:
    from rich.console import Console
    from rich.progress import track

    from agents.report.metrics import jsonable
    from agents.traces import regrade

    done = unscored = 0
    changed: list[str] = []
    quiet = not sys.stderr.isatty()
    console = Console(stderr=True)
    lines: list[str] = []
    rows = regrade(known.traces, _kwargs(known.kwargs))
    for row in track(rows, "regrading", total=None, console=console, disable=quiet, transient=True):
        done += 1
        unscored += not row.new["scored"]
        if row.changed:
            changed.append(str(row))
        if known.output:
            lines.append(json.dumps(jsonable(row.new), ensure_ascii=False) + "\n")
    if known.output:
        known.output.write_text("".join(lines), encoding="utf-8")
    for line in changed[:_MOST_CHANGES]:
        print(line)
    if len(changed) > _MOST_CHANGES:
        print(f"... and {len(changed) - _MOST_CHANGES} more")
    print(f"{done} attempts, {len(changed)} with another reward, {unscored} that could not be scored")
    return 0


def _data(known: argparse.Namespace, rest: list[str]) -> int:
    try:
        return data_command.run(known)
    except (DataUnavailable, DataError, ValueError) as error:
        raise SetupError(str(error)) from error


def _report(known: argparse.Namespace, rest: list[str]) -> int:
    from agents.report import write_report

    if (known.run / "runs.jsonl").is_file() or (known.run / "attempts.jsonl").is_file():
        from agents.report.discovery import write_discovery_report

        print(write_discovery_report(known.run, known.output))
        return 0
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
    shorts = [("env", "id", known.env_id), ("model", "name", known.model_name)]
    shorts += [("eval", name, getattr(known, f"eval_{name}", None)) for name in ("split", "tasks", "attempts")]
    shorts.append(("env", "kwargs", getattr(known, "env_kwargs", None)))
    for section, field, value in shorts:
        if value is not None:
            overrides = merged(overrides, {section: {field: value}})
    source = known.recipe or default
    if source is None:
        from agents import recipes
        from agents.config import packaged

        raise SetupError(f"which recipe? There are {', '.join([*recipes.names(), *packaged()])}")
    return load(source, overrides)


def _teach(config: Any) -> int:
    """Print every setting, with what the chosen recipe and the command line make of it, and its meaning."""
    from agents import recipes
    from agents.config import TrainConfig, fields, packaged

    name = type(config.recipe).name
    print("usage: rfenvs train RECIPE [--fresh] [--section.field VALUE ...]\n")
    print(
        "RECIPE is a name, or a TOML or YAML file with the settings below, or your own: FILE.py:CLASS, MODULE:CLASS.\n"
    )
    print(f"recipes: {', '.join(recipes.names())}; ready-made runs: {', '.join(packaged())}\n")
    print("settings (in brackets: what this command gives them):")
    listed = [*fields(TrainConfig, values=config), *fields(type(config.recipe), "recipe.", config.recipe)]
    for setting, _, value, description in listed:
        print(f"  --{setting} [{value}]\n      {description}")
    print(f"\nrecipe.* are those of {name}; name another recipe before --help to see its own.")
    return 0


def _train(known: argparse.Namespace, rest: list[str]) -> int:
    if known.teach:
        return _teach(_configured(known, rest, default="sdpo"))
    import shutil

    config = _configured(known, rest)
    if known.fresh and (config.directory() / "config.json").is_file():
        shutil.rmtree(config.directory())
    from agents.report import write_report
    from agents.training.trainer import Trainer

    run = Trainer(config).run()
    write_report(run.directory)
    return 0


def _discover(known: argparse.Namespace, rest: list[str]) -> int:
    return discover_command.run(known, rest)


def _check(known: argparse.Namespace, rest: list[str]) -> int:
    if known.teach:
        return _teach(_configured(known, rest, default="sdpo"))
    config = _configured(known, rest)
    from agents.batch import MAIN
    from agents.recipes.base import TaughtRecipe
    from agents.report.metrics import jsonable
    from agents.rollout import Environments
    from agents.training.check import check_teacher
    from agents.training.console import Console
    from agents.training.trainer import load_engine, load_sampler

    if not isinstance(config.recipe, TaughtRecipe):
        raise SetupError(f"recipe={config.recipe.name!r} has no teacher to check")
    environments = Environments(config.env.id, config.env.split, config.env.kwargs, config.env.workers)
    engine = load_engine(config)
    result = check_teacher(
        engine, config.recipe.make_teachers(engine)[MAIN], config.recipe, environments,
        tasks=config.check_teacher or 8, attempts=config.batch.attempts, sampling=config.sampling, seed=config.seed + 1,
        settings=config.rollout, sampler=load_sampler(config, engine, lambda: 0),
    )  # fmt: skip
    Console().teacher(result)
    print(json.dumps(jsonable(result.to_dict())))
    return 1 if result.warnings() else 0


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", default="model", help="model, gold, junk, or a server: http://host:port/v1")
    parser.add_argument("--split", dest="eval_split", help="short for --eval.split")
    parser.add_argument("--tasks", dest="eval_tasks", type=int, help="short for --eval.tasks")
    parser.add_argument("--attempts", dest="eval_attempts", type=int, help="short for --eval.attempts")
    parser.add_argument("--kwargs", dest="env_kwargs", type=_kwargs, help="short for --env.kwargs")
    parser.add_argument("--out", type=Path, help="directory of the traces; default runs/eval-<environment>-<policy>")


_EVAL_USAGE = """usage: rfenvs eval [ENV | RECIPE | FILE] [--policy POLICY] [--split test] [--tasks 64] [--attempts 4]
                   [--kwargs '{level: 2}'] [--out DIR] [--fresh] [--section.field VALUE ...]

Measures how often a policy succeeds at the tasks of an environment, with a 95% interval, and keeps every attempt in
DIR/trajectories.jsonl, which `rfenvs regrade` can grade again. Interrupted, the same command continues.

POLICY is one of
  model              the model of --model, in this process: sampled attempts, and a greedy one (the default)
  gold               the environment's own right answers: what is the best that can be had?
  junk               random text: what is paid for nothing?
  http://host/v1     a server that speaks OpenAI's protocol; --model is its name there, OPENAI_API_KEY its key,
                     --env.workers the number of requests at a time

What a policy is shown of long episodes: --rollout.history 2 (the task and the last two turns), --rollout.turns 30 (the
longest episode), and for a model --rollout.thinking keep | template | tool_cycle (reasoning of its earlier turns; a
server's template decides that itself).
"""


def _eval(known: argparse.Namespace, rest: list[str]) -> int:
    import shutil

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from agents import evaluation as evaluations
    from agents.policies import Server, named

    if known.recipe and known.env_id is None and known.recipe.startswith(("rfenvs/", "rfenvs:")):
        known.env_id, known.recipe = known.recipe, None
    rest = [*rest, "--env.split", "none"]  # nothing is trained, so any split may be measured
    config = _configured(known, rest, default="grpo")
    if known.teach:
        print(_EVAL_USAGE)
        return _teach(config)
    sampling = config.eval_sampling()
    policy = None
    if known.policy != "model":
        ask = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
        policy = named(known.policy, lambda url: Server(url, config.model.name, **ask))
    attempts = 1 if known.policy == "gold" else config.eval.attempts
    short = "server" if known.policy.startswith("http") else known.policy
    directory = known.out or Path("runs") / f"eval-{config.env.id.rpartition('/')[2]}-{short}"
    if known.fresh and (directory / "config.json").is_file():
        shutil.rmtree(directory)
    env = {"id": config.env.id, "split": config.eval.split, "kwargs": config.env.kwargs}
    asks_model = policy is None or isinstance(policy, Server)
    settings = {"env": env, "policy": known.policy, "seed": config.eval.seed}
    settings |= {"model": config.model.model_dump(), "sampling": sampling.model_dump()} if asks_model else {}
    settings |= {"rollout": config.rollout.model_dump()}
    if policy is None and config.engine.kind != "transformers":
        settings |= {"engine": config.engine.model_dump()}
    tasks = evaluations.tasks_of(config)
    run = evaluations.Evaluation(directory, settings)
    total = len(tasks) * (attempts + (policy is None))
    if policy is not None:
        steps = evaluations.sample_text(config, policy, run, tasks, attempts, config.env.workers)
    else:
        from agents.training.trainer import load_policy

        steps = evaluations.sample_model(config, load_policy(config), run, tasks)
    columns = (TextColumn("attempts"), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        shown = bar.add_task("", total=total, completed=len(run.rows))
        for made in steps:
            bar.advance(shown, made)
    summary = run.finish(tasks)
    said = f"{config.env.id} {config.eval.split}: {run.estimate(tasks)}"
    if policy is None:
        said += f" at temperature {config.eval.temperature:g}, {run.estimate(tasks, greedy=True)} greedy"
    print(f"{said} ({len(tasks)} tasks, {run.estimate(tasks).n} attempts, {summary['unscored']} could not be scored)")
    print(f"first complaints: {', '.join(f'{name} {count}' for name, count in summary['feedback'].items())}")
    print(f"traces: {directory}")
    return 0

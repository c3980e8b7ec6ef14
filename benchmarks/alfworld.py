"""What a household game costs: loading, reset, step and memory, beside the official engine on the same commands.

    RFENVS_ALFWORLD_PYTHON=.../python python benchmarks/alfworld.py [--data FILE] [--json PATH]

Both play the same games with the same random commands, one after the other. A step is the command, its text, the won
flag and the whole list of admissible commands. Every round of ours parses its games anew, so that nothing is remembered
from the round before. The official engine is alfworld 0.4.2 on textworld 1.7.0, in a Python of its own; without it that
column is left out.

Aims: over 1,000 times less CPU a step, reset under 1 ms, at least 10,000 steps a second on a core, p99 under 0.5 ms,
256 games in one process under 300 MB, the import under 0.2 s.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import HARDWARE, ROOT, emit, in_fresh_process, markdown_table, measure
from rfenvs.envs.alfworld.engine import State, admissible, apply, intro, start, won
from rfenvs.envs.alfworld.files import read_games
from rfenvs.envs.alfworld.game import TASK_TYPES, Game
from rfenvs.envs.alfworld.pddl import parse_problem

DATA = Path(os.environ.get("RFENVS_TEST_DATA", ROOT.parent / "shared" / "data")) / "alfworld"
GAMES_A_TYPE = 2
STEPS = 30
ROUNDS = 20
MEMORY_GAMES = 256
Times = dict[str, list[float]]


def script(game: Game, rng: random.Random) -> list[str]:
    """Random admissible commands, mostly such that do something."""
    state, lines = start(game), []
    for _ in range(STEPS):
        commands = admissible(game, state)
        doing = [line for line in commands if not line.startswith(("go to", "help", "inventory", "look"))]
        lines.append(rng.choice(doing if doing and rng.random() < 0.5 else commands))
        state = apply(game, state, lines[-1]).state
    return lines


def begin(game: Game) -> tuple[State, str, list[str]]:
    """What a reset gives."""
    state = start(game)
    return state, intro(game, state), admissible(game, state)


def ours(problems: list[tuple[str, str]], scripts: list[list[str]]) -> tuple[Times, Times]:
    """CPU seconds and wall seconds of each call."""
    cpu: Times = {"load": [], "reset": [], "step": []}
    wall: Times = {"load": [], "reset": [], "step": []}

    def timed(kind: str, call: Callable[[], Any]) -> Any:
        began, began_cpu = time.perf_counter(), time.thread_time()
        result = call()
        cpu[kind].append(time.thread_time() - began_cpu)
        wall[kind].append(time.perf_counter() - began)
        return result

    def step(game: Game, state: State, line: str) -> State:
        after = apply(game, state, line).state
        won(game, after)
        admissible(game, after)
        return after

    for _ in range(ROUNDS):
        for (problem, task), lines in zip(problems, scripts, strict=True):
            game = timed("load", lambda problem=problem, task=task: parse_problem(problem, goal_text=task))
            state, *_ = timed("reset", lambda game=game: begin(game))
            for line in lines:
                state = timed("step", lambda game=game, state=state, line=line: step(game, state, line))
    return cpu, wall


def official(python: str, problems: list[tuple[str, str]], scripts: list[list[str]]) -> tuple[Times, Times, int]:
    """The same of the official engine, and its peak memory in bytes."""
    cpu: Times = {"load": [], "reset": [], "step": []}
    wall: Times = {"load": [], "reset": [], "step": []}
    peak = 0
    command = [python, str(ROOT / "tests" / "alfworld_peer.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(**question: Any) -> dict[str, Any]:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        for (problem, task), lines in zip(problems, scripts, strict=True):
            answer = ask(problem=problem, task=task, dialect="alfworld-0.4")
            costs = [("load", answer["load"]), ("reset", answer["spent"])]
            for line in lines:
                answer = ask(command=line)
                costs.append(("step", answer["spent"]))
            for kind, cost in costs:
                cpu[kind].append(cost["cpu_s"])
                wall[kind].append(cost["wall_s"])
            peak = max(peak, answer["peak_bytes"])
        process.stdin.close()
    return cpu, wall, peak


def memory(path: str) -> None:
    """In a fresh process: as many games at once, each with the states of a whole episode still alive."""

    def everything() -> list[Any]:
        games = read_games(path)
        alive: list[Any] = []
        for number in range(MEMORY_GAMES):
            game = games[number * len(games) // MEMORY_GAMES]
            states = [start(game)]
            for line in script(game, random.Random(number)):
                states.append(apply(game, states[-1], line).state)
            alive.append((game, states))
        return alive

    _, cost = measure(everything)
    emit(cost)


def import_seconds() -> float:
    """CPU seconds of importing the engine, and with it rfenvs, after gymnasium: the best of five."""
    modules = "rfenvs.envs.alfworld.files, rfenvs.envs.alfworld.engine"
    code = f"import gymnasium, time; t = time.process_time(); import {modules}; print(time.process_time() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for _ in range(5)
    ]
    return min(map(float, runs))


def figures(cpu: Times, wall: Times) -> dict[str, float]:
    """Milliseconds."""
    found = {}
    for kind, spent in wall.items():
        found[f"{kind}_p50_ms"] = 1e3 * median(spent)
        found[f"{kind}_p99_ms"] = 1e3 * quantiles(spent, n=100)[98]
        found[f"{kind}_cpu_ms"] = 1e3 * mean(cpu[kind])
    found["steps_per_cpu_second"] = 1e3 / found["step_cpu_ms"]
    return found


def main() -> None:
    """Measure, print, and write the figures where the docs read them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, default=DATA / "alfworld_valid_seen.jsonl.xz", help="games to play, rows in .jsonl.xz"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "docs" / "benchmarks" / "alfworld.json")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
        return
    if not options.data.exists():
        parser.error(f"--data {options.data}: nothing there; give a .jsonl.xz file of games, or set RFENVS_TEST_DATA")

    with lzma.open(options.data, "rt") as file:
        rows = [json.loads(line) for line in file]
    problems = [
        (row["pddl_problem"], row["task"].removesuffix("."))
        for task_type in TASK_TYPES
        for row in [row for row in rows if row["task_type"] == task_type][:GAMES_A_TYPE]
    ]
    scripts = [script(parse_problem(problem), random.Random(n)) for n, (problem, _) in enumerate(problems)]
    train = DATA / "alfworld_train.jsonl.xz"
    held = in_fresh_process("alfworld.py", ["--memory", str(train if train.exists() else options.data)])
    result: dict[str, Any] = {
        "hardware": HARDWARE,
        "games": len(problems),
        "steps": STEPS,
        "rounds": ROUNDS,
        "import_s": import_seconds(),
        "memory_bytes": held["extra_peak_bytes"],
        "ours": figures(*ours(problems, scripts)),
    }
    python = os.environ.get("RFENVS_ALFWORLD_PYTHON", "")
    if python:
        *times, peak = official(python, problems, scripts)
        result["official"] = {**figures(*times), "peak_bytes": peak}
    page = report(result)
    print(page)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    options.json.with_suffix(".md").write_text(page)


def report(result: dict[str, Any]) -> str:
    """The page of the docs."""
    mine, theirs = result["ours"], result.get("official")
    rows = []
    for kind, what in (("load", "load a game"), ("reset", "reset"), ("step", "step")):
        for key, name in (("p50_ms", "p50"), ("p99_ms", "p99"), ("cpu_ms", "CPU, mean")):
            row = [f"{what}, {name}", f"{mine[f'{kind}_{key}']:,.3f}"]
            if theirs:
                ratio = theirs[f"{kind}_{key}"] / mine[f"{kind}_{key}"]
                row += [f"{theirs[f'{kind}_{key}']:,.0f}", f"{ratio:,.0f}x"]
            rows.append(row)
    row = ["steps a second of CPU", f"{mine['steps_per_cpu_second']:,.0f}"]
    if theirs:
        row += [f"{theirs['steps_per_cpu_second']:,.1f}", ""]
    header = ["milliseconds", "rfenvs", *(["alfworld 0.4.2", "ratio"] if theirs else [])]
    page = (
        f"# ALFWorld\n\n`python benchmarks/alfworld.py` on a {result['hardware']}: {result['games']} official games of "
        f"seen rooms, two of each type, {result['steps']} random commands each; ours {result['rounds']} rounds, each "
        "from freshly parsed games. A step gives the text, the won flag and all admissible commands.\n\n"
    )
    page += markdown_table(header, [*rows, row])
    page += (
        f"\n{MEMORY_GAMES} games in one process, each with all states of an episode, and the index of the training "
        f"games: {result['memory_bytes'] / 1e6:.0f} MB."
    )
    if theirs:
        page += f" The official engine after {result['games']} games: {theirs['peak_bytes'] / 1e6:.0f} MB for one."
    page += f"\n\nImport after gymnasium, rfenvs included: {result['import_s']:.2f} s of CPU.\n"
    if not theirs:
        page += "\nThe official engine was not measured: RFENVS_ALFWORLD_PYTHON named no Python that has it.\n"
    return page


if __name__ == "__main__":
    main()

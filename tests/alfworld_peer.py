"""The official engine as a subprocess: run by a Python that has alfworld and textworld, and by nothing else.

Each line of standard input is a JSON object: `{"problem": ..., "task": ..., "dialect": ...}` loads and resets a game,
`{"reset": true}` resets it again, `{"command": ...}` does a step. Each answer is one line: observation, admissible
commands, won, CPU and wall seconds of the call.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def old_wording(domain: str, grammar: str) -> tuple[str, str]:
    """Domain and grammar as they were before alfworld 0.4.0: its own script of the change, backwards."""
    for new, old in (
        ("You arrive at {r.name}.", "You arrive at {lend.name}."),
        ("move {o} to {r}", "put {o} in/on {r}"),
        ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
    ):
        if new not in grammar:
            raise RuntimeError(f"this alfworld's grammar has no {new!r}")
        grammar = grammar.replace(new, old)
    return domain[: domain.rindex("(:action help")] + ")", grammar[: grammar.rindex("action help")]


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the libraries print goes to standard error
    import alfworld
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs.pddl import PddlEnv

    folder = Path(alfworld.__file__).parent / "data"
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("alfred.pddl", "alfred.twl2")]
    env: Any = None
    load: dict[str, float] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "problem" in asked:
            domain, grammar = texts if asked["dialect"] == "alfworld-0.4" else old_wording(*texts)
            grammar = grammar.replace("UNKNOWN GOAL", asked["task"])
            env = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)))
            game = {"pddl_domain": domain, "grammar": grammar, "pddl_problem": asked["problem"]}
            _, load = timed(env.load, game)
        state, spent = timed(env.step, asked["command"]) if "command" in asked else timed(env.reset)
        state = state[0] if "command" in asked else state
        answer = {"text": state.feedback, "admissible": state["admissible_commands"], "won": bool(state["won"])}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        costs = {"load": load, "spent": spent, "peak_bytes": memory}
        print(json.dumps({**answer, **costs}), file=out, flush=True)


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, float]]:
    """The result of a call, and its CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call(*arguments)
    return result, {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


if __name__ == "__main__":
    main()

"""The official engine as a subprocess: run by a Python that has alfworld and textworld, and by nothing else.

Each line of standard input is a JSON object: `{"problem": ..., "task": ..., "dialect": ...}` loads and resets a game,
`{"command": ...}` does a step. Each answer is one line: observation, admissible commands, won, and CPU seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
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

    folder = os.path.join(os.path.dirname(alfworld.__file__), "data")
    texts = [open(os.path.join(folder, name), encoding="utf-8").read() for name in ("alfred.pddl", "alfred.twl2")]
    env: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.process_time()
        if "problem" in asked:
            domain, grammar = texts if asked["dialect"] == "alfworld-0.4" else old_wording(*texts)
            grammar = grammar.replace("UNKNOWN GOAL", asked["task"])
            env = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)))
            env.load({"pddl_domain": domain, "grammar": grammar, "pddl_problem": asked["problem"]})
            loaded = time.process_time()
            state = env.reset()
            spent = {"load_s": loaded - began, "reset_s": time.process_time() - loaded}
        else:
            state, _, _ = env.step(asked["command"])
            spent = {"step_s": time.process_time() - began}
        answer = {"text": state.feedback, "admissible": state["admissible_commands"], "won": bool(state["won"])}
        print(json.dumps({**answer, **spent}), file=out, flush=True)


if __name__ == "__main__":
    main()

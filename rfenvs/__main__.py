"""`python -m rfenvs`: the command line, which lives in the `agents` package."""

import importlib
import sys


def main() -> int:
    """Hand over to `agents.cli`, or say in one sentence why that is not possible."""
    try:
        agents = importlib.import_module("agents")
    except ModuleNotFoundError as error:
        if error.name != "agents":
            raise
        print(
            "The command line needs the `agents` package that comes with rfenvs, and it is not installed.",
            file=sys.stderr,
        )
        return 1
    if not getattr(agents, "__rfenvs__", False):
        print(
            "The package `agents` found here is another one, most likely openai-agents, which uses the same "
            "name: uninstall it, or use rfenvs in an environment of its own.",
            file=sys.stderr,
        )
        return 1
    return int(importlib.import_module("agents.cli").main() or 0)


if __name__ == "__main__":
    sys.exit(main())

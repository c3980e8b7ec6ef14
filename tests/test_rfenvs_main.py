import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m rfenvs list` with the packages of `folder` in front."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-m", "rfenvs", "list"],
        capture_output=True,
        text=True,
        env=env,
        cwd=folder,
        check=False,
    )


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    (tmp_path / "agents").mkdir()
    return tmp_path / "agents"


def test_the_command_line_of_our_agents_package_runs(agents: Path) -> None:
    (agents / "__init__.py").write_text("__rfenvs__ = True\n")
    (agents / "cli.py").write_text("import sys\ndef main():\n    print(sys.argv[1:])\n    return 3\n")
    done = run(agents.parent)
    assert (done.returncode, done.stdout.strip()) == (3, "['list']")


def test_another_agents_package_is_explained_in_one_sentence(agents: Path) -> None:
    (agents / "__init__.py").write_text("class Agent: ...\n")
    done = run(agents.parent)
    assert done.returncode == 1
    assert "openai-agents" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

"""The pages about environments: their code runs, and their transcripts are what the environment says."""

import doctest
import importlib
import re
from pathlib import Path

import gymnasium
import pytest

import rfenvs

DOCS = Path(__file__).parents[1] / "docs"
NEEDS_THE_WHEEL = "livecodebench-verdicts.md"
PAGES = ["bring-your-own-environment.md", "vector.md"]
PAGES += [f"environments/{p.name}" for p in sorted(DOCS.glob("environments/*.md")) if p.name != NEEDS_THE_WHEEL]
PACKAGE = Path(rfenvs.__file__).parent
WITH_EXAMPLES = [
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    for file in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8") and "samples" not in file.parts
]
TRANSCRIPT = re.compile(r"```transcript ([^\n]*)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_code_on_the_page_runs_and_prints_what_its_comments_say(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for code in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(code, page, "exec"), {"__name__": "page"})
        printed = capsys.readouterr().out
        promised = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
        assert [line for line in printed.splitlines() if line in promised] == promised


@pytest.mark.parametrize("name", ["humaneval", "sciknow", "equation-balance", "alfworld"])
def test_what_a_page_shows_is_what_its_code_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / f"environments/{name}.md").read_text(encoding="utf-8")
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    exec(compile(code, f"{name}.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == shown


def transcript(settings: str, body: str) -> str:
    """Replay the replies of a transcript, and write down what the environment says to each."""
    kwargs = dict(pair.split("=") for pair in settings.split())
    index, level = int(kwargs.pop("index")), int(kwargs.pop("level"))
    env = gymnasium.make("rfenvs/ToolCall-v0", level=level, **kwargs)
    reader = "teacher" if "feedback" in kwargs else "policy"
    _, info = env.reset(options={"task_index": index})
    lines = [info["messages"][-1]["content"]]
    for reply in re.findall(r"^> (.*)$", body, re.MULTILINE):
        env.reset(options={"task_index": index})
        _, reward, *_, info = env.step(reply.replace("\\n", "\n"))
        said = rfenvs.feedback_text(info, reader)
        lines += ["", f"> {reply}", said or f"(nothing: the reward is {reward})"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", PAGES)
def test_transcripts_are_what_the_environment_says(page: str) -> None:
    for settings, body in TRANSCRIPT.findall((DOCS / page).read_text(encoding="utf-8")):
        assert body.count("\n> ") >= 1
        assert body == transcript(settings, body)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"rfenvs.{module}"))
    assert results.attempted
    assert not results.failed


def test_environment_docstrings_say_what_users_need() -> None:
    for row in rfenvs.registry.TABLE:
        module, name = row.entry_point.split(":")
        text = getattr(importlib.import_module(module), name).__doc__
        for heading in (
            "Observation",
            "Action",
            "Reward",
            "End of the episode",
            "Feedback",
            "Arguments",
            "Version",
        ):
            assert f"## {heading}" in text

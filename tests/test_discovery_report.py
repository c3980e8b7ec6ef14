"""The page of a discovery: as a file, and in a real browser."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browsing import FITS, Browser, css, texts, until, visit
from test_report import HOSTILE, SCRIPT, embedded

from agents.cli import main
from agents.report.discovery import choose, discovery_data, write_discovery_report
from agents.training.discovery_log import ATTEMPTS, RUNS, UPDATES, DiscoveryLog

QUESTION = [{"role": "system", "content": "One call."}, {"role": "user", "content": "Is it raining in Oslo?"}]


def item(text: str, kind: str = "tool_error", source: str = "grader", severity: str = "error") -> dict[str, Any]:
    return {"kind": kind, "severity": severity, "source": source, "text": text, "visibility": "policy",
            "reveals_reference": False}  # fmt: skip


def attempt(run: int, step: int, number: int | None, text: str, reward: float, told: str) -> dict[str, Any]:
    feedback = [] if reward >= 1 else [item("It was cut off.", "format_error", "env"), item(told)]
    turn = {"messages": QUESTION, "text": text, "source": "policy", "reward": reward, "finish_reason": "stop",
            "feedback": feedback}  # fmt: skip
    if reward < 1:
        turn["teacher_messages"] = [QUESTION[0], {"role": "user", "content": f"{QUESTION[1]['content']}\n\n{told}"}]
    return {
        "run": run, "seed": 0, "step": step, "number": number, "told": told, "group": run, "attempt": 0,
        "task": {"id": f"tools-{run}", "index": run}, "reward": reward, "scored": number is not None,
        "stop_reason": "completed", "turns": [turn],
    }  # fmt: skip


def make_discovery(root: Path, *, ended: int = 3, budget: int = 8, hostile: bool = False) -> Path:
    """Three runs: one solved at attempt 6, one not, one stopped because nobody could judge it."""
    root.mkdir(parents=True, exist_ok=True)
    config = {
        "method": "sdpo", "recipe": "sdpo_rich", "env": "rfenvs/ToolCall-v0", "model": "tiny",
        "config": {"batch": {"attempts": 4}, "optim": {"lr": 1e-6}},
        "discover": {"method": "sdpo", "budget": budget, "seeds": 1, "tasks": [0, 1, 2]},
        "tasks": [{"id": f"tools-{k}", "index": k} for k in range(3)],
    }  # fmt: skip
    (root / "config.json").write_text(json.dumps(config))
    log = DiscoveryLog(root)
    text = "\n".join(HOSTILE.values()) + SCRIPT if hostile else ""
    for run, size in ((0, budget), (1, budget), (2, 2)):
        for k in range(size):
            solved = run == 0 and k == 5
            number = None if run == 2 and k == 1 else k + 1
            words = text or ('weather(city="Oslo")' if solved else f'weather(town="{k}")')
            log.add(ATTEMPTS, [attempt(run, k // 4, number, words, float(solved), text or f"no town, {k}")])
        for step in range((size + 3) // 4):
            kinds = {"none": 1, "tool_error": 3} if run == 0 and step == 1 else {"tool_error": 3, "format_error": 1}
            log.add(UPDATES, [{"run": run, "step": step, "attempts": 4 * step + 4, "unscored": 0, "reward": 0.0,
                               "feedback": kinds, "teacher_gap": 0.5, "entropy": 2.0}])  # fmt: skip
    common = {"seed": 0, "seconds": 2.0, "cpu_seconds": 1.0}
    rows: list[dict[str, Any]] = [
        {"run": 0, "task": "tools-0", "index": 0, "stopped": "solved", "found": 6, "attempts": 8, "unscored": 0},
        {"run": 1, "task": "tools-1", "index": 1, "stopped": "budget", "found": None, "attempts": 8, "unscored": 0},
        {"run": 2, "task": "tools-2", "index": 2, "stopped": "unscored", "found": None, "attempts": 1, "unscored": 1},
    ]
    rows[0]["solution"] = log.solution("tools-0", 0, text or 'weather(city="Oslo")')
    log.add(RUNS, [{**row, **common} for row in rows[:ended]])
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_discovery(tmp_path_factory.mktemp("runs") / "found")
    write_discovery_report(run)
    return run


# As a file


def test_the_page_tells_the_story_of_each_run(finished: Path) -> None:
    data = embedded((finished / "report.html").read_text())
    assert [(run["task"], run["stopped"], run["found"]) for run in data["runs"]] == [
        ("tools-0", "solved", 6), ("tools-1", "budget", None), ("tools-2", "unscored", None)
    ]  # fmt: skip
    first = data["runs"][0]
    assert first["solution"] == 'weather(city="Oslo")'
    assert [a["number"] for a in first["attempts"]] == list(range(1, 9))
    assert [batch["feedback"] for batch in first["batches"]][1] == {"none": 1, "tool_error": 3}
    told = first["attempts"][0]["turns"][0]["feedback"][1]["text"]
    assert data["attempts"]["texts"][told] == "no town, 0"
    assert [round(point["mean"], 3) for point in data["curve"]] == [0, 0, 0, 0.5]
    assert [point["n"] for point in data["curve"]] == [3, 2, 2, 2]


def test_the_page_is_one_file_that_refers_to_nothing(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 2
    assert set(re.findall(r"\b(?:src|href)=([^\s>]+)", page)) <= {'"data:,"', '"#attempts"'}
    assert "@import" not in page
    assert "url(" not in page


def test_hostile_text_stays_data(tmp_path: Path) -> None:
    page = write_discovery_report(make_discovery(tmp_path, hostile=True)).read_text(encoding="utf-8")
    assert page.count("<script") == 2
    assert SCRIPT not in page


def test_an_unfinished_discovery_has_a_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_discovery(tmp_path, ended=1)
    with (run / ATTEMPTS).open("ab") as file:
        file.write(b'{"run": 2, "torn')
    assert main(["report", str(run)]) == 0
    data = embedded(Path(capsys.readouterr().out.strip()).read_text())
    assert [run["stopped"] for run in data["runs"]] == ["solved", None, None]
    assert data["summary"]["runs_wanted"] == 3


def test_no_discovery_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no discovery at"):
        write_discovery_report(tmp_path)


def test_a_long_discovery_makes_a_page_of_bounded_size(tmp_path: Path) -> None:
    run = make_discovery(tmp_path, budget=80)
    data = discovery_data(run, limit=30)
    assert [len(entry["attempts"]) for entry in data["runs"]] == [10, 10, 2]
    assert [entry["total"] for entry in data["runs"]] == [80, 80, 2]
    assert 6 in [a["number"] for a in data["runs"][0]["attempts"]], "what solved it is always there"


def test_the_attempts_that_are_shown_are_spread_out() -> None:
    rows = [(10 * k, k == 33) for k in range(101)]
    (chosen,) = choose({7: rows}, limit=11).values()
    assert 330 in chosen
    assert len(chosen) == 11
    assert chosen == sorted(chosen)
    assert max(b - a for a, b in pairwise(chosen)) <= 200


# In a browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_fits_and_says_nothing_to_the_console(
    browser: Browser, finished: Path, width: int, scheme: str
) -> None:
    visit(browser, finished, width=width, scheme=scheme)
    assert browser.execute_script(FITS)
    assert browser.get_log("browser") == []


def test_a_reader_follows_a_run_to_its_solution(browser: Browser, finished: Path) -> None:
    visit(browser, finished)
    assert texts(browser, ".big") == ["50%"]
    assert [" ".join(text.split()) for text in texts(browser, ".story > summary .badge")] == [
        "solved at attempt 6", "not solved", "could not be scored"
    ]  # fmt: skip
    until(lambda: css(browser, ".story[open] .try"))
    assert texts(browser, ".prompt > .bubble .content") == ["Is it raining in Oslo?"]
    assert texts(browser, ".solution pre") == ['weather(city="Oslo")']
    assert texts(browser, ".moved tbody .bar-cell .quiet") == [
        "tool error 3, format error 1",
        "tool error 3, nothing wrong 1",
    ]
    assert texts(browser, ".story[open] .try .remark")[:2] == ["no town, 0", "no town, 1"], "not that it was cut off"
    assert len(css(browser, ".update")) == 1
    css(browser, ".try summary")[0].click()
    until(lambda: css(browser, ".try[open] .feedback"))
    assert texts(browser, ".try[open] .feedback .content") == ["It was cut off.", "no town, 0"]
    assert texts(browser, ".try[open] .teacher mark") != []


def test_hostile_text_is_inert(browser: Browser, tmp_path: Path) -> None:
    run = make_discovery(tmp_path, hostile=True)
    write_discovery_report(run)
    visit(browser, run)
    for story in css(browser, ".story:not([open]) > summary"):
        story.click()
    for one in css(browser, ".try > summary")[:3]:
        one.click()
    until(lambda: css(browser, ".try[open] .feedback"))
    assert browser.execute_script("return [window.pwned, document.querySelectorAll('img').length]") == [None, 0]
    assert browser.get_log("browser") == []

"""The run report on episodes of many turns: curves of ends and labels; in a real browser, an episode to be read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from browsing import FITS, Browser, css, texts, visit
from test_report import SCRIPT, tokens_of

from agents.report import write_report
from agents.report.metrics import MetricsWriter
from agents.report.page import page_data

EPISODE = [
    # who acted, what, the judge's label, what was said of it
    ("policy", "look", "skip", ""),
    ("policy", "<think>where is it?</think>\ngo to desk 9", "strong", "There is no receptacle desk 9 here."),
    ("expert", "go to desk 1", None, ""),
    ("policy", "look", "weak", "The same command was given before."),
]
ROOM = "You act in a house.\n\nYour task is to: look at the book under the lamp."


def episode_row(step: int, attempt: int) -> dict[str, Any]:
    """An attempt of four turns whose history is a window of one turn: the task, then what came last."""
    turns = []
    for t, (source, text, label, said) in enumerate(EPISODE):
        task = {"role": "user", "content": ROOM if t < 2 else f"{ROOM}\n\n[{t - 1} earlier turns are left out.]"}
        window = [{"role": "assistant", "content": EPISODE[t - 1][1]}, {"role": "user", "content": f"Reply {t}."}]
        messages = [task, *window] if t else [task]
        hint = [*messages[:-1], {"role": "user", "content": messages[-1]["content"] + "\n\nA hint: the desk."}]
        item = {"kind": "invalid_action", "severity": "warning", "source": "env", "text": said, "visibility": "teacher"}
        turn = {
            "messages": messages, "text": text, "source": source, "reward": 0.0, "finish_reason": "stop",
            "feedback": [item] if said else [], "advice": "go to desk 1",
            "teacher_messages": None if source == "expert" else hint,
        }  # fmt: skip
        if label is not None:
            turn |= {
                "label": label,
                "label_reason": f"Because of {text}.",
                "tokens": tokens_of(text, "desk", random.Random(t)),
            }
        turns.append(turn)
    return {
        "step": step, "group": 0, "attempt": attempt, "scored": True, "stop_reason": "max_turns",
        "task": {"id": "book", "index": 0, "split": "train"}, "reward": 0.0, "turns": turns,
    }  # fmt: skip


def make_episodes(root: Path) -> Path:
    """An unfinished run on episodes of many turns, with a judge."""
    root.mkdir(parents=True, exist_ok=True)
    with MetricsWriter(root) as writer:
        for step in range(4):
            writer.log(step, "train", {
                "reward": 0.25 * step, "success": 0.0, "turns": 4.0, "failed_turns": 0.25, "repeated_turns": 0.5,
                "stop_reasons": {"max_turns": 3, "completed": step} if step else {}, "zero_variance": None,
                "turns_skip": 2.0, "turns_weak": 1.0, "turns_strong": 1.0 + step, "active_share": 0.5,
                "weight_scale": 2.0, "student_turns": 1 + step, "generations": 2, "turn_length": 3.0,
                "feedback": {"none": 2}, "seconds": 1.0,
            })  # fmt: skip
            rows = [episode_row(step, attempt) for attempt in range(2)]
            for turn in rows[1]["turns"]:
                turn |= {"source": SCRIPT, "label": SCRIPT, "label_reason": SCRIPT, "advice": SCRIPT, "text": SCRIPT}
            writer.log_trajectories(rows)
    return root


# The curves


def curves_of(root: Path, place: str) -> dict[str, Any]:
    return {curve["key"]: curve for curve in page_data(root)[place]}


def line_of(curve: dict[str, Any]) -> dict[str, list[float | None]]:
    return {line["name"]: [point["mean"] for point in line["points"]] for line in curve["series"]}


def test_ends_and_labels_are_shares_of_what_was_counted(tmp_path: Path) -> None:
    curves = curves_of(make_episodes(tmp_path), "curves")
    assert line_of(curves["stop_reasons"]) == {
        "max turns": [None, 3 / 4, 3 / 5, 1 / 2],
        "completed": [None, 1 / 4, 2 / 5, 1 / 2],
    }
    assert line_of(curves["labels"])["strong"] == [1 / 4, 2 / 5, 3 / 6, 4 / 7]
    assert list(line_of(curves["labels"])) == ["skip", "weak", "strong"]
    assert "zero_variance" not in curves, "it was not measured"
    assert {"turns", "failed_turns", "repeated_turns", "success"} <= set(curves)


def test_whatever_a_recipe_logged_has_a_curve_and_nothing_has_two(tmp_path: Path) -> None:
    root = make_episodes(tmp_path)
    more = curves_of(root, "more")
    assert set(more) == {"active_share", "weight_scale", "student_turns"}
    assert line_of(more["student_turns"]) == {"Student turns": [1, 2, 3, 4]}


def test_rare_ends_are_one_line(tmp_path: Path) -> None:
    ends = {"max_turns": 8, "completed": 4, "context_overflow": 2, "curriculum": 1, "rollout_turns": 1}
    with MetricsWriter(tmp_path) as writer:
        writer.log(0, "train", {"turns": 3.0, "stop_reasons": ends})
    shown = line_of(curves_of(tmp_path, "curves")["stop_reasons"])
    assert shown == {"max turns": [0.5], "completed": [0.25], "context overflow": [0.125], "other": [0.125]}


def test_single_turns_have_no_curves_of_episodes(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.log(0, "train", {"reward": 1.0, "success": 1.0, "turns": 1.0, "stop_reasons": {"completed": 8}})
    assert set(curves_of(tmp_path, "curves")) == {"reward"}, "and none of success, which is the reward"


def test_the_headline_names_the_temperature_of_the_evaluation(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"config": {"eval": {"temperature": 0.4}}}))
    (tmp_path / "summary.json").write_text(json.dumps({"held_out": {"before": None, "after": {"mean": 0.5}}}))
    assert [line["name"] for line in page_data(tmp_path)["headline"]] == ["temperature 0.4"]


# The page


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_episodes(tmp_path_factory.mktemp("runs") / "episodes")
    write_report(run)
    return run


@pytest.mark.parametrize("width", [360, 1400])
def test_an_episode_can_be_read_at_a_glance(browser: Browser, episodes: Path, width: int) -> None:
    visit(browser, episodes, "#attempt-1-0-0", width=width)
    assert browser.execute_script(FITS)
    assert texts(browser, ".outline .act") == ["look", "go to desk 9", "go to desk 1", "look"]
    assert texts(browser, ".outline .remark") == [said for *_, said in EPISODE]
    assert texts(browser, ".outline .marks") == ["skip", "strong", "expert", "weak"]
    for badge in css(browser, ".judged, .badge.expert"):
        assert badge.is_displayed()
        assert 0 <= badge.rect["x"] < width


def test_a_line_of_the_outline_leads_to_its_turn(browser: Browser, episodes: Path) -> None:
    visit(browser, episodes, "#attempt-1-0-0")
    css(browser, ".outline .line")[2].click()
    assert browser.execute_script("return document.activeElement.textContent").startswith("Turn 3")
    top = "return document.querySelectorAll('.turn')[2].getBoundingClientRect().top"
    assert 0 <= browser.execute_script(top) < 200


def test_a_turn_shows_the_verdict_who_acted_and_only_what_is_new(browser: Browser, episodes: Path) -> None:
    visit(browser, episodes, "#attempt-1-0-0")
    assert texts(browser, ".turn .verdict") == [
        f"The judge: Because of {text}." for _, text, label, _ in EPISODE if label
    ]
    assert texts(browser, ".turn:nth-of-type(1) .prompt .content") == [ROOM]
    assert texts(browser, ".turn:nth-of-type(4) .prompt > .bubble .content") == ["Reply 3."]
    assert texts(browser, ".turn:nth-of-type(4) .earlier summary") == ["2 earlier messages"]
    assert texts(browser, ".turn:nth-of-type(4) .teacher .bubble mark") == ["\n\nA hint: the desk."]
    assert texts(browser, ".turn:nth-of-type(3) .action h4")[0].startswith("What the expert wrote")
    advised = texts(browser, ".advice pre")
    assert advised == ["go to desk 1"] * 3, "not where it is what was done"
    # that a turn before the last earned nothing is no failure
    assert [len(turn.find_elements("css selector", "h3 .bad")) for turn in css(browser, ".turn")] == [0, 0, 0, 1]


def test_hostile_text_in_a_judgement_is_text(browser: Browser, episodes: Path) -> None:
    visit(browser, episodes, "#attempt-1-0-1")
    assert texts(browser, ".turn:nth-of-type(1) .verdict") == [f"The judge: {SCRIPT}"]
    assert texts(browser, ".turn:nth-of-type(1) h3 .judged") == [SCRIPT]
    assert browser.execute_script("return [window.pwned, document.querySelectorAll('img').length]") == [None, 0]
    assert browser.execute_script(FITS)


def test_long_prompts_of_the_teacher_fold_what_the_policy_saw(browser: Browser, tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "run")
    rows = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    turn = rows[0]["turns"][3]
    many = [{"role": role, "content": f"{role} {k}"} for k in range(4) for role in ("user", "assistant")]
    turn["messages"] = [*many, {"role": "user", "content": "Now."}]
    turn["teacher_messages"] = [*many, {"role": "user", "content": "Now. A hint."}]
    (run / "trajectories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(run)
    visit(browser, run, "#attempt-0-0-0")
    assert texts(browser, ".turn:nth-of-type(4) .teacher summary") == ["8 messages as the policy saw them"]
    assert texts(browser, ".turn:nth-of-type(4) .teacher > .bubble .content") == ["Now. A hint."]

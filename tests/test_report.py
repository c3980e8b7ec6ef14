"""The run report as a file: what a run directory becomes, and that its text stays inert."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest

from agents.report import write_report
from agents.report.attempts import Key, choose_attempts, load_attempts, token_cap
from agents.report.curves import accumulate, success_curves
from agents.report.metrics import MetricsWriter
from agents.report.page import page_data, script_safe_json

SCRIPT = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
HOSTILE = {
    "script": SCRIPT,
    "comment": "<!-- <script> {{script}} {{data}} \\u003c ]]> &amp;lt;",
    "separators": "one\u2028two\u2029three",
    "control": "bell\u0007 null\u0000 <|im_end|> zero\u200bwidth \u202eoverride\u202c",
    "bidi": 'السلام عليكم עם weather(city="Oslo")',
    "emoji": "👩‍👩‍👧‍👦 🧪 é 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "long": "x" * 3000,
    "surrogate": "torn \ud83d emoji",
}
SYSTEM = "Reply with one tool call.\nTools: weather(city), call(name), timer(minutes), buy(item)."
TASKS = [
    ("Is it raining in {} today?", "weather", "city", ["Oslo", "Lima", "Cairo", "Prague"]),
    ("I want to talk to {}.", "call", "name", ["Anna", "Omar", "Mia", "Zoe"]),
    ("Wake me in {} minutes.", "timer", "minutes", ["5", "12", "30", "45"]),
    ("We are out of {}, get more.", "buy", "item", ["sugar", "honey", "rice", "olives"]),
]
WRONG = {"weather": "forecast", "call": "phone", "timer": "alarm", "buy": "order"}


def tokens_of(text: str, disputed: str, rng: random.Random) -> list[dict[str, Any]]:
    """Tokens that join to ``text``; the teacher objects to those inside ``disputed``."""
    tokens = []
    for match in re.finditer(r"\w{1,5}|\s|[^\w\s]", text):
        piece = match[0]
        start = text.find(disputed) if disputed else -1
        bad = start >= 0 and start <= match.start() < start + len(disputed)
        student, teacher = (0.3 + 0.4 * rng.random(), 0.02 + 0.1 * rng.random()) if bad else (0.9, 0.95)
        gap = 0.35 + 0.5 * rng.random() if bad else 0.01 * rng.random() + 0.08 * (rng.random() > 0.8)
        top = (
            [["weather", 0.71, 0.11], [piece, teacher, student], ["\n", 0.02, 0.01]]
            if bad
            else [[piece, teacher, student], [" ", 0.02, 0.03]]
        )
        tokens.append(
            {
                "text": piece,
                "logp": math.log(student),
                "teacher_logp": math.log(teacher),
                "gap": gap,
                "top": top,
            }
        )
    return tokens


def attempt_row(step: int, group: int, attempt: int, skill: float, rng: random.Random) -> dict[str, Any]:
    question, tool, argument, values = TASKS[(step + group) % 4]
    value = values[(step * 3 + group) % 4]
    gold = f'{tool}({argument}="{value}")'
    prompt = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question.format(value)}]
    turns: list[dict[str, Any]] = []
    right = rng.random() < skill
    for turn in range(2):
        good = right and (turn == 1 or rng.random() < 0.7)
        name = tool if good else WRONG[tool]
        text = gold if good else f'{name}({argument}="{value}")\n'
        kind = "" if good else f"NameError: no tool named {name}. Tools: weather, call, timer, buy."
        lesson = f"\n\nAn earlier attempt was:\n{text}\nIt failed: {kind}\nAnswer again, correctly."
        teacher = [prompt[0], {"role": "user", "content": prompt[1]["content"] + lesson}, *prompt[2:]]
        feedback = {
            "kind": "tool_error", "severity": "error", "source": "env", "text": kind,
            "visibility": "policy" if turn == 0 else "teacher", "reveals_reference": False,
        }  # fmt: skip
        reference = dict(feedback, kind="reference", severity="info", text=f"Expected {gold}")
        reference |= {"visibility": "teacher", "reveals_reference": True}
        turns.append(
            {
                "messages": list(prompt), "text": text.strip(), "reward": float(good),
                "finish_reason": "stop",
                "feedback": [] if good else [feedback, reference][: 1 + turn],
                "teacher_messages": None if good else teacher,
                "tokens": tokens_of(text, "" if good else name, rng),
            }
        )  # fmt: skip
        if good:
            break
        prompt = [*prompt, {"role": "assistant", "content": text}, {"role": "tool", "content": kind}]
    return {
        "step": step, "group": group, "attempt": attempt, "scored": True, "stop_reason": "completed",
        "task": {"id": f"tools-{(step + group) % 4}", "index": group, "split": "train"},
        "reward": sum(turn["reward"] for turn in turns), "turns": turns,
    }  # fmt: skip


def make_run(root: Path, steps: int = 6, groups: int = 2, size: int = 4, hostile: bool = True) -> Path:
    """A finished run as training would leave it, small or large."""
    rng = random.Random(0)
    config = {
        "recipe": "sdpo", "env": {"id": "rfenvs/ToolCall", "max_turns": 2}, "model": "SmolLM2-135M-Instruct",
        "seed": 0, "steps": steps, "optimizer": {"lr": 2e-5, "betas": [0.9, 0.95], "warmup": None},
        "teacher": {"kind": "ema", "rate": 0.05, "top_k": 20},
        "versions": {"torch": "2.13.0", "rfenvs": "0.1.0"},
    }  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.json").write_text(json.dumps(config))
    every = max(1, steps // 6)

    def evaluation(step: int, temperature: float) -> dict[str, Any]:
        mean = 0.1 + 0.7 * (1 - math.exp(-3 * step / steps)) + (0.06 if temperature == 0 else 0)
        return {"split": "test", "temperature": temperature, "mean": mean, "low": max(0, mean - 0.07),
                "high": min(1, mean + 0.07), "n": 256, "tasks": 64, "generations": step * groups * size,
                "cpu_seconds": 30.0 * step}  # fmt: skip

    def training(step: int) -> dict[str, Any]:
        share, noise = step / steps, rng.random()
        return {
            "reward": 0.12 + 0.65 * share + 0.08 * noise, "loss": 0.3 * math.exp(-2 * share) + 0.02 * noise,
            "teacher_gap": 0.28 * math.exp(-2 * share) + 0.02 * rng.random(),
            "entropy": 0.9 - 0.5 * share + 0.05 * rng.random(), "length": 14 + 3 * rng.random(),
            "zero_variance": 0.1 + 0.5 * share * rng.random(), "truncated": 0.0, "taught": 0.9 - 0.6 * share,
            "generations": groups * size, "tokens": groups * size * 15, "seconds": 31.5, "cpu_seconds": 58.0,
            "grad_norm": math.nan if step == 2 else 1.0 + rng.random(),
        }  # fmt: skip

    with MetricsWriter(root) as writer:
        writer.log(0, "teacher", {"student_success": 0.1, "teacher_success": 0.46, "gap_on_failures": 0.31})
        for step in range(steps + 1):
            if step % every == 0 or step == steps:
                for temperature in (1.0, 0.0):
                    writer.log(step, "eval", evaluation(step, temperature))
            if step == steps:
                break
            share = step / steps
            writer.log(step, "train", training(step))
            rows = [
                attempt_row(step, group, attempt, 0.15 + 0.7 * share, rng)
                for group in range(groups)
                for attempt in range(size)
            ]
            if step == 1 and hostile:
                rows[0] = hostile_row(rows[0])
                rows[1] |= {"scored": False, "reward": 0.0, "stop_reason": "env_error"}
            writer.log_trajectories(rows)
        alarm = {"message": "Half of the groups had one reward.", "value": 0.52, "limit": 0.5}
        writer.log(steps // 2, "alarm", {"name": "zero_variance", **alarm})
    summary = {
        "held_out": {"before": evaluation(0, 1.0), "after": evaluation(steps, 1.0)},
        "held_out_greedy": {"before": evaluation(0, 0.0), "after": evaluation(steps, 0.0)},
    }
    (root / "summary.json").write_text(json.dumps(summary))
    return root


def hostile_row(row: dict[str, Any]) -> dict[str, Any]:
    """The same attempt with trouble in every field a model, a task or an environment can write."""
    text = "\n".join(HOSTILE.values())
    tokens = [
        {"text": value, "logp": -1.0, "teacher_logp": -2.0, "gap": 0.4, "top": [[value[:60], 0.5, 0.2]]}
        for value in HOSTILE.values()
    ]
    turn = {
        "messages": [{"role": SCRIPT, "content": text}, {"role": "user", "content": text}],
        "text": text, "reward": 0.0, "finish_reason": SCRIPT,
        "feedback": [{"kind": SCRIPT, "severity": SCRIPT, "text": text, "visibility": "teacher"}],
        "teacher_messages": [{"role": "user", "content": text + SCRIPT}], "tokens": tokens,
    }  # fmt: skip
    task = {"id": SCRIPT, "index": 0, "split": "train"}
    return row | {"task": task, "stop_reason": SCRIPT, "turns": [turn], "reward": 0.0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "finished")
    write_report(run)
    return run


# The page as text


def embedded(page: str) -> Any:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match
    return json.loads(match[1])


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_embedded_json_is_ascii_without_markup_and_reads_back(text: str) -> None:
    safe = script_safe_json({text: [text]})
    assert safe.isascii()
    assert not set("<>&") & set(safe)
    assert json.loads(safe) == {text: [text]}


def test_the_page_is_one_file_that_refers_to_nothing(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 2
    assert SCRIPT not in page
    assert set(re.findall(r"\b(?:src|href)=([^\s>]+)", page)) <= {
        '"data:,"',
        '"#attempts"',
        "x",
    }  # x: hostile text
    assert "@import" not in page
    assert "url(" not in page
    assert [path.name for path in finished.iterdir() if "partial" in path.name] == []


def test_a_hostile_configuration_cannot_leave_the_title(tmp_path: Path) -> None:
    config = {"recipe": "</title>" + SCRIPT, "env": "{{script}}", "model": HOSTILE["surrogate"][:4]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("</title>") == 1
    assert page.count("<script") == 2
    assert "{{script}} · torn" in page
    assert embedded(page)["recipe"] == "</title>" + SCRIPT


def test_the_output_may_go_elsewhere(finished: Path, tmp_path: Path) -> None:
    assert write_report(finished, tmp_path / "page.html") == tmp_path / "page.html"
    assert (tmp_path / "page.html").read_text() == (finished / "report.html").read_text()


def test_no_run_directory_is_an_error_that_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run directory at .*nowhere; give the"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "summary.json").write_text("[1")
    with pytest.raises(ValueError, match=r"summary\.json is not JSON"):
        write_report(tmp_path)


def test_a_log_torn_by_a_kill_still_makes_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=2)
    for name in ("metrics.jsonl", "trajectories.jsonl"):
        path = run / name
        path.write_bytes(path.read_bytes()[:-20])
    data = embedded(write_report(run).read_text())
    assert data["attempts"]["total"] == 2 * 2 * 4 - 1


def test_numbers_that_are_not_numbers_become_null(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "kind": "train", "loss": Infinity, "reward": 1}\n')
    (tmp_path / "summary.json").write_text('{"held_out": {"before": {"mean": NaN}, "after": {"mean": 1}}}')
    data = embedded(write_report(tmp_path).read_text())
    assert [curve["key"] for curve in data["curves"]] == ["reward"]
    assert data["headline"][0]["before"]["mean"] is None


# What is chosen for the page


def test_few_attempts_are_all_kept() -> None:
    keys = [Key(step, 0, attempt) for step in range(3) for attempt in range(4)]
    assert choose_attempts(keys, limit=12) == keys


@pytest.mark.parametrize(("steps", "groups", "size"), [(100, 8, 8), (7, 50, 16), (401, 1, 2), (5000, 2, 4)])
def test_many_attempts_are_sampled_over_the_steps(steps: int, groups: int, size: int) -> None:
    keys = [Key(s, g, a) for s in range(steps) for g in range(groups) for a in range(size)]
    chosen = choose_attempts(keys, limit=400)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 400
    assert (chosen[0], chosen[-1]) == (keys[0], keys[-1])
    per_step = [sum(key.step == step for key in chosen) for step in {key.step for key in chosen}]
    assert len(per_step) == min(steps, 400)
    assert max(per_step) - min(per_step) <= 1


def test_a_large_run_makes_a_page_of_bounded_size_that_counts_what_it_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=30, groups=4, size=8)
    attempts = load_attempts(run / "trajectories.jsonl", limit=50, budget=200)
    assert (attempts["total"], len(attempts["list"])) == (960, 50)
    turns = [turn for attempt in attempts["list"] for turn in attempt["turns"]]
    assert sum(len(turn["tokens"]) for turn in turns) <= 200
    cut = next(turn for turn in turns if turn["tail"][0])
    shown = "".join(token[0] for token in cut["tokens"]) + attempts["texts"][cut["tail"][1]]
    assert shown.strip() == attempts["texts"][cut["text"]]
    assert {len(attempt["siblings"]) for attempt in attempts["list"]} == {8}


def test_a_text_beyond_measure_is_cut_and_says_so(tmp_path: Path) -> None:
    turn = {"messages": [{"role": "user", "content": "a" * 30_000}], "text": "b"}
    with MetricsWriter(tmp_path) as writer:
        writer.log_trajectories([{"step": 0, "group": 0, "attempt": 0, "reward": 1.0, "turns": [turn]}])
    (text,) = [t for t in load_attempts(tmp_path / "trajectories.jsonl")["texts"] if t.startswith("a")]
    assert text == "a" * 20_000 + "\n[10,000 characters left out of this page]"


def test_an_attempt_logged_twice_counts_once(tmp_path: Path) -> None:
    row = {"step": 0, "group": 0, "attempt": 0, "reward": 0.0, "turns": []}
    with MetricsWriter(tmp_path) as writer:
        writer.log_trajectories([row, row | {"reward": 1.0}])
    attempts = load_attempts(tmp_path / "trajectories.jsonl")
    assert [attempt["reward"] for attempt in attempts["list"]] == [1.0]


def test_the_cap_on_tokens_fills_the_budget() -> None:
    assert token_cap([5, 5, 5], budget=100) == 5
    assert token_cap([], budget=100) == 0
    assert token_cap([50, 50], budget=10) == 5


# Curves


def test_amounts_per_step_are_added_up_and_totals_are_taken_as_they_are() -> None:
    assert accumulate([64, 64, 64]) == [64, 128, 192]
    assert accumulate([64, 128, 192]) == [64, 128, 192]
    assert accumulate([None, 8, None, 8]) == [0, 8, 8, 16]
    assert accumulate([]) == []


def test_a_repeated_step_counts_once_and_a_split_has_its_own_figure(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": step, "kind": "eval", "split": split, "temperature": t, "mean": 0.5 + t / 10, "n": 8}
        for step in (0, 4, 4)
        for split in ("train", "test")
        for t in (0.0, 0.7)
    ]
    rows += [{"step": step, "kind": "train", "generations": 10} for step in range(4)]
    held_out, train = success_curves(rows)
    assert (held_out["title"], train["title"]) == ("Held-out success", "Success on train")
    assert [line["name"] for line in held_out["series"]] == ["temperature 0.7", "greedy"]
    assert [(p["step"], p["generations"]) for p in held_out["series"][0]["points"]] == [(0, 0), (4, 40)]


def test_the_summary_has_the_last_word_on_the_headline(finished: Path, tmp_path: Path) -> None:
    data = page_data(finished)
    assert data["finished"]
    assert [line["name"] for line in data["headline"]] == ["temperature 1", "greedy"]
    assert data["headline"][0]["before"]["mean"] == pytest.approx(0.1)
    assert data["totals"]["generations"] == 6 * 2 * 4

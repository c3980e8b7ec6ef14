"""`rfenvs eval` and `rfenvs regrade`: any policy's attempts, kept, continued after a kill, and graded again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from completions import serve

import rfenvs
from agents.cli import main
from agents.report.metrics import read_jsonl
from agents.traces import regrade

ENV = "rfenvs/ToolCall-v0"


def evaluate(out: Path, *arguments: str) -> int:
    return main(["eval", ENV, "--tasks", "4", "--attempts", "2", "--out", str(out), *arguments])


def rows(out: Path) -> list[dict]:
    return read_jsonl(out / "trajectories.jsonl")


def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def test_gold_earns_everything_and_junk_nothing(tmp_path, capsys):
    assert evaluate(tmp_path / "gold", "--policy", "gold", "--kwargs", "{level: 3}") == 0
    assert summary(tmp_path / "gold")["sampled"]["mean"] == 1.0
    assert len(rows(tmp_path / "gold")) == 4, "there is one way to be right"
    assert evaluate(tmp_path / "junk", "--policy", "junk") == 0
    assert summary(tmp_path / "junk")["sampled"]["mean"] == 0.0
    assert summary(tmp_path / "junk")["feedback"] == {"syntax": 8}
    out = capsys.readouterr().out
    assert "100.0% [51.0%, 100.0%] (4 tasks, 4 attempts, 0 could not be scored)" in out
    assert "first complaints: syntax 8" in out


def test_interrupted_it_continues(tmp_path):
    evaluate(tmp_path, "--policy", "junk")
    whole = rows(tmp_path)
    file = tmp_path / "trajectories.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:50])
    evaluate(tmp_path, "--policy", "junk")
    assert rows(tmp_path) == whole
    evaluate(tmp_path, "--policy", "junk", "--attempts", "3")
    assert rows(tmp_path)[: len(whole)] == whole
    assert len(rows(tmp_path)) == 12


def test_attempts_of_other_settings_are_not_mixed_in(tmp_path, capsys):
    evaluate(tmp_path, "--policy", "junk")
    assert evaluate(tmp_path, "--policy", "junk", "--kwargs", "{level: 2}") == 2
    assert "holds an evaluation with another env; use --fresh" in capsys.readouterr().err
    assert evaluate(tmp_path, "--policy", "junk", "--kwargs", "{level: 2}", "--fresh") == 0
    assert {row["env"]["kwargs"]["level"] for row in rows(tmp_path)} == {2}


def test_a_server_is_a_policy(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    answers = {
        rfenvs.get_task(ENV, "test", i).messages[-1]["content"]: rfenvs.get_task(ENV, "test", i).reference
        for i in range(1000)
    }
    with serve(lambda body: answers[body["messages"][-1]["content"]]) as server:
        assert evaluate(tmp_path, "--policy", server.url, "--model", "any", "--env.workers", "3") == 0
    assert summary(tmp_path)["sampled"]["mean"] == 1.0
    assert {request["model"] for request in server.requests} == {"any"}
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in (tmp_path / "config.json").read_text()


def test_a_truncated_answer_reaches_the_environment_as_such(tmp_path):
    def cut(body):
        choice = {"message": {"content": "weather("}, "finish_reason": "length"}
        return 200, {}, json.dumps({"choices": [choice]}).encode()

    with serve(cut) as server:
        evaluate(tmp_path, "--policy", server.url)
    assert {row["stop_reason"] for row in rows(tmp_path)} == {"max_tokens"}
    assert summary(tmp_path)["feedback"] == {"truncated": 8}


def test_a_busy_server_is_asked_again(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    date = "Fri, 31 Dec 2049 23:59:59 GMT"
    replies = iter([(429, {"Retry-After": "7"}, b""), (503, {}, b""), (429, {"Retry-After": date}, b"")])
    with serve(lambda body: next(replies, "no call")) as server:
        assert evaluate(tmp_path, "--policy", server.url) == 0
    assert waits == [7.0, 1.0, pytest.approx(60.0)], "as it says, by itself, and no longer than a minute until a date"
    assert len(rows(tmp_path)) == 8


@pytest.mark.parametrize(
    ("reply", "said"),
    [((401, {}, b"bad key"), "answered 401: bad key"), ((200, {}, b'{"choices": []}'), "no chat completion")],
)
def test_a_server_that_cannot_be_used_is_one_clear_error(tmp_path, capsys, reply, said):
    with serve(lambda body: reply) as server:
        assert evaluate(tmp_path, "--policy", server.url) == 2
    assert said in capsys.readouterr().err


def test_unknown_policies_and_environments_say_what_there_is(tmp_path, capsys):
    assert evaluate(tmp_path, "--policy", "oracle") == 2
    assert "use model, gold, junk, or the address of a server" in capsys.readouterr().err
    assert main(["eval", "rfenvs/Nothing-v0", "--policy", "gold", "--out", str(tmp_path)]) == 2
    assert "rfenvs/ToolCall-v0" in capsys.readouterr().err


def test_help_teaches(capsys):
    assert main(["eval", "--help"]) == 0
    assert "http://host/v1" in capsys.readouterr().out


# Grading again.


def test_regrading_changes_nothing_where_nothing_changed(tmp_path, capsys):
    evaluate(tmp_path, "--policy", "junk", "--kwargs", "{max_turns: 3}")
    again = list(regrade(tmp_path))
    assert [row.new for row in again] == [
        {key: row[key] for key in ("step", "env", *(k for k in row if k not in ("step", "env", "greedy")))}
        for row in rows(tmp_path)
    ]
    assert main(["regrade", str(tmp_path)]) == 0
    assert "8 attempts, 0 with another reward, 0 that could not be scored" in capsys.readouterr().out


def test_regrading_finds_what_another_grader_says(tmp_path, capsys):
    evaluate(tmp_path, "--policy", "gold")
    file = tmp_path / "trajectories.jsonl"
    stored = rows(tmp_path)
    stored[1]["reward"], stored[2]["scored"] = 0.0, False
    file.write_text("".join(json.dumps(row) + "\n" for row in stored))
    assert main(["regrade", str(file), "-o", str(tmp_path / "new.jsonl")]) == 0
    out = capsys.readouterr().out
    assert f"{stored[1]['task']['id']} attempt 0: 0 -> 1" in out
    assert f"{stored[2]['task']['id']} attempt 0: unscored -> 1" in out
    assert "4 attempts, 2 with another reward" in out
    assert [row["reward"] for row in read_jsonl(tmp_path / "new.jsonl")] == [1.0] * 4


def test_regrading_a_task_that_is_gone_says_so(tmp_path, capsys):
    evaluate(tmp_path, "--policy", "gold")
    assert main(["regrade", str(tmp_path), "--kwargs", "{level: 2}"]) == 2
    assert "The data are others than those of the trace" in capsys.readouterr().err
    assert main(["regrade", str(tmp_path / "nowhere")]) == 2
    assert "no traces here" in capsys.readouterr().err


def test_a_training_run_can_be_graded_again(tiny_dir, tmp_path, capsys):
    tiny = ["--model", str(tiny_dir), "--eval.tasks", "0", "--sampling.max_tokens", "4", "--check_teacher", "0"]
    main(["train", "grpo", *tiny, "--steps", "1", "--batch.tasks", "2", "--run_dir", str(tmp_path)])
    assert main(["regrade", str(tmp_path)]) == 0
    assert "16 attempts, 0 with another reward" in capsys.readouterr().out

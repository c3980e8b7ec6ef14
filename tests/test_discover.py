"""`rfenvs discover`: attempts and updates on one task at a time, beside methods that do not learn, on equal budgets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from letters import register

import agents.training.test_time
from agents.cli import main
from agents.engines.reuse import Beginnings
from agents.errors import SetupError
from agents.report.metrics import read_jsonl
from agents.rollout import Environments, rollout
from agents.training.dialogue import Dialogue, Remembering
from agents.training.discovery_log import DiscoveryLog
from agents.training.discovery_setup import DiscoverySettings, check, configure
from agents.training.discovery_summary import discovery_at, steps_of
from agents.training.fresh import FreshLearner
from agents.training.test_time import Discovery

HARD = "{letters: '~', tasks: 3}"
EASY = "{letters: abcdefghijklmnopqrstuvwxyz, tasks: 3}"


def discover(tiny_dir: Path, out: Path, *arguments: str, env: str = "") -> int:
    small = ["--model", str(tiny_dir), "--sampling.max_tokens", "4", "--batch.attempts", "4", "--threads", "1"]
    rate = [] if "--optim.lr" in arguments else ["--optim.lr", "1e-3"]
    return main(["discover", env or register(), "--out", str(out), *small, *rate, *arguments])


def rows(out: Path, name: str = "attempts") -> list[dict[str, Any]]:
    return read_jsonl(out / f"{name}.jsonl")


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


# ---- what it does and writes


def test_it_stops_at_the_first_solution_and_keeps_it(tiny_dir, tmp_path, capfd):
    assert discover(tiny_dir, tmp_path, "--tasks", "3", "--budget", "40", "--kwargs", EASY) == 0
    said = summary(tmp_path)
    assert said["solved"] == said["runs"] == 3
    for run in rows(tmp_path, "runs"):
        mine = [row for row in rows(tmp_path) if row["run"] == run["run"]]
        right = [row["number"] for row in mine if row["reward"] >= 1]
        assert run["found"] == right[0]
        assert len(mine) == (run["found"] + 3) // 4 * 4, "no batch after the one that holds the solution"
        assert (tmp_path / run["solution"]).read_text() == mine[run["found"] - 1]["turns"][0]["text"]
        assert Path(run["solution"]).parent.name == "solutions"
        assert Path(run["solution"]).name.startswith("letter_train_")
    for point in said["discovery"]:
        found = [run["found"] <= point["k"] for run in rows(tmp_path, "runs")]
        assert point["mean"] == pytest.approx(sum(found) / 3)
    assert "solved at attempt" in capfd.readouterr().err
    assert (tmp_path / "report.html").is_file()


def test_it_learns_from_feedback_until_the_budget_is_used(tiny_dir, tmp_path):
    assert discover(tiny_dir, tmp_path, "--task", "1", "--budget", "10", "--kwargs", HARD) == 0
    assert [row["number"] for row in rows(tmp_path)] == list(range(1, 11))
    assert [row["step"] for row in rows(tmp_path)] == [0] * 4 + [1] * 4 + [2] * 2
    updates = rows(tmp_path, "updates")
    assert [u["optimizer_steps"] for u in updates] == [1, 1, 0], "after the last attempt there is nothing to learn for"
    assert updates[0]["taught"] == 1
    assert updates[0]["feedback"] == {"wrong_answer": 4}
    (run,) = rows(tmp_path, "runs")
    assert (run["stopped"], run["found"], run["attempts"]) == ("budget", None, 10)
    shown = rows(tmp_path)[0]["turns"][0]["teacher_messages"][-1]["content"]
    assert rows(tmp_path)[0]["told"] in shown
    assert summary(tmp_path)["discovery"][-1]["mean"] == 0


def test_the_published_constants_are_the_defaults():
    config = configure("sdpo_rich", {})
    recipe = config.recipe
    assert (recipe.alpha, recipe.top_k, recipe.tail) == (1, 20, True)
    assert (recipe.teacher.kind, recipe.teacher.rate) == ("ema", 0.01)
    assert (config.batch.tasks, config.batch.attempts, config.sampling.temperature) == (1, 16, 1.0)
    assert (config.optim.lr, config.optim.steps_per_batch) == (1e-6, 1)
    assert recipe.context.allow_reference is False
    assert configure("srpo", {"recipe": {"alpha": 0.25}}).recipe.alpha == 0.25
    assert configure("sdpo_rich", {"recipe": {"context": {"allow_reference": True}}}).recipe.context.allow_reference


def test_the_first_batch_is_the_same_for_every_method_that_samples_alike(tiny_dir, tmp_path):
    for method in ("sdpo", "best_of_k"):
        discover(tiny_dir, tmp_path / method, "--tasks", "2", "--budget", "8", "--kwargs", HARD, "--method", method,
                 "--optim.lr", "0.1")  # fmt: skip
    taught, sampled = ([[t["text"] for t in r["turns"]] for r in rows(tmp_path / m)] for m in ("sdpo", "best_of_k"))
    assert taught[:4] == sampled[:4]
    assert taught[4:8] != sampled[4:8], "after an update it says other things"
    assert taught[8:12] == sampled[8:12], "the next task begins with the first weights again"


# ---- fresh weights


def test_each_run_is_the_run_it_would_be_alone(tiny_dir, tmp_path):
    more = ["--budget", "8", "--kwargs", HARD]
    discover(tiny_dir, tmp_path / "both", "--task", "0", "--task", "2", *more)
    discover(tiny_dir, tmp_path / "alone", "--task", "2", *more)
    second = [row for row in rows(tmp_path / "both") if row["run"] == 1]
    assert [row["turns"] for row in second] == [row["turns"] for row in rows(tmp_path / "alone")]


@pytest.mark.parametrize("kind", ["ema", "trust_region", "frozen", "live"])
def test_reset_brings_everything_back_to_the_bit(engine, kind):
    config = configure(
        "sdpo_rich",
        {"env": {"id": register(), "kwargs": {"letters": "~"}}, "optim": {"lr": 1e-2, "warmup_steps": 3},
         "recipe": {"teacher": {"kind": kind, "rate": 0.3}}, "sampling": {"max_tokens": 4}},
    )  # fmt: skip
    environments = Environments(config.env.id, "train", config.env.kwargs)
    learner = FreshLearner(config, engine, environments)
    first = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    groups = rollout(engine, engine.chat, environments, [0], 4, config.sampling, 7)

    def two_updates() -> tuple[list[float], dict[str, torch.Tensor]]:
        losses = [learner.learn(groups, 0, step, "s")[1]["loss"] for step in range(2)]
        return losses, {n: p.detach().clone() for n, p in engine.model.named_parameters()}

    losses, weights = two_updates()
    shadow = {n: t.clone() for n, t in learner.teachers["teacher"].shadow.items()}
    assert any(not torch.equal(first[n], weights[n]) for n in first)
    learner.reset()
    assert all(torch.equal(first[n], p) for n, p in engine.model.named_parameters())
    assert all(torch.equal(first[n], t) for n, t in learner.teachers["teacher"].shadow.items())
    assert learner.learner.steps == 0
    again, weights_again = two_updates()
    assert again == losses
    assert all(torch.equal(weights[n], weights_again[n]) for n in weights)
    assert all(torch.equal(shadow[n], t) for n, t in learner.teachers["teacher"].shadow.items())


# ---- attempts that cannot be scored


def test_unscored_attempts_have_no_number_use_no_budget_and_are_made_again(tiny_dir, tmp_path):
    known = "{letters: '~', unscored: abcdefghijklmnopqrstuvwxyz, tasks: 3}"
    for method in ("sdpo", "best_of_k", "multi_turn"):
        out = tmp_path / method
        more = ["--kwargs", known, "--method", method, "--batch.attempts", "8"]
        discover(tiny_dir, out, "--task", "0", "--budget", "24", *more)
        (run,) = rows(out, "runs")
        unscored = [row for row in rows(out) if not row["scored"]]
        assert unscored, method
        assert {row["number"] for row in unscored} == {None}
        assert [row["number"] for row in rows(out) if row["scored"]] == list(range(1, 25))
        assert (run["attempts"], run["unscored"], run["stopped"]) == (24, len(unscored), "budget")
        assert summary(out)["unscored"] == len(unscored)


def test_a_run_that_cannot_be_scored_is_stopped_and_is_no_failure(tiny_dir, tmp_path, capfd):
    long = {"id": "rfenvs/ToolCall-v0", "kwargs": "{level: 4}"}  # longer than the context of the tiny model
    discover(tiny_dir, tmp_path, "--task", "0", "--budget", "8", "--kwargs", long["kwargs"], env=long["id"])
    (run,) = rows(tmp_path, "runs")
    assert (run["stopped"], run["attempts"], run["unscored"]) == ("unscored", 0, 4)
    assert all(point["n"] == 0 for point in summary(tmp_path)["discovery"])
    assert "could not be scored" in capfd.readouterr().err


def test_discovery_counts_what_was_found_within_k_attempts():
    def run(index: int, found: int | None, stopped: str = "budget", attempts: int = 8) -> dict[str, Any]:
        return {"index": index, "found": found, "stopped": "solved" if found else stopped, "attempts": attempts}

    runs = [run(0, 1), run(0, 3), run(1, None), run(2, None, "unscored", attempts=2), run(3, 8)]
    assert [discovery_at(runs, k).mean for k in (1, 2)] == [1 / 5, 1 / 5]
    assert [discovery_at(runs, k).n for k in (2, 4)] == [5, 4], "unknown beyond what could be scored"
    assert [discovery_at(runs, k).mean for k in (4, 8)] == [2 / 4, 3 / 4]
    assert discovery_at(runs, 8).tasks == 3
    assert steps_of(64) == [1, 2, 4, 8, 16, 32, 64]
    assert steps_of(1) == [1]


def test_seeds_of_one_task_are_one_cluster():
    def runs(tasks: int, seeds: int) -> list[dict[str, Any]]:
        return [
            {"index": t, "found": 1 if t % 2 else None, "stopped": "budget", "attempts": 4}
            for t in range(tasks)
            for _ in range(seeds)
        ]

    few, many = discovery_at(runs(8, 8), 4), discovery_at(runs(64, 1), 4)
    assert (few.n, many.n, few.mean) == (64, 64, many.mean)
    assert few.high - few.low > 2 * (many.high - many.low)


# ---- the conversation


def test_the_conversation_is_told_all_feedback_so_far(tiny_dir, tmp_path, monkeypatch):
    asked = []
    original = Remembering.__init__

    def noting(self, engine):
        original(self, engine)
        generate = self.generate

        def wrapped(prompts, sampling, seed):
            asked.append([engine.tokenizer.decode(ids) for ids in prompts])
            return generate(prompts, sampling, seed)

        self.generate = wrapped

    monkeypatch.setattr(Remembering, "__init__", noting)
    discover(tiny_dir, tmp_path, "--tasks", "2", "--budget", "6", "--kwargs", HARD, "--method", "multi_turn")
    assert [len(prompts) for prompts in asked] == [2] * 6, "conversations side by side, an attempt each"
    told = [row["told"] for row in rows(tmp_path) if row["run"] == 0]
    for turn, prompts in enumerate(asked):
        places = [prompts[0].find(text) for text in told[:turn]]
        assert -1 not in places
        assert ("Correctly solve the original question." in prompts[0]) == (turn > 0)
    assert all("updates" not in row for row in rows(tmp_path))


def test_the_oldest_feedback_is_dropped_where_it_is_too_long(engine):
    question = [{"role": "system", "content": "Reply."}, {"role": "user", "content": "Which letter?"}]
    dialogue = Dialogue("feedback_only")
    assert dialogue.messages(question, engine.chat, 300) == question
    for turn in range(30):
        dialogue.add(f"attempt {turn}", f"feedback {turn}!")
    whole = dialogue.messages(question, engine.chat, 10_000)
    assert [whole[-1]["content"].find(f"feedback {t}!") >= 0 for t in range(30)] == [True] * 30
    assert "attempt 7" not in whole[-1]["content"]
    limit = len(engine.chat.encode(whole)) // 2
    shorter = dialogue.messages(question, engine.chat, limit)
    assert len(engine.chat.encode(shorter)) <= limit
    kept = [f"feedback {t}!" in shorter[-1]["content"] for t in range(30)]
    assert kept == sorted(kept)
    assert kept[-1]
    assert not kept[0]
    assert shorter[0] == question[0]
    assert shorter[-1]["content"].startswith("Which letter?")


def test_attempts_may_be_kept_as_turns(engine):
    question = [{"role": "user", "content": "Which letter?"}]
    dialogue = Dialogue("attempt_and_feedback")
    dialogue.add("a", "Not a.")
    dialogue.add("b", "")
    said = dialogue.messages(question, engine.chat, 10_000)
    assert [m["role"] for m in said] == ["user", "assistant", "user", "assistant", "user"]
    assert said[2]["content"] == "Not a.\n\nCorrectly solve the original question."
    shorter = dialogue.messages(question, engine.chat, 1)
    assert [m["content"] for m in shorter[:2]] == ["Which letter?", "b"]


def test_what_was_forwarded_for_the_turn_before_is_not_forwarded_again(engine):
    from agents.engines.base import Sampling

    prompts = [[5, 6, 7, 8, 9, 10, 11, 12, k] for k in (20, 21)]
    longer = [[*p[:9], 30, 31, 32] for p in prompts] + [[5, 6, 40]]
    remembering = Remembering(engine)
    remembering.generate(prompts, Sampling(max_tokens=2), 0)
    forwarded, model = [], engine.model.forward

    def counting(*args, **kwargs):
        forwarded.append(kwargs["input_ids"].numel())
        return model(*args, **kwargs)

    engine.model.forward = counting
    reused = remembering.generate(longer, Sampling(max_tokens=1, temperature=0), 0)
    assert sum(forwarded) <= 3 * len(longer) + 1
    engine.model.forward = model
    fresh = engine.generate(longer, Sampling(max_tokens=1, temperature=0), 0)
    assert [c.ids for c in reused] == [c.ids for c in fresh]
    for a, b in zip(reused, fresh, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_what_does_not_fit_costs_nobody_else_their_place():
    import torch

    def layers(n):
        return [(torch.zeros(1, n, 2), torch.zeros(1, n, 2))]

    memory = Beginnings(limit=20)
    for start in (0, 100, 200):
        memory.put(list(range(start, start + 8)), layers(8))
    prompts = [[*range(start, start + 8), 7, 7] for start in (0, 100, 200)]
    assert [n for n, _ in memory.take(prompts, least=0)] == [8, 8, 0]
    assert memory.tokens == 0
    memory.put([1, 2, 3, 4], layers(4))
    ((n, kept),) = memory.take([[1, 2, 3, 9, 9]], least=0)
    assert (n, kept[0][0].shape) == (3, (1, 3, 2))
    memory.put([1, 2, 3, 4], layers(4))
    assert memory.take([[1, 2, 9]], least=2) == [(0, [])], "what all share is forwarded once anyway"


# ---- interrupted


BUDGETS = {"sdpo": "28", "best_of_k": "60", "multi_turn": "20"}


@pytest.mark.parametrize("method", BUDGETS)
@pytest.mark.parametrize("write", [3, 8, 17])
def test_stopped_at_any_write_and_resumed_equals_unbroken(tiny_dir, tmp_path, monkeypatch, method, write):
    more = ["--tasks", "2", "--budget", BUDGETS[method], "--kwargs", HARD, "--method", method, "--save_every", "2"]
    discover(tiny_dir, tmp_path / "whole", *more)
    original, calls = DiscoveryLog.add, []

    def failing(self, name, given):
        calls.append(name)
        if len(calls) == write:
            original(self, name, list(given)[:1])  # some of it reaches the disk
            raise KeyboardInterrupt
        original(self, name, given)

    with monkeypatch.context() as patch:
        patch.setattr(DiscoveryLog, "add", failing)
        assert discover(tiny_dir, tmp_path / "broken", *more) == 130
    discover(tiny_dir, tmp_path / "broken", *more)
    for name in ("attempts", "updates", "runs"):
        a, b = (_timeless(rows(tmp_path / which, name)) for which in ("whole", "broken"))
        assert a == b


@pytest.mark.parametrize(
    "method", ["sdpo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("best_of_k", "multi_turn"))]
)
def test_killed_and_resumed_equals_unbroken(tiny_dir, tmp_path, method):
    more = ["--tasks", "3", "--budget", BUDGETS[method], "--kwargs", HARD, "--method", method, "--save_every", "2"]
    discover(tiny_dir, tmp_path / "whole", *more)
    broken = tmp_path / "broken"
    code = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; from test_discover import discover; "
        "discover(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])"
    )
    arguments = [sys.executable, "-c", code, str(tiny_dir), str(broken), *more]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
    log, enough = broken / "updates.jsonl", {"sdpo": 10, "best_of_k": 20, "multi_turn": 9}[method]
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.is_file() and len(read_jsonl(log)) >= enough:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    assert not (broken / "summary.json").is_file(), "it was to be killed before it ended"
    for name in ("attempts", "updates"):
        with (broken / f"{name}.jsonl").open("ab") as file:
            file.write(b'{"run": 1, "step": 9')  # a line torn by the kill
    kept = len(read_jsonl(broken / "runs.jsonl"))
    discover(tiny_dir, broken, *more)
    assert kept == (0 if method == "multi_turn" else 1)
    for name in ("attempts", "updates", "runs"):
        a, b = (_timeless(rows(tmp_path / which, name)) for which in ("whole", "broken"))
        assert a == b
    assert _timeless([summary(broken)]) == _timeless([summary(tmp_path / "whole")])


def _timeless(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "cpu_seconds")} for row in given]


def test_a_finished_discovery_is_not_repeated_and_loads_no_model(tiny_dir, tmp_path, monkeypatch):
    more = ["--tasks", "1", "--budget", "4", "--kwargs", HARD]
    discover(tiny_dir, tmp_path, *more)
    before = (tmp_path / "attempts.jsonl").read_bytes()
    monkeypatch.setattr(agents.training.test_time, "load_engine", None)
    assert discover(tiny_dir, tmp_path, *more) == 0
    assert (tmp_path / "attempts.jsonl").read_bytes() == before


# ---- what is refused


def test_another_setting_in_the_same_directory_is_refused(tiny_dir, tmp_path, capsys):
    more = ["--tasks", "1", "--kwargs", HARD]
    discover(tiny_dir, tmp_path, *more, "--budget", "4")
    assert discover(tiny_dir, tmp_path, *more, "--budget", "8") == 2
    assert "discover.budget was 4 and is 8" in capsys.readouterr().err
    assert discover(tiny_dir, tmp_path, *more, "--budget", "4", "--optim.lr", "0.5") == 2
    assert "config.optim.lr was 0.001 and is 0.5" in capsys.readouterr().err
    assert discover(tiny_dir, tmp_path, *more, "--budget", "8", "--fresh") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "L1-train-17-4fda4801"], "Did you mean L1-train-17-4fda4800"),
        (["--task", "nonsense"], r"The first is L1-train-0-"),
        (["--task", "99999999999"], "has tasks 0 to 2147483646"),
        ([], "which task? Give --task ID"),
        (["--task", "1", "--tasks", "2"], "give one of the two"),
        (["--tasks", "0"], "has 2147483647 tasks"),
        (["--tasks", "1", "--budget", "3"], "--budget 3 is below batch.attempts=4"),
        (["--tasks", "1", "--budget", "0"], "--budget 0: "),
        (["--tasks", "1", "--recipe", "grpo"], "recipe='grpo' has no teacher"),
        (["--tasks", "1", "--recipe", "dagger"], "lets an expert act"),
        (["--tasks", "1", "--recipe", "sdpo"], "before the first success there is no sibling"),
        (["--tasks", "1", "--batch.tasks", "2"], "so it must be 1"),
        (["--tasks", "1", "--recipe.context.sources", "[expected]"], "reveals the reference"),
        (["--tasks", "1", "--optim.larning_rate", "1"], "optim.larning_rate is not a setting"),
    ],
)
def test_what_cannot_work_is_said_before_a_model_is_loaded(tiny_dir, tmp_path, capsys, arguments, said):
    assert discover(Path("/nowhere"), tmp_path, *arguments, env="rfenvs/ToolCall-v0") == 2
    assert said.replace("\\", "") in capsys.readouterr().err.replace("\\", "")


def test_an_environment_without_tasks_is_refused(tmp_path, capsys):
    data = tmp_path / "tasks.jsonl"
    data.write_text('{"request": "Wake me.", "answer": "timer(minutes=\\"5\\")", "split": "test"}\n')
    known = json.dumps({"data": str(data)})
    assert discover(Path("/nowhere"), tmp_path, "--tasks", "1", "--kwargs", known, env="rfenvs/ToolCall-v0") == 2
    assert "no tasks" in capsys.readouterr().err
    assert main(["discover", "--tasks", "1"]) == 2
    assert "which environment?" in capsys.readouterr().err


def test_a_recipe_with_a_teacher_and_feedback_is_taken():
    settings = DiscoverySettings(tasks=[0], budget=16)
    for name in ("sdpo_rich", "srpo", "sdpo_grpo"):
        check(configure(name, {"recipe": {"context": {"sources": ["feedback"]}}}), settings)
    with pytest.raises(SetupError, match="learns from feedback"):
        check(configure("imitation", {}), settings)
    check(configure("grpo", {}), settings.model_copy(update={"method": "best_of_k"}))


def test_other_recipes_learn_here_too(tiny_dir, tmp_path):
    more = ["--recipe", "srpo", "--recipe.context.sources", "[feedback]"]
    assert discover(tiny_dir, tmp_path, "--tasks", "1", "--budget", "8", "--kwargs", HARD, *more) == 0
    assert rows(tmp_path, "updates")[0]["optimizer_steps"] == 1


def test_adapters_start_afresh_too(tiny_dir, tmp_path):
    more = ["--budget", "8", "--kwargs", HARD, "--model.lora_rank", "2", "--optim.lr", "1e-2"]
    discover(tiny_dir, tmp_path / "both", "--task", "0", "--task", "2", *more)
    discover(tiny_dir, tmp_path / "alone", "--task", "2", *more)
    second = [row for row in rows(tmp_path / "both") if row["run"] == 1]
    assert [row["turns"] for row in second] == [row["turns"] for row in rows(tmp_path / "alone")]


def test_help_teaches(capsys):
    assert main(["discover", "--help"]) == 0
    said = capsys.readouterr().out
    assert "ONE hard task" in said
    assert "--batch.attempts [" in said or "--batch.attempts" in said
    assert "best_of_k" in said


def test_traces_can_be_graded_again(tiny_dir, tmp_path, capsys):
    discover(tiny_dir, tmp_path, "--tasks", "1", "--budget", "4", env="rfenvs/ToolCall-v0")
    assert main(["regrade", str(tmp_path / "attempts.jsonl")]) == 0
    assert "4 attempts, 0 with another reward" in capsys.readouterr().out


def test_a_model_is_loaded_once(tiny_dir, tmp_path, monkeypatch):
    loads = []
    original = agents.training.test_time.load_engine
    monkeypatch.setattr(agents.training.test_time, "load_engine", lambda *a, **k: loads.append(1) or original(*a, **k))
    config = configure(
        "sdpo_rich",
        {"env": {"id": register(), "kwargs": {"letters": "~"}}, "model": {"name": str(tiny_dir)},
         "sampling": {"max_tokens": 3}, "batch": {"attempts": 2}, "run_dir": str(tmp_path / "run")},
    )  # fmt: skip
    Discovery(config, DiscoverySettings(tasks=[0, 1, 2], budget=4, seeds=2)).run()
    assert len(loads) == 1
    assert [(r["index"], r["seed"]) for r in rows(tmp_path / "run", "runs")] == [
        (t, s) for t in range(3) for s in (0, 1)
    ]

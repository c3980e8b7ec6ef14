"""Training on code: published constants, sandboxed grading in threads, what the teacher sees, what is never counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from models import save_tiny

import rfenvs
from agents.config import build, load, packaged
from agents.engines.base import Completion, Sampling
from agents.engines.hf import HFEngine
from agents.errors import SetupError
from agents.report.metrics import read_jsonl
from agents.rollout import Environments
from agents.training.trainer import Run, Trainer
from rfenvs.graders import code_sandbox
from rfenvs.graders.code_sandbox import shared_sandbox
from sandboxes import Limits, Program, Result, Sandbox, SandboxError
from sandboxes.base import Stop

ID = "rfenvs/LiveCodeBench-v6"


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


WRONG = fenced("print('no such thing')")
RAISES = fenced("numbers = []\nprint(numbers[3])")
NO_CODE = "I would sort the numbers first."


@pytest.fixture(scope="module")
def long_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with room for a problem: its tokenizer knows few words."""
    return save_tiny(tmp_path_factory.mktemp("long"), max_position_embeddings=16384)


@pytest.fixture
def recite(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A policy that recites: a random model never writes a program, so its samples are replaced by given ones."""

    def use(*answers: str) -> None:
        calls = iter(range(1 << 30))

        def generate(
            self: HFEngine, prompts: list[list[int]], sampling: Sampling, seed: int, **_: object
        ) -> list[Completion]:
            chosen = [[*self.chat.plain(answers[next(calls) % len(answers)]), min(self.stop_ids)] for _ in prompts]
            return [Completion(ids, [-3.0] * len(ids), "stop") for ids in chosen]

        monkeypatch.setattr(HFEngine, "generate", generate)

    return use


def train(model: Path, run_dir: Path, **changes: Any) -> Run:
    settings = {
        "recipe": "sdpo_rich",
        "model": {"name": str(model), "pack_tokens": 8192},
        "env": {"id": ID, "kwargs": {"profile": "sdpo", "data": "sample"}, "workers": 4},
        "batch": {"tasks": 2, "attempts": 4},
        "optim": {"lr": 1e-3, "steps_per_batch": 2},
        "sampling": {"max_tokens": 8},
        "eval": {"tasks": 0},
        "check_teacher": 0,
        "record_tokens": 0,
        "steps": 1,
        "threads": 1,
        "run_dir": str(run_dir),
        **changes,
    }
    return Trainer(build(settings)).run()


def rows(run: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (metrics,) = [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "train"]
    return metrics, read_jsonl(run.directory / "trajectories.jsonl")


# The settings.


def test_the_code_run_has_the_published_constants():
    """SDPO with rich feedback on LiveCodeBench v6 (arXiv 2601.20802 and its reference implementation)."""
    config = load("code")
    recipe: Any = config.recipe
    assert (recipe.alpha, recipe.top_k, recipe.tail, recipe.is_clip) == (1.0, 20, True, 2.0)
    assert (recipe.teacher.kind, recipe.teacher.rate, recipe.teacher.temperature) == ("ema", 0.01, 1.0)
    assert recipe.context.sources == ["sibling", "feedback"], "feedback only without a solution"
    assert recipe.context.allow_reference, "the training half of the hidden tests"
    assert recipe.context.max_tokens == 10240 - 2048, "max_reprompt_len less the longest prompt"
    assert (config.batch.tasks, config.batch.attempts, config.optim.steps_per_batch) == (32, 8, 32)
    assert (config.optim.betas, config.optim.weight_decay, config.optim.clip_norm) == ((0.9, 0.999), 0.01, 1.0)
    assert config.optim.warmup_steps == 0
    assert config.sampling == Sampling(temperature=1.0, top_p=1.0, max_tokens=8192)
    assert config.eval_sampling() == Sampling(temperature=0.6, top_p=0.95, max_tokens=8192)
    assert (config.eval.tasks, config.eval.attempts, config.eval.every) == (131, 4, 5)
    assert config.model.template == {"enable_thinking": False}
    assert (config.env.id, config.env.kwargs) == (ID, {"profile": "sdpo"})
    assert config.steps == 30 * (131 // 32)


def test_the_code_run_departs_from_them_in_two_settings():
    config = load("code")
    assert (config.model.lora_rank, config.optim.lr) == (64, 1e-5)
    assert (build({"recipe": "sdpo_rich"}).model.lora_rank, build({"recipe": "sdpo_rich"}).optim.lr) == (0, 1e-6)


def test_every_packaged_run_is_valid_and_described():
    for name, about in packaged().items():
        assert str(load(name).run_dir) == f"runs/{name}"
        assert len(about) > 20
    assert load("code_smoke").note.startswith("This is a smoke run")


def test_thinking_is_turned_off_in_the_template(long_tiny, tmp_path):
    run_dir = tmp_path / "thinker"
    save_tiny(run_dir)
    from agents.chat import Chat

    tokenizer = HFEngine.load(str(run_dir)).tokenizer
    tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    asked = [{"role": "user", "content": "Hello"}]
    silent, thinking = Chat(tokenizer, {"enable_thinking": False}), Chat(tokenizer)
    assert tokenizer.decode(silent.encode(asked)).endswith("assistant\n<think></think>")
    assert tokenizer.decode(thinking.encode(asked)).endswith("assistant\n")
    assert tokenizer.decode(silent.bridge(asked, -1)).endswith("<think></think>")


# A step.


def test_the_code_run_works_when_shrunk(long_tiny, tmp_path, recite):
    recite(WRONG, RAISES, NO_CODE)
    small = {
        "env": {"kwargs": {"profile": "sdpo", "data": "sample"}},
        "model": {"name": str(long_tiny), "dtype": "bfloat16", "pack_tokens": 8192},
        "batch": {"tasks": 4, "attempts": 2},
        "optim": {"steps_per_batch": 4},
        "eval": {"tasks": 1, "attempts": 1},
        "check_teacher": 0,
    }
    run = Trainer(load("code", {**small, "steps": 1, "run_dir": str(tmp_path / "run")})).run()
    metrics, _ = rows(run)
    assert (metrics["optimizer_steps"], metrics["taught"]) == (4, 1.0)
    assert (run.directory / "checkpoints/final/adapter_model.safetensors").is_file()


def test_a_step_on_code_teaches_from_hidden_tests_that_no_policy_sees(long_tiny, tmp_path, recite):
    recite(WRONG, RAISES, NO_CODE, WRONG)
    run = train(long_tiny, tmp_path / "run")
    metrics, attempts = rows(run)
    assert metrics["feedback"] == {"format_error": 2, "runtime_error": 2, "wrong_answer": 4}
    assert (metrics["taught"], metrics["skipped"], metrics["optimizer_steps"]) == (1.0, 0, 2)
    assert metrics["teacher_gap"] > 0
    for attempt in attempts:
        (turn,) = attempt["turns"]
        shown = "\n".join(m["content"] for m in turn["messages"])
        seen = "\n".join(m["content"] for m in turn["teacher_messages"])
        secrets = [item["text"] for item in turn["feedback"] if item["reveals_reference"]]
        assert all(secret in seen and secret not in shown for secret in secrets)
        assert all(item["text"] in seen for item in turn["feedback"])
        assert bool(secrets) == (turn["text"] != NO_CODE)
    said = [item["text"] for a in attempts for item in a["turns"][0]["feedback"] if a["turns"][0]["text"] == WRONG]
    assert any("Expected" in text for text in said), "the teacher reads what a hidden test expects"


def test_a_success_teaches_its_siblings(long_tiny, tmp_path, recite):
    solution = rfenvs.get_task(ID, "train", 0, data="sample").reference
    recite(WRONG, solution, WRONG, NO_CODE)
    kwargs = {"profile": "sdpo", "data": str(only_first(tmp_path))}
    run = train(
        long_tiny, tmp_path / "run", batch={"tasks": 1, "attempts": 4}, env={"id": ID, "kwargs": kwargs},
        optim={"steps_per_batch": 1},
    )  # fmt: skip
    metrics, attempts = rows(run)
    assert metrics["reward"] == 0.25
    assert metrics["feedback"]["none"] == 1
    for attempt in attempts:
        (turn,) = attempt["turns"]
        if attempt["reward"] == 1:
            assert turn["teacher_messages"] is None, "a lone success has nobody to learn from"
        else:
            seen = turn["teacher_messages"][-1]["content"]
            assert solution in seen
            assert "unsuccessful earlier attempt" not in seen, "feedback only where there is no solution"


def only_first(folder: Path) -> Path:
    """A file with the first problem of the packaged sample."""
    sample = Path(rfenvs.__file__).parent / "envs" / "samples" / "livecodebench.jsonl"
    path = folder / "first.jsonl"
    path.write_text(sample.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    return path


def test_the_environments_own_arguments_count_its_tasks(tmp_path):
    assert Environments(ID, "train", {"data": str(only_first(tmp_path))}).num_tasks() == 1


def test_several_turns_extend_what_the_policy_saw(long_tiny, tmp_path, recite):
    recite(WRONG, RAISES, NO_CODE)
    kwargs = {"profile": "sdpo", "data": "sample", "max_turns": 3}
    run = train(long_tiny, tmp_path / "run", env={"id": ID, "kwargs": kwargs, "workers": 4})
    metrics, attempts = rows(run)
    assert metrics["skipped"] == 0
    for attempt in attempts:
        assert attempt["stop_reason"] == "max_turns"
        assert len(attempt["turns"]) == 3
        for before, after in zip(attempt["turns"], attempt["turns"][1:], strict=False):
            answered = {"role": "assistant", "content": before["text"]}
            assert after["messages"][: len(before["messages"]) + 1] == [*before["messages"], answered]
            secrets = [item["text"] for item in before["feedback"] if item["reveals_reference"]]
            assert not any(secret in m["content"] for secret in secrets for m in after["messages"])
            assert "Reply with the whole program" in after["messages"][-1]["content"]


# The sandbox.


class Flaky(Sandbox):
    """A sandbox that breaks at every third program, and otherwise is the real one."""

    def __init__(self, real: Sandbox) -> None:
        self.real, self.calls = real, 0
        self.kind, self.isolation, self.workers = real.kind, real.isolation, real.workers
        self._lock = threading.Lock()

    def run_cases(
        self, program: Program, cases: Any, limits: Limits | None = None, *, share: bool = False,
        stop: Stop | None = None,
    ) -> list[Result]:  # fmt: skip
        with self._lock:
            self.calls += 1
            broken = self.calls % 3 == 0
        if broken:
            raise SandboxError("a worker went away")
        return self.real.run_cases(program, cases, limits, share=share, stop=stop)

    def close(self) -> None:
        pass


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    sandbox = Flaky(shared_sandbox())
    monkeypatch.setitem(code_sandbox._shared, "auto", sandbox)
    return sandbox


def test_answers_that_a_broken_sandbox_could_not_judge_are_dropped_and_counted(
    long_tiny, tmp_path, recite, flaky, capfd
):
    solution = rfenvs.get_task(ID, "train", 0, data="sample").reference
    recite(solution)
    kwargs = {"profile": "sdpo", "data": str(only_first(tmp_path))}
    run = train(
        long_tiny, tmp_path / "run", env={"id": ID, "kwargs": kwargs, "workers": 4},
        batch={"tasks": 1, "attempts": 9}, optim={"steps_per_batch": 1}, check_teacher=1,
        eval={"tasks": 1, "attempts": 3},
    )  # fmt: skip
    metrics, attempts = rows(run)
    assert metrics["generations"] == 9
    assert metrics["skipped"] == 3
    assert metrics["reward"] == 1.0, "a broken sandbox is not a wrong program"
    assert metrics["feedback"] == {"none": 6}
    assert run.summary["skipped"] == 3
    dropped = [a for a in attempts if not a["scored"]]
    assert len(dropped) == 3
    assert all(a["stop_reason"] == "env_error" and a["turns"][0]["teacher_messages"] is None for a in dropped)
    assert all("a worker went away" in a["turns"][0]["feedback"][0]["text"] for a in dropped)
    assert run.summary["held_out"]["before"]["mean"] == 1.0
    assert "3 of 9 attempts are not counted" in capfd.readouterr().err
    (check,) = [r for r in read_jsonl(run.directory / "metrics.jsonl") if r["kind"] == "teacher"]
    assert check["teacher_success"] == 1.0, "nor is it one of the teacher's"


def test_environments_share_a_sandbox_and_grade_at_once(tmp_path):
    waits = fenced("import time\ntime.sleep(0.4)\nprint('no')")
    workers = shared_sandbox().workers
    if workers < 2:
        pytest.skip("one core runs one program at a time")
    environments = Environments(ID, "train", {"data": str(only_first(tmp_path))}, workers=4)
    seconds = {}
    for count in (1, 2):
        started = time.perf_counter()
        rewards = environments.grade([0] * count, [rfenvs.Action(waits)] * count)
        seconds[count] = time.perf_counter() - started
        assert rewards == [0.0] * count
    assert seconds[2] < 1.6 * seconds[1], "two programs that sleep take the time of one"
    assert all(env.unwrapped._place() is shared_sandbox() for env in environments.take(4))


def test_what_keeps_an_environment_from_starting_is_said_before_the_model_loads(monkeypatch):
    with pytest.raises(SetupError, match=r"env.kwargs=.*nowhere.jsonl"):
        Environments(ID, "train", {"data": "nowhere.jsonl"})
    monkeypatch.setenv("SANDBOX_MIN_ISOLATION", "container")
    monkeypatch.delitem(code_sandbox._shared, "embedded", raising=False)
    with pytest.raises(SetupError, match=r"Untrusted code is not run here"):
        Environments(ID, "train", {"data": "sample", "sandbox": "embedded"})


# The real model.


@pytest.mark.slow
def test_the_smoke_run_with_a_pretrained_model(tmp_path):
    from agents.models import resolve

    try:
        resolve("smollm2-135m")
    except SetupError as error:
        pytest.skip(f"the packaged model could not be fetched: {error}")
    run = Trainer(load("code_smoke", {"run_dir": str(tmp_path / "run")})).run()
    attempts = read_jsonl(run.directory / "trajectories.jsonl")
    assert sum(run.summary["feedback"].values()) == len(attempts) == 16
    programs = [a for a in attempts if a["turns"][0]["feedback"][0]["kind"] in ("wrong_answer", "runtime_error")]
    assert programs, "some answers are programs that ran"
    for attempt in programs:
        (turn,) = attempt["turns"]
        secrets = [item["text"] for item in turn["feedback"] if item["reveals_reference"]]
        shown = "\n".join(m["content"] for m in turn["messages"])
        assert not any(secret in shown for secret in secrets)
        if turn["teacher_messages"]:
            assert all(secret in turn["teacher_messages"][-1]["content"] for secret in secrets)

"""What breaks around an environment: one clear error, or a sample that is marked as not scored; then it goes on."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import rfenvs
import sandboxes
from rfenvs.datasets import DataUnavailable
from rfenvs.envs.livecodebench_data import SPEC
from rfenvs.graders import code_sandbox
from rfenvs.graders.code import PRELUDE
from rfenvs.rows import DataError
from sandboxes import Limits, SandboxUnavailable
from sandboxes.embedded import EmbeddedSandbox
from tests.lcb_answers import ID, Answer, answers, check, make

NO_EMBEDDED = "no embedded sandbox with namespaces here"
SLOW = "```python\nimport time\ntime.sleep(0.4)\nprint('mine')\n```"
AT_ONCE = 32
RIGHT = next(answer for answer in answers(12) if not answer.kind)


@pytest.fixture
def sandbox() -> Iterator[EmbeddedSandbox]:
    if sandboxes.probe().level != "namespaced":
        pytest.skip(NO_EMBEDDED)
    with EmbeddedSandbox(workers=2, prelude=PRELUDE) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    code_sandbox._told.clear()


def play(env: gymnasium.Env[str, str], answer: Answer = RIGHT, text: str | None = None) -> tuple[float, dict[str, Any]]:
    env.reset(options={"task_index": answer.index})
    _, reward, terminated, truncated, info = env.step(answer.text if text is None else text)
    assert truncated is not info["scored"]
    assert terminated is info["scored"]
    return float(reward), info


def not_scored(reward: float, info: dict[str, Any]) -> str:
    """Check that a sample is marked as not scored, and return what the log item says."""
    assert (reward, info["scored"], info["stop_reason"]) == (0.0, False, "env_error")
    (item,) = info["feedback"]
    assert (item["kind"], item["visibility"]) == ("env_error", "log")
    return str(item["text"])


# Data.


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda data: data[:-200], r"rows\.jsonl is cut off: line 12.*Download it again"),
        (lambda data: data.replace(b'"metadata"', b'"meta"'), r'rows\.jsonl, line 1\b.*"metadata"'),
        (lambda data: b"", r"rows\.jsonl.*empty|rows\.jsonl.*no row"),
        (lambda data: b"\x1f\x8b\x08\x00junk", r"rows\.jsonl.*UTF-8"),
    ],
    ids=["truncated", "wrong-schema", "empty", "not-text"],
)
def test_a_bad_file_is_an_error_at_reset_that_names_it(tmp_path: Path, content: Any, complaint: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content(SPEC.sample.read_bytes()))
    env = gymnasium.make(ID, data=str(path), split="test")
    with pytest.raises(DataError, match=complaint):
        env.reset(seed=0)
    path.write_bytes(SPEC.sample.read_bytes())
    env = gymnasium.make(ID, data=str(path), split="test")
    observation, info = env.reset(seed=0)
    assert observation
    assert info["task"]["source"] == "file"


def test_an_unreachable_hub_is_an_error_that_says_how_to_get_the_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        env = gymnasium.make(ID, data="hub", split="test")
        with pytest.raises(DataUnavailable, match=r"rfenvs data fetch livecodebench.*RFENVS_DATA_DIR.*data="):
            env.reset()


def test_data_that_vanish_under_an_episode_are_not_the_answers_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Hidden tests are read when they are needed; the file may be gone or cut by then."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(SPEC.sample.read_bytes())
    last = next(answer for answer in answers(AT_ONCE) if not answer.kind and answer.index > 8)
    env = gymnasium.make(ID, data=str(path), split="test")
    env.reset(options={"task_index": last.index})
    whole = path.read_bytes()
    kept = path.stat()
    path.write_bytes(whole[: len(whole) // 20])
    with caplog.at_level(logging.ERROR):
        _, reward, _, _, info = env.step(last.text)
    assert "could not be judged" in not_scored(float(reward), info)
    assert "rows.jsonl" in caplog.text
    path.write_bytes(whole)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    check(last, *play(env, last))


# Workers.


def test_a_worker_killed_in_the_middle_of_a_grading_is_replaced(sandbox: EmbeddedSandbox) -> None:
    env = make(sandbox=sandbox)
    assert play(env)[0] == 1.0
    worker = next(iter(sandbox._alive))
    threading.Timer(0.2, worker.channel._process.kill).start()  # type: ignore[attr-defined]
    _, info = play(env, text=SLOW)
    assert info["scored"]
    assert "mine" in rfenvs.feedback_text(info, "teacher")
    assert worker not in sandbox._alive


def test_workers_that_keep_dying_leave_a_marked_sample_and_one_log_line(
    sandbox: EmbeddedSandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = sandbox._open_channel

    def dying(slot: int) -> Any:
        channel = original(slot)
        threading.Timer(0.4, channel._process.kill).start()  # type: ignore[attr-defined]
        return channel

    env = make(sandbox=sandbox)
    monkeypatch.setattr(sandbox, "_open_channel", dying)
    with caplog.at_level(logging.ERROR):
        said = {
            not_scored(*play(env, text="```python\nimport time\ntime.sleep(5)\n```")).partition(":")[0]
            for _ in range(2)
        }
    assert said == {"The sandbox failed"}
    assert len(caplog.records) == len({record.getMessage() for record in caplog.records})
    monkeypatch.setattr(sandbox, "_open_channel", original)
    check(RIGHT, *play(env))


def test_an_interrupt_in_the_middle_of_a_step_leaves_the_episode_where_it_was(sandbox: EmbeddedSandbox) -> None:
    """Ctrl-C in a notebook: the next step is graded as if nothing had been."""
    env = make(sandbox=sandbox)
    env.reset(options={"task_index": RIGHT.index})
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            env.step("```python\nwhile True: pass\n```")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not sandbox._alive
    _, reward, *_, info = env.step(RIGHT.text)
    check(RIGHT, float(reward), info)
    assert info["turn"] == 1


def test_a_sandbox_closed_in_the_middle_of_a_batch_loses_no_sample(
    sandbox: EmbeddedSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    def one(number: int) -> tuple[float, dict[str, Any]]:
        return play(make(sandbox=sandbox), text=SLOW.replace("mine", f"mark-{number}"))

    with ThreadPoolExecutor(8) as threads, caplog.at_level(logging.ERROR):
        batch = [threads.submit(one, number) for number in range(8)]
        time.sleep(1.0)
        sandbox.close()
        results = [job.result(20) for job in batch]
    scored = [number for number, (_, info) in enumerate(results) if info["scored"]]
    assert 0 < len(scored) < 8
    for number in scored:
        assert f"mark-{number}" in rfenvs.feedback_text(results[number][1], "teacher")
    for number in set(range(8)) - set(scored):
        assert "The sandbox failed: " in not_scored(*results[number])
    assert 1 <= len(caplog.records) == len({record.getMessage() for record in caplog.records}) <= 4
    with EmbeddedSandbox(workers=1, prelude=PRELUDE) as another:
        check(RIGHT, *play(make(sandbox=another)))


# This host.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Any]:
    """Mounts a tmpfs with the given options and makes it the folder of temporary files."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "small"
    place.mkdir()
    before = tempfile.tempdir

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
        if done.returncode:
            pytest.skip(f"no permission to mount a tmpfs: {done.stderr.decode()}")
        tempfile.tempdir = str(place)
        return place

    yield mount
    tempfile.tempdir = before
    if place.is_mount():
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize(
    "full",
    [
        "size=4k",
        "nr_inodes=1",
    ],
)
def test_a_full_disk_does_not_keep_a_worker_from_starting(sandbox: EmbeddedSandbox, small_disk: Any, full: str) -> None:
    place = small_disk(full)
    with pytest.raises(OSError, match="No space left"):
        (place / "filler").write_bytes(b"x" * 8192)
    check(RIGHT, *play(make(sandbox=sandbox)))


@pytest.fixture
def no_gaps() -> Iterator[None]:
    """Take every free file number below the highest one: the limit is on numbers, not on how many there are."""
    gc.collect()  # what earlier tests left to be closed
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers = [os.open(os.devnull, os.O_RDONLY)]
    while fillers[-1] < highest:
        fillers.append(os.open(os.devnull, os.O_RDONLY))
    yield
    for filler in fillers:
        os.close(filler)


def test_too_many_open_files_are_named_and_none_is_lost(sandbox: EmbeddedSandbox, no_gaps: None) -> None:
    env = make(sandbox=sandbox)
    env.reset(options={"task_index": RIGHT.index})
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 2, hard))
    try:
        verdict = play(env)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before
    check(RIGHT, *play(env))
    assert "Too many open files" in not_scored(*verdict)


def test_a_host_without_isolation_is_told_of_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    weak = sandboxes.Probe("rlimits", (sandboxes.Layer("landlock", False, "not in this kernel"),), "no engine")
    monkeypatch.setattr("sandboxes.probing.probe", lambda: weak)
    monkeypatch.setattr(code_sandbox, "_shared", {})
    monkeypatch.delenv("SANDBOX_MIN_ISOLATION", raising=False)
    env = make()
    with pytest.raises(SandboxUnavailable, match=r"not in this kernel.*Docker.*SANDBOX_MIN_ISOLATION=rlimits"):
        env.reset()
    monkeypatch.setenv("SANDBOX_MIN_ISOLATION", "rlimits")
    env = make()
    with pytest.warns(RuntimeWarning, match="WITHOUT ISOLATION"):
        env.reset()
    try:
        check(RIGHT, *play(env))
    finally:
        code_sandbox._shared["auto"].close()


# Docker.


@pytest.mark.docker
def test_docker_by_its_name(docker_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_sandbox, "_shared", {})
    try:
        check(RIGHT, *play(make(sandbox="docker")))
    finally:
        code_sandbox._shared["docker"].close()


@pytest.mark.docker
def test_an_engine_stopped_in_the_middle_of_a_batch_loses_no_sample(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("docker")
    from sandboxes.docker import DockerSandbox
    from tests.docker_engine import PrivateEngine, why_no_private_engine

    if reason := why_no_private_engine():
        pytest.skip(f"stopping an engine needs a private one: {reason}")
    with (
        PrivateEngine() as engine,
        DockerSandbox(2, prelude=PRELUDE, base_url=engine.host, largest=Limits(memory_mb=4096)) as sandbox,
    ):
        check(RIGHT, *play(make(sandbox=sandbox)))

        def one(number: int) -> tuple[float, dict[str, Any]]:
            return play(make(sandbox=sandbox), text=SLOW.replace("mine", f"mark-{number}"))

        with ThreadPoolExecutor(16) as threads, caplog.at_level(logging.ERROR, logger=code_sandbox.__name__):
            batch = [threads.submit(one, number) for number in range(16)]
            time.sleep(1.5)
            engine.stop()
            results = [job.result(60) for job in batch]
        scored = [number for number, (_, info) in enumerate(results) if info["scored"]]
        assert 0 < len(scored) < 16
        for number in scored:
            assert f"mark-{number}" in rfenvs.feedback_text(results[number][1], "teacher")
        said = {not_scored(*results[number]) for number in set(range(16)) - set(scored)}
        assert any("DOCKER_HOST" in text for text in said)
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == len(set(told))
        engine.start()
        check(RIGHT, *play(make(sandbox=sandbox)))

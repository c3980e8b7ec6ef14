"""`rfenvs doctor`: what it says of data and of sandboxes, and that it is quick about it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import sandboxes
from agents import doctor
from agents.cli import main
from rfenvs.datasets import DATA_DIR
from rfenvs.envs import humaneval, livecodebench_data
from sandboxes import Layer, Probe

LACKING = Probe("rlimits", (Layer("landlock", False, "not in this kernel"),), "no engine answers")
NAMESPACED = Probe("namespaced", (Layer("landlock", True),), "Docker engine 27", docker_ok=True)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data anywhere: an empty hub's cache, and this folder for RFENVS_DATA_DIR."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    monkeypatch.delenv("SANDBOX_MIN_ISOLATION", raising=False)
    return tmp_path


def lines(word: str) -> list[str]:
    return [line for line in doctor.examine().splitlines() if word in line]


# Sandboxes.


def test_the_report_names_every_layer_the_engine_and_what_they_mean(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    found = sandboxes.probe()
    for layer in found.layers:
        assert f"{'ok ' if layer.ok else '-  '}    sandbox {layer.name}" in text
        assert layer.why in text
    assert found.docker in text
    assert text.splitlines()[-1] == doctor.what_it_means(found, "landlock")


def test_why_a_layer_is_missing_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxes.probing.probe", lambda: LACKING)
    assert lines("sandbox") == ["-      sandbox landlock: not in this kernel"]
    assert lines("docker: ") == ["-      docker: no engine answers"]


@pytest.mark.parametrize(
    ("found", "required", "meaning"),
    [
        (NAMESPACED, "landlock", "ok     model-written code runs in its own namespaces"),
        (NAMESPACED, "container", "ok     model-written code runs in Docker containers: level 'container'"),
        (replace(LACKING, level="landlock"), "landlock", "ok     model-written code runs behind Landlock"),
        (replace(LACKING, docker_ok=True), "landlock", "ok     model-written code runs in Docker containers"),
        (LACKING, "landlock", "-      model-written code is not run: this host reaches level 'rlimits'"),
        (LACKING, "rlimits", "-      model-written code runs WITHOUT ISOLATION"),
        (Probe("none", (), ""), "rlimits", "-      model-written code is not run: this host reaches level 'none'"),
        (NAMESPACED, "strong", "-      model-written code is not run: SANDBOX_MIN_ISOLATION='strong' is none of"),
    ],
)
def test_one_sentence_says_what_it_means(
    found: Probe, required: str, meaning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = doctor.what_it_means(found, required)
    assert said.startswith(meaning)
    assert "\n" not in said
    assert "SANDBOX_MIN_ISOLATION" in said


@pytest.mark.parametrize("required", ["rlimits", "landlock", "namespaced", "container"])
@pytest.mark.parametrize("found", [LACKING, NAMESPACED, replace(NAMESPACED, docker_ok=False)], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_sentence_agrees_with_what_make_does(found: Probe, required: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr("sandboxes.probing.probe", lambda: found)
    monkeypatch.setattr("sandboxes.embedded.EmbeddedSandbox", lambda level, *_: made.append(level))
    docker = pytest.importorskip("sandboxes.docker")
    monkeypatch.setattr(docker, "DockerSandbox", lambda **_: made.append("container"))
    try:
        sandboxes.make(min_isolation=required)
    except sandboxes.SandboxUnavailable:
        made.append("not run")
    said = doctor.what_it_means(found, required)
    assert {"not run": "is not run", "rlimits": "WITHOUT ISOLATION"}.get(made[0], f"level {made[0]!r}") in said


# Data.


def test_data_that_are_not_here_are_named_with_the_places_and_the_remedy(here: Path) -> None:
    assert lines("data livecodebench") == [
        f"-      data livecodebench: only the sample is here; looked in {DATA_DIR}={here} and the cache, "
        f"{here / 'cache'}; `rfenvs data fetch livecodebench`"
    ]
    assert lines("data humaneval")[0].startswith("-  ")


def test_data_in_a_folder_of_ones_own_are_found(here: Path) -> None:
    folder = here / "livecodebench"
    folder.mkdir()
    assert lines("data livecodebench") == [
        f"-      data livecodebench: the folder {folder} lacks test6.jsonl: complete or remove it"
    ]
    shutil.copy(livecodebench_data.SPEC.sample, folder / "test6.jsonl")
    assert lines("data livecodebench") == [f"ok     data livecodebench: {folder}"]


def test_data_in_the_hubs_cache_are_found(here: Path) -> None:
    spec = humaneval.SPEC
    repository = here / "cache" / f"datasets--{spec.hub_id.replace('/', '--')}"
    file = repository / "snapshots" / spec.revision / spec.files[0].path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert lines("data humaneval") == [f"ok     data humaneval: in the cache, {here / 'cache'}"]


# Speed.


def test_it_takes_little_beside_the_import_of_torch() -> None:
    """In CPU time, as a part of an import in the same process, so that a slow or busy machine is no failure."""
    code = (
        "import os\ndef used(): return sum(os.times()[:4])  # children's CPU seconds included\n"
        "start = used()\nimport torch, gymnasium, pydantic\nimported = used()\n"
        "from agents import doctor\ndoctor.examine()\nprint((used() - imported) / (imported - start))"
    )

    def share() -> float:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert any(share() < 0.53 for _ in range(3)), "0.65 s beside 1.6 s on a quiet machine; the least of three"

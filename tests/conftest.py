"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of tests share two cores

import pytest

SCIENCEWORLD = "rfenvs/ScienceWorld-v0", "environments/scienceworld.md"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests over every id or page leave out the environment that needs Java where there is none."""
    if shutil.which("java") and find_spec("scienceworld"):
        return
    for test in items:
        values = test.callspec.params.values() if hasattr(test, "callspec") else ()
        if any(value == name for value in values for name in SCIENCEWORLD):
            test.add_marker(pytest.mark.skip(reason="needs scienceworld and Java"))


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from models import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engine(tiny_dir: Path):
    import torch

    from agents.engines.hf import HFEngine

    torch.set_num_threads(1)
    return HFEngine.load(str(tiny_dir))


@pytest.fixture(scope="session")
def docker_engine() -> str:
    from tests.docker_engine import require

    return require()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real browser, for pages."""
    from browsing import chromium

    yield from chromium(tmp_path_factory.mktemp("profile"))

"""Where the public science questions are, for the tests that read them."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("RFENVS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "science"


def path(name: str) -> str:
    """A file of the folder; the test is skipped where it is missing."""
    file = FOLDER / name
    if not file.is_file():
        pytest.skip(f"no {name}: set RFENVS_TEST_DATA to the folder that holds science/{name}")
    return str(file)

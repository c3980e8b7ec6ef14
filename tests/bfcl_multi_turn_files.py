"""Where BFCL's public files are, for tests."""

import os
from pathlib import Path

import pytest

_ROOT = Path(os.environ.get("RFENVS_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
DATA = _ROOT / "bfcl" if (_ROOT / "bfcl").is_dir() else None
needs_data = pytest.mark.skipif(DATA is None, reason=f"no public data: {_ROOT.name}/bfcl is missing")

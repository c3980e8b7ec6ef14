"""Scores that a server gave once, kept by (teacher, prompt, action): in memory, and in a folder where one is named.

A folder belongs to one teacher: it holds the teacher's name and what it said of a probe. Where a server now says
something else, it serves another model, and the folder is refused: it is neither read nor written.

Source: Lightning OPD (arXiv 2604.13010) trains on scores that were made once, and finds that those of another teacher
than the one before leave a bias that training does not remove.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zipfile
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.engines.logprobs import Row

_TOLERANCE = 0.1
"""Nats by which one model's log-probabilities differ from server to server and from batch to batch."""
_MOST_TOKENS = 200_000
"""Tokens whose scores are kept in memory."""


class ScoreCache:
    """Rows by key.

    Args:
        identity: The teacher, as plain data: two teachers whose scores differ have different ones.
        probe: [T] its log-probabilities of a fixed text.
        folder: Where rows outlive the process; None: nowhere.
    """

    def __init__(self, identity: Mapping[str, Any], probe: Tensor, folder: Path | None = None) -> None:
        self._identity = json.dumps(identity, sort_keys=True)
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self._tokens = 0
        self.folder = folder if folder is None or self._ours(folder, probe) else None
        """None where it was refused."""
        self.hits = 0

    def _ours(self, folder: Path, probe: Tensor) -> bool:
        """Whether the folder is this teacher's; an empty one becomes it."""
        path = folder / "teacher.json"
        said = [round(x, 4) for x in probe.tolist()]
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps({"identity": json.loads(self._identity), "probe": said}).encode())
            return True
        try:
            there = json.loads(path.read_text())
            same = there["identity"] == json.loads(self._identity)
            far = max((abs(a - b) for a, b in zip(there["probe"], said, strict=True)), default=0.0)
        except (OSError, ValueError, KeyError, TypeError):
            same, far = False, 0.0
        if same and far <= _TOLERANCE:
            return True
        what = f"its words on a probe differ by up to {far:.2g} nats" if same else "it is of other settings"
        warnings.warn(
            f"recipe.teacher.cache={str(folder)!r} holds the scores of another teacher ({what}): it is neither read "
            "nor written. Name another folder, or serve the model that it belongs to",
            stacklevel=4,
        )
        return False

    def key(self, prompt: Sequence[int], action: Sequence[int]) -> str:
        """What a row is kept under."""
        content = hashlib.sha256(self._identity.encode())
        for ids in (prompt, action):
            content.update(array("q", [len(ids), *ids]).tobytes())
        return content.hexdigest()

    def get(self, key: str) -> Row | None:
        """The row of a key; None where there is none, or only a broken one."""
        row = self._rows.get(key)
        if row is None and self.folder is not None:
            row = _read(self.folder / key[:2] / f"{key}.npz")
            if row is not None:
                self._keep(key, row)
        self.hits += row is not None
        return row

    def put(self, key: str, row: Row) -> None:
        """Keep a row."""
        self._keep(key, row)
        if self.folder is not None:
            path = self.folder / key[:2] / f"{key}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(f".{os.getpid()}.tmp")
            with scratch.open("wb") as file:
                np.savez(file, **{name: value.numpy() for name, value in row._asdict().items()})
            scratch.replace(path)

    def _keep(self, key: str, row: Row) -> None:
        if key not in self._rows:
            self._rows[key] = row
            self._tokens += len(row.target)
        while self._tokens > _MOST_TOKENS:
            _, old = self._rows.popitem(last=False)
            self._tokens -= len(old.target)


def _read(path: Path) -> Row | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Row(*(torch.from_numpy(arrays[name]) for name in Row._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, data: bytes) -> None:
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_bytes(data)
    scratch.replace(path)

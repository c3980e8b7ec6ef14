"""Where an environment's data come from: a path, a local folder, a public repository, or the packaged sample.

    rfenvs data list
    rfenvs data fetch livecodebench            # into the cache
    rfenvs data fetch livecodebench --to DIR   # into DIR/livecodebench, for RFENVS_DATA_DIR=DIR
    rfenvs data verify                         # sizes, SHA-256 and row counts of everything that is here

`locate` decides, by the environment's argument `data`:

| `data` | what is used |
|---|---|
| a path | that file, or the folder with the data set's own file names |
| `"hub"` | the pinned revision, from the cache or by download; `DataUnavailable` where neither works |
| `"sample"` | the small set inside the package, written for it |
| None | the folder `$RFENVS_DATA_DIR/<id>` if there is one, else the hub, else the sample, which is logged |

"The hub" is the Hugging Face hub, or GitHub for data that live there (`DatasetSpec.host`). Nothing is downloaded at
import. With None, a host that does not answer is asked once a process; with `HF_HUB_OFFLINE=1` only caches are looked
at.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rfenvs import downloads
from rfenvs.dataset_spec import DATA_DIR, DataFile, DatasetSpec, DataUnavailable, sha256
from rfenvs.downloads import cached, fetch
from rfenvs.rows import read_rows

__all__ = [
    "DATA_DIR",
    "TABLE",
    "DataFile",
    "DataUnavailable",
    "DatasetSpec",
    "Located",
    "Source",
    "fetch",
    "find",
    "locate",
    "spec_of",
]

TABLE = {
    "livecodebench": "rfenvs.envs.livecodebench_data:SPEC",
    "humaneval": "rfenvs.envs.humaneval:SPEC",
    "tau2_telecom": "rfenvs.envs.tau2.data:TELECOM",
    "tau2_mock": "rfenvs.envs.tau2.data:MOCK",
    "bfcl-multi-turn": "rfenvs.envs.bfcl_multi_turn_data:SPEC",
    "sciknoweval": "rfenvs.envs.sciknow_data:SPEC",
    "sciknoweval-balancing": "rfenvs.envs.equation_balance:SPEC",
    "biggen": "rfenvs.envs.judge_data:SPEC",
    "bfcl": "rfenvs.envs.bfcl_data:SPEC",
    "toolalpaca": "rfenvs.envs.toolalpaca_data:SPEC",
    "gsm8k": "rfenvs.envs.math_data:GSM8K",
    "math500": "rfenvs.envs.math_data:MATH500",
    "aime24": "rfenvs.envs.math_data:AIME24",
    "aime25": "rfenvs.envs.math_data:AIME25",
    "amc23": "rfenvs.envs.math_data:AMC23",
    "dapo17k": "rfenvs.envs.math_data:DAPO17K",
}
"""Data sets that `rfenvs data` knows, named so that nothing is imported before it is asked for."""

Source = Literal["sample", "file", "hub"]

_log = logging.getLogger(__name__)
_lock = threading.Lock()


def _after_fork() -> None:
    """Another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
_told: dict[str, DataUnavailable] = {}


@dataclass(frozen=True, slots=True)
class Located:
    """The files to read."""

    paths: tuple[Path, ...]
    source: Source
    revision: str
    """The pinned commit where the bytes are known to be its; else `file:` or `sample:` and a hash of the bytes."""
    verified: bool = False
    """Whether every file has the SHA-256 of the pinned revision."""


def locate(spec: DatasetSpec, data: str | os.PathLike[str] | None, names: Sequence[str]) -> Located:
    """Find the files `names` of a data set; see the table of this module for what `data` means.

    Raises:
        DataUnavailable: `data="hub"`, and the hub has no such file or cannot be reached.
        DataError: A file has another size or hash than the pinned one.
        FileNotFoundError: `data` names nothing, or a folder without these files.
    """
    if data == "sample":
        return _sample(spec)
    if data == "hub":
        return _hub(spec, names)
    if data is not None:
        return _local(spec, Path(data), names, f"data={os.fspath(data)!r}")
    root = os.environ.get(DATA_DIR)
    if root and (folder := Path(root) / spec.id).is_dir():
        return _local(spec, folder, names, f"{DATA_DIR}={root!r}")
    with _lock:
        known = _told.get(spec.id)
        try:
            ask = known is None and spec.host not in downloads.unreachable
            return _hub(spec, names, download=ask)
        except DataUnavailable as error:
            if known is None:
                _told[spec.id] = error
                rows = sum(1 for _ in read_rows(spec.sample, {}))
                _log.warning("Using the packaged sample of %d problems in place of %s. %s", rows, spec.id, error)
            return _sample(spec)


def find(spec: DatasetSpec, name: str) -> Path | None:
    """Where one file is on this machine, in `$RFENVS_DATA_DIR` or the cache; nothing is downloaded or checked."""
    root = os.environ.get(DATA_DIR)
    if root and (found := _inside(Path(root) / spec.id, name)):
        return found
    return cached(spec, name)


def _hub(spec: DatasetSpec, names: Sequence[str], *, download: bool = True) -> Located:
    paths = tuple(fetch(spec, name, download=download) for name in names)
    return Located(paths, "hub", spec.revision, verified=all(spec.file(name).sha256 for name in names))


def _local(spec: DatasetSpec, path: Path, names: Sequence[str], said: str) -> Located:
    if path.is_dir():
        found = {name: _inside(path, name) for name in names}
        missing = [name for name, file in found.items() if file is None]
        paths = tuple(file for file in found.values() if file is not None)
        if missing:
            here = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
            raise FileNotFoundError(f"{said}: the folder lacks {', '.join(missing)}; it holds {here}.")
    elif path.is_file():
        paths = (path,)
    else:
        raise FileNotFoundError(f'{said}: no such file or folder. Or use data="hub" or data="sample".')
    hashes = tuple(map(sha256, paths))
    if set(hashes) == {spec.file(name).sha256 for name in names}:
        return Located(paths, "file", spec.revision, verified=True)
    together = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    return Located(paths, "file", f"file:{together[:16]}")


def _inside(folder: Path, name: str) -> Path | None:
    """`name` in a folder, which may begin anywhere along the repository's path: `a/b/c`, `b/c` or `c`."""
    parts = Path(name).parts
    places = (folder.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((place for place in places if place.is_file()), None)


def _sample(spec: DatasetSpec) -> Located:
    return Located((spec.sample,), "sample", f"sample:{sha256(spec.sample)[:16]}")


def spec_of(id: str) -> DatasetSpec:
    """The data set of that short name.

    Raises:
        ValueError: There is none.
    """
    if id.lower() not in TABLE:
        raise ValueError(f"There is no data set {id!r}: use {', '.join(TABLE)}.")
    module, name = TABLE[id.lower()].split(":")
    spec: DatasetSpec = getattr(importlib.import_module(module), name)
    return spec

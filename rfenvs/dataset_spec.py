"""What is known of a public data set before it is there: its files, pinned to one revision."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rfenvs.rows import Columns, DataError

DATA_DIR = "RFENVS_DATA_DIR"
"""Environment variable: a folder with one folder a data set, named by `DatasetSpec.id`."""

Host = Literal["huggingface", "github"]
HOSTS: dict[Host, str] = {"huggingface": "the Hugging Face hub", "github": "GitHub"}


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data set at its pinned revision."""

    path: str
    """Path inside the repository, also under `$RFENVS_DATA_DIR/<id>`."""
    rows: int | None = None
    size: int | None = None
    """In bytes."""
    sha256: str | None = None
    """64 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A public data set, pinned to one revision."""

    id: str
    """Short name: the folder under `$RFENVS_DATA_DIR`, and the name on the command line."""
    hub_id: str
    """`owner/name` of the repository on its host."""
    revision: str
    """Commit of that repository, 40 hexadecimal digits; empty where none is pinned, and only local files work."""
    files: tuple[DataFile, ...]
    licence: str
    """SPDX name, or in words who may use it for what."""
    columns: Columns
    """Columns and types every row must have."""
    sample: Path
    """The packaged sample, in the same layout."""
    default: tuple[str, ...] = ()
    """Files that `fetch` takes unless told otherwise; empty means all."""
    host: Host = "huggingface"
    """Whose repository `hub_id` names: a data set of the Hugging Face hub, or a public repository on GitHub."""
    split_rule: str = "the data set's own files"
    """Which rows are in which split, in words."""

    def file(self, path: str) -> DataFile:
        """The entry of one file.

        Raises:
            ValueError: The data set has no such file.
        """
        for entry in self.files:
            if entry.path == path:
                return entry
        raise ValueError(f"{self.id} has no file {path!r}: use {', '.join(entry.path for entry in self.files)}.")


class DataUnavailable(RuntimeError):
    """The real data cannot be had here. The message names them, and says how to get them."""

    def __init__(self, spec: DatasetSpec, path: str, reason: str) -> None:
        entry = spec.file(path)
        size = f", {entry.size / 1e6:,.0f} MB" if entry.size else ""
        pinned = bool(spec.revision)
        revision = f"revision {spec.revision}" if pinned else "of which no revision is pinned"
        command = f"Fetch it once where there is a network with `rfenvs data fetch {spec.id} {path}`, or s"
        fetch = command if pinned else "S"
        super().__init__(
            f"The data set {spec.id} is not available: {reason}. Missing: {path} of {spec.hub_id} on "
            f"{HOSTS[spec.host]}, {revision}{size}. {fetch}et the environment variable {DATA_DIR} to a folder that "
            f"holds {spec.id}/{path}, or give the environment data=<path of the file>."
        )
        self.reason = reason


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; remembered while size and time of change stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(entry: DataFile, path: Path) -> None:
    """Compare a file with what is known of it.

    Raises:
        DataError: Another size, or another SHA-256.
    """
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise DataError(f"{entry.path} has {size:,} bytes instead of {entry.size:,}: cut off. Fetch it again.")
    if entry.sha256 is not None and sha256(path) != entry.sha256:
        raise DataError(
            f"{entry.path} has the SHA-256 {sha256(path)} instead of {entry.sha256}: damaged, or changed at its "
            "source. Fetch it again."
        )

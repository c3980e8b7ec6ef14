"""Where an environment's data come from: a path, a local folder, the Hugging Face hub, or the packaged sample.

    python -m rfenvs.datasets list
    python -m rfenvs.datasets fetch livecodebench            # into the hub's cache
    python -m rfenvs.datasets fetch livecodebench --to DIR   # into DIR/livecodebench, for RFENVS_DATA_DIR=DIR

`locate` decides, by the environment's argument `data`:

| `data` | what is used |
|---|---|
| a path | that file, or the folder with the data set's own file names |
| `"hub"` | the pinned revision, from the hub's cache or by download; `DataUnavailable` where neither works |
| `"sample"` | the small set inside the package, written for it |
| None | the folder `$RFENVS_DATA_DIR/<id>` if there is one, else the hub, else the sample, which is logged |

Nothing is downloaded at import. With None, a hub that does not answer is asked once a process; with
`HF_HUB_OFFLINE=1` only its cache is looked at.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rfenvs.rows import Columns, DataError, read_rows

DATA_DIR = "RFENVS_DATA_DIR"
"""Environment variable: a folder with one folder a data set, named by `DatasetSpec.id`."""
TABLE = {
    "livecodebench": "rfenvs.envs.livecodebench_data:SPEC",
    "humaneval": "rfenvs.envs.humaneval:SPEC",
    "tau2_telecom": "rfenvs.envs.tau2.data:TELECOM",
    "tau2_mock": "rfenvs.envs.tau2.data:MOCK",
}
"""Data sets that `python -m rfenvs.datasets` knows, named so that nothing is imported before it is asked for."""

Source = Literal["sample", "file", "hub"]

_PATIENCE_S = 5.0
_TRUE = ("1", "on", "yes", "true")
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
    revision: str
    """Commit of the repository on the hub, 40 hexadecimal digits."""
    files: tuple[DataFile, ...]
    licence: str
    """SPDX name, or in words who may use it for what."""
    columns: Columns
    """Columns and types every row must have."""
    sample: Path
    """The packaged sample, in the same layout."""
    default: tuple[str, ...] = ()
    """Files that `fetch` takes unless told otherwise; empty means all."""
    host: Literal["huggingface", "github"] = "huggingface"
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


@dataclass(frozen=True, slots=True)
class Located:
    """The files to read."""

    paths: tuple[Path, ...]
    source: Source
    revision: str
    """The pinned commit where the bytes are known to be its; else `file:` or `sample:` and a hash of the bytes."""
    verified: bool = False
    """Whether every file has the SHA-256 of the pinned revision."""


class DataUnavailable(RuntimeError):
    """The real data cannot be had here. The message names them, and says how to get them."""

    def __init__(self, spec: DatasetSpec, path: str, reason: str) -> None:
        entry = spec.file(path)
        size = f", {entry.size / 1e6:,.0f} MB" if entry.size else ""
        super().__init__(
            f"The data set {spec.id} is not available: {reason}. Missing: {path} of {spec.hub_id} on the Hugging "
            f"Face hub, revision {spec.revision}{size}. Fetch it once where there is a network with "
            f"`python -m rfenvs.datasets fetch {spec.id} {path}`, or set the environment variable {DATA_DIR} to a "
            f"folder that holds {spec.id}/{path}, or give the environment data=<path of the file>."
        )
        self.reason = reason


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
            return _hub(spec, names, download=known is None)
        except DataUnavailable as error:
            if known is None:
                _told[spec.id] = error
                rows = sum(1 for _ in read_rows(spec.sample, {}))
                _log.warning("Using the packaged sample of %d problems in place of %s. %s", rows, spec.id, error)
            return _sample(spec)


def fetch(spec: DatasetSpec, path: str, *, to: Path | None = None, download: bool = True) -> Path:
    """Bring one file from the hub, checked by size and SHA-256; the cache is asked first.

    Args:
        spec: The data set.
        path: One of its files.
        to: Write it under this folder instead of the hub's cache.
        download: False looks in the cache only.

    Raises:
        DataUnavailable: Not in the cache and not to be downloaded.
        DataError: What came is not the pinned file; it is deleted.
    """
    entry = spec.file(path)
    try:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        reason = 'huggingface_hub is not installed: pip install "rfenvs[hub]"'
        raise DataUnavailable(spec, path, reason) from error
    endpoint = os.environ.get("HF_ENDPOINT")
    get = functools.partial(
        huggingface_hub.hf_hub_download,
        spec.hub_id,
        path,
        repo_type="dataset",
        revision=spec.revision,
        endpoint=endpoint,
        local_dir=to,
        library_name="rfenvs",
    )
    try:
        found = Path(get(local_files_only=True))
    except LocalEntryNotFoundError as error:
        if not download:
            raise DataUnavailable(spec, path, "it is not in the hub's cache") from error
        if huggingface_hub.constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
            raise DataUnavailable(spec, path, "HF_HUB_OFFLINE is set, and it is not in the hub's cache") from error
        url = huggingface_hub.hf_hub_url(
            spec.hub_id, path, repo_type="dataset", revision=spec.revision, endpoint=endpoint
        )
        patience = float(os.environ.get("HF_HUB_ETAG_TIMEOUT", _PATIENCE_S))
        try:
            _within(patience, lambda: huggingface_hub.get_hf_file_metadata(url, timeout=patience, endpoint=endpoint))
            _log.info("Downloading %s of %s from the hub.", path, spec.hub_id)
            found = Path(get(etag_timeout=patience))
        except Exception as error:  # a remote service: whatever it fails with, the data are not here
            text = " ".join(str(error).split()) or type(error).__name__
            raise DataUnavailable(spec, path, f"the hub failed with {type(error).__name__}: {text}") from error
    try:
        _check(entry, found)
    except DataError:
        found.resolve().unlink(missing_ok=True)
        found.unlink(missing_ok=True)
        raise
    return found


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; remembered while size and time of change stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(entry: DataFile, path: Path) -> None:
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise DataError(f"{entry.path} has {size:,} bytes instead of {entry.size:,}: cut off. Fetch it again.")
    if entry.sha256 is not None and sha256(path) != entry.sha256:
        raise DataError(
            f"{entry.path} has the SHA-256 {sha256(path)} instead of {entry.sha256}: damaged, or changed at its "
            "source. Fetch it again."
        )


def _hub(spec: DatasetSpec, names: Sequence[str], *, download: bool = True) -> Located:
    paths = tuple(fetch(spec, name, download=download) for name in names)
    return Located(paths, "hub", spec.revision, verified=all(spec.file(name).sha256 for name in names))


def _local(spec: DatasetSpec, path: Path, names: Sequence[str], said: str) -> Located:
    if path.is_dir():
        paths = tuple(path / name for name in names)
        missing = [name for name in names if not (path / name).is_file()]
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


def _sample(spec: DatasetSpec) -> Located:
    return Located((spec.sample,), "sample", f"sample:{sha256(spec.sample)[:16]}")


def _within(seconds: float, call: Callable[[], Any]) -> None:
    """Do `call` in a thread, since resolving a name can hang for longer than any timeout of the HTTP client."""
    failures: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            call()
        except Exception as error:  # handed over to the caller
            failures.append(error)
        done.set()

    threading.Thread(target=run, name="hub", daemon=True).start()
    if not done.wait(seconds):
        raise TimeoutError(f"no answer within {seconds:g} s")
    if failures:
        raise failures[0]


def _spec(id: str) -> DatasetSpec:
    if id.lower() not in TABLE:
        raise ValueError(f"There is no data set {id!r}: use {', '.join(TABLE)}.")
    module, name = TABLE[id.lower()].split(":")
    spec: DatasetSpec = getattr(importlib.import_module(module), name)
    return spec


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m rfenvs.datasets`: list the data sets, or fetch one."""
    parser = argparse.ArgumentParser(prog="python -m rfenvs.datasets", description="List or fetch data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is, and how large")
    parse_fetch = commands.add_parser("fetch", help="download the pinned revision from the Hugging Face hub")
    parse_fetch.add_argument("id", help=", ".join(TABLE))
    parse_fetch.add_argument("files", nargs="*", help="some of its files, or `all`; default: the usual ones")
    parse_fetch.add_argument("--to", type=Path, help=f"a folder for {DATA_DIR}, instead of the hub's cache")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            for id in TABLE:
                _print_spec(_spec(id))
            return 0
        spec = _spec(options.id)
        everything = [entry.path for entry in spec.files]
        names = everything if options.files == ["all"] else options.files or spec.default or everything
        for name in names:
            print(fetch(spec, name, to=options.to and options.to / spec.id))
    except (DataUnavailable, DataError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _print_spec(spec: DatasetSpec) -> None:
    print(f"{spec.id}: {spec.hub_id} at {spec.revision}, licence {spec.licence}")
    for entry in spec.files:
        rows = f"{entry.rows:>6,} rows" if entry.rows is not None else ""
        size = f"{entry.size / 1e6:>8,.1f} MB" if entry.size is not None else ""
        usual = "  (default)" if entry.path in spec.default or not spec.default else ""
        print(f"  {entry.path:<48}{rows:>12}{size:>14}{usual}")


if __name__ == "__main__":
    # Imported again under its own name, so that there is one `DatasetSpec` and one `DataUnavailable`.
    sys.exit(importlib.import_module("rfenvs.datasets").main())

"""Download one pinned file of a data set: from the Hugging Face hub, or from a repository on GitHub.

Both keep a cache, check size and SHA-256, and fail with one `DataUnavailable`, whatever went wrong. GitHub's files are
cached under `cache_dir() / "data"`.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rfenvs.dataset_spec import HOSTS, DatasetSpec, DataUnavailable, Host, check_file
from rfenvs.rows import DataError

GITHUB_URL = "RFENVS_GITHUB_URL"
"""Environment variable: where raw files of GitHub are served, in place of GitHub itself, for a mirror."""

unreachable: set[Host] = set()
"""Hosts that did not answer in this process: they are asked again only where their data are asked for by name."""

_PATIENCE_S = 5.0
_GITHUB = "https://raw.githubusercontent.com"
_TRUE = ("1", "on", "yes", "true")
_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """`$RFENVS_CACHE`, else `$XDG_CACHE_HOME/rfenvs`, else `~/.cache/rfenvs`."""
    if own := os.environ.get("RFENVS_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rfenvs"


def fetch(spec: DatasetSpec, path: str, *, to: Path | None = None, download: bool = True) -> Path:
    """Bring one file of the pinned revision, checked by size and SHA-256; the cache is asked first.

    Args:
        spec: The data set.
        path: One of its files.
        to: Write it under this folder instead of the cache.
        download: False looks in the cache only.

    Raises:
        DataUnavailable: Not in the cache and not to be downloaded, or nothing is pinned.
        DataError: What came is not the pinned file; it is deleted.
    """
    entry = spec.file(path)
    if not spec.revision:
        raise DataUnavailable(spec, path, "its revision is not known")
    found = cached(spec, path) if to is None else _file(to / path)
    if found is None:
        if not download:
            raise DataUnavailable(spec, path, "it is not in the cache")
        if _offline():
            raise DataUnavailable(spec, path, "HF_HUB_OFFLINE is set, and it is not in the cache")
        found = (_from_github if spec.host == "github" else _from_hub)(spec, path, to)
    try:
        check_file(entry, found)
    except DataError:
        found.resolve().unlink(missing_ok=True)
        found.unlink(missing_ok=True)
        raise
    return found


def cached(spec: DatasetSpec, path: str) -> Path | None:
    """Where the cache holds one file of the pinned revision, unchecked; None where it does not."""
    if not spec.revision:
        return None
    if spec.host == "github":
        return _file(_github_cache(spec) / path)
    try:  # not hf_hub_download(local_files_only=True), which sets up a network client first: 0.2 s
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(spec.hub_id, path, revision=spec.revision, repo_type="dataset")
    return _file(Path(found)) if isinstance(found, str) else None


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _from_hub(spec: DatasetSpec, path: str, to: Path | None) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        reason = 'huggingface_hub is not installed: pip install "rfenvs[hub]"'
        raise DataUnavailable(spec, path, reason) from error
    endpoint = os.environ.get("HF_ENDPOINT")
    url = huggingface_hub.hf_hub_url(spec.hub_id, path, repo_type="dataset", revision=spec.revision, endpoint=endpoint)
    patience = _patience()

    def ask() -> None:
        huggingface_hub.get_hf_file_metadata(url, timeout=patience, endpoint=endpoint)

    def download_file() -> Path:
        return Path(
            huggingface_hub.hf_hub_download(
                spec.hub_id,
                path,
                repo_type="dataset",
                revision=spec.revision,
                endpoint=endpoint,
                local_dir=to,
                library_name="rfenvs",
                etag_timeout=patience,
            )
        )

    return _download(spec, path, ask, download_file)


def _github_cache(spec: DatasetSpec) -> Path:
    return cache_dir() / "data" / spec.hub_id / spec.revision


def _from_github(spec: DatasetSpec, path: str, to: Path | None) -> Path:
    target = (to or _github_cache(spec)) / path
    base = os.environ.get(GITHUB_URL, _GITHUB).rstrip("/")
    url = f"{base}/{spec.hub_id}/{spec.revision}/{urllib.parse.quote(path)}"

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=_patience()).close()

    def download_file() -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with urllib.request.urlopen(url, timeout=60) as reply, part.open("wb") as file:
                shutil.copyfileobj(reply, file)
                expected = reply.headers.get("Content-Length")
            if expected is not None and part.stat().st_size != int(expected):
                raise ConnectionError(f"the connection broke after {part.stat().st_size:,} of {int(expected):,} bytes")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    return _download(spec, path, ask, download_file)


def _download(spec: DatasetSpec, path: str, ask: Callable[[], None], get: Callable[[], Path]) -> Path:
    """Make sure within seconds that the host answers, then take the time it needs."""
    try:
        try:
            _within(_patience(), ask)
        except OSError as error:
            if getattr(error, "code", None) is None:  # not even an HTTP status
                unreachable.add(spec.host)
            raise
        _log.info("Downloading %s of %s from %s.", path, spec.hub_id, HOSTS[spec.host])
        return get()
    except Exception as error:  # a remote service: whatever it fails with, the data are not here
        text = " ".join(str(error).split()) or type(error).__name__
        reason = f"{HOSTS[spec.host]} failed with {type(error).__name__}: {text}"
        raise DataUnavailable(spec, path, reason) from error


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def _patience() -> float:
    return float(os.environ.get("HF_HUB_ETAG_TIMEOUT", _PATIENCE_S))


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

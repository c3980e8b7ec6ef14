"""A hub on loopback: what a download by pinned revision uses of the Hugging Face hub, and of GitHub's raw files."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves `files` of any data set at `COMMIT`; `cut` sends only so many bytes of a body, then hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.commit = COMMIT
        self.requests: list[tuple[str, str]] = []
        self.status = 200
        self.cut: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub = self.server
        hub.requests.append((self.command, self.path))
        _, mark, rest = self.path.partition("/resolve/")
        if not mark:  # as GitHub serves raw files: /owner/name/revision/path
            rest = self.path.split("/", 3)[-1]
        revision, _, name = rest.partition("/")
        data = hub.files.get(name) if revision == hub.commit else None
        if hub.status != 200 or data is None:
            self.send_response(hub.status if hub.status != 200 else 404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", hub.commit)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body and hub.cut is not None:
            self.wfile.write(data[: hub.cut])
            self.close_connection = True
        elif body:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serve(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """Run a hub, point `huggingface_hub` and `rfenvs` at it, with an empty cache."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    point(monkeypatch, hub.url, cache)
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def point(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Let downloads go to `url`, with the cache in `cache`, as in a fresh process."""
    from huggingface_hub import constants

    from rfenvs import datasets, downloads

    monkeypatch.setenv("HF_ENDPOINT", url)
    for name in ("HF_HUB_OFFLINE", "RFENVS_DATA_DIR", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(datasets, "_told", {})
    monkeypatch.setattr(downloads, "unreachable", set())
    monkeypatch.setenv(downloads.GITHUB_URL, url)
    monkeypatch.setenv("RFENVS_CACHE", str(cache / "rfenvs"))

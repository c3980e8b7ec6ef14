"""A server on loopback that speaks OpenAI's chat completions, with faults on request."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Completions(ThreadingHTTPServer):
    """Answers with `reply(request body)`: a text, or (status, headers, body) for anything else."""

    daemon_threads = True

    def __init__(self, reply: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        """The base address, up to /v1."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Completions

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.headers.append(dict(self.headers))
        answer = self.server.reply(body) if self.path == "/v1/chat/completions" else (404, {}, b"no such path")
        if isinstance(answer, str):
            message = {"role": "assistant", "content": answer}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = (200, {}, json.dumps({"choices": [choice]}).encode())
        status, headers, data = answer
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serve(reply: Callable[[dict[str, Any]], Any]) -> Iterator[Completions]:
    """Run a server for as long as the block lasts."""
    server = Completions(reply)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

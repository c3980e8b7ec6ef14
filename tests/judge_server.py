"""A model server on loopback: OpenAI's chat completions, with every way of failing that the tests need."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["_Handler", dict[str, Any]], None]


class ModelServer(ThreadingHTTPServer):
    """Answers call after call as `script` says, and with `default` when that is used up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Behaviour] = []
        self.default: Behaviour = says(best)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.busy = 0
        self.busiest = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has hung up is part of the tests


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(body)
            server.headers.append(dict(self.headers))
            server.times.append(time.monotonic())
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
            behaviour = server.script.pop(0) if server.script else server.default
        try:
            assert self.path == "/v1/chat/completions"
            behaviour(self, body)
        finally:
            with server.lock:
                server.busy -= 1

    def send(self, status: int, body: str, **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serve() -> Iterator[ModelServer]:
    with ModelServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


# What the model says.


def asked(body: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Names and menus of the criteria, read from the question as a model would."""
    found = []
    for line in body["messages"][-1]["content"].split("The criteria:\n", 1)[1].split("The response:\n")[0].splitlines():
        if line.startswith("- "):
            found.append((json.JSONDecoder().raw_decode(line[2:])[0], []))
        elif line.startswith("  Choices: "):
            found[-1][1].extend(json.loads(f"[{line.removeprefix('  Choices: ').removesuffix('.')}]"))
        elif line.startswith('  "'):
            found[-1][1].append(json.JSONDecoder().raw_decode(line[2:])[0])
    return found


def verdicts(body: dict[str, Any], place: int) -> str:
    """The best (-1) or the worst (0) verdict of each menu; the canary stays silent."""
    given = []
    for name, menu in asked(body):
        verdict = "no" if name == "addresses_the_grader" else menu[place]
        given.append({"name": name, "reason": "It does what it does.", "verdict": verdict})
    return json.dumps({"verdicts": given})


def best(body: dict[str, Any]) -> str:
    return verdicts(body, -1)


def worst(body: dict[str, Any]) -> str:
    return verdicts(body, 0)


# How the server behaves.


def completion(text: Any, finish: str | None = "stop", **message: Any) -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})


def says(text: str | Callable[[dict[str, Any]], str], finish: str | None = "stop") -> Behaviour:
    return lambda handler, body: handler.send(200, completion(text if isinstance(text, str) else text(body), finish))


def fails(status: int, body: str = '{"error": "no"}', **headers: str) -> Behaviour:
    return lambda handler, _: handler.send(status, body, **headers)


def raw(body: str) -> Behaviour:
    return lambda handler, _: handler.send(200, body)


def sleeps(seconds: float) -> Behaviour:
    def behave(handler: _Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        says(best)(handler, body)

    return behave


def refuses(handler: _Handler, body: dict[str, Any]) -> None:
    handler.send(200, completion(None, refusal="I cannot help with that."))


def resets(handler: _Handler, body: dict[str, Any]) -> None:
    """Hangs up with a TCP reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def breaks_off(handler: _Handler, body: dict[str, Any]) -> None:
    """Sends half of what it announced."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def drips(handler: _Handler, body: dict[str, Any]) -> None:
    """Sends a byte now and then, so that no single read takes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def knows(*modes: str) -> Behaviour:
    """Understands these kinds of `response_format` only (`text` is none at all)."""

    def behave(handler: _Handler, body: dict[str, Any]) -> None:
        mode = body.get("response_format", {"type": "text"})["type"]
        if mode in modes:
            says(best)(handler, body)
        else:
            handler.send(400, json.dumps({"error": {"message": f"response_format {mode} is not supported"}}))

    return behave


def empty_unless_text(handler: _Handler, body: dict[str, Any]) -> None:
    """Answers with nothing wherever it is asked for a format."""
    says("" if "response_format" in body else best)(handler, body)

"""A server on loopback with a real model's log-probabilities, as vLLM or the classic API tells them, and faults."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from agents.engines.base import Sampling
from agents.engines.hf import HFEngine

Fault = Callable[[dict[str, Any], dict[str, Any]], Any]
"""Given the request and the right answer: the answer to send instead, or (status, headers)."""


class ScoringServer(ThreadingHTTPServer):
    """``form``: "ids" (prompt_logprobs), "token_ids" or "text" (echo), "none" (text alone)."""

    daemon_threads = True

    def __init__(self, engine: HFEngine, form: str = "ids", most: int = 20, tokenizer: Any = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.engine, self.form, self.most = engine, form, most
        self.tokenizer = tokenizer or engine.tokenizer
        self.tokenizes = False
        self.faults: list[Fault | None] = []
        """For the next requests to score, in order."""
        self.always: Fault | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has hung up is part of the tests

    # ---- what the model says

    @torch.no_grad()
    def scores(self, ids: list[int]) -> torch.Tensor:
        """[len(ids) - 1, V] log-probabilities of each token but the first."""
        hidden = self.engine.read([(ids[:1], ids[1:])])
        return self.engine.head().logits(hidden).log_softmax(-1)

    def by_id(self, ids: list[int], k: int) -> list[Any]:
        rows: list[Any] = [None]
        for token, logq in zip(ids[1:], self.scores(ids), strict=True):
            chosen = {*logq.topk(k).indices.tolist(), token}
            rows.append(
                {
                    str(i): {"logprob": float(logq[i]), "rank": 1, "decoded_token": self.tokenizer.decode([i])}
                    for i in chosen
                }
            )
        return rows

    def by_text(self, ids: list[int], k: int, named: bool) -> dict[str, Any]:
        def name(i: int) -> str:
            return f"token_id:{i}" if named else self.tokenizer.decode([i])

        own: list[Any] = [None]
        top: list[Any] = [None]
        for token, logq in zip(ids[1:], self.scores(ids), strict=True):
            own.append(float(logq[token]))
            top.append({name(i): float(logq[i]) for i in logq.topk(k).indices.tolist()})
        return {"tokens": [name(i) for i in ids], "token_logprobs": own, "top_logprobs": top}

    def complete(self, body: dict[str, Any]) -> Any:
        ids, k = body["prompt"], body.get("prompt_logprobs") or body.get("logprobs") or 0
        choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length"}
        scored = "prompt_logprobs" in body or body.get("echo")
        if not scored:
            sampling = Sampling(temperature=body["temperature"], max_tokens=body["max_tokens"])
            (said,) = self.engine.generate([ids], sampling, body["seed"])
            choice |= {"text": self.engine.chat.decode(said.ids), "finish_reason": said.finish_reason}
            if self.form in ("ids", "token_ids"):
                choice["logprobs"] = {
                    "tokens": [f"token_id:{i}" for i in said.ids], "token_logprobs": said.logprobs, "top_logprobs": [],
                }  # fmt: skip
        elif self.form == "none":
            return 404, {}
        elif k > self.most:
            return 400, {}
        elif self.form == "ids" and "prompt_logprobs" in body:
            choice["prompt_logprobs"] = self.by_id(ids, k)
        elif self.form in ("token_ids", "text") and body.get("echo"):
            choice["logprobs"] = self.by_text(ids, k, self.form == "token_ids")
        answer: Any = {"choices": [choice]}
        fault = None
        if scored:
            with self.lock:
                fault = self.faults.pop(0) if self.faults else self.always
        return answer if fault is None else fault(body, answer)

    def chat(self, body: dict[str, Any]) -> Any:
        sampling = Sampling(temperature=body["temperature"], max_tokens=body["max_tokens"])
        (said,) = self.engine.generate([self.engine.chat.encode(body["messages"])], sampling, body["seed"])
        message = {"role": "assistant", "content": self.engine.chat.decode(said.ids)}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": said.finish_reason}]}
        return answer if self.always is None else self.always(body, answer)


class _Handler(BaseHTTPRequestHandler):
    server: ScoringServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send({"data": [{"id": "tiny", "max_model_len": 200}]} if self.path == "/v1/models" else (404, {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append({"path": self.path, **body})
            server.headers.append(dict(self.headers))
        if self.path == "/tokenize" and server.tokenizes:
            answer: Any = {"tokens": server.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]}
        elif self.path == "/v1/completions":
            answer = server.complete(body)
        elif self.path == "/v1/chat/completions":
            answer = server.chat(body)
        else:
            answer = 404, {}
        self._send(answer)

    def _send(self, answer: Any) -> None:
        status, headers = answer if isinstance(answer, tuple) else (200, {})
        data = b'{"error": "no"}' if isinstance(answer, tuple) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serve(engine: HFEngine, form: str = "ids", **settings: Any) -> Iterator[ScoringServer]:
    """Run a server for as long as the block lasts."""
    with ScoringServer(engine, form, **settings) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


# ---- faults


def status(code: int, **headers: str) -> Fault:
    return lambda body, answer: (code, {name.replace("_", "-"): value for name, value in headers.items()})


def sleeps(seconds: float) -> Fault:
    def fault(body: dict[str, Any], answer: dict[str, Any]) -> Any:
        time.sleep(seconds)
        return answer

    return fault


def edits(change: Callable[[dict[str, Any]], None]) -> Fault:
    """Answers with something changed in the choice."""

    def fault(body: dict[str, Any], answer: dict[str, Any]) -> Any:
        change(answer["choices"][0])
        return answer

    return fault

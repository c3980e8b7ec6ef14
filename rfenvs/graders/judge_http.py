"""`HTTPJudge`: a judge behind any server that speaks OpenAI's chat completions.

Needs httpx: pip install "rfenvs[judge]".
"""

from __future__ import annotations

import email.utils
import json
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rfenvs.feedback import clip
from rfenvs.graders.judges import JudgeReply
from rfenvs.graders.rubric import JudgeError, Usage
from rfenvs.tasks import Message

if TYPE_CHECKING:
    import httpx

Mode = Literal["json_schema", "json_object", "text"]
"""How the server is asked for JSON: by a schema, as any object, or in words alone."""

_MODES: tuple[Mode, ...] = ("json_schema", "json_object", "text")
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_NOT_UNDERSTOOD = frozenset({400, 422, 501})
"""What servers say to a `response_format` that they do not know."""
_LONGEST_BODY = 8 * 2**20
_LONGEST_WAIT_S = 60.0
_QUOTED = 300


@dataclass(frozen=True)
class HTTPJudge:
    """A model behind an OpenAI-compatible server.

    Answers of 429 and 5xx, timeouts and broken connections are tried again, with waits that double, or as long as
    `Retry-After` says. Whether the server can be held to a JSON schema is found out by the first call: where it does
    not understand, or returns nothing (some servers do), it is asked for an object, and then in words. What worked
    is kept for all judges of this process with the same address and model. So are the connections, the limit
    on calls at a time, and the count of what was spent (`usage`).

    Args:
        base_url: Up to and with `/v1`: `/chat/completions` is added.
        model: Its name on the server.
        key_env: Environment variable that holds the key; None sends none. The key is read at each call, and appears
            in no message, field or file.
        mode: `"auto"`, or one of `Mode` to find nothing out.
        retries: How often a call is tried again.
        backoff_s: Wait before the first of these, in seconds.
        concurrency: Calls at a time.
        max_tokens: Longest reply.
        extra: Further fields of the request, such as `{"reasoning_effort": "low"}`. They win over ours, and None
            leaves a field out: `{"max_tokens": None, "max_completion_tokens": 4096}`.
        name: As in `JudgeClient`.
    """

    base_url: str
    model: str
    key_env: str | None = "OPENAI_API_KEY"
    mode: Literal["auto", "json_schema", "json_object", "text"] = "auto"
    retries: int = 4
    backoff_s: float = 0.5
    concurrency: int = 16
    max_tokens: int = 2048
    extra: Mapping[str, Any] = field(default_factory=dict)
    name: str = "http"

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url={self.base_url!r}: use an address such as http://localhost:8000/v1.")
        if self.mode != "auto" and self.mode not in _MODES:
            raise ValueError(f"mode={self.mode!r}: use 'auto', {', '.join(map(repr, _MODES))}.")
        for name, least in (("retries", 0), ("concurrency", 1), ("max_tokens", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r}: use an integer of at least {least}.")
        if not 0 <= self.backoff_s < math.inf:
            raise ValueError(f"backoff_s={self.backoff_s!r}: use a number of seconds of at least 0.")

    @property
    def usage(self) -> Usage:
        """What all judges of this process with this address and model have spent, replies that were no use included."""
        return self._server().usage

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], temperature: float, seed: int, timeout: float
    ) -> JudgeReply:
        """Ask the server once, in the mode that it understands.

        Raises:
            JudgeError: `timeout`, `rate_limited`, `server`, `connection` after the last retry; `http` for an answer
                that asking again will not change; `malformed` where it is no chat completion.
            ImportError: httpx is missing.
        """
        server = self._server()
        request = {
            "model": self.model,
            "messages": list(messages),
            "temperature": temperature,
            "seed": seed,
            "max_tokens": self.max_tokens,
        }
        with server.slots:
            mode = server.mode if self.mode == "auto" else self.mode
            if mode is None:
                with server.negotiation:  # the first call alone finds out, the others wait for what it learns
                    mode = server.mode
                    if mode is None:
                        return self._negotiate(server, request, schema, timeout)
            return self._ask(server, request, mode, schema, timeout)

    def _negotiate(
        self, server: _Server, request: dict[str, Any], schema: Mapping[str, Any], timeout: float
    ) -> JudgeReply:
        spent = Usage()
        for mode in _MODES:
            last = mode == _MODES[-1]
            try:
                reply = self._ask(server, request, mode, schema, timeout)
            except _NotUnderstood as error:
                error.usage += spent
                if last:
                    raise
                continue
            except JudgeError as error:
                error.usage += spent
                raise
            spent += reply.usage
            if reply.text.strip() or reply.finish_reason in ("refusal", "content_filter"):
                server.mode = mode
                break
            if last:
                break
        return JudgeReply(reply.text, spent, reply.finish_reason)

    def _ask(
        self, server: _Server, request: dict[str, Any], mode: Mode, schema: Mapping[str, Any], timeout: float
    ) -> JudgeReply:
        body = {**request, **_response_format(mode, schema), **self.extra}
        body = {key: value for key, value in body.items() if value is not None}
        key = self._key()
        for attempt in range(self.retries + 1):
            wait = 0.0
            try:
                answer = self._post(server, body, key, timeout)
                if answer.status == 200:
                    reply = _read(answer.body)
                    server.count(reply.usage)
                    return reply
                wait = answer.retry_after
                raise _failure(answer, mode, key)
            except JudgeError as error:
                server.count(error.usage)
                if not error.retryable or attempt == self.retries:
                    raise
            time.sleep(min(max(wait, self.backoff_s * 2**attempt), _LONGEST_WAIT_S))
        raise AssertionError("the last attempt returns or raises")

    def _post(self, server: _Server, body: dict[str, Any], key: str, timeout: float) -> _Answer:
        client = server.client()
        import httpx

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        deadline = time.monotonic() + timeout
        url = self.base_url.rstrip("/") + "/chat/completions"
        data = bytearray()
        try:
            with client.stream("POST", url, json=body, headers=headers, timeout=timeout) as response:
                for chunk in response.iter_bytes():
                    data += chunk
                    if time.monotonic() > deadline:  # httpx's own timeout begins anew with every byte
                        raise _timeout(timeout)
                    if len(data) > _LONGEST_BODY:
                        raise JudgeError("too_long", "The server sends without end.", retryable=False)
                return _Answer(response.status_code, bytes(data), _retry_after(response.headers))
        except httpx.TimeoutException as error:
            raise _timeout(timeout) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ValueError(f"base_url={self.base_url!r}: {error}.") from error
        except httpx.HTTPError as error:
            text = f"The connection to the server at {self.base_url} broke: {type(error).__name__}."
            raise JudgeError("connection", text, retryable=True) from error

    def _key(self) -> str:
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise ValueError(
                f"key_env={self.key_env!r}: this environment variable is to hold the server's key, and is empty. "
                "For a server without keys use key_env=None."
            )
        return key

    def _server(self) -> _Server:
        key = os.getpid(), self.base_url, self.model, self.concurrency
        with _servers_lock:
            if key not in _servers:
                _servers[key] = _Server(self.concurrency)
            return _servers[key]


class _Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: float
    """Seconds; 0 where the server does not say."""


class _NotUnderstood(JudgeError):
    """The server does not take the `response_format`, or anything else in the request."""


class _Server:
    """What the judges of one process share about one model at one address."""

    def __init__(self, concurrency: int) -> None:
        self.slots = threading.BoundedSemaphore(concurrency)
        self.negotiation = threading.Lock()
        self.mode: Mode | None = None
        self.usage = Usage()
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def client(self) -> httpx.Client:
        try:
            import httpx
        except ImportError as error:
            raise ImportError('A model over HTTP needs httpx: pip install "rfenvs[judge]".') from error
        with self._lock:
            if self._client is None:
                limits = httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
                self._client = httpx.Client(limits=limits)
            return self._client

    def count(self, usage: Usage) -> None:
        with self._lock:
            self.usage += usage


_servers: dict[tuple[int, str, str, int], _Server] = {}
_servers_lock = threading.Lock()


def _after_fork() -> None:
    """Another thread of the parent may have held the lock; connections are found by process."""
    global _servers_lock
    _servers_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _response_format(mode: Mode, schema: Mapping[str, Any]) -> dict[str, Any]:
    if mode == "json_schema":
        named = {"name": "judgement", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {"response_format": {"type": "json_object"}} if mode == "json_object" else {}


def _timeout(seconds: float) -> JudgeError:
    return JudgeError("timeout", f"The server did not answer within {seconds:g} s.", retryable=True)


def _failure(answer: _Answer, mode: Mode, key: str) -> JudgeError:
    said = " ".join(answer.body.decode("utf-8", "replace").split())
    said = clip(said.replace(key, "[key]") if key else said, _QUOTED)
    text = f"The server answered {answer.status}: {said or 'nothing'}"
    if answer.status == 429:
        return JudgeError("rate_limited", text, retryable=True)
    if answer.status in _RETRIED:
        return JudgeError("server", text, retryable=True)
    if answer.status in _NOT_UNDERSTOOD:
        hint = "" if mode == "text" else ' (mode="text" asks without a response_format)'
        return _NotUnderstood("http", f"{text}{hint}", retryable=False)
    return JudgeError("http", text, retryable=False)


def _read(body: bytes) -> JudgeReply:
    """Read a chat completion.

    Raises:
        JudgeError: It is none. What it says of its cost is kept.
    """
    usage = Usage(calls=1)
    try:
        completion = json.loads(body)
        spent = completion.get("usage") or {}
        usage = Usage(1, int(spent.get("prompt_tokens") or 0), int(spent.get("completion_tokens") or 0))
        choice = completion["choices"][0]
        message = choice["message"]
        refused = bool(message.get("refusal"))
        text = message.get("content") or ""
        finish = choice.get("finish_reason")
        if isinstance(text, list):  # some servers send parts
            text = "".join(part.get("text") or "" for part in text)
        if not isinstance(text, str):
            raise TypeError(f"the content is {type(text).__name__}")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        text = f"The server answered, but with no chat completion ({type(error).__name__})."
        raise JudgeError("malformed", text, retryable=True, usage=usage) from error
    return JudgeReply(text, usage, "refusal" if refused else finish)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait, from a number or a date; 0 where there is neither."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return seconds if 0 < seconds < math.inf else 0.0

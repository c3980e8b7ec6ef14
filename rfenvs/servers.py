"""`ModelServer`: a model behind an OpenAI-compatible server, asked with patience.

Judges, policies and teachers over HTTP all ask through it. Needs httpx: pip install "rfenvs[judge]".
"""

from __future__ import annotations

import atexit
import email.utils
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rfenvs.feedback import clip
from rfenvs.server_answers import NO_USAGE, Said, ServerError, Usage, read_chat

if TYPE_CHECKING:
    import httpx

__all__ = ["NO_USAGE", "ModelServer", "Said", "ServerError", "Shared", "Usage"]

T = TypeVar("T")

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_LONGEST_WAIT_S = 60.0
_QUOTED = 300


@dataclass(frozen=True)
class ModelServer:
    """One model at one address.

    Answers of 429 and 5xx, timeouts, broken connections and answers that cannot be read are tried again, with waits
    that double, or as long as `Retry-After` says. Connections, and the limit on calls at a time, are those of all
    clients of this process with the same address, model and limit.

    Args:
        base_url: Up to and with `/v1`.
        model: Its name on the server.
        key_env: Environment variable that holds the key; None sends none. The key is read at each call, and appears
            in no message, field or file.
        retries: How often a call is tried again.
        backoff_s: Wait before the first of these, in seconds.
        concurrency: Calls at a time.
        longest_body: Bytes of an answer that are read.
    """

    base_url: str
    model: str
    key_env: str | None = None
    retries: int = 4
    backoff_s: float = 0.5
    concurrency: int = 16
    longest_body: int = 8 * 2**20

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url={self.base_url!r}: use an address such as http://localhost:8000/v1.")
        for name, least in (("retries", 0), ("concurrency", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r}: use an integer of at least {least}.")
        if not 0 <= self.backoff_s < math.inf:
            raise ValueError(f"backoff_s={self.backoff_s!r}: use a number of seconds of at least 0.")

    @property
    def shared(self) -> Shared:
        """What all clients of this process share about this model."""
        key = os.getpid(), self.base_url, self.model, self.concurrency
        with _shared_lock:
            if key not in _shared:
                _shared[key] = Shared(self.concurrency)
            return _shared[key]

    def chat(self, request: Mapping[str, Any], timeout: float) -> Said:
        """Ask for a chat completion; `model` is added to `request`."""
        return self.ask("/chat/completions", {"model": self.model, **request}, read_chat, timeout)

    def ask(
        self, path: str, body: Mapping[str, Any] | None, read: Callable[[bytes], T], timeout: float, top: bool = False
    ) -> T:
        """Ask until there is an answer that `read` can read.

        Args:
            path: Behind the base address; with `top`, behind the address without its last part, `/v1`.
            body: Sent as JSON by POST; fields that are None are left out. None: a GET.
            read: Makes the result of the answer's bytes; a `ServerError` of its own counts like any other.
            timeout: Seconds for one attempt.

        Raises:
            ServerError: There is none: after the last retry, or where asking again changes nothing.
            ValueError: The address cannot be used, or the key is missing.
            ImportError: httpx is missing.
        """
        base = self.base_url.rstrip("/")
        url = (base.rsplit("/", 1)[0] if top else base) + path
        data = None if body is None else {k: v for k, v in body.items() if v is not None}
        key, shared = self._key(), self.shared
        for attempt in range(self.retries + 1):
            wait = 0.0
            try:
                with shared.slots:
                    answer = self._send(shared, url, data, key, timeout)
                if answer.status == 200:
                    return read(answer.body)
                wait = answer.retry_after
                raise _failure(answer, key)
            except ServerError as error:
                shared.count(error.usage)
                if not error.retryable or attempt == self.retries:
                    raise
            time.sleep(min(max(wait, self.backoff_s * 2**attempt), _LONGEST_WAIT_S))
        raise AssertionError("the last attempt returns or raises")

    def _send(self, shared: Shared, url: str, body: dict[str, Any] | None, key: str, timeout: float) -> _Answer:
        client = shared.client()
        import httpx

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        deadline = time.monotonic() + timeout
        method, sent = ("GET", {}) if body is None else ("POST", {"json": body})
        data = bytearray()
        try:
            with client.stream(method, url, headers=headers, timeout=timeout, **sent) as response:
                for chunk in response.iter_bytes():
                    data += chunk
                    if time.monotonic() > deadline:  # httpx's own timeout begins anew with every byte
                        raise _timeout(timeout)
                    if len(data) > self.longest_body:
                        raise ServerError("too_long", "The server sends without end.", retryable=False)
                return _Answer(response.status_code, bytes(data), _retry_after(response.headers))
        except httpx.TimeoutException as error:
            raise _timeout(timeout) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ValueError(f"base_url={self.base_url!r}: {error}.") from error
        except httpx.HTTPError as error:
            text = f"The connection to the server at {self.base_url} broke: {type(error).__name__}."
            raise ServerError("connection", text, retryable=True) from error

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


class Shared:
    """What the clients of one process share about one model at one address."""

    def __init__(self, concurrency: int) -> None:
        self.slots = threading.BoundedSemaphore(concurrency)
        self.negotiation = threading.Lock()
        self.mode: str | None = None
        """Which form of request the server was found to understand."""
        self.usage = Usage()
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def client(self) -> httpx.Client:
        """Its connections.

        Raises:
            ImportError: httpx is missing.
        """
        try:
            import httpx
        except ImportError as error:
            raise ImportError('A model over HTTP needs httpx: pip install "rfenvs[judge]".') from error
        with self._lock:
            if self._client is None:
                limits = httpx.Limits(max_connections=self._concurrency, max_keepalive_connections=self._concurrency)
                self._client = httpx.Client(limits=limits)
            return self._client

    def close(self) -> None:
        """Close its connections; the next call opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def count(self, usage: Usage) -> None:
        """Add to what was spent."""
        with self._lock:
            self.usage += usage


class _Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: float
    """Seconds; 0 where the server does not say."""


_shared: dict[tuple[int, str, str, int], Shared] = {}
_shared_lock = threading.Lock()


@atexit.register
def _close_all() -> None:
    for (process, *_), shared in _shared.items():
        if process == os.getpid():
            shared.close()


def _after_fork() -> None:
    """Another thread of the parent may have held the lock; connections are found by process."""
    global _shared_lock
    _shared_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _timeout(seconds: float) -> ServerError:
    return ServerError("timeout", f"The server did not answer within {seconds:g} s.", retryable=True)


def _failure(answer: _Answer, key: str) -> ServerError:
    said = " ".join(answer.body.decode("utf-8", "replace").split())
    said = clip(said.replace(key, "[key]") if key else said, _QUOTED)
    text = f"The server answered {answer.status}: {said or 'nothing'}"
    retryable = answer.status in _RETRIED
    code = "rate_limited" if answer.status == 429 else "server" if retryable else "http"
    return ServerError(code, text, retryable=retryable, status=answer.status)


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

"""`HTTPJudge`: a judge behind any server that speaks OpenAI's chat completions.

Needs httpx: pip install "rfenvs[judge]".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rfenvs.graders.judges import JudgeReply
from rfenvs.graders.rubric import JudgeError
from rfenvs.servers import ModelServer, Said, ServerError, Shared, Usage
from rfenvs.tasks import Message

Mode = Literal["json_schema", "json_object", "text"]
"""How the server is asked for JSON: by a schema, as any object, or in words alone."""

_MODES: tuple[Mode, ...] = ("json_schema", "json_object", "text")
_NOT_UNDERSTOOD = frozenset({400, 422, 501})
"""What servers say to a `response_format` that they do not know."""


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
        if self.mode != "auto" and self.mode not in _MODES:
            raise ValueError(f"mode={self.mode!r}: use 'auto', {', '.join(map(repr, _MODES))}.")
        if not isinstance(self.max_tokens, int) or self.max_tokens < 1:
            raise ValueError(f"max_tokens={self.max_tokens!r}: use an integer of at least 1.")
        self._server()  # checks the rest

    @property
    def usage(self) -> Usage:
        """What all judges of this process with this address and model have spent, replies that were no use included."""
        return self._server().shared.usage

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], temperature: float, seed: int, timeout: float
    ) -> JudgeReply:
        """Ask the server once, in the mode that it understands.

        Raises:
            JudgeError: `timeout`, `rate_limited`, `server`, `connection` after the last retry; `http` for an answer
                that asking again will not change; `malformed` where it is no chat completion.
            ValueError: The key is missing, or the address is none.
            ImportError: httpx is missing.
        """
        request = {
            "messages": list(messages),
            "temperature": temperature,
            "seed": seed,
            "max_tokens": self.max_tokens,
        }
        try:
            said = self._complete(self._server(), request, schema, timeout)
        except ServerError as error:
            raise JudgeError(error.code, str(error), retryable=error.retryable, usage=error.usage) from error
        return JudgeReply(said.text, said.usage, said.finish_reason)

    def _complete(
        self, server: ModelServer, request: Mapping[str, Any], schema: Mapping[str, Any], timeout: float
    ) -> Said:
        shared = server.shared
        mode = shared.mode if self.mode == "auto" else self.mode
        if mode is None:
            with shared.negotiation:  # the first call alone finds out, the others wait for what it learns
                mode = shared.mode
                if mode is None:
                    return self._negotiate(server, shared, request, schema, timeout)
        return self._ask(server, request, mode, schema, timeout)

    def _negotiate(
        self, server: ModelServer, shared: Shared, request: Mapping[str, Any], schema: Mapping[str, Any], timeout: float
    ) -> Said:
        spent = Usage()
        for mode in _MODES:
            last = mode == _MODES[-1]
            try:
                said = self._ask(server, request, mode, schema, timeout)
            except ServerError as error:
                error.usage += spent
                if last or error.status not in _NOT_UNDERSTOOD:
                    raise
                continue
            spent += said.usage
            if said.text.strip() or said.finish_reason in ("refusal", "content_filter"):
                shared.mode = mode
                break
            if last:
                break
        return Said(said.text, spent, said.finish_reason)

    def _ask(
        self, server: ModelServer, request: Mapping[str, Any], mode: str, schema: Mapping[str, Any], timeout: float
    ) -> Said:
        try:
            said = server.chat({**request, **_response_format(mode, schema), **self.extra}, timeout)
        except ServerError as error:
            if mode != "text" and error.status in _NOT_UNDERSTOOD:
                error.args = (f'{error} (mode="text" asks without a response_format)',)
            raise
        server.shared.count(said.usage)
        return said

    def _server(self) -> ModelServer:
        return ModelServer(self.base_url, self.model, self.key_env, self.retries, self.backoff_s, self.concurrency)


def _response_format(mode: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if mode == "json_schema":
        named = {"name": "judgement", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {"response_format": {"type": "json_object"}} if mode == "json_object" else {}

"""What servers of models answer: a text and its cost, or an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Usage:
    """What answers cost."""

    calls: int = 0
    """Requests that were answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


NO_USAGE = Usage()


class ServerError(RuntimeError):
    """A server gave no answer of use.

    Args:
        code: What went wrong, a word for machines: `timeout`, `rate_limited`, `server`, `connection`, `http`,
            `too_long`, `malformed`.
        message: The same in words.
        retryable: Whether asking again could help.
        usage: What the failed attempt cost.
        status: The HTTP status; 0 where there was none, or where the answer was 200 and could not be read.
    """

    def __init__(self, code: str, message: str, *, retryable: bool, usage: Usage = NO_USAGE, status: int = 0) -> None:
        super().__init__(message)
        self.code, self.retryable, self.usage, self.status = code, retryable, usage, status


class Said(NamedTuple):
    """A chat completion."""

    text: str
    usage: Usage
    finish_reason: str | None
    """`stop`, `length`, `refusal` or `content_filter`; None where the server does not say."""


def read_chat(body: bytes) -> Said:
    """Read a chat completion.

    Raises:
        ServerError: It is none. What it says of its cost is kept.
    """
    usage = Usage(calls=1)
    try:
        completion = json.loads(body)
        usage = usage_of(completion)
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
        raise ServerError("malformed", text, retryable=True, usage=usage) from error
    return Said(text, usage, "refusal" if refused else finish)


def usage_of(completion: Mapping[str, Any]) -> Usage:
    """What an answer says of its cost."""
    spent = completion.get("usage") or {}
    return Usage(1, int(spent.get("prompt_tokens") or 0), int(spent.get("completion_tokens") or 0))

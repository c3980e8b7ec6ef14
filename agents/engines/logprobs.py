"""A server's log-probabilities of the tokens it was asked about, read from `/v1/completions`.

Two forms are known; K is the number of likeliest tokens asked for:

    prompt_logprobs=K        vLLM     one object for each token of the prompt: {id: {logprob, decoded_token}}
    echo=true, logprobs=K    classic  parallel lists of tokens, their log-probabilities and the K likeliest, by text,
                                      or by id where the server knows return_tokens_as_token_ids (vLLM, SGLang)

A text that several ids share names no token: its slot stays empty (-inf), and its mass counts as the rest. All numbers
are nats at temperature 1.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rfenvs.servers import ServerError

Form = Literal["prompt_logprobs", "echo"]
FORMS: tuple[Form, ...] = ("prompt_logprobs", "echo")

_MOST_MASS = 0.01
"""Log of the largest sum of probabilities that is put down to rounding."""


class Row(NamedTuple):
    """Scores of one action of T tokens; K slots, likeliest first."""

    ids: Tensor
    """[T, K] long; 0 in an empty slot."""
    logprobs: Tensor
    """[T, K] float32, nats; -inf: empty."""
    target: Tensor
    """[T] of the action's own tokens."""


class Names:
    """Ids by the texts that servers call them."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @functools.cached_property
    def _ids(self) -> dict[str, int | None]:
        """The id of each text that is the text of one id; None where several have it."""
        found: dict[str, int | None] = {}
        for i, text in enumerate(self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])):
            found[text] = None if text in found else i
        return found

    def text(self, i: int) -> str:
        """A token's own text."""
        text: str = self.tokenizer.decode([i])
        return text

    def id(self, name: str) -> int | None:
        """The id that ``name`` must mean; None where it may be several, or none."""
        number = numbered(name)
        return self._ids.get(name) if number is None else number

    def may_be(self, name: str, i: int) -> bool:
        """Whether ``name`` may be token ``i``: pieces of a character have no text of their own to compare."""
        number = numbered(name)
        if number is not None:
            return number == i
        text = self.text(i)
        pieces = not name or name.startswith("bytes:") or "\ufffd" in text
        return pieces or name in (text, self.tokenizer.convert_ids_to_tokens(i))


def request_of(form: Form, k: int) -> dict[str, Any]:
    """What asks for a prompt's log-probabilities."""
    if form == "prompt_logprobs":
        return {"prompt_logprobs": k}
    return {"echo": True, "logprobs": k, "return_tokens_as_token_ids": True}


def read_row(
    body: bytes, form: Form, prompt: Sequence[int], action: Sequence[int], k: int, names: Names, vocabulary: int
) -> Row:
    """The scores of ``action``, from an answer about ``prompt`` and ``action``.

    Args:
        body: The answer.
        form: In which it was asked for.
        prompt, action: The ids that were sent.
        k: Slots of each token.
        names: Of the policy's tokenizer.
        vocabulary: Number of the policy's outcomes; ids from there on are none of them.

    Raises:
        ServerError: `unsupported` where it tells no log-probabilities; `malformed` where they are no use: too few, of
            other tokens, or no numbers.
    """
    choice = read_choice(body)
    try:
        told = _by_id(choice, prompt, action) if form == "prompt_logprobs" else _by_text(choice, prompt, action, names)
        return _row(told, action, k, vocabulary)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise malformed(f"its log-probabilities cannot be read ({type(error).__name__})") from error


def _by_id(choice: Mapping[str, Any], prompt: Sequence[int], action: Sequence[int]) -> list[dict[int, float]]:
    told = choice.get("prompt_logprobs")
    if told is None:
        raise ServerError("unsupported", "The server's answer has no prompt_logprobs.", retryable=False)
    if len(told) != len(prompt) + len(action):
        raise malformed(f"it tells of {len(told)} tokens, asked about {len(prompt) + len(action)}")
    return [
        {int(i): float(x["logprob"] if isinstance(x, Mapping) else x) for i, x in entry.items()}
        for entry in told[len(prompt) :]
    ]


def _by_text(
    choice: Mapping[str, Any], prompt: Sequence[int], action: Sequence[int], names: Names
) -> list[dict[int, float]]:
    told = choice.get("logprobs")
    if not told or not told.get("top_logprobs"):
        raise ServerError("unsupported", "The server's answer has no logprobs of its prompt.", retryable=False)
    tokens, own, top = told["tokens"], told["token_logprobs"], told["top_logprobs"]
    if min(len(tokens), len(own), len(top)) < len(prompt) + len(action):
        raise malformed(f"it tells of {len(tokens)} tokens, asked about {len(prompt) + len(action)}")
    found = []
    for place, i in enumerate(action, len(prompt)):
        if not names.may_be(tokens[place], i):
            raise malformed(f"token {place} is {tokens[place]!r}, asked about {names.text(i)!r}")
        entry = {j: float(x) for name, x in top[place].items() if (j := names.id(name)) is not None}
        found.append({**entry, i: float(own[place])})
    return found


def _row(told: Sequence[Mapping[int, float]], action: Sequence[int], k: int, vocabulary: int) -> Row:
    ids = torch.zeros(len(action), k, dtype=torch.long)
    logprobs = torch.full((len(action), k), -math.inf)
    target = torch.empty(len(action))
    for t, (entry, own) in enumerate(zip(told, action, strict=True)):
        if own not in entry:
            raise malformed(f"it tells of other tokens than {own}, which was asked about")
        if not all(math.isfinite(x) and x <= _MOST_MASS for x in entry.values()):
            raise malformed("a log-probability is not a number at most 0")
        target[t] = entry[own]
        likeliest = sorted((i for i in entry if i < vocabulary), key=lambda i: (-entry[i], i))[:k]
        ids[t, : len(likeliest)] = torch.tensor(likeliest)
        logprobs[t, : len(likeliest)] = torch.tensor([entry[i] for i in likeliest])
    if len(action) and float(logprobs.logsumexp(-1).max()) > _MOST_MASS:
        raise malformed("its probabilities sum to more than 1")
    return Row(ids, logprobs, target)


def read_choice(body: bytes) -> dict[str, Any]:
    """The first choice of a completion.

    Raises:
        ServerError: It is none.
    """
    try:
        choice = json.loads(body)["choices"][0]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise malformed("it is no completion") from error
    if not isinstance(choice, dict):
        raise malformed("it is no completion")
    return choice


def numbered(name: str) -> int | None:
    """The id in ``token_id:17``."""
    number = name.removeprefix("token_id:")
    return int(number) if number != name and number.isdecimal() else None


def malformed(what: str) -> ServerError:
    """An answer that another attempt may better."""
    return ServerError("malformed", f"The server's answer is of no use: {what}.", retryable=True)

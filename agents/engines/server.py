"""A server that scores and continues given ids: `ScoringServer`, what it can do and whose tokens it has.

How its answers are read is told in `agents.engines.logprobs`.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.chat import Chat
from agents.engines.base import Completion, Sampling
from agents.engines.logprobs import FORMS, Form, Names, Row, malformed, numbered, read_choice, read_row, request_of
from agents.errors import SetupError
from rfenvs.servers import ModelServer, ServerError

_PROBE = (
    "Probe: 3.14 naïve façades, “quoted”\n\n\tfor (int i = 0; i < 10; i++) { return x_1; }  日本 ✓ antidisestablish"
)
NOT_OFFERED = frozenset({400, 404, 405, 422, 501})
"""What servers say to a request that they do not know."""


@dataclass
class ScoringServer:
    """One model behind a server, asked about ids of the policy's tokenizer."""

    server: ModelServer
    chat: Chat
    """The policy's."""
    vocabulary: int
    """Number of the policy's outcomes; ids from there on are none of them."""
    top_k: int
    timeout_s: float
    form: Form | None = None
    """The form that the server understands; None: neither."""

    def score(self, prompt: Sequence[int], action: Sequence[int]) -> Row:
        """The server's word on each token of ``action`` behind ``prompt``, which has at least one token.

        Raises:
            ServerError: It has none, or one that is not about these tokens.
        """
        return self._score(prompt, action, self.form or "prompt_logprobs", self.top_k)

    def generate(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Completion:
        """Continue ``prompt``; ids are the sampled ones where the server tells them, else those of its text.

        Raises:
            ServerError: There is no answer.
        """
        request = {
            "model": self.server.model, "prompt": list(prompt), "max_tokens": sampling.max_tokens, "seed": seed,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "logprobs": 1,
            "return_tokens_as_token_ids": True,
        }  # fmt: skip
        choice = self.server.ask("/completions", request, read_choice, self.timeout_s)
        finish = "stop" if choice.get("finish_reason") == "stop" else "length"
        said = choice.get("logprobs") or {}
        ids = [numbered(name) for name in said.get("tokens") or []]
        known = [i for i in ids if i is not None]
        if not ids or len(known) < len(ids):
            text = str(choice.get("text") or "")
            known = self.chat.written(text) if finish == "stop" else self.chat.plain(text)
            return Completion(known, [math.nan] * len(known), finish)
        told = said.get("token_logprobs") if sampling.temperature in (0, 1) else None
        logprobs = [math.nan if x is None else float(x) for x in told or [None] * len(known)]
        if finish == "stop" and known[-1] not in self.chat.stop_ids():
            known, logprobs = known + self.chat.end_of_turn(), logprobs + [math.nan] * len(self.chat.end_of_turn())
        return Completion(known, logprobs, finish)

    def _score(self, prompt: Sequence[int], action: Sequence[int], form: Form, k: int) -> Row:
        request = {"model": self.server.model, "prompt": [*prompt, *action], "max_tokens": 1, "temperature": 1.0}
        return self.server.ask(
            "/completions",
            request | request_of(form, k),
            lambda body: read_row(body, form, prompt, action, k, self.names, self.vocabulary),
            self.timeout_s,
        )

    @functools.cached_property
    def names(self) -> Names:
        """Of the policy's tokenizer."""
        return Names(self.chat.tokenizer)

    # ---- before the first question

    def find_out(self) -> None:
        """Set ``form``: ask about a text, and see that its tokens are the policy's.

        Raises:
            SetupError: The server cannot be asked, allows fewer likeliest tokens, or has another tokenizer.
            ServerError: It does not answer.
        """
        for form in FORMS:
            try:
                self._score(*self.probe, form, self.top_k)
                self.form = form
                break
            except ServerError as error:
                if error.code == "malformed":
                    raise SetupError(f"recipe.teacher.url={self.server.base_url!r}: {error} {_SAME_TOKENS}") from error
                if error.code != "unsupported" and error.status not in NOT_OFFERED:
                    raise
                if error.status in (400, 422) and self.top_k > 1:
                    self._check_fewer(form, error)
        self._check_tokenizer()

    @functools.cached_property
    def probe(self) -> tuple[list[int], list[int]]:
        """A prompt, control tokens included, and an action."""
        ids = self.chat.plain(_PROBE)
        return self.chat.encode([{"role": "user", "content": "Write a probe."}]), ids

    def _check_fewer(self, form: Form, error: ServerError) -> None:
        try:
            self._score(*self.probe, form, 1)
        except ServerError:
            return
        raise SetupError(
            f"recipe.teacher.top_k={self.top_k} is more than {self.server.base_url} gives ({error}): lower it, or let "
            "the server give more (vLLM: --max-logprobs)"
        ) from error

    def _check_tokenizer(self) -> None:
        """Against `/tokenize`, where there is one, and the texts of the tokens that were asked about."""
        prompt, action = self.probe
        request = {
            "model": self.server.model, "prompt": _PROBE, "content": _PROBE,
            "add_special_tokens": False, "add_special": False,
        }  # fmt: skip
        try:
            theirs = self.server.ask("/tokenize", request, _tokens, self.timeout_s, top=True)
        except ServerError:
            theirs = action
        if theirs != action:
            place = next((t for t, (a, b) in enumerate(zip(action, theirs, strict=False)) if a != b), len(theirs))
            ours, other = action[place : place + 3], theirs[place : place + 3]
            raise SetupError(
                f"recipe.teacher.url={self.server.base_url!r}: {_PROBE!r} is {len(action)} tokens of the policy and "
                f"{len(theirs)} of the server; from token {place} on they are {ours} and {other}. {_SAME_TOKENS}"
            )
        if self.form == "prompt_logprobs":
            self._check_decoded([*prompt, *action])

    def _check_decoded(self, ids: list[int]) -> None:
        request = {"model": self.server.model, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 1}
        told = self.server.ask("/completions", request, read_choice, self.timeout_s)["prompt_logprobs"]
        for i, entry in zip(ids[1:], told[1:], strict=True):
            name = entry[str(i)].get("decoded_token") if isinstance(entry.get(str(i)), Mapping) else None
            if name is not None and not self.names.may_be(name, i):
                raise SetupError(
                    f"recipe.teacher.url={self.server.base_url!r}: token {i} is {self.names.text(i)!r} in the policy's "
                    f"tokenizer and {name!r} in the server's. {_SAME_TOKENS}"
                )


_SAME_TOKENS = (
    "A teacher scores the policy's own ids, so every token must have the same id in both; serve a model of the "
    "policy's family, or set recipe.teacher.top_k=0 and learn from its text"
)


def models_of(server: ModelServer, timeout_s: float) -> tuple[list[str], int]:
    """Names of the models that a server has, and the longest context of the first (0: it does not say).

    Raises:
        ServerError: It does not tell.
    """

    def read(body: bytes) -> tuple[list[str], int]:
        try:
            data = json.loads(body)["data"]
            return [str(one["id"]) for one in data], int(data[0].get("max_model_len") or 0) if data else 0
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise malformed("it is no list of models") from error

    return server.ask("/models", None, read, timeout_s)


def _tokens(body: bytes) -> list[int]:
    try:
        return [int(i["id"] if isinstance(i, Mapping) else i) for i in json.loads(body)["tokens"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError("unsupported", "The answer to /tokenize has no tokens.", retryable=False) from error

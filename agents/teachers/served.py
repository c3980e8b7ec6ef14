"""A teacher behind an OpenAI-compatible server: its likeliest tokens where it tells them, else its words.

A request that fails is tried again by `rfenvs.servers.ModelServer`; what still fails leaves its sample untaught. Only
where more than ``max_failed`` of a step fails does the run stop, and it goes on from its checkpoint when it is started
again. Scores are those of temperature 1, for that is what servers tell.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from agents.engines.base import Answer, Completion, Sampling
from agents.engines.hf import HFEngine, Scored
from agents.engines.logprobs import Row
from agents.engines.server import NOT_OFFERED, ScoringServer, models_of
from agents.errors import SetupError
from agents.losses.fused import Teacher as TeacherLogits
from agents.losses.stream import SparseTeacher
from agents.teachers.abilities import BLACK_BOX
from agents.teachers.cache import ScoreCache
from agents.teachers.settings import TeacherSettings
from agents.teachers.teacher import Scores, Teacher
from agents.trajectory import Message
from rfenvs.servers import ModelServer, ServerError

T = TypeVar("T")
_LONGEST_BODY = 256 * 2**20
"""Bytes: twenty numbers for each token of a long prompt, as JSON."""


class ServerTeacher(Teacher):
    """Asks instead of computing; built, it has asked the server what it can do, and whose tokens it has."""

    def __init__(self, engine: HFEngine, settings: TeacherSettings, beside: Teacher | None = None) -> None:
        super().__init__(engine, TeacherSettings(kind="live"))
        self.settings, self.owner = settings, False
        self.scoring: ScoringServer
        self.cache: ScoreCache | None
        if isinstance(beside, ServerTeacher) and beside.settings.source == settings.source:
            self.abilities, self.context_length = beside.abilities, beside.context_length
            self.scoring, self.cache = beside.scoring, beside.cache
            return
        named = f"recipe.teacher.url={settings.url!r}"
        try:
            self.scoring = self._connect(settings)
            if settings.top_k:
                self.scoring.find_out()
            self.abilities = settings.abilities if self.scoring.form else BLACK_BOX
            self.cache = self._open_cache()
            if not self.scoring.form:
                self._ask([{"role": "user", "content": "Say yes."}], Sampling(temperature=0.0, max_tokens=4), 0)
        except ServerError as error:
            raise SetupError(f"{named}: {error} The address goes up to /v1.") from error
        except (ValueError, ImportError) as error:
            raise SetupError(f"{named}: {error}") from error

    def _connect(self, settings: TeacherSettings) -> ScoringServer:
        named = settings.api_key_variable
        default = named == TeacherSettings.model_fields["api_key_variable"].default
        key = None if default and not os.environ.get(named) else named
        server = ModelServer(
            settings.url, settings.model, key, settings.retries, concurrency=settings.concurrency,
            longest_body=_LONGEST_BODY,
        )  # fmt: skip
        try:
            models, longest = models_of(server, settings.timeout_s)
        except ServerError as error:
            if error.code != "malformed" and error.status not in NOT_OFFERED:
                raise
            models, longest = [settings.model] if settings.model else [], 0
        if not settings.model:
            if len(models) != 1:
                raise SetupError(
                    f"recipe.teacher.url={settings.url!r} serves {', '.join(models) or 'models that it does not name'}:"
                    " name one with recipe.teacher.model"
                )
            server = ModelServer(
                settings.url, models[0], key, settings.retries, concurrency=settings.concurrency,
                longest_body=_LONGEST_BODY,
            )  # fmt: skip
        if longest:
            self.context_length = min(self.context_length, longest - 1)  # one token is always asked for
        vocabulary = len(self.engine.head().weight)
        return ScoringServer(server, self.engine.chat, vocabulary, settings.top_k, settings.timeout_s)

    def _open_cache(self) -> ScoreCache | None:
        if not self.scoring.form:
            return None
        prompt, action = self.scoring.probe
        identity = {"model": self.scoring.server.model, "top_k": self.settings.top_k}
        folder = Path(self.settings.cache) if self.settings.cache else None
        return ScoreCache(identity, self.scoring.score(prompt, action).target, folder)

    # ---- what it is asked

    def score(self, items: Sequence[Scored], sampling_temperature: float, before: Any = None) -> Scores:
        """See `Teacher.score`: the K likeliest tokens at each position, and which items have none.

        Raises:
            SetupError: More than ``max_failed`` of the items failed, or the temperature is not 1.
        """
        if self.cache is None:
            raise SetupError(f"recipe.teacher.url={self.settings.url!r} gives text alone: it cannot score tokens")
        self.settings.check_temperature(sampling_temperature)
        cache, known = self.cache, {}
        keys = [cache.key(prompt, action) for prompt, action in items]
        wanted: dict[str, Scored] = {}
        for key, item in zip(keys, items, strict=True):
            if key not in known and (row := cache.get(key)) is not None:
                known[key] = row
            elif key not in known:
                wanted[key] = item
        rows = self._each([lambda item=item: self.scoring.score(*item) for item in wanted.values()])  # type: ignore[misc]
        for key, row in zip(wanted, rows, strict=True):
            if row is not None:
                known[key] = row
                cache.put(key, row)
        failed = [i for i, key in enumerate(keys) if key not in known]
        found: list[Row] = [known[key] for key in keys if key in known]
        if not found:
            return Scores(None, failed)
        ids, logprobs, target = (torch.cat(column) for column in zip(*found, strict=True))
        return Scores(SparseTeacher(ids, logprobs, target), failed)

    def logits(self, items: Sequence[Scored], sampling_temperature: float, before: Any = None) -> TeacherLogits:
        """A server has none."""
        raise SetupError("recipe.teacher.kind='server' gives no full logits: use Teacher.score")

    def generate(
        self,
        prompts: list[list[int]],
        sampling: Sampling,
        seed: int,
        conversations: Sequence[Sequence[Message]] | None = None,
    ) -> list[Completion]:
        """Continue ids; a prompt that the server failed on has no ids and the finish reason ``"failed"``.

        A server that gives text alone is asked the conversations.

        Raises:
            SetupError: More than ``max_failed`` of them failed, or there are no conversations to ask.
        """
        if not self.scoring.form:
            if conversations is None:
                raise SetupError(f"recipe.teacher.url={self.settings.url!r} takes no token ids, only conversations")
            said = self.say(conversations, sampling, seed)
            return [Completion(a.ids, a.logprobs, a.finish_reason) for a in said]
        drawn = self.sampling(sampling)

        def one(prompt: list[int], k: int) -> Completion:
            room = min(drawn.max_tokens, self.context_length - len(prompt))
            if room < 1:
                return Completion([], [], "length")
            return self.scoring.generate(prompt, drawn.model_copy(update={"max_tokens": room}), seed + k)

        done = self._each([lambda p=p, k=k: one(p, k) for k, p in enumerate(prompts)])  # type: ignore[misc]
        return [Completion([], [], "failed") if c is None else c for c in done]

    def say(self, conversations: Sequence[Sequence[Message]], sampling: Sampling, seed: int) -> list[Answer]:
        """Chat completions; a conversation that the server failed on is answered by "", ``"failed"``.

        Raises:
            SetupError: More than ``max_failed`` of them failed.
            ValueError: A conversation ends with the assistant: a server has its own way to continue one.
        """
        if any(messages[-1]["role"] == "assistant" for messages in conversations):
            raise ValueError("a server's chat answers a user: continue ids with Teacher.generate instead")
        drawn = self.sampling(sampling)
        said = self._each([lambda m=m, k=k: self._ask(m, drawn, seed + k) for k, m in enumerate(conversations)])  # type: ignore[misc]
        return [Answer("", [], [], "failed") if reply is None else reply for reply in said]

    def _ask(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Answer:
        request = {
            "messages": [dict(m) for m in messages], "temperature": sampling.temperature, "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens, "seed": seed,
        }  # fmt: skip
        said = self.scoring.server.chat(request, self.settings.timeout_s)
        finish, chat = said.finish_reason or "stop", self.engine.chat
        ids = chat.written(said.text) if finish == "stop" else chat.plain(said.text)
        return Answer(said.text, ids, [math.nan] * len(ids), finish)

    def _each(self, questions: Sequence[Callable[[], T]]) -> list[T | None]:
        """Answers in order, None where there is none; nothing more is asked once too many failed."""
        if not questions:
            return []
        most = math.floor(self.settings.max_failed * len(questions))
        why: Counter[str] = Counter()
        last = ""

        def ask(question: Callable[[], T]) -> T | None:
            nonlocal last
            if why.total() > most:
                return None
            try:
                return question()
            except ServerError as error:
                why[error.code] += 1
                last = str(error)
                return None

        with ThreadPoolExecutor(min(self.settings.concurrency, len(questions))) as pool:
            answers = list(pool.map(ask, questions))
        if why.total() > most:
            counted = ", ".join(f"{code} {n}" for code, n in why.most_common())
            raise SetupError(
                f"recipe.teacher.max_failed={self.settings.max_failed:g}: {why.total()} of {len(questions)} requests "
                f"to {self.settings.url} failed ({counted}; the last: {last}). See to the server and start the run "
                "again: it goes on from its last checkpoint"
            )
        return answers

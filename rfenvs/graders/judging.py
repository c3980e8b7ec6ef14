"""Judge one answer: gates first, then one or several opinions, and what they come to.

    judged = judge(client, rubric, prompt="Why is the sky blue?", answer=text)
    judged.score, judged.results[0].reason

A reply that cannot be read is asked for again with another seed, a few times; then `JudgeError` goes to the caller,
with what it has cost.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from statistics import median_low

from rfenvs.graders.judge_gate import ADDRESSES_GRADER, Gate, gate
from rfenvs.graders.judge_prompt import judge_messages, reply_schema
from rfenvs.graders.judges import JudgeClient, JudgeReply
from rfenvs.graders.rubric import (
    CANARY,
    Criterion,
    JudgeError,
    Judgement,
    Rubric,
    Verdict,
    parse_judgement,
)
from rfenvs.servers import NO_USAGE, Usage

_SEED_STEP = 7919
"""Between the seeds of two attempts at one opinion; larger than any number of samples."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to ask."""

    samples: int = 1
    """Opinions; the verdict on a criterion is their median, the worse one where two are in the middle."""
    temperature: float | None = None
    """None: 0 for one opinion, 0.7 for several."""
    seed: int = 0
    timeout_s: float = 60.0
    """For one call."""
    attempts: int = 2
    """Calls for one opinion, where a reply cannot be read."""
    per_criterion: bool = False
    """One call a criterion, so that no verdict leans on another."""
    parallel: int = 1
    """Calls at a time."""
    min_characters: int = 1
    """Shorter answers are worth 0 without a call."""
    low_agreement: float = 0.6
    """Below this share of opinions that agree with the median, confidence in a verdict is low."""
    secret: str = ""
    """Goes into the code around the answer; see `judge_messages`."""

    def __post_init__(self) -> None:
        for name in ("timeout_s", "low_agreement", "temperature"):
            value = getattr(self, name)
            if not isinstance(value, int | float) and not (name == "temperature" and value is None):
                raise ValueError(f"{name}={value!r}: use a number.")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed={self.seed!r}: use an integer.")
        for name in ("samples", "attempts", "parallel"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value < _SEED_STEP:
                raise ValueError(f"{name}={value!r}: use an integer of at least 1.")
        if not isinstance(self.min_characters, int) or self.min_characters < 0:
            raise ValueError(f"min_characters={self.min_characters!r}: use an integer of at least 0.")
        if not (self.timeout_s > 0 and math.isfinite(self.timeout_s)):
            raise ValueError(f"timeout_s={self.timeout_s!r}: use a number of seconds above 0.")
        if not 0 <= self.low_agreement <= 1:
            raise ValueError(f"low_agreement={self.low_agreement!r}: use a share from 0 to 1.")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature!r}: use None or a number of at least 0.")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples={self.samples} with temperature=0 asks the same thing {self.samples} times: "
                "raise the temperature, or take one sample."
            )


DEFAULT = Settings()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one criterion."""

    criterion: Criterion
    rank: int
    """Place of the median verdict on the menu, from 0, the worst."""
    reason: str
    """From the first opinion that holds the median verdict."""
    agreement: float
    """Share of opinions that hold it."""
    low_confidence: bool

    @property
    def share(self) -> float:
        """What the verdict is worth, from 0 to 1."""
        return self.criterion.share(self.rank)

    @property
    def met(self) -> bool:
        """Whether the verdict is the best of the menu."""
        return self.rank == len(self.criterion.choices) - 1


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer is worth, and why."""

    score: float
    """In [0, 1]."""
    results: tuple[Result, ...]
    """One a criterion of the rubric, in its order; empty where no judge was asked."""
    gate: Gate | None = None
    """Why the answer is worth nothing whatever its results are."""
    usage: Usage = NO_USAGE

    @property
    def agreement(self) -> float:
        """Mean over the criteria; 1 where no judge was asked."""
        return math.fsum(result.agreement for result in self.results) / len(self.results) if self.results else 1.0


def judge(
    client: JudgeClient,
    rubric: Rubric,
    *,
    prompt: str,
    answer: str,
    reference: str = "",
    settings: Settings = DEFAULT,
) -> Judged:
    """Judge one answer.

    Args:
        client: Who judges.
        rubric: By what.
        prompt: What the policy was asked.
        answer: What it wrote.
        reference: An answer of full marks for the judge to look at, or nothing.
        settings: How to ask.

    Raises:
        JudgeError: No judgement could be had; its `usage` is that of all calls made for this answer.
    """
    stopped = gate(answer, rubric, prompt=prompt, min_characters=settings.min_characters)
    if stopped is not None:
        return Judged(0.0, (), stopped)
    criteria = (*rubric.criteria, CANARY)
    parts = [(criterion,) for criterion in criteria] if settings.per_criterion else [criteria]
    temperature = settings.temperature
    if temperature is None:
        temperature = 0.0 if settings.samples == 1 else 0.7
    spent: list[Usage] = []

    def ask(part: Sequence[Criterion], sample: int) -> Judgement:
        messages = judge_messages(part, prompt=prompt, answer=answer, reference=reference, secret=settings.secret)
        schema = reply_schema(part)
        for attempt in range(settings.attempts):
            seed = settings.seed + sample + attempt * _SEED_STEP
            try:
                reply = client.complete(
                    messages, schema=schema, temperature=temperature, seed=seed, timeout=settings.timeout_s
                )
            except JudgeError as error:  # a client has its own patience
                spent.append(error.usage)
                raise
            spent.append(reply.usage)
            try:
                return read_reply(reply, part)
            except JudgeError as error:
                if not error.retryable or attempt + 1 == settings.attempts:
                    raise
        raise AssertionError("every attempt returns or raises")

    tasks = [(part, sample) for sample in range(settings.samples) for part in parts]
    try:
        judgements = _all([functools.partial(ask, *task) for task in tasks], settings.parallel)
    except JudgeError as error:
        error.usage = sum(spent, NO_USAGE)
        raise
    opinions: dict[str, list[Verdict]] = {criterion.name: [] for criterion in criteria}
    for judgement in judgements:
        for verdict in judgement.verdicts:
            opinions[verdict.name].append(verdict)
    usage = sum(spent, NO_USAGE)
    results = tuple(_result(criterion, opinions[criterion.name], settings) for criterion in rubric.criteria)
    if not _result(CANARY, opinions[CANARY.name], settings).met:
        return Judged(0.0, results, ADDRESSES_GRADER, usage)
    return Judged(rubric.score([result.rank for result in results]), results, None, usage)


def read_reply(reply: JudgeReply, criteria: Sequence[Criterion]) -> Judgement:
    """Read a reply, unless it says itself that it is none.

    Raises:
        JudgeError: Refused, empty, cut off, or as in `parse_judgement`.
    """
    if reply.finish_reason in ("refusal", "content_filter"):
        raise JudgeError("refusal", "The judge refused to judge this answer.", retryable=False)
    if not reply.text.strip():
        raise JudgeError("empty", "The judge's reply is empty.", retryable=True)
    if reply.finish_reason == "length":
        text = "The judge's reply was cut off by its token limit: raise the judge's max_tokens."
        raise JudgeError("truncated", text, retryable=True)
    return parse_judgement(reply.text, criteria)


def _result(criterion: Criterion, opinions: Sequence[Verdict], settings: Settings) -> Result:
    ranks = [criterion.choices.index(verdict.verdict) for verdict in opinions]
    rank = median_low(ranks)
    agreement = ranks.count(rank) / len(ranks)
    reason = opinions[ranks.index(rank)].reason
    return Result(criterion, rank, reason, agreement, agreement < settings.low_agreement)


def _all(calls: Sequence[Callable[[], Judgement]], parallel: int) -> list[Judgement]:
    """Make the calls, some at a time, in order; after a failure those not yet begun are left out."""
    if parallel == 1 or len(calls) == 1:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(parallel, len(calls)), thread_name_prefix="judge") as pool:
        futures: list[Future[Judgement]] = [pool.submit(call) for call in calls]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        if any(future.exception() is not None for future in done):
            pool.shutdown(cancel_futures=True)
        failed = next((future for future in futures if not future.cancelled() and future.exception()), None)
        return [future.result() for future in ([failed] if failed is not None else futures)]

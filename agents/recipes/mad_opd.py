"""MAD-OPD: distillation from a debate of several teachers about the student's own attempt (arXiv 2605.01347).

Status: full, but for the wording of the debate, which is ours.

    H_R   = R rounds in which every teacher reads the task, the attempt and what the others said       the transcript
    c_k   = the confidence, 0 to 100, that teacher k gives itself in the last round
    w     = softmax(c / tau)
    L     = 1/N sum_t sum_k w_k D( p(. | h_t), q_k(. | h_t, H_R) )          a mixture of divergences, whole vocabulary

D is the Jensen-Shannon divergence where an environment answers (its gradient in the logits is bounded), the reverse KL
for code (``alpha=1``). The transcript is each teacher's privileged context. Averaging teachers without weights did
worse than one teacher on code (reported); three rounds did worse than two.

Our readings: a confidence that cannot be read counts as 50; in episodes each turn has a debate of its own (OPAD).
The pool is ``teacher`` and ``more``; the default, the first weights and a running mean of the policy, is for trying.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from agents.batch import MAIN, Batch, Sample
from agents.losses.reduction import token_mean
from agents.losses.terms import Term
from agents.recipes.base import TaughtRecipe, teacher_limit
from agents.recipes.tools import StepTools
from agents.teachers.contexts import Context, add_contexts, without_thinking
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group, Message

ROUND = """\
{task}

An attempt at this, line by line:
{attempt}
{said}
Say in at most three sentences what is right and what is wrong with the attempt, and what would be better. Then, on the
last line, how sure you are, from 0 to 100:
CONFIDENCE: <number>"""

_CONFIDENCE = re.compile(r"^\s*CONFIDENCE:\s*(\d{1,3})\s*%?\s*$", re.IGNORECASE | re.MULTILINE | re.ASCII)


class MADOPD(TaughtRecipe):
    """Several teachers, each shown a debate among them, weighted by how sure they are after it."""

    name: ClassVar[str] = "mad_opd"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-5}, "batch": {"tasks": 128, "attempts": 1}}
    gives: ClassVar[tuple[str, ...]] = ("debate",)

    teacher: TeacherSettings = TeacherSettings(kind="frozen")
    more: list[TeacherSettings] = Field([TeacherSettings(kind="ema")], description="the other teachers of the pool")
    context: Context = Context(sources=["debate"], wording="paper")
    top_k: int = Field(0, ge=0, description="divergence over the student's likeliest tokens; 0: whole vocabulary")
    rounds: int = Field(2, ge=1, description="rounds of debate (R)")
    tau: float = Field(10.0, gt=0, description="temperature of the weights, in points of confidence")
    debate_tokens: int = Field(256, ge=8, description="longest word of one teacher in one round")

    def teachers(self) -> dict[str, TeacherSettings]:
        """The pool, in order."""
        return {MAIN: self.teacher, **{f"teacher{k}": settings for k, settings in enumerate(self.more, 2)}}

    def streams(self) -> dict[str, str]:
        """Every teacher reads."""
        return {name: name for name in self.teachers()}

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Distributions and words."""
        return {"logits": "recipe=mad_opd", "generate": "recipe=mad_opd"}

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """Let the teachers debate, then show all of them the transcript."""
        own = [s for s in samples if s.source == "policy"]
        names = list(self.teachers())
        said: list[list[str]] = [[] for _ in own]
        sure: list[list[float]] = [[] for _ in own]
        for _ in range(self.rounds):
            answers = {}
            for name in names:  # all of a round speak at once: none hears the others of its own round
                asked = [_ask(sample, words) for sample, words in zip(own, said, strict=True)]
                answers[name] = tools.ask(asked, who=name, max_tokens=self.debate_tokens)
            for i in range(len(own)):
                said[i] = said[i] + [f"{n}: {_words(answers[n][i].text)}" for n in names if answers[n][i].text]
                sure[i] = [confidence(answers[n][i].text) for n in names]
        for sample, points in zip(own, sure, strict=True):
            sample.notes["debate_weights"] = debate_weights(points, self.tau)
        given = {"debate": ["\n".join(words) or None for words in said]}
        return sum(
            add_contexts(
                self.context, own, groups, tools.chat, teacher_limit(tools, name), tools.seed, stream=name, given=given
            )
            for name in names
        )

    def terms(self, batch: Batch) -> list[Term]:
        """One divergence for each teacher, all under one denominator."""
        names = list(self.streams())
        taught = torch.stack([batch.viewed(name) for name in names])
        any_teacher = batch.per_token(taught.any(0)).float()
        result: list[Term] = []
        for name, weights in zip(names, self._weights(batch, taught), strict=True):
            mask = batch.per_token(batch.viewed(name)).float()
            coefficients = token_mean(mask, batch.per_token(weights), denominator=float(any_teacher.sum()))
            result.append(self.distill(coefficients, teacher=name))
        return result

    def _weights(self, batch: Batch, taught: Tensor) -> Tensor:
        """[teachers, samples] w_k of each sample; they add up to 1 over the teachers that read it."""
        equal = [1.0 / len(taught)] * len(taught)
        weights = torch.tensor([s.notes.get("debate_weights", equal) for s in batch.samples]).t() * taught
        return weights / weights.sum(0).clamp(min=1e-12)


def confidence(text: str) -> float:
    """What a teacher says of itself, 0 to 100; 50 where there is nothing, or nothing sensible, to read.

    >>> confidence("Fine.\\nCONFIDENCE: 80"), confidence("CONFIDENCE: 800"), confidence("sure")
    (80.0, 50.0, 50.0)
    """
    found = _CONFIDENCE.findall(without_thinking(text))
    value = int(found[-1]) if found else 50
    return float(value) if value <= 100 else 50.0


def debate_weights(points: Sequence[float], tau: float) -> list[float]:
    """softmax(c / tau).

    >>> debate_weights([50.0, 50.0], 10.0)
    [0.5, 0.5]
    """
    weights: list[float] = (torch.tensor(points, dtype=torch.float64) / tau).softmax(0).tolist()
    return weights


def _ask(sample: Sample, said: Sequence[str]) -> list[Message]:
    task = "\n\n".join(m["content"] for m in sample.messages)
    attempt = "\n".join(f"> {line}" for line in sample.text.splitlines() or [""])
    others = "\nWhat was said so far:\n" + "\n".join(said) + "\n" if said else ""
    return [{"role": "user", "content": ROUND.format(task=task, attempt=attempt, said=others)}]


def _words(text: str) -> str:
    return _CONFIDENCE.sub("", without_thinking(text)).strip()

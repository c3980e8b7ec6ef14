"""OmniOPD: a teacher of which only text is known, asked how it would go on where the student is unsure (2606.01476).

Status: near-full. The paper's measure of likeness is semantic and not known; ours is `likeness`, on characters.

    chunks   up to M runs of C tokens, not overlapping, that begin where the student's entropy is highest
    z_1..N   the teacher's own continuations from just before a chunk, at most C tokens each
    k        = sum_j likeness(chunk, z_j)                                                   in [0, N]
    prior    = exp( mean over the chunk of log p(y_t) )
    pi       = (k + alpha prior) / (N + alpha)                      Dirichlet-multinomial posterior mean, no gradient
    L        = 1/T ( sum over audited t of -pi log p(y_t)  +  beta sum over the others of KL( p_base || p ) )

T counts all tokens, and the anchor has importance weights too (our readings). An answer shorter than C has the anchor
alone. p_base are the policy's first weights.

A caution that the paper does not make: the audited term is a policy gradient with a reward that is never negative and
no baseline. On its own it ends in one outcome; what prevents that is the anchor on the other tokens and few steps. With
``centred`` the mean of pi over the step's chunks is taken off.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field

from agents.batch import MAIN, Batch, Sample, View
from agents.losses.reduction import token_mean
from agents.losses.terms import Distill, Likelihood, Term
from agents.recipes.base import TaughtRecipe
from agents.recipes.tools import StepTools
from agents.teachers.contexts import Context
from agents.teachers.teacher import TeacherSettings
from agents.trajectory import Group

LONGEST = 4000
"""Characters that `likeness` compares."""


class OmniOPD(TaughtRecipe):
    """Likelihood of unsure chunks as far as the teacher would have written alike; elsewhere stay near the base."""

    name: ClassVar[str] = "omniopd"
    run_defaults: ClassVar[Mapping[str, Any]] = {"optim": {"lr": 1e-6}, "batch": {"attempts": 1}}

    teacher: TeacherSettings = TeacherSettings(kind="frozen")
    context: Context = Context(sources=["none"])
    chunks: int = Field(10, ge=1, description="most audited chunks of an answer (M)")
    chunk: int = Field(50, ge=1, description="tokens of a chunk (C)")
    continuations: int = Field(10, ge=1, description="the teacher's continuations of each (N)")
    prior: float = Field(1.0, ge=0, description="weight of the student's own opinion of the chunk (alpha of the prior)")
    beta: float = Field(0.1, ge=0, description="weight of the anchor to the first weights on all other tokens")
    centred: bool = Field(False, description="take the mean of pi over the step's chunks off; not published")

    def needs(self, name: str = MAIN) -> dict[str, str]:
        """Words, from the middle of an answer; of the anchor all of its distribution."""
        return {"generate_from_prefix": "recipe=omniopd"} if name == MAIN else {"logits": "recipe.beta"}

    def teachers(self) -> dict[str, TeacherSettings]:
        """The one that writes, and the policy's first weights."""
        return {MAIN: self.teacher, "anchor": TeacherSettings(kind="frozen")}

    def streams(self) -> dict[str, str]:
        """Only the anchor reads."""
        return {"anchor": "anchor"}

    def views(self, samples: Sequence[Sample], groups: Sequence[Group], tools: StepTools) -> int:
        """The anchor sees the policy's own prompt; the teacher audits chunks, into ``notes["audited"]``."""
        measured = tools.measure([(s.prompt_ids, s.action_ids) for s in samples])
        places = []
        for i, (sample, (_, entropy)) in enumerate(zip(samples, measured, strict=True)):
            sample.show("anchor", View(sample.messages, sample.prompt_ids))
            places += [(i, start) for start in unsure_chunks(entropy, self.chunk, self.chunks)]
        begun = [samples[i].prompt_ids + samples[i].action_ids[:start] for i, start in places]
        prompts = [ids for ids in begun for _ in range(self.continuations)]
        said = [tools.chat.decode(c.ids) for c in tools.go_on(prompts, "teacher", max_tokens=self.chunk)]
        audited: list[tuple[int, int, float]] = []
        for k, (i, start) in enumerate(places):
            stop = start + self.chunk
            text = tools.chat.decode(samples[i].action_ids[start:stop])
            alike = sum(likeness(text, z) for z in said[k * self.continuations : (k + 1) * self.continuations])
            own = math.exp(sum(measured[i][0][start:stop]) / self.chunk)
            audited.append((i, start, posterior(alike, self.continuations, own, self.prior)))
        if audited:
            tools.log["audited_pi"] = sum(pi for *_, pi in audited) / len(audited)
        tools.log["audited_chunks"] = len(audited) / max(len(samples), 1)
        baseline = tools.log.get("audited_pi", 0.0) if self.centred else 0.0
        for i, start, pi in audited:
            samples[i].notes.setdefault("audited", []).append((start, start + self.chunk, pi - baseline))
        return 0

    def terms(self, batch: Batch) -> list[Term]:
        """Complementary masks, one denominator."""
        n = len(batch.targets)
        weights, audited = torch.zeros(n), torch.zeros(n, dtype=torch.bool)
        for i, sample in enumerate(batch.samples):
            for start, stop, pi in sample.notes.get("audited", ()):
                span = slice(int(batch.offsets[i]) + start, int(batch.offsets[i]) + stop)
                weights[span], audited[span] = pi, True
        rest = batch.per_token(batch.viewed("anchor")) & ~audited
        return [
            Likelihood(token_mean(audited.float(), weights, denominator=n)),
            Distill(
                self.beta * token_mean(rest.float(), denominator=n), alpha=0.0, is_clip=self.is_clip, teacher="anchor"
            ),
        ]


def unsure_chunks(entropy: Sequence[float], length: int, most: int) -> list[int]:
    """First tokens of up to ``most`` runs of ``length`` tokens, disjoint, taken greedily by the entropy at their first.

    >>> unsure_chunks([0.1, 0.9, 0.2, 0.8, 0.3], 2, 2)
    [1, 3]
    """
    order = sorted(range(len(entropy) - length + 1), key=lambda t: (-entropy[t], t))
    chosen: list[int] = []
    for start in order:
        if len(chosen) < most and all(abs(start - other) >= length for other in chosen):
            chosen.append(start)
    return sorted(chosen)


def likeness(a: str, b: str) -> float:
    """How alike two texts are, in [0, 1]: twice the characters in common runs over all characters.

    >>> likeness("abcd", "abxd")
    0.75
    """
    return difflib.SequenceMatcher(None, a[:LONGEST], b[:LONGEST], autojunk=False).ratio()


def posterior(alike: float, n: int, own: float, prior: float) -> float:
    """(k + alpha prior) / (N + alpha).

    >>> posterior(3.0, 4, 0.5, 1.0)
    0.7
    """
    return (alike + prior * own) / (n + prior)
